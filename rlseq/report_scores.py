"""Score functions for the statistics that a result file holds, where the task that made them may not be at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .resampling import Corpus, Ratio, Score
from .stats import is_mean


def of_library(name: str) -> Score:
    """A corpus metric of `rewards.text`, by the name of its function of many sums."""
    from .rewards import text  # here, for it imports torch, and means do without
    return Corpus(getattr(text, name))


@lru_cache
def task_score(task: str, options: str, metric: str) -> Score | None:
    """The score function of a task's metric; None where the task cannot be built here (its data may be elsewhere)."""
    try:
        from .tasks import make  # here, for it imports torch, and means do without
        return make(task, json.loads(options)).metrics[metric].score
    except Exception:                          # whatever a task of somebody else raises, the report is still made
        return None


def mean_of(stored: Sequence[tuple[float | None, np.ndarray]]) -> Score | None:
    """The scaled mean that statistics [value, 1] stand for, its scale read off a stored score."""
    if not all(is_mean(rows) for _, rows in stored):
        return None
    scales = [said / rows[:, 0].mean(dtype=np.float64) for said, rows in stored if said and rows[:, 0].any()]
    scale = min((1.0, 100.0), key=lambda one: abs(one - scales[0])) if scales else 100.0
    return Ratio(scale)


def ratio_of(stored: Sequence[tuple[float | None, np.ndarray]]) -> Score | None:
    """The ratio of two sums (edits to words, nats to actions) that statistics of two columns stand for, in percent or not,
    as a stored score says."""
    if any(rows.shape[1] != 2 for _, rows in stored):
        return None
    scales = [said * rows[:, 1].sum(dtype=np.float64) / rows[:, 0].sum(dtype=np.float64) for said, rows in stored
              if said and rows[:, 0].any() and rows[:, 1].any()]
    scale = min((1.0, 100.0), key=lambda one: abs(one - scales[0])) if scales else 1.0
    return Ratio(scale)


def reproduces(score: Score, rows: np.ndarray, said: float | None) -> bool:
    """Whether float32 statistics give the stored score: their rounding is below 1e-3 of a point."""
    try:
        found = float(score(rows.sum(0, dtype=np.float64)))
    except Exception:                          # a score function that does not fit these statistics
        return False
    return np.isnan(found) if said is None else abs(found - said) <= 1e-3 * max(1.0, abs(said))
