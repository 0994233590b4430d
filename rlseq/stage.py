"""One stretch of training: its options, and what it took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from .build import Within

Many = Annotated[int, Within(0, 10**9)]
Few = Annotated[int, Within(1, 100)]
Sources = Annotated[int, Within(1, 2**20)]


@dataclass(frozen=True)
class Stage:
    """One stretch of training; the options of `plan.pretrain.*` and `plan.finetune.*`."""

    updates: Many
    lr: Annotated[float, Within(0, 1000)] = 1e-3
    batch: Sources = 64               # sources an update, over all ranks
    batch_tokens: Many = 0            # above 0: batches of about this much instead, by the task's `length`
    warmup: Many = 100                # updates
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    clip: float = 1.0                 # gradient norm; 0 turns clipping off
    weight_decay: Annotated[float, Within(0, 1000)] = 0.0
    every: Many = 200                 # updates between evaluations on dev (and checkpoints)
    dev: Many = 500                   # dev examples each evaluation decodes; 0 means all
    label_smoothing: Annotated[float, Within(0, 0.999)] = 0.0      # of pretraining; when fine-tuning it is the algorithm's
    subword_dropout: Annotated[float, Within(0, 0.999)] = 0.0      # share of a source's merges passed over (BPE-dropout)
    consistency: Annotated[float, Within(0, 1000)] = 0.0           # of pretraining, as algo.consistency of MLE (R-Drop)
    average: Few = 1                  # weights of this many last evaluations are averaged, and taken if better on dev

    def __post_init__(self) -> None:
        for name, least in {"updates": 0, "lr": 0, "batch": 1, "warmup": 0, "clip": 0, "every": 1, "dev": 0, "average": 1,
                            "batch_tokens": 0, "weight_decay": 0, "label_smoothing": 0, "subword_dropout": 0,
                            "consistency": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be {least} or more")

    def rate(self, step: int) -> float:
        """Learning rate of update `step`: linear warm-up, then the schedule."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.schedule == "inverse_sqrt":
            return self.lr * warm * math.sqrt(max(self.warmup, 1) / max(step + 1, self.warmup, 1))
        if self.schedule == "cosine":
            after = max(0, step - self.warmup) / max(1, self.updates - self.warmup)
            return self.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, after))))
        return self.lr * warm


@dataclass
class Cost:
    """What training took so far, evaluation left out."""

    updates: int = 0
    sampled_tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0                  # of the updates: left out, for their gradient was not finite
