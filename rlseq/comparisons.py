"""What a group's results say beyond the leaderboard: gains over controls, beams, costs, and rewards against metrics.

Data for whoever shows it; nothing here draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import stats
from .report_groups import BASELINE, Entry, Group, Judge
from .resampling import score_draws
from .results import comparable
from .stats import Gain, Interval

OFTEN = 20                  # times as many resamples for a signal gain: whether its low end is above 0 must not be their luck
Point = tuple[float, float]


@dataclass(frozen=True)
class SignalGain:
    """How far an algorithm is above the strongest of its controls, and above each: the headline of learning by reward.

    `over` is the strongest one's name; `each` holds {name: gain over it alone}. Names: mle, constant, shuffled,
    temperature (this last one of samples, the others decoded as the group says).
    """

    entry: Entry
    gain: Gain
    over: str
    each: dict[str, Gain]


def signal_gain(judge: Judge, entry: Entry, metric: str | None = None, split: str | None = None) -> SignalGain | None:
    """The signal gain of a fine-tuned algorithm on a split, by default the headline; None for MLE, for controls and where
    MLE continued is the only one: the difference to it says what the reward and all else did together.

    The rule of the strongest control is `stats.over_strongest`: found anew in every resample, so that an interval above
    0 says that each control is beaten. For a metric where less is better a gain is a fall. Samples, and so the control by
    temperature, are of the headline alone.
    """
    split, metric = split or judge.group.tests[0], metric or judge.group.metrics[0]
    score = judge.score(metric)
    if score is None or entry.stage == "before" or entry.control or entry.algo == BASELINE:
        return None
    sign = judge.sign(split, metric)
    pairs = {name: pair for name, pair in _pairs(judge, entry, split, metric).items() if pair}
    if set(pairs) <= {"mle"}:
        return None

    signed = score if sign > 0 else lambda total: -score(total)
    samples = OFTEN * judge.samples
    each = {name: stats.over_strongest([pair], signed, samples) for name, pair in pairs.items()}
    gain = stats.over_strongest(list(pairs.values()), signed, samples)
    return SignalGain(entry, gain, list(pairs)[gain.strongest], each)


def controls_of(group: Group, entry: Entry) -> list[Entry]:
    """The entries that are the entry's algorithm and configuration paid by another reward."""
    return [one for one in group.entries if one.control and one.policy == entry.policy
            and one.algo == f"{entry.algo}+{one.control}" and _config(one) == _config(entry)]


def _config(entry: Entry) -> object:
    """What an entry was trained with: the policy's and the algorithm's options, and the budget."""
    config = entry.results[0].config
    return config.get("policy"), config.get("algo"), config.get("plan")


def _pairs(judge: Judge, entry: Entry, split: str, metric: str) -> dict[str, tuple[list, list] | None]:
    """{control: (ours, its)} statistics of the seeds that both have and that began at one checkpoint."""
    base = judge.baseline(entry)
    rivals = ({} if base is None else {"mle": base}) | {one.control: one for one in controls_of(judge.group, entry)}
    found = {name: _paired(entry, one, split, metric) for name, one in rivals.items() if judge.alike(one, split, metric)}
    own, heat = (f"{name}/{split}/{metric}" for name in ("sampled", "mle_sampled"))
    sampled = [one for one in entry.results if own in one.rows and heat in one.rows]
    if sampled:
        found["temperature"] = ([one.rows[own] for one in sampled], [one.rows[heat] for one in sampled])
    return found


def _paired(ours: Entry, theirs: Entry, split: str, metric: str) -> tuple[list, list] | None:
    left, right = ours.rows(split, metric), theirs.rows(split, metric)
    began = {one.seed: one for one in theirs.results}
    seeds = [one.seed for one in ours.results if one.seed in left and one.seed in right
             and one.began_as(began[one.seed]) and left[one.seed].shape == right[one.seed].shape]
    return ([left[seed] for seed in seeds], [right[seed] for seed in seeds]) if seeds else None


def checkpoints(judge: Judge, entry: Entry, metric: str | None = None) -> dict[str, Interval]:
    """Last, best and averaged weights on the headline split: {name: interval}; which one is used was chosen on dev."""
    return _by_name(judge, entry, metric, {name: f"{name}/" for name in ("last", "best", "averaged")})


def by_beam(judge: Judge, entry: Entry, metric: str | None = None) -> dict[int, Interval]:
    """Quality against beam width on the first problems of the headline split (the beam curse: Koehn and Knowles 2017)."""
    widths = sorted({int(width) for one in entry.results for width in one.beams})
    return _by_name(judge, entry, metric, {width: f"beam{width}/" for width in widths})


def _by_name(judge: Judge, entry: Entry, metric: str | None, stems: Mapping) -> dict:
    """{name: interval over the seeds} of the statistics under each stem that all seeds have."""
    metric = metric or judge.group.metrics[0]
    score, where = judge.score(metric), f"{judge.group.tests[0]}/{metric}"
    if score is None or entry.stage == "before":
        return {}
    return {name: stats.over_seeds([one.rows[stem + where] for one in entry.results], score, judge.samples)
            for name, stem in stems.items() if all(stem + where in one.rows for one in entry.results)}


def pareto(points: Sequence[Point], sign: int = 1) -> list[int]:
    """Which (cost, quality) are on the front, from cheap to dear: none is as cheap and as good, and better in one.

    `sign` -1 where a smaller quality number is better.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or sign * points[i][1] > sign * points[front[-1]][1]:
            front.append(i)
    return front


def front(judge: Judge, cost: str = "seconds", metric: str | None = None) -> list[tuple[Entry, Point, bool]]:
    """Every fine-tuned entry and control with its mean cost and score on the headline split, and whether it is on the
    Pareto front; for MLE pretrained the cost is 0, for all start there."""
    split, metric = judge.group.tests[0], metric or judge.group.metrics[0]
    found = [(one, judge.interval(one, split, metric)) for one in judge.group.entries]
    known = [(one, (0.0 if one.stage == "before" else one.cost()[cost], interval.score))
             for one, interval in found if interval is not None and np.isfinite(interval.score)]
    best = set(pareto([point for _, point in known], judge.sign(split, metric)))
    return [(one, point, index in best) for index, (one, point) in enumerate(known)]


@dataclass(frozen=True)
class CrossTable:
    """Models trained on reward A, scored by metrics B to Z: rows are (reward, label, {metric: interval})."""

    task: str
    signature: str                             # without the reward
    metrics: tuple[str, ...]
    lower: frozenset[str]                      # metrics of which less is better
    rows: tuple[tuple[str, str, dict[str, Interval]], ...]


def cross_tables(judged: Sequence[Judge]) -> list[CrossTable]:
    """Groups that differ in the task's reward alone -> one table each, its rows by policy, algorithm and reward.

    What was trained without a reward (MLE, pretrained) is one row, taken from the first group that has it.
    """
    families: dict[str, list[Judge]] = {}
    for judge in judged:
        families.setdefault(f"{judge.group.task}|{comparable(judge.group.signature, ('reward',))}", []).append(judge)
    tables = []
    for family in families.values():
        if len(family) < 2:
            continue
        rows: dict[tuple[str, str], tuple[str, str, dict[str, Interval]]] = {}
        for judge in family:
            for entry in judge.group.entries:
                reward = "-" if entry.algo == BASELINE else entry.results[0].reward
                rows.setdefault((f"{entry.label} ({entry.policy})", reward),
                                (reward, f"{entry.label} ({entry.policy})", _scored(judge, entry)))
        metrics = tuple(dict.fromkeys(name for judge in family for name in judge.group.metrics if name != "reward"))
        lower = frozenset(name for name in metrics if any(one.sign(one.group.tests[0], name) < 0 for one in family))
        tables.append(CrossTable(family[0].group.task, comparable(family[0].group.signature, ("reward",)), metrics, lower,
                                 tuple(sorted(rows.values(), key=lambda row: (row[0] != "-", row[1], row[0])))))
    return tables


def _scored(judge: Judge, entry: Entry) -> dict[str, Interval]:
    split = judge.group.tests[0]
    found = {metric: judge.interval(entry, split, metric) for metric in judge.group.metrics if metric != "reward"}
    return {metric: one for metric, one in found.items() if one is not None}


@dataclass(frozen=True)
class Across:
    """An algorithm over several tasks: the interquartile mean of its normalised scores, and of how many tasks and runs."""

    label: str
    interval: Interval
    tasks: int
    runs: int


def across_tasks(judged: Sequence[Judge], samples: int = 1000, seed: int = 0) -> list[Across]:
    """Interquartile mean over tasks and seeds with its 95 % interval, of every algorithm that two tasks or more have (other
    data make another task). Of each task and policy the group that was added to last counts alone, so that recipes of old
    do not, and of an algorithm there the latest configuration.

    A run's score is normalised to the share of what its pretrained checkpoint left undone:
    100 (score - pretrained) / (100 - pretrained), for primary metrics that end at 100. Stratified bootstrap (Agarwal et
    al. 2021): seeds are drawn with replacement within their task, and here examples too. Few seeds make it too narrow.
    """
    found: dict[str, list[np.ndarray]] = {}
    tasks: dict[str, set[tuple[str, str]]] = {}
    for number, (judge, entries) in enumerate(_latest(judged)):
        starts = {one.policy: one for one in judge.group.entries if one.stage == "before"}
        for entry in entries:
            shares = _normalised(judge, entry, starts.get(entry.policy), samples, seed)
            if shares is not None:
                rng = np.random.default_rng([seed, number])
                pick = np.vstack([np.arange(len(shares[0])), rng.integers(len(shares[0]), size=(samples, len(shares[0])))])
                label = "mle continued" if entry.algo == BASELINE else entry.algo
                found.setdefault(label, []).append(np.take_along_axis(shares, pick, 1))
                tasks.setdefault(label, set()).add((judge.group.task, entry.results[0].data))
    return [Across(label, _middle(np.concatenate(parts, 1)), len(tasks[label]), sum(part.shape[1] for part in parts))
            for label, parts in found.items() if len(tasks[label]) > 1]


def _latest(judged: Sequence[Judge]) -> list[tuple[Judge, list[Entry]]]:
    """Of each task, data and policy the group with the latest run; of each algorithm there the latest entry."""
    places: dict[tuple, tuple[str, Judge, dict[str, Entry]]] = {}
    for judge in judged:
        own: dict[tuple, dict[str, Entry]] = {}
        for entry in sorted((one for one in judge.group.entries if one.stage == "after"), key=_finished):
            own.setdefault((judge.group.task, entry.results[0].data, entry.policy), {})[entry.algo] = entry
        for place, entries in own.items():
            when = max(map(_finished, entries.values()))
            if place not in places or when > places[place][0]:
                places[place] = (when, judge, entries)
    return [(judge, list(entries.values())) for _, judge, entries in places.values()]


def _finished(entry: Entry) -> str:
    return max(one.finished for one in entry.results)


def _normalised(judge: Judge, entry: Entry, start: Entry | None, samples: int, seed: int) -> np.ndarray | None:
    """Normalised scores [1 + samples, S], the observed ones first; None where they cannot be known."""
    split, metric = judge.group.tests[0], judge.group.metrics[0]
    score = judge.score(metric)
    if score is None or start is None or entry.stage == "before" or entry.control or not judge.alike(entry, split, metric):
        return None
    columns = []
    for one in entry.results:
        both = [one.rows[f"{stage}/{split}/{metric}"] for stage in ("before", "after")]
        if both[0].shape != both[1].shape:
            return None
        before, after = (np.append(score(rows.sum(0, dtype=np.float64)), score_draws([rows], score, samples, seed)[0])
                         for rows in both)
        columns.append(100 * (after - before) / np.maximum(100 - before, 1e-9))
    return np.stack(columns, 1)


def _middle(shares: np.ndarray) -> Interval:
    """Rows of normalised scores, the observed one first -> their interquartile mean with its ends."""
    means = np.array([stats.interquartile_mean(row) for row in shares])
    low, high = np.percentile(means[1:], [2.5, 97.5])
    return Interval(float(means[0]), float(low), float(high))
