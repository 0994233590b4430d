"""Which results may stand in one table, and what they say against each other.

A group holds results whose signatures are equal but for seed and commit. Its entries are systems: an algorithm and
policy with one configuration, under several seeds; the pretrained checkpoints they started from are an entry too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import stats
from .report_scores import mean_of, of_library, ratio_of, reproduces, task_score
from .resampling import Score
from .results import CIRCUMSTANCES, COST, Result, comparable, config_hash
from .stats import Difference, Interval

BASELINE = "mle"                               # every algorithm is compared with MLE continued for the same budget
LOOSE = ("seed", "commit", "budget")           # what may differ between a pretrained checkpoint and what came of it


@dataclass(frozen=True)
class Entry:
    """A system: results of the same configuration, one a seed, in the order of seeds; stage is before or after."""

    policy: str
    algo: str
    label: str
    stage: str
    results: tuple[Result, ...]

    @property
    def seeds(self) -> list[int]:
        return [one.seed for one in self.results]

    @property
    def control(self) -> str:
        """What stood in for the reward, of a control: constant or shuffled."""
        return self.results[0].control

    def evaluated(self, split: str) -> list[dict]:
        """What each seed reached on a split: {signature, n, metrics}."""
        return [getattr(one, self.stage)[split] for one in self.results]

    def rows(self, split: str, metric: str) -> dict[int, np.ndarray]:
        """Statistics by seed; a result that is older than the metric has none."""
        name = f"{self.stage}/{split}/{metric}"
        return {one.seed: one.rows[name] for one in self.results if name in one.rows}

    def cost(self) -> dict[str, float]:
        """Mean over seeds of what this stage took."""
        spent = [one.cost if self.stage == "after" else one.pretrained["cost"] for one in self.results]
        return {name: float(np.mean([one[name] for one in spent])) for name in COST}


@dataclass(frozen=True)
class Cell:
    """What an entry reached on a split by a metric; None where it cannot be known or compared."""

    interval: Interval
    difference: Difference | None = None       # to the MLE continued of the same policy
    p: float | None = None                     # after Holm, over the algorithms of the group, its controls left out
    wins: bool = False                         # better than every other entry, each interval separate


@dataclass(frozen=True)
class Group:
    """Entries that may be compared."""

    task: str
    signature: str                             # without seed and commit
    entries: tuple[Entry, ...]
    tests: tuple[str, ...]
    metrics: tuple[str, ...]                   # the primary one first

    @property
    def n(self) -> int:
        return self.entries[0].evaluated(self.tests[0])[0]["n"]


def groups(results: Sequence[Result]) -> list[Group]:
    """Results -> groups, ordered by task; each holds its pretrained checkpoints first."""
    found: dict[tuple, list[Result]] = {}
    for one in results:
        key = (one.task, one.task_version, one.data, one.primary, one.tests[0], comparable(one.headline["signature"]))
        found.setdefault(key, []).append(one)
    return [Group(f"{key[0]}-v{key[1]}", key[5], tuple(_pretrained(members) + _tuned(members)), _tests(members),
                  _metrics(members, key[3], key[4]))
            for key, members in sorted(found.items())]


def _tests(members: Sequence[Result]) -> tuple[str, ...]:
    """Test splits that all members were evaluated on, the headline first."""
    return tuple(split for split in members[0].tests if all(split in one.tests for one in members))


def _metrics(members: Sequence[Result], primary: str, split: str) -> tuple[str, ...]:
    names = {name for one in members for name in one.after[split]["metrics"]}
    return (primary, *sorted(names - {primary}))


def _pretrained(members: Sequence[Result]) -> list[Entry]:
    """One entry a policy: the checkpoint that most runs of a seed started from, of equal ones the latest."""
    entries = []
    for policy in sorted({one.policy for one in members}):
        fit = [one for one in members if one.policy == policy
               and comparable(one.before[one.tests[0]]["signature"], LOOSE)
               == comparable(one.headline["signature"], LOOSE)]
        chosen = []
        for seed in sorted({one.seed for one in fit}):
            same = [one for one in fit if one.seed == seed]
            chosen.append(max(same, key=lambda one: (sum(map(one.began_as, same)), one.finished)))
        if chosen:
            entries.append(Entry(policy, BASELINE, "mle pretrained", "before", tuple(chosen)))
    return entries


def _tuned(members: Sequence[Result]) -> list[Entry]:
    systems: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    for one in sorted(members, key=lambda one: one.finished):          # the latest of equal runs stays
        systems.setdefault((one.policy, one.algo), {}).setdefault(config_hash(one.config), {})[one.seed] = one
    entries = []
    for (policy, algo), variants in sorted(systems.items(), key=lambda item: (item[0][1] != BASELINE, item[0])):
        joined = _joined(variants.values())
        told = _told_apart([next(iter(seeds.values())).config for seeds in joined])
        for seeds, difference in zip(joined, told):
            name = "mle continued" if algo == BASELINE else algo
            entries.append(Entry(policy, algo, " ".join(filter(None, (name, difference))), "after",
                                 tuple(seeds[seed] for seed in sorted(seeds))))
    return entries


def _joined(variants: Iterable[dict[int, Result]]) -> list[dict[int, Result]]:
    """Results by seed of every configuration. Those that differ in pretrained= alone, where their start lay, are one, unless
    they have a seed in common."""
    found: dict[str, list[dict[int, Result]]] = {}
    for seeds in variants:
        found.setdefault(config_hash(next(iter(seeds.values())).config | {"pretrained": None}), []).append(seeds)
    joined: list[dict[int, Result]] = []
    for parts in found.values():
        whole = {seed: one for seeds in parts for seed, one in seeds.items()}
        joined += [whole] if len(whole) == sum(map(len, parts)) else parts
    return joined


def _told_apart(configs: Sequence[dict]) -> list[str]:
    """What each configuration has that the others have not: `algo.k=8`; empty for a single one."""
    flat = [dict(_flat({name: one for name, one in config.items() if name not in CIRCUMSTANCES})) for config in configs]
    names = sorted({name for one in flat for name in one if any(one.get(name) != other.get(name) for other in flat)})
    return [" ".join(f"{name}={one[name]}" for name in names if name in one) for one in flat]


def _flat(config: Mapping, prefix: str = "") -> list[tuple[str, object]]:
    parts: list[tuple[str, object]] = []
    for name, value in config.items():
        parts += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return parts


class Judge:
    """Scores and compares the entries of a group; `known` are score functions by metric that the caller has.

    A metric's score function is found in this order: given, a mean (statistics [value, 1]), sacrebleu's, the task's
    own. Whatever is found must reproduce the stored scores; where none does, intervals are over seeds only.
    """

    def __init__(self, group: Group, known: Mapping[str, Score] | None = None, samples: int = 1000) -> None:
        self.group, self.samples, self.notes = group, samples, []
        self._known = known or {}
        self._scores = {metric: self._found(metric) for metric in group.metrics}
        self._intervals: dict[tuple, Interval | None] = {}

    def score(self, metric: str) -> Score | None:
        """The score function of a metric's statistics; None where none was found."""
        return self._scores[metric]

    def interval(self, entry: Entry, split: str, metric: str) -> Interval | None:
        """Mean over seeds with its 95 % interval; None where the entry was not evaluated alike."""
        key = (self.group.entries.index(entry), split, metric)
        if key not in self._intervals:
            self._intervals[key] = self._interval(entry, split, metric)
        return self._intervals[key]

    def _interval(self, entry: Entry, split: str, metric: str) -> Interval | None:
        if not self.alike(entry, split, metric):
            return None
        score = self._scores[metric]
        if score is None:
            kept = [one["metrics"][metric]["score"] for one in entry.evaluated(split)]
            return stats.t_interval([np.nan if one is None else one for one in kept])
        return stats.over_seeds(list(entry.rows(split, metric).values()), score, self.samples)

    def difference(self, ours: Entry, theirs: Entry, split: str, metric: str) -> Difference | None:
        """Ours minus theirs over the seeds that both have; None where nothing can be paired."""
        score = self._scores[metric]
        if score is None or not (self.alike(ours, split, metric) and self.alike(theirs, split, metric)):
            return None
        left, right = ours.rows(split, metric), theirs.rows(split, metric)
        seeds = sorted(set(left) & set(right))
        if not seeds or left[seeds[0]].shape != right[seeds[0]].shape:
            return None
        return stats.paired([left[seed] for seed in seeds], [right[seed] for seed in seeds], score, self.samples,
                            mean=stats.is_mean(left[seeds[0]]) and stats.is_mean(right[seeds[0]]))

    def baseline(self, entry: Entry) -> Entry | None:
        """The MLE continued of the same policy that shares most seeds and starting points, of equal ones that by the same plan,
        then the latest; None where there is none."""
        fit = [one for one in self.group.entries
               if one.stage == "after" and one.algo == BASELINE and one.policy == entry.policy]
        plan = entry.results[0].config.get("plan")
        return max(fit, key=lambda one: (sum(ours.seed == its.seed and ours.began_as(its)
                                             for ours in entry.results for its in one.results),
                                         one.results[0].config.get("plan") == plan,
                                         max(run.finished for run in one.results)), default=None)

    def same_start(self, entry: Entry) -> bool:
        """Whether, seed by seed, the entry started from the checkpoint that its baseline started from."""
        other = self.baseline(entry)
        theirs = {one.seed: one for one in other.results} if other else {}
        return all(one.began_as(theirs.get(one.seed, one)) for one in entry.results)

    def cells(self, split: str, metric: str) -> list[Cell | None]:
        """One cell an entry: interval, difference to MLE continued, Holm's p over the algorithms, and who wins."""
        entries = self.group.entries
        intervals = [self.interval(one, split, metric) for one in entries]
        apart = []
        for one in entries:
            base = self.baseline(one)
            apart.append(None if base in (None, one) else self.difference(one, base, split, metric))
        family = [index for index, one in enumerate(entries)
                  if one.stage == "after" and not one.control and apart[index] is not None]
        adjusted = dict(zip(family, stats.holm([apart[index].p for index in family])))
        winner = self._winner(intervals, split, metric)
        return [None if found is None else Cell(found, apart[index], adjusted.get(index), index == winner)
                for index, found in enumerate(intervals)]

    def _winner(self, intervals: Sequence[Interval | None], split: str, metric: str) -> int | None:
        """The entry that is better than every other one beyond chance, or None."""
        known = [index for index, one in enumerate(intervals) if one is not None and np.isfinite(one.score)]
        if len(known) < 2:
            return None
        sign = self.sign(split, metric)
        best = max(known, key=lambda index: sign * intervals[index].score)
        entries = self.group.entries
        apart = [self.difference(entries[best], entries[index], split, metric) for index in known if index != best]
        if any(one is None or not one.separates or sign * one.difference <= 0 for one in apart):
            return None
        return best if max(stats.holm([one.p for one in apart])) < 0.05 else None

    def sign(self, split: str, metric: str) -> int:
        """1 where a higher score is better, -1 for error rates."""
        said = [found for entry in self.group.entries for found in entry.evaluated(split)]
        return -1 if any(one["metrics"].get(metric, {}).get("lower") for one in said) else 1

    def alike(self, entry: Entry, split: str, metric: str) -> bool:
        """Whether all seeds of the entry were evaluated as the latest fine-tuned run was that has the metric."""
        model = self._model(split, metric)
        if model is None:
            return False
        loose = LOOSE if entry.stage == "before" else LOOSE[:2]
        return all(metric in one["metrics"] and one["n"] == model["n"]
                   and one["metrics"][metric]["signature"] == model["metrics"][metric]["signature"]
                   and comparable(one["signature"], loose) == comparable(model["signature"], loose)
                   for one in entry.evaluated(split))

    def _model(self, split: str, metric: str) -> dict | None:
        known = [one for entry in self.group.entries if entry.stage == "after" for one in entry.results
                 if metric in one.after[split]["metrics"]]
        return max(known, key=lambda one: one.finished).after[split] if known else None

    def _found(self, metric: str) -> Score | None:
        stored = [(one["metrics"][metric]["score"], entry.rows(split, metric)[result.seed])
                  for entry in self.group.entries for split in self.group.tests
                  for result, one in zip(entry.results, entry.evaluated(split)) if metric in one["metrics"]]
        ways = (lambda: self._known.get(metric), lambda: mean_of(stored), lambda: ratio_of(stored),
                lambda: of_library("bleus"), lambda: of_library("chrfs"),
                lambda: self._of_task(metric))
        for find in ways:                      # a way is tried only where those before it failed: the last are slow
            score = find()
            if score is not None and all(reproduces(score, rows, said) for said, rows in stored):
                return score
        self.notes.append(f"{metric}: no score function gives the stored scores again; intervals are over seeds only")
        return None

    def _of_task(self, metric: str) -> Score | None:
        first = self.group.entries[-1].results[0]
        return task_score(first.task, json.dumps(first.task_options, sort_keys=True, default=str), metric)
