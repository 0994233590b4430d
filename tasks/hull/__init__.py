"""Planar convex hulls with a pointer (Vinyals et al. 2015): from points to the vertices of their hull, in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from itertools import chain
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rlseq.build import Seed, Within
from rlseq.rewards.hull import coverage, is_simple, polygon_area, same_polygon, vertex_f1
from rlseq.task import Mean, problem_rows
from rlseq.task import Task as Base
from rlseq.types import STOP, Batch, Sizes

from .data import ENDLESS, ITEMS, TEST_SIZES, Example, Problems, features_of, in_unit_squares

Features = Literal["coordinates", "polar", "fourier"]
Reward = Literal["area", "exact", "f1", "f1+exact", "area+exact"]
Points = Annotated[int, Within(3, 10_000)]
LARGEST = 1e100                       # of a user's coordinate: squares of it must stay finite
FORM = "a line is x1 y1 x2 y2 ..., at least three points, numbers parted by blanks or commas"


class Task(Base):
    """Action i names point i-1. Legal: no point twice, STOP from the third point on.

    A reward with a plus is the mean of the two. Raises ValueError for options that do not fit.
    """

    name, version, heads, has_plot = "hull", 0, ("pointer",), True

    def __init__(self, head: str, seed: Seed = 0, n_min: Points = 5, n_max: Points = 50,
                 features: Features = "coordinates", reward: Reward = "f1+exact") -> None:
        if head not in self.heads:
            raise ValueError(f"task hull needs a policy with the head {' or '.join(self.heads)}, not {head!r}")
        if not 3 <= n_min <= n_max:
            raise ValueError(f"task.n_min={n_min} and task.n_max={n_max} must hold 3 <= n_min <= n_max")
        if features not in get_args(Features) or reward not in get_args(Reward):
            raise ValueError(f"task.features={features} must be one of {', '.join(get_args(Features))}, and "
                             f"task.reward={reward} one of {', '.join(get_args(Reward))}")
        self.head, self.seed, self.n_min, self.n_max = head, seed, n_min, n_max
        self.features, self.reward_name = features, reward
        self.parts = {"area": self._area, "exact": self._exact, "f1": self._f1}
        self.metrics = {
            "accuracy": Mean("same polygon, any start and sense", self._exact),
            "area": Mean("share of the hull's area, 0 if not simple", self._area),
            "simple": Mean("share of simple polygons", self._simple),
            "f1": Mean("F1 of the hull's vertices", self._f1),
        }
        self.tests = tuple(f"test-{n}" for n in TEST_SIZES)

    @property
    def sizes(self) -> Sizes:
        return Sizes(features={"coordinates": 2, "polar": 7, "fourier": 26}[self.features], coordinates=2)

    @cached_property
    def fingerprint(self) -> str:
        shape = f"{self.name} {self.version} {self.seed} {self.n_min} {self.n_max} {self.features}"
        digest = sha256(shape.encode())
        for split in ("train", "dev", *self.tests):
            example = self.examples(split)[0]
            digest.update(example.points.tobytes() + repr(example.hull).encode())
        return digest.hexdigest()[:16]

    def examples(self, split: str) -> Sequence[Example]:
        if split in ("train", "dev"):
            return Problems(split, self.seed, self.n_min, self.n_max, ENDLESS if split == "train" else ITEMS)
        if split not in self.tests:
            raise KeyError(f"no split {split!r} in task hull; there are: train, dev, {', '.join(self.tests)}")
        n = int(split.removeprefix("test-"))
        return Problems(split, self.seed, n, n, ITEMS)

    def collate(self, examples: Sequence[Example]) -> Batch:
        counts = np.array([len(one.points) for one in examples])
        mask = np.arange(counts.max()) < counts[:, None]
        points = np.zeros((*mask.shape, 2), np.float32)
        points[mask] = in_unit_squares([one.points for one in examples])
        corners = np.array([len(one.hull) for one in examples])
        step = np.arange(corners.max() + 1)
        target = np.full((len(examples), len(step)), STOP)
        target[step < corners[:, None]] = np.fromiter(chain.from_iterable(one.hull for one in examples), np.int64) + 1
        return Batch(source=torch.from_numpy(features_of(points, mask, self.features)),
                     source_mask=torch.from_numpy(mask), target=torch.from_numpy(target),
                     target_mask=torch.from_numpy(step <= corners[:, None]),
                     num_actions=mask.shape[1] + 1, examples=tuple(examples))

    def length(self, example: Example) -> int:
        return len(example.points)

    def horizon(self, batch: Batch) -> int:
        return batch.num_actions

    def legal(self, batch: Batch, prefix: Tensor) -> Tensor:
        owner = problem_rows(batch, len(prefix), prefix.device)
        legal = torch.nn.functional.pad(batch.source_mask, (1, 0))[owner]        # [N, A], column 0 is STOP
        legal = legal.scatter(1, prefix, False)
        legal[:, STOP] = ((prefix != STOP).sum(1) >= 3) | ~legal[:, 1:].any(1)
        return legal

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        values = [self.parts[part](batch, actions, mask) for part in self.reward_name.split("+")]
        return torch.stack(values).mean(0).float()

    def _polygon(self, batch: Batch, actions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices [N, T, 2] that the answers name and their mask; the mask is empty where padding is named."""
        index = problem_rows(batch, len(actions), actions.device)[:, None], (actions - 1).clamp_min(0)
        named = mask & (actions != STOP)
        sound = (batch.source_mask[index] | ~named).all(1, keepdim=True)
        return batch.source[..., :2][index], named & sound

    def _hull(self, batch: Batch, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The true hull for each answer: [N, L] actions and mask, without STOP."""
        owner = problem_rows(batch, len(actions), actions.device)
        return batch.target[owner], (batch.target_mask & (batch.target != STOP))[owner]

    def _area(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        hull = polygon_area(*self._polygon(batch, batch.target, batch.target_mask)).abs()        # [B]
        return coverage(*self._polygon(batch, actions, mask), hull[problem_rows(batch, len(actions), hull.device)])

    def _exact(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return same_polygon(actions, mask & (actions != STOP), *self._hull(batch, actions)).double()

    def _simple(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return is_simple(*self._polygon(batch, actions, mask)).double()

    def _f1(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return vertex_f1(actions, mask & (actions != STOP), *self._hull(batch, actions), batch.num_actions)

    def parse(self, line: str) -> Example:
        """x1 y1 x2 y2 ... in any scale; raises ValueError for anything but three or more pairs of numbers."""
        words = line.replace(",", " ").split()
        try:
            numbers = np.array([float(word) for word in words])
        except ValueError as error:
            raise ValueError(f"{error}; {FORM}") from None
        wrong = [word for word, number in zip(words, numbers) if not abs(number) <= LARGEST]
        if wrong:
            raise ValueError(f"coordinate {wrong[0]} is not within +-{LARGEST:g}; {FORM}")
        if len(numbers) % 2 or len(numbers) < 6:
            raise ValueError(f"{len(numbers)} numbers are not the points of a polygon; {FORM}")
        return Example(numbers.reshape(-1, 2))

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        """Positions of the hull's vertices in the input, counted from 0, in the order of the answer."""
        return " ".join(map(str, self._positions(actions[row])))

    def show(self, batch: Batch, actions: Tensor, row: int) -> str:
        example, worth = batch.examples[self._owner(batch, actions, row)], self._worth(batch, actions, row)
        return (f"{len(example.points)} points | hull {' '.join(map(str, example.hull)) or 'unknown'} | "
                f"answer {self.answer(batch, actions, row)} | reward {worth:.3f}")

    def answer_words(self, batch: Batch, actions: Tensor, row: int) -> list[str]:
        return self.answer(batch, actions, row).split()

    def points(self, example: Example) -> np.ndarray:
        return in_unit_squares([example.points])

    def plot(self, batch: Batch, actions: Tensor, row: int, axes) -> None:
        example = batch.examples[self._owner(batch, actions, row)]
        known = len(example.hull) > 0                                           # not so for points that a user brings
        truth = [(example.hull, {"color": "tab:green", "linewidth": 4, "alpha": 0.4, "label": "true hull"})] if known else []
        for order, style in (*truth,
                             (self._positions(actions[row]), {"color": "tab:red", "linewidth": 1.2, "marker": "o",
                                                              "markersize": 3, "label": "answer"})):
            line = example.points[[*order, *order[:1]]]
            axes.plot(line[:, 0], line[:, 1], **style)
        axes.scatter(example.points[:, 0], example.points[:, 1], s=8, color="0.3", label="points", zorder=3)
        axes.set_aspect("equal")
        axes.legend(fontsize="small")
        axes.set_title(f"n = {len(example.points)}" + (f", reward {self._worth(batch, actions, row):.3f}" if known else ""))

    @staticmethod
    def _positions(actions: Tensor) -> list[int]:
        """[T] actions -> positions named before the first STOP."""
        row = actions.tolist()
        return [action - 1 for action in row[:row.index(STOP) if STOP in row else None]]

    @staticmethod
    def _owner(batch: Batch, actions: Tensor, row: int) -> int:
        return int(problem_rows(batch, len(actions))[row])

    def _worth(self, batch: Batch, actions: Tensor, row: int) -> float:
        owner, one = self._owner(batch, actions, row), actions[row:row + 1]
        before = torch.cumsum(one == STOP, 1) - (one == STOP).long()             # STOPs before each action
        return float(self.reward(batch.rows(owner, owner + 1), one, before == 0))
