"""What a task is: problems, what is legal, what an answer is worth, how people see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from .types import STOP, Batch, Sizes


class Metric(Protocol):
    """Statistics that add up over examples, after sacrebleu: any metric can be bootstrapped."""

    signature: str                    # what it is exactly, such as sacrebleu's own signature
    # `lower = True` on those where less is better (error rates); never the primary one

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        """[N, T] answers -> [N, m] float64 statistics, one row an answer."""

    def score(self, total: np.ndarray) -> float:
        """Summed statistics [m] -> the score, in the unit people expect (0-100 for BLEU, ROUGE and percentages)."""


class Task(ABC):
    """A problem with rules and a worth. `version` goes up when problems, rules or reward change.

    The constructor's arguments are the options of `task.*` on the command line.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    heads: ClassVar[tuple[str, ...]]  # which heads fit: "vocabulary", "pointer", "copy"; the first is the usual one
    head: str                         # the head this instance encodes its actions for
    metrics: dict[str, Metric]        # the first is the primary one, higher is better in it
    tests: tuple[str, ...]            # names of the test splits, the headline first; "train" and "dev" always exist
    public: bool = True               # whether its texts may stand in result files; MLflow's tables hold them anyway
    reward_name: str                  # for the signature: what `reward` computes, such as "f1+exact"

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """What a policy must know to fit this task."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash of the data and of everything that shapes it."""

    @abstractmethod
    def examples(self, split: str) -> Sequence:
        """Raw problems; item i depends on (split, the task's data seed, i) only, and none is in two splits. Endless splits
        have a huge length.

        Raises KeyError for an unknown split.
        """

    @abstractmethod
    def collate(self, examples: Sequence) -> Batch:
        """Raw problems -> padded tensors on the CPU; problems without a reference get a target of STOP alone."""

    def length(self, example: object) -> int:
        """Cost of a problem for bucketing, such as how long its source and target are together."""
        return 1

    def unread(self, example: object) -> int:
        """How much of a problem's source a policy never sees, in pieces, because the task cuts what is too long."""
        return 0

    @abstractmethod
    def horizon(self, batch: Batch) -> int:
        """Most actions an answer to this batch may have, STOP included."""

    def legal(self, batch: Batch, prefix: Tensor) -> Tensor | None:
        """Actions so far [N, t] -> which may follow [N, A] bool; None when all may. Row n answers problem n // k.

        At least one action is legal for every legal prefix; after a STOP the row does not matter.
        """
        return None

    @abstractmethod
    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        """Worth of answers [N, T] with mask [N, T] (True through STOP) -> [N] float in [0, 1]; a reference earns 1."""

    def prefix_reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        """Worth of every prefix of answers [N, T], as if it ended there -> [N, T]; only where `has_prefix_reward`."""
        raise TypeError(f"{type(self).__name__} gives no rewards of prefixes")

    has_prefix_reward: ClassVar[bool] = False

    def recut(self, examples: Sequence, share: float, random: np.random.Generator) -> Sequence:
        """Training problems whose sources are cut into other subwords (BPE-dropout, of a share of the merges), a function of
        the generator's state; only where `has_subwords`."""
        raise TypeError(f"{type(self).__name__} has no subwords")

    has_subwords: ClassVar[bool] = False

    @abstractmethod
    def parse(self, line: str) -> object:
        """A line of `rlseq.predict`'s input -> a raw problem without reference; raises ValueError with what is wrong."""

    @abstractmethod
    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        """One line of `rlseq.predict`'s output: the answer of row n in the form of the user's own data."""

    @abstractmethod
    def show(self, batch: Batch, actions: Tensor, row: int) -> str:
        """The problem, its reference and the answer of row n, for people: one line of text."""

    def answer_words(self, batch: Batch, actions: Tensor, row: int) -> list[str]:
        """The actions of row n before its STOP, one word each, for people who look at single steps."""
        chosen = actions[row].tolist()
        return [str(action) for action in chosen[:chosen.index(STOP) if STOP in chosen else None]]

    def source_words(self, batch: Batch, problem: int) -> list[str]:
        """The source positions of a problem, one word each: by default what stands there, or its number if no id does."""
        source, size = batch.source[problem], int(batch.source_mask[problem].sum())
        return [str(place if source.is_floating_point() else int(source[place])) for place in range(size)]

    def points(self, example: object) -> Sequence[tuple[float, float]] | None:
        """Where the source positions of a problem lie in the plane, if they do; answers are drawn as lines along them."""
        return None

    def plot(self, batch: Batch, actions: Tensor, row: int, axes) -> None:
        """A picture of row n on matplotlib axes, where one says more than text; `has_plot` says so."""

    has_plot: ClassVar[bool] = False

    def state(self) -> dict[str, str]:
        """What a checkpoint must keep to answer new inputs without the training data (a tokenizer, as JSON)."""
        return {}

    def restore(self, state: dict[str, str]) -> None:
        """Take back what `state` gave."""


class Mean:
    """A metric that is the mean of `function(batch, actions, mask) -> [N]`; statistics are [value, 1]."""

    def __init__(self, signature: str, function: Callable[[Batch, Tensor, Tensor], Tensor],
                 scale: float = 100.0) -> None:
        self.signature, self.function, self.scale = signature, function, scale

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        value = self.function(batch, actions, mask).double().cpu().numpy()
        return np.stack([value, np.ones_like(value)], axis=1)

    def score(self, total: np.ndarray) -> float:
        return float(self.scale * total[0] / total[1]) if total[1] else float("nan")


def prefixes(reward: Callable[[Batch, Tensor, Tensor], Tensor], batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
    """`Task.prefix_reward` from a reward that can be asked of unfinished answers: N * T of them, in one call."""
    rows, steps = actions.shape
    shown = mask.unsqueeze(1) & torch.ones(steps, steps, dtype=torch.bool, device=mask.device).tril()       # [N, T, T]
    every = actions.unsqueeze(1).expand(-1, steps, -1)
    return reward(batch, every.flatten(0, 1), shown.flatten(0, 1)).view(rows, steps)


def problem_rows(batch: Batch, rows: int, device: torch.device | None = None) -> Tensor:
    """[N] index of the problem that each row answers: n // k with k = N / B."""
    return torch.arange(rows, device=device or batch.device) // max(rows // max(len(batch), 1), 1)
