"""How sure a score is, and whether one system is better than another: intervals, paired tests, many comparisons.

Everything works on statistics that add up over examples (rows [n, m]; the score is a function of their sum), so that
corpus metrics such as BLEU are treated like means. Resamples depend on (n, samples, seed) only: two systems that
answer the same examples see the same resamples, which is what makes a comparison paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from .resampling import BLOCK, Score, one_thread, score_draws


@dataclass(frozen=True)
class Interval:
    """A score and the ends of its interval, in the metric's unit."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How far system A is above system B on the same examples, with its interval and tests.

    `p` is two-sided; `p_sacrebleu` is the (about half as large) p-value that sacrebleu's paired bootstrap prints;
    `p_flip` is the sign-flip permutation test, None where a score is not a mean or seeds differ in number.
    """

    difference: float
    low: float
    high: float
    p: float
    p_sacrebleu: float
    p_flip: float | None
    seeds: int

    @property
    def separates(self) -> bool:
        """Whether the interval leaves zero outside."""
        return self.low > 0 or self.high < 0


def _checked(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of every seed as float64 [n, m], all for the same examples."""
    rows = [np.asarray(one, dtype=np.float64) for one in rows]
    shapes = {one.shape for one in rows}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or 0 in next(iter(shapes)):
        raise ValueError("statistics must be [n, m] with the same n >= 1 and m for every seed and system, "
                         f"got {shapes}; compare runs that answer the same examples")
    return rows


def is_mean(rows: np.ndarray) -> bool:
    """Whether statistics are [value, 1]."""
    return rows.shape[1] == 2 and bool((rows[:, 1] == 1).all())


def _seed_noise(scores: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Draws [samples] of the error that S seeds leave in a mean: s / sqrt(S) * t with S - 1 degrees of freedom.

    Stratified over the quantiles, so that the draws add no noise of their own.
    """
    if len(scores) < 2:
        return np.zeros(samples)
    spread = scores.std(ddof=1) / np.sqrt(len(scores))
    quantiles = stdtrit(len(scores) - 1, (np.arange(samples) + 0.5) / samples)
    return spread * np.random.default_rng([seed, 1]).permutation(quantiles)


def _ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail]) if np.isfinite(draws).all() else (np.nan, np.nan)
    return float(low), float(high)


def bootstrap(rows: np.ndarray, score: Score, samples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval over examples: rows [n, m] -> score of their sum with its ends."""
    return over_seeds([rows], score, samples, seed, level)


def over_seeds(rows: Sequence[np.ndarray], score: Score, samples: int = 1000, seed: int = 0,
               level: float = 0.95) -> Interval:
    """Mean score over training seeds with an interval that covers both other seeds and other examples.

    Examples are resampled once for all seeds, for all seeds answer the same ones; the seeds' part is drawn from
    Student's t. Departs from the plain hierarchical bootstrap, which draws seeds with replacement: with 3 seeds whose
    effect dominates, that covers 80 % where it promises 95 %, this one 95 %. One seed: examples only. No spread among
    examples: the t interval. A share of right answers (statistics [0 or 1, 1]) ends at none and all, which misses no truth.
    """
    checked = _checked(rows)
    scores = np.array([score(one.sum(0)) for one in checked])
    draws = score_draws(rows, score, samples, seed).mean(0)
    ends = _ends(draws + _seed_noise(scores, samples, seed), level)
    if all(is_mean(one) and np.isin(one[:, 0], (0, 1)).all() for one in checked):
        ends = np.clip(ends, *sorted(score(np.array([share, 1.0])) for share in (0.0, 1.0)))
    return Interval(float(scores.mean()), *map(float, ends))


def t_interval(scores: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval of a mean where only scores per seed are known; NaN ends for fewer than two seeds."""
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) < 2:
        return Interval(float(scores.mean()) if len(scores) else float("nan"), float("nan"), float("nan"))
    half = stdtrit(len(scores) - 1, 0.5 + level / 2) * scores.std(ddof=1) / np.sqrt(len(scores))
    return Interval(float(scores.mean()), float(scores.mean() - half), float(scores.mean() + half))


def paired(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], score: Score, samples: int = 1000, seed: int = 0,
           level: float = 0.95, mean: bool = False) -> Difference:
    """Paired comparison of two systems on the same examples; entry s of both lists is training seed s.

    Paired bootstrap (Koehn 2004), p = (1 + #{|d_b - mean d| >= |d|}) / (samples + 1), with the seeds' part as in
    `over_seeds`. `mean` says that the score is a mean of the first column, so that `sign_flip` may be used (one seed).
    Raises ValueError where seeds or examples do not match.
    """
    ours, theirs, apart, noisy = _apart(ours, theirs, score, samples, seed)
    observed = float(apart.mean())
    flipped = sign_flip(ours[0][:, 0] - theirs[0][:, 0], seed=seed) if mean and len(ours) == 1 else None
    return Difference(observed, *_ends(noisy, level), p=bootstrap_p(noisy, observed),
                      p_sacrebleu=sacrebleu_p(noisy, observed), p_flip=flipped, seeds=len(ours))


def _apart(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], score: Score, samples: int,
           seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    """Both systems' rows, checked; their difference by training seed [S]; bootstrap draws of its mean [samples]."""
    if len(ours) != len(theirs) or not len(ours):
        raise ValueError(f"a paired comparison needs the same seeds on both sides, got {len(ours)} and {len(theirs)}")
    rows = _checked([*ours, *theirs])
    draws = (score_draws(ours, score, samples, seed) - score_draws(theirs, score, samples, seed)).mean(0)
    ours, theirs = rows[:len(ours)], rows[len(ours):]
    apart = np.array([score(a.sum(0)) - score(b.sum(0)) for a, b in zip(ours, theirs)])
    return ours, theirs, apart, draws + _seed_noise(apart, samples, seed)


@dataclass(frozen=True)
class Gain:
    """How far a system is above the strongest of its controls; `strongest` is its place among them."""

    gain: float
    low: float
    high: float
    p: float
    strongest: int
    seeds: int                     # of the control that has fewest

    @property
    def separates(self) -> bool:
        """Whether the system is above every control beyond chance."""
        return self.low > 0


def over_strongest(pairs: Sequence[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]], score: Score, samples: int = 1000,
                   seed: int = 0, level: float = 0.95) -> Gain:
    """Gain over the strongest of C controls, min_c d_c, each entry (ours, the control's) as `paired` takes them.

    The strongest is found anew in every resample: the low end is a quantile of min_c d_c, which is at or below each
    d_c's own, so it lies above 0 only where every single comparison's does (an intersection-union test: no correction
    is due, and none is made by hand-picking one control). The high end is the lowest of the d_c's own high ends, each
    at 1 - tail / C (Bonferroni). p is for the whole claim: the largest of the p_c if the gain is positive, else C
    times the smallest. Raises ValueError for no controls.
    """
    if not pairs:
        raise ValueError("a gain over the strongest control needs one control or more")
    found = [_apart(ours, theirs, score, samples, seed)[2:] for ours, theirs in pairs]
    observed = np.array([apart.mean() for apart, _ in found])
    draws = np.stack([noisy for _, noisy in found])                                    # [C, samples]
    strongest = int(observed.argmin())
    each = [bootstrap_p(one, float(value)) for one, value in zip(draws, observed)]
    p = max(each) if observed[strongest] > 0 else min(1.0, len(each) * min(each))
    low = _ends(draws.min(0), level)[0]
    high = min(_ends(one, 1 - (1 - level) / len(draws))[1] for one in draws)
    return Gain(float(observed[strongest]), low, max(low, high), float(p), strongest, min(len(apart) for apart, _ in found))


def bootstrap_p(draws: np.ndarray, observed: float) -> float:
    """Two-sided p-value of an observed difference from bootstrap draws of it, shifted to the null hypothesis."""
    if np.isnan(observed) or np.isnan(draws).any():
        return float("nan")
    slack = 1e-12 * max(1.0, abs(observed))              # equal values may differ in the last bit of their sums
    return float((1 + np.sum(np.abs(draws - draws.mean()) >= abs(observed) - slack)) / (len(draws) + 1))


def sacrebleu_p(draws: np.ndarray, observed: float) -> float:
    """The p-value of sacrebleu's `--paired-bs`: |d_b| - mean |d_b| > |d|, which counts one tail only."""
    if np.isnan(observed) or np.isnan(draws).any():
        return float("nan")
    sizes = np.abs(draws)
    return float((1 + np.sum(sizes - sizes.mean() > abs(observed))) / (len(draws) + 1))


def sign_flip(apart: np.ndarray, samples: int = 10_000, seed: int = 0) -> float:
    """Two-sided permutation test that paired differences [n] have mean zero (Fisher 1935).

    Enumerates all 2^n signs up to n = 12, else draws `samples` of them and counts the observed one among them.
    """
    apart = np.asarray(apart, dtype=np.float64)
    apart = apart[apart != 0]                            # a zero is the same under both signs
    if len(apart) == 0:
        return 1.0
    bar = abs(apart.sum()) * (1 - 1e-12)
    if len(apart) <= 12:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(apart))[:, None] >> np.arange(len(apart))) & 1)
        return float(np.mean(np.abs(signs @ apart) >= bar))
    rng, hits = np.random.default_rng([seed, 2]), 0
    for start in range(0, samples, BLOCK * 10):
        size = min(BLOCK * 10, samples - start)
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(size, len(apart)), dtype=np.int8)
        with one_thread():
            hits += int(np.sum(np.abs(signs @ apart) >= bar))
    return (1 + hits) / (samples + 1)


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half of the values (Agarwal et al. 2021): a quarter is left out at either end, rounded down."""
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    cut = len(ordered) // 4
    return float(ordered[cut:len(ordered) - cut].mean())


def correlation(ours: np.ndarray, theirs: np.ndarray, score: Score, samples: int = 1000, seed: int = 0) -> float:
    """How alike two systems' scores vary over resamples of the examples, -1 to 1; NaN where one does not vary."""
    one, other = score_draws([ours, theirs], score, samples, seed)
    return float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else float("nan")


def detectable(rows: np.ndarray, score: Score, seeds: int = 1, alike: float = 0.8, power: float = 0.8,
               samples: int = 1000, level: float = 0.95) -> float:
    """The gain, in the metric's unit, whose interval by `paired` leaves 0 outside with this power.

        delta sqrt(v / S),    v = 2 sigma^2 (1 - alike),    power = P(delta + e > q(s))

    rows: one system's statistics, whose bootstrap gives sigma; `alike`: how the two systems' scores correlate over
    examples (`correlation`); e standard normal; s^2 the spread over S seeds, chi-square with S - 1 degrees of freedom; q(s)
    the upper quantile of normal + s t, as `paired` adds them up. Assumes that seeds differ in nothing but what the examples
    make of it: if they do, gains must be larger. Raises ValueError for shares outside [0, 1) or no seed.
    """
    if seeds < 1 or not 0 <= alike < 1 or not 0 < power < 1:
        raise ValueError(f"seeds={seeds} must be 1 or more, alike={alike} and power={power} shares below 1")
    rng, count = np.random.default_rng([seeds, 3]), 20_000
    grid = (np.arange(count) + 0.5) / count
    normal, e = rng.permutation(ndtri(grid)), rng.permutation(ndtri(grid))
    if seeds == 1:
        half = np.full(count, ndtri(0.5 + level / 2))
    else:
        spread = np.sqrt(rng.chisquare(seeds - 1, count) / (seeds - 1))
        tail, at = rng.permutation(stdtrit(seeds - 1, grid)), np.linspace(0, spread.max(), 60)
        half = np.interp(spread, at, [np.quantile(normal + one * tail, 0.5 + level / 2) for one in at])
    sigma = score_draws([rows], score, samples).std()
    return float(np.quantile(half - e, power) * sigma * np.sqrt(2 * (1 - alike) / seeds))


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the chance of any false claim among them (Holm 1979); NaN stays NaN.

        adjusted_(i) = max over j <= i of min(1, (n - j + 1) p_(j)),   p_(1) <= ... <= p_(n)
    """
    p = np.asarray(values, dtype=np.float64)
    adjusted, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted.tolist()
