"""The table of a sweep on dev: what each setting reached, kept as JSON with statistics in a .npz beside it, told as Markdown.

`<name>.json` holds an entry by identity (setting, seed, dev problems): scores, costs, where they came from. `<name>.npz` holds
float32 arrays [n, m] "<identity>/<column>" of the primary metric, from which intervals and differences follow. Entries of
other settings stay in both, so that going back to them scores nothing again. `<name>.md` is the last command's table.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from . import locks, stats
from .files import write_whole
from .report_text import coded, markdown, said, said_count, said_difference, said_p
from .resampling import Score

FORMAT = 1
SURE = 0.05                # p after correction below which the best setting is marked


@dataclass(frozen=True)
class Entry:
    """One setting with one seed. `columns` are the dev sets that its weights were scored on: {column: {metric: score}}."""

    identity: str
    words: list[str]                     # of rlseq.run, without places
    seed: int
    metric: str                          # the primary one, whose statistics are kept
    columns: dict[str, dict[str, float]]
    cost: dict[str, float]               # of fine-tuning: updates, sampled_tokens, scored_tokens, seconds
    pretraining: float                   # seconds
    commits: list[str]                   # of the code that trained the weights, and of the code that scored them
    hardware: str
    failed: str = ""                     # why training ended without weights
    rows: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Line:
    """A setting of the table: what differs from the base, its algorithm, its entries by seed (none: not done yet)."""

    label: str
    algo: str
    entries: Sequence[Entry] = ()

    @property
    def failed(self) -> str:
        return next((one.failed for one in self.entries if one.failed), "")

    @property
    def scored(self) -> bool:
        return bool(self.entries) and not self.failed

    def rows(self, column: str) -> list[np.ndarray]:
        """Statistics of the primary metric, by seed."""
        return [one.rows[column] for one in self.entries]

    def mean(self, name: str) -> float:
        """A cost, over the seeds."""
        return float(np.mean([one.cost[name] for one in self.entries]))


@dataclass(frozen=True)
class Sheet:
    """All that is told of a sweep. The first line is the base, the first column the one that settings are compared on."""

    name: str
    aim: str
    command: str
    base: str                            # its words
    seeds: Sequence[int]
    metric: str
    columns: Sequence[str]
    score: Score
    lines: Sequence[Line]

    @cached_property
    def scored(self) -> list[Line]:
        return [one for one in self.lines if one.scored]

    def interval(self, line: Line, column: str) -> stats.Interval:
        return stats.over_seeds(line.rows(column), self.score)

    def apart(self, line: Line, other: Line | None, column: str) -> stats.Difference | None:
        """How far a line is above another one on the same problems; None where there is nothing to compare."""
        if other is None or other == line or not other.scored:
            return None
        return stats.paired(line.rows(column), other.rows(column), self.score)

    def over_base(self, line: Line, column: str) -> stats.Difference | None:
        return self.apart(line, self.lines[0], column)

    @cached_property
    def best(self) -> Line:
        return max(self.scored, key=lambda one: self.interval(one, self.columns[0]).score)

    @cached_property
    def best_mle(self) -> Line | None:
        """The strongest of the settings of MLE; None where there is none, or nothing else."""
        found = [one for one in self.scored if one.algo == "mle"]
        some = any(one.algo == "mle" for one in self.lines) and any(one.algo != "mle" for one in self.lines)
        return max(found, key=lambda one: self.interval(one, self.columns[0]).score) if found and some else None

    @cached_property
    def p(self) -> dict[str, float]:
        """By label, p of the difference to the base, after Holm's correction for all of them."""
        found = {one.label: self.over_base(one, self.columns[0]) for one in self.scored}
        found = {label: one.p for label, one in found.items() if one is not None}
        return dict(zip(found, stats.holm(list(found.values()))))

    @cached_property
    def winner(self) -> Line | None:
        """The best setting, where it is above the base beyond chance: its interval, and p after correction."""
        apart = self.over_base(self.best, self.columns[0]) if self.scored else None
        return self.best if apart and apart.low > 0 and self.p[self.best.label] < SURE else None


def read(home: Path, name: str) -> dict[str, Entry]:
    """The entries that were kept, by identity, those without whole statistics left out. Raises ValueError for a file that is
    none of ours."""
    path = home / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        told = dict(data["entries"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a sweep as rlseq writes it ({error}); delete it to score its settings again") from None
    kept, found = _statistics(path.with_suffix(".npz")), {}
    for identity, one in told.items():
        try:
            found[identity] = Entry(identity, **one, rows={column: kept[f"{identity}/{column}"] for column in one["columns"]})
        except (TypeError, KeyError):    # of another version, or cut off between the two files: it is scored again
            continue
    return found


def _statistics(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return {}
    except Exception as error:           # zipfile, zlib and numpy: each has its own family
        print(f"rlseq: {path} is damaged ({error}); its settings are scored again", file=sys.stderr)
        return {}


def keep(home: Path, name: str, entry: Entry) -> None:
    """Add an entry to those that are kept, also to what another process added meanwhile."""
    with locks.alone(home):
        entries, packed = {**read(home, name), entry.identity: entry}, io.BytesIO()
        np.savez_compressed(packed, **{f"{identity}/{column}": rows for identity, one in entries.items()
                                       for column, rows in one.rows.items()})
        told = {identity: {key: value for key, value in asdict(one).items() if key not in ("identity", "rows")}
                for identity, one in entries.items()}
        write_whole(home / f"{name}.npz", packed.getvalue())
        write_whole(home / f"{name}.json", json.dumps({"format": FORMAT, "entries": told}, indent=1) + "\n")    # last


def text(sheet: Sheet) -> str:
    """The sweep in Markdown, as far as it is done."""
    entries, first = [entry for line in sheet.lines for entry in line.entries], sheet.columns[0]
    some = [len(line.rows(first)[0]) for line in sheet.scored[:1]]
    plural = "s" * (len(sheet.seeds) > 1)
    facts = [f"commit {', '.join(dict.fromkeys(commit for one in entries for commit in one.commits)) or '-'}",
             *dict.fromkeys(one.hardware for one in entries),
             f"seed{plural} {', '.join(map(str, sheet.seeds))}", *(f"{n} dev problems" for n in some)]
    done = sum(bool(line.entries) for line in sheet.lines)
    facts += [f"{done} of {len(sheet.lines)} settings are done"] if done < len(sheet.lines) else []
    return "\n".join([f"# Sweep {markdown(sheet.name)}", "", markdown(sheet.aim), "", "```bash", coded(sheet.command), "```",
                      "", markdown(" · ".join(facts)), "", f"Base: `{coded(sheet.base)}`", "", *_table(sheet), "",
                      *_verdict(sheet), "", _beware(sheet)]) + "\n"


def _table(sheet: Sheet) -> list[str]:
    first, *further = sheet.columns
    rival = ["difference to the best MLE"] * (sheet.best_mle is not None)
    head = ["setting", f"{sheet.metric} ({first})", "difference to the base", "p", *rival, *further, "mean reward", "updates",
            "sampled tokens", "seconds", "of pretraining"]
    lines = [_row([markdown(one) for one in head]), "|---|" + "--:|" * (len(head) - 1)]
    for line in sheet.lines:
        label = markdown(line.label) + (" (best MLE)" if line == sheet.best_mle else "")
        if not line.scored:
            lines.append(_row([label, markdown(line.failed or "not done yet"), *["-"] * (len(head) - 2)]))
            continue
        score, apart = said(sheet.interval(line, first)), sheet.over_base(line, first)
        rivals = [_apart(sheet.apart(line, sheet.best_mle, first)) for _ in rival]
        reward = float(np.mean([one.columns[first]["reward"] for one in line.entries]))
        costs = [said_count(line.mean(name)) for name in ("updates", "sampled_tokens", "seconds")]
        lines.append(_row([label, f"**{score}**" if line == sheet.winner else score, _apart(apart),
                           said_p(sheet.p.get(line.label)), *rivals, *(_further(sheet, line, one) for one in further),
                           f"{reward:.1f}", *costs, said_count(float(np.mean([one.pretraining for one in line.entries])))]))
    return lines


def _apart(found: stats.Difference | None) -> str:
    return "-" if found is None else said_difference(found)


def _further(sheet: Sheet, line: Line, column: str) -> str:
    """A score on a further dev set, with + or - where its interval against the base leaves 0 outside."""
    apart = sheet.over_base(line, column)
    sign = "" if apart is None or not apart.separates else " +" if apart.low > 0 else " -"
    return said(sheet.interval(line, column)) + sign


def _verdict(sheet: Sheet) -> list[str]:
    """What may be said of the best setting, and which ones did worse than the base."""
    base, first = sheet.lines[0], sheet.columns[0]
    if not base.scored or len(sheet.scored) < 2:
        return ["Nothing can be compared yet."]
    apart, corrected = sheet.over_base(sheet.best, first), f"after Holm over {len(sheet.p)} comparisons with the base"
    if apart is None:
        told = "No setting is told apart above the base, which did best itself."
    elif sheet.winner is not None:
        told = (f"**{markdown(sheet.best.label)}** did best, {_apart(apart)} over the base, "
                f"p = {said_p(sheet.p[sheet.best.label])} {corrected}.")
    else:
        told = (f"No setting is told apart above the base: the best, {markdown(sheet.best.label)}, is {_apart(apart)} over it, "
                f"p = {said_p(sheet.p[sheet.best.label])} {corrected}.")
    worse = [one for one in sheet.scored if (found := sheet.over_base(one, first)) and found.high < 0
             and sheet.p[one.label] < SURE]
    return [told, *([f"Below the base beyond chance: {', '.join(markdown(one.label) for one in worse)}."] if worse else [])]


def _beware(sheet: Sheet) -> str:
    """How the table is to be read."""
    cover = "other seeds and other problems" if len(sheet.seeds) > 1 else "other problems, not other seeds"
    further = " + and - behind further columns: above or below the base, not corrected." * (len(sheet.columns) > 1)
    return (f"[95 % intervals] cover {cover}; differences are paired on the same problems, p is Holm's over all to the base; "
            "intervals are not corrected. The best of many on the same dev problems is flattered (winner's curse), "
            "the best MLE too, and weights were chosen on dev: expect less on new problems, and let one run on test decide."
            f"{further} Mean reward is each setting's own. No test problem was answered.")


def _row(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"
