"""Which examples a step trains on: a function of (seed, step) alone, bucketed by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from .task import Task

ENDLESS = 2**31       # splits at least this long are drawn in order from a random start, never shuffled
POOL = 32             # batches sorted together: padding shrinks, and every POOL steps see a fair draw


def items(examples: Sequence, indices: Sequence[int]) -> list:
    """The examples at these positions; all at once where they have `__getitems__`, as PyTorch's own loaders ask for it."""
    many = getattr(examples, "__getitems__", None)
    return list(many(indices)) if many else [examples[i] for i in indices]


class Batches:
    """Step -> examples. A pool of POOL batches is sorted by length, cut, and its batches shuffled.

    With `tokens` > 0 a pool is cut at equal shares of padded tokens instead of equal counts, so that batches of short
    examples are larger; `size` is then what a batch of average length holds. Finite data is shuffled anew each epoch.
    """

    def __init__(self, task: Task, size: int, tokens: int, seed: int) -> None:
        self.task, self.examples = task, task.examples("train")
        if not len(self.examples):
            raise ValueError(f"the training split of task {task.name} is empty; look at task.data and task.path")
        if size < 1 or tokens < 0:
            raise ValueError(f"batch={size} must be 1 or more, batch_tokens={tokens} 0 (off) or more")
        if tokens:
            some = [task.length(one) for one in items(self.examples, range(min(1000, len(self.examples))))]
            size = max(1, round(tokens / float(np.mean(some))))
        self.size, self.by_tokens, self.seed = size, bool(tokens), seed
        self.held: tuple[int, list[list]] = (-1, [])
        self.order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __call__(self, step: int) -> Sequence:
        """The examples of a step, 0 and up."""
        pool, place = divmod(step, POOL)
        if self.held[0] != pool:
            self.held = (pool, self._cut(pool))
        return self.held[1][place]

    def _indices(self, first: int, number: int) -> list[int]:
        """Which examples stand at positions first, first + 1, ... of all epochs in a row."""
        count = len(self.examples)
        if count >= ENDLESS:
            start = int(np.random.default_rng(self.seed).integers(count)) + first
            return [(start + i) % count for i in range(number)]
        return [self._shuffled(*divmod(first + i, count)) for i in range(number)]

    def _shuffled(self, epoch: int, place: int) -> int:
        order = self.order                     # held here, for another thread may put the next epoch's in its place
        if order[0] != epoch:
            order = self.order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.examples)))
        return int(order[1][place])

    def numbers(self, step: int) -> list[int]:
        """Where the examples of a step stand in the training split; drawn again to find out."""
        pool, place = divmod(step, POOL)
        return self._cut(pool, numbered=True)[place]

    def _cut(self, pool: int, numbered: bool = False) -> list[list]:
        """The batches of a pool, or the numbers of their examples."""
        indices = self._indices(pool * POOL * self.size, POOL * self.size)
        drawn = items(self.examples, indices)
        lengths = [self.task.length(one) for one in drawn]
        order = sorted(range(len(drawn)), key=lengths.__getitem__)
        if self.by_tokens:
            ends = np.cumsum([lengths[i] for i in order])
            edges = np.searchsorted(ends, ends[-1] * np.arange(1, POOL) / POOL) + 1
            edges = np.clip(edges, np.arange(1, POOL), len(drawn) - POOL + np.arange(1, POOL))
            edges = np.maximum.accumulate(edges)
        else:
            edges = np.arange(1, POOL) * self.size
        chosen = indices if numbered else drawn
        cuts = [[chosen[i] for i in order[a:b]] for a, b in zip([0, *edges], [*edges, len(drawn)], strict=True)]
        return [cuts[i] for i in np.random.default_rng([self.seed, pool, 1]).permutation(POOL)]


class Ahead:
    """`batches(step)`, with the one `stride` steps after it drawn in the background meanwhile: the same examples, sooner.

    Nothing is drawn ahead from step `stop` on.
    """

    def __init__(self, batches: Callable[[int], Sequence], stop: int, stride: int = 1) -> None:
        self.batches, self.stop, self.stride = batches, stop, stride
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.drawn: tuple[int, Future] | None = None
        self.given: tuple[int, Sequence] = (0, ())

    def __call__(self, step: int) -> Sequence:
        if self.drawn is None or self.drawn[0] != step:
            self.drawn = (step, self.thread.submit(self.batches, step))
        found, after = self.drawn[1].result(), step + self.stride
        self.given = (step, found)
        self.drawn = (after, self.thread.submit(self.batches, after)) if after < self.stop else None
        return found

    def whence(self, example: object) -> str:
        """Where an example of the batch last given stands, for a message."""
        step, found = self.given
        place = next((i for i, one in enumerate(found) if one is example), None)
        return "an example of train" if place is None else f"train example {self.batches.numbers(step)[place]}"

    def close(self) -> None:
        """Draw no more."""
        self.thread.shutdown(wait=False, cancel_futures=True)
