"""Which examples a step trains on: a function of (seed, step) alone, bucketed by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Thread

import numpy as np

from .say import say
from .task import Task

ENDLESS = 2**31       # splits at least this long are drawn in order from a random start, never shuffled
PATIENCE = 5          # seconds between two looks at whether the thread that draws still lives
POOL = 32             # batches sorted together: padding shrinks, and every POOL steps see a fair draw


def items(examples: Sequence, indices: Sequence[int]) -> list:
    """The examples at these positions; all at once where they have `__getitems__`, as PyTorch's own loaders ask for it."""
    many = getattr(examples, "__getitems__", None)
    return list(many(indices)) if many else [examples[i] for i in indices]


class Batches:
    """Step -> examples. A pool of POOL batches is sorted by length, cut, and its batches shuffled.

    With `tokens` > 0 a pool is cut at equal shares of padded tokens instead of equal counts, so that batches of short
    examples are larger; `size` is then what a batch of average length holds. Finite data is shuffled anew each epoch. Sources
    are cut into other subwords each time where a share of the merges is to be left out (`recut`), after their cost was taken:
    a batch is then longer by what that adds (a quarter of the sources of Multi30k for a share of 0.1).
    """

    def __init__(self, task: Task, size: int, tokens: int, seed: int, recut: float = 0.0) -> None:
        self.task, self.examples = task, task.examples("train")
        if not len(self.examples):
            raise ValueError(f"the training split of task {task.name} is empty; look at task.data and task.path")
        if size < 1 or tokens < 0:
            raise ValueError(f"batch={size} must be 1 or more, batch_tokens={tokens} 0 (off) or more")
        if tokens:
            some = [task.length(one) for one in items(self.examples, range(min(1000, len(self.examples))))]
            size = max(1, round(tokens / float(np.mean(some))))
        self.size, self.by_tokens, self.seed, self.recut = size, bool(tokens), seed, recut
        self.held: tuple[int, list[list]] = (-1, [])
        self.order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __call__(self, step: int) -> Sequence:
        """The examples of a step, 0 and up."""
        pool, place = divmod(step, POOL)
        if self.held[0] != pool:
            self.held = (pool, self._cut(pool))
        found = self.held[1][place]
        return self.task.recut(found, self.recut, np.random.default_rng([self.seed, step, 2])) if self.recut else found

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

    Nothing is drawn ahead from step `stop` on. What goes wrong in the background is said where the examples are asked for,
    with the update's number; a thread that is gone, as after a fork, is noticed within seconds. It ends with the process.
    """

    def __init__(self, batches: Callable[[int], Sequence], stop: int, stride: int = 1) -> None:
        self.batches, self.stop, self.stride = batches, stop, stride
        self.asked: SimpleQueue[tuple[int, Future] | None] = SimpleQueue()
        self.drawn: tuple[int, Future] | None = None
        self.given: tuple[int, Sequence] = (0, ())
        self.thread = Thread(target=self._draw, name="batches", daemon=True)
        self.thread.start()

    def __call__(self, step: int) -> Sequence:
        """The examples of a step; ValueError where they cannot be drawn, with the cause."""
        if self.drawn is None or self.drawn[0] != step:
            self.drawn = (step, self._ask(step))
        found, after = self._found(*self.drawn), step + self.stride
        self.given = (step, found)
        self.drawn = (after, self._ask(after)) if after < self.stop else None
        return found

    def whence(self, example: object) -> str:
        """Where an example of the batch last given stands, for a message."""
        step, found = self.given
        place = next((i for i, one in enumerate(found) if one is example), None)
        return "an example of train" if place is None else f"train example {self.batches.numbers(step)[place]}"

    def close(self) -> None:
        """Draw no more; a draw under way is waited for, if it comes."""
        self.asked.put(None)
        self.thread.join(PATIENCE)

    def _ask(self, step: int) -> Future:
        future: Future = Future()
        self.asked.put((step, future))
        return future

    def _draw(self) -> None:
        while (asked := self.asked.get()) is not None:
            step, future = asked
            try:
                future.set_result(self.batches(step))
            except BaseException as error:                   # SystemExit too: it must not end this thread unheard
                future.set_exception(error)

    def _found(self, step: int, future: Future) -> Sequence:
        waited, said = 0.0, 12 * PATIENCE
        while not wait([future], timeout=PATIENCE).done:
            waited += PATIENCE
            if not self.thread.is_alive():
                raise ValueError(f"update {step}: the thread that draws its examples is gone; start the run again")
            if waited > said:
                say(f"update {step}: waiting for its examples for more than {said:.0f} seconds; is their disk still there?")
                said *= 2
        error = future.exception()
        if error is not None:
            raise ValueError(f"update {step}: its examples cannot be drawn: {type(error).__name__}: {error}") from error
        return future.result()
