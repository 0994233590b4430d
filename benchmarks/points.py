"""Pointing at points, W5: problems for rlseq's trainer, and the same worth of an answer for everybody."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlseq.task import Mean
from rlseq.tasks.hull import Task as Hull
from rlseq.types import STOP, Batch

from .worth import area, tour


class Points(Hull):
    """Uniform points and their hulls, drawn before the clock starts. Every answer names `steps` points, none twice, and
    never stops of itself; it is worth the area inside it, or minus the length of the tour."""

    def __init__(self, problems: int, points: int, steps: int, worth: str) -> None:
        super().__init__("pointer", n_min=points, n_max=points)
        self.steps, self.worth = steps, {"area": area, "tour": tour}[worth]
        self.metrics = {"worth": Mean(worth, self.reward)}
        self.ready = super().examples("train")[:problems]

    def examples(self, split: str) -> Sequence:
        return self.ready

    def horizon(self, batch: Batch) -> int:
        return self.steps

    def legal(self, batch: Batch, prefix: Tensor) -> Tensor:
        legal = super().legal(batch, prefix)
        legal[:, STOP] = ~legal[:, 1:].any(1)
        return legal

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        owner = torch.arange(len(actions)) // (len(actions) // len(batch))
        return self.worth(batch.source[owner[:, None], (actions - 1).clamp(min=0)])
