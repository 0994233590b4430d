"""Resamples of examples and the scores of systems on them: drawn once, kept, and shared by all comparisons.

Resamples depend on (n, samples, seed) only: two systems that answer the same examples see the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from threadpoolctl import ThreadpoolController

Score = Callable[[np.ndarray], float]      # summed statistics [m] -> score
BLOCK = 100                                # resamples at a time: bounds memory at BLOCK * n floats
READY = 4_000_000                          # most counts that are kept as floats, ready to multiply


@dataclass(frozen=True)
class Ratio:
    """A score that is scale * first / second statistic: means and error rates; of one sum [m] or of many [..., m]."""

    scale: float

    def __call__(self, total: np.ndarray) -> float | np.ndarray:
        return self.scale * total[..., 0] / total[..., 1]


@dataclass(frozen=True)
class Corpus:
    """A score `of` one sum [m], or of many [..., m] at once."""

    of: Callable[[np.ndarray], np.ndarray]

    def __call__(self, total: np.ndarray) -> float | np.ndarray:
        return self.of(total)


@lru_cache(maxsize=4)
def _counts(n: int, samples: int, seed: int) -> np.ndarray:
    """How often each of n examples is in each resample: [samples, n], rows sum to n."""
    rng = np.random.default_rng(seed)
    kind = np.float64 if n * samples <= READY else np.uint16     # one example 65536 times in a resample does not happen
    drawn = np.empty((samples, n), dtype=kind)
    for start in range(0, samples, BLOCK):
        size = min(BLOCK, samples - start)
        flat = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        drawn[start:start + size] = np.bincount(flat.ravel(), minlength=size * n).reshape(size, n)
    return drawn


@lru_cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread():
    """Context in which numpy multiplies by one thread: these products are small, and where other work has the cores, threads
    that wait for each other cost ten times what they do."""
    return _pools().limit(limits=1, user_api="blas")


def resampled(rows: np.ndarray, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """Summed statistics of bootstrap resamples of the examples (Efron 1979): rows [n, m] -> [samples, m]."""
    counts = _counts(len(rows), samples, seed)
    rows = np.asarray(rows, dtype=np.float64)
    with one_thread():
        return np.concatenate([counts[start:start + BLOCK].astype(np.float64, copy=False) @ rows
                               for start in range(0, samples, BLOCK)])


class _Same:
    """An array as a key: equal to itself alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.array is other.array


@lru_cache(maxsize=1024)
def _kept(systems: tuple[_Same, ...], score: Score, samples: int, seed: int) -> np.ndarray:
    joined = resampled(np.concatenate([one.array for one in systems], axis=1), samples, seed)      # one pass for all
    totals = np.stack(np.split(joined, len(systems), axis=1))                                      # [S, samples, m]
    found = score(totals) if isinstance(score, Ratio | Corpus) else np.array([[score(one) for one in own] for own in totals])
    found.flags.writeable = False
    return found


def score_draws(rows: Sequence[np.ndarray], score: Score, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """Scores of resamples of S statistics of one shape: [n, m] each -> [S, samples], not to be written to.

    Kept for the same arrays and function: a system has an interval and is compared with many, and BLEU is slow.
    """
    return _kept(tuple(map(_Same, rows)), score, samples, seed)


def forget() -> None:
    """Drop all scores that are kept: they hold their functions, and with these the tasks and data of runs that are over."""
    _kept.cache_clear()
