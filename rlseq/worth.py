"""Asking a task what answers are worth: what its code does wrong becomes one line that names the reward and the example.

Rewards and metrics are code of users. One that raises, gives numbers that are not finite, or a tensor of another shape or on
another device, or does not come back in time, ends the run with a ValueError; nothing is lost, for the last checkpoint stays.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import patience
from .parts import short
from .printable import printable
from .task import Metric, Task
from .types import Batch

Ask = Callable[[Batch, Tensor, Tensor], object]

LIBRARY = str(Path(traceback.__file__).parent)           # Python's own code


@dataclass(frozen=True)
class Asked:
    """Answers [N, T], and whom to ask about them; what a message needs to name the one that went wrong.

    `whence` says of a raw problem where it stands, such as "train example 17".
    """

    task: Task
    batch: Batch
    actions: Tensor
    mask: Tensor
    whence: Callable[[object], str] | None = None

    def reward(self) -> Tensor:
        """`Task.reward` -> [N] float32; raises ValueError in one line. Whether it is finite is `finite`'s to say."""
        return self._fitting("reward", self._answer("reward", self.task.reward), (len(self.actions),))

    def prefix_reward(self) -> Tensor:
        """`Task.prefix_reward` -> [N, T] float32; as `reward`."""
        return self._fitting("prefix_reward", self._answer("prefix_reward", self.task.prefix_reward),
                             tuple(self.actions.shape))

    def finite(self, found: Tensor, part: str = "reward") -> None:
        """Raises ValueError naming the first answer [N, ...] whose number is not finite; waits for a GPU."""
        if not math.isfinite(float(found.sum())):                          # one number to look at; which one was it?
            row = int(torch.isfinite(found.reshape(len(found), -1)).all(1).int().argmin())
            values = found[row].flatten()
            self._wrong(part, f"gave {float(values[torch.isfinite(values).int().argmin()])}", row)

    def statistics(self, name: str, metric: Metric) -> np.ndarray:
        """What the metric of this name says: `Metric.rows` -> [N, m] finite numbers; raises ValueError in one line."""
        part = f"metric {name}"
        found = self._answer(part, metric.rows)
        numbers = isinstance(found, np.ndarray) and found.dtype.kind in "fiub"
        if not numbers or found.ndim != 2 or len(found) != len(self.actions):
            self._wrong(part, f"gave {_form(found)}, where an array [{len(self.actions)}, m] of numbers belongs")
        if not np.isfinite(found).all():
            row = int(np.isfinite(found).all(1).argmin())
            self._wrong(part, f"gave {found[row][np.isfinite(found[row]).argmin()]}", row)
        return found

    def _answer(self, part: str, ask: Ask) -> object:
        """What was asked for; what it raises, and that it does not come back, becomes a ValueError that names the answer."""
        try:
            return patience.in_time(lambda: ask(self.batch, self.actions, self.mask))
        except (Exception, patience.Overdue) as error:
            if short(error):                             # no fault of the reward: whoever chose the batch makes it smaller
                raise
            said = printable(" ".join(f"raised {type(error).__name__}: {error}".split()), 200)
            if isinstance(error, patience.Overdue):
                said = f"did not come back within reward_limit={patience.limit():g} seconds"
            row = self._alone(ask)
            self._wrong(part, f"{said} ({_place(error)}{'; for no answer alone' * (row is None)})", row, error)

    def _alone(self, ask: Ask) -> int | None:
        """The first answer that goes wrong alone, or was asked about when the time was up again; None where none does."""
        row, k = 0, self._k()

        def one_by_one() -> None:
            nonlocal row
            for row in range(len(self.actions)):
                ask(self.batch.rows(row // k, row // k + 1), self.actions[row:row + 1], self.mask[row:row + 1])
        try:
            patience.in_time(one_by_one)
        except (Exception, patience.Overdue):
            return row
        return None

    def _fitting(self, part: str, found: object, shape: tuple[int, ...]) -> Tensor:
        """The tensor as float32, if it is of this shape, holds real numbers and lies where the answers do."""
        if not isinstance(found, Tensor) or found.shape != shape:
            self._wrong(part, f"gave {_form(found)}, where a tensor {list(shape)} belongs")
        if found.is_complex():
            self._wrong(part, f"gave {found.dtype}, where real numbers belong")
        if found.device != self.actions.device:
            self._wrong(part, f"gave a tensor on {found.device}, where the answers are on {self.actions.device}")
        return found.float()

    def _wrong(self, part: str, trouble: str, row: int | None = None, cause: BaseException | None = None) -> None:
        """Raise the ValueError about an answer, or about all of them (None)."""
        name, place, kind = part, "it", type(self.task)
        if not part.startswith("metric "):                                 # a metric's code may lie anywhere
            name, place = f"{part} {self.task.reward_name}", f"{kind.__module__}.{kind.__qualname__}.{part}"
        some = f"{len(self.actions)} answers, the first being " if row is None else ""
        longer = " (or raise the limit; 0 sets none)" if isinstance(cause, patience.Overdue) else ""
        raise ValueError(f"{name} of task {self.task.name} {trouble} for {some}{self._shown(row or 0)}; mend {place}{longer} "
                         "and give the same command again: a run goes on from its last checkpoint") from cause

    def _shown(self, row: int) -> str:
        """An answer and its problem, for people."""
        k = self._k()
        problem, where, source = row // k, None, ""
        if len(self.batch.examples):
            example = self.batch.examples[problem]
            where = self.whence(example) if self.whence else None
            source = printable(" ".join(repr(example).split()), 160) + " -> "
        try:
            answer = self.task.answer(self.batch, self.actions, row)
        except Exception:                                # it may share the reward's fault
            answer = " ".join(map(str, self.actions[row][self.mask[row]].tolist()))
        where = where or f"problem {problem} of its batch"
        return f"{where}, answer {row % k + 1} of {k}: {source}{printable(repr(answer), 100)}"

    def _k(self) -> int:
        """Answers to each problem."""
        return max(1, len(self.actions) // max(1, len(self.batch)))


def _form(found: object) -> str:
    """What something is, in a few words."""
    shape = getattr(found, "shape", None)
    return f"a {type(found).__name__}" + (f" {list(shape)}" if shape is not None else "")


def _place(error: BaseException) -> str:
    """Where it was raised: the last line of code that neither Python nor an installed package brings."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.name != "_tick"]
    own = [one for one in frames if "site-packages" not in one.filename and not one.filename.startswith(LIBRARY)]
    last = (own or frames)[-1]
    return f"{'/'.join(Path(last.filename).parts[-2:])}, line {last.lineno}"
