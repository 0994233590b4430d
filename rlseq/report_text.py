"""The report in plain text: the table at the end of a run, and `leaderboard.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from .comparisons import Across, CrossTable, SignalGain, across_tasks, by_beam, cross_tables, signal_gain
from .printable import printable
from .report_groups import BASELINE, Cell, Entry, Group, Judge, groups
from .resampling import Score
from .results import COST, Result
from .stats import Difference, Gain, Interval

COSTS = {"updates": "updates", "sampled_tokens": "sampled tokens", "scored_tokens": "scored tokens",
         "seconds": "seconds"}
assert tuple(COSTS) == COST
CONTROLS = {"mle": "MLE continued", "constant": "a constant reward", "shuffled": "shuffled rewards",
            "temperature": "MLE sampled as evenly"}


@lru_cache
def gains(judge: Judge) -> list[SignalGain | None]:
    """The signal gain of every entry on the headline split, None where there is none; found once, for it takes a while."""
    return [signal_gain(judge, entry) for entry in judge.group.entries]


@lru_cache
def headline(judge: Judge) -> list[Cell | None]:
    """The cells of the headline split and the primary metric, found once."""
    return judge.cells(judge.group.tests[0], judge.group.metrics[0])


def main_table(results: Sequence[Result], scores: Mapping[str, Score] | None = None) -> str:
    """What a run prints at its end: the pretrained checkpoint, MLE continued and the algorithm on every test split.

    `results`: those of this run and of the runs to compare it with, read back from their files; `scores`: the score
    functions of the task's metrics where they are at hand. Results that may not be compared get tables of their own.
    """
    return "\n\n".join("\n\n".join(_blocks(group, Judge(group, scores))) for group in groups(results))


def _blocks(group: Group, judge: Judge) -> list[str]:
    blocks = []
    tuned = [one for one in group.entries if one.stage == "after"]
    for entry in [one for one in tuned if one.algo != BASELINE and not one.control] or tuned:
        start = next((one for one in group.entries if one.stage == "before" and one.policy == entry.policy), None)
        blocks.append(_block(group, judge, start, judge.baseline(entry), entry))
    return blocks + judge.notes


def _block(group: Group, judge: Judge, start: Entry | None, base: Entry | None, entry: Entry) -> str:
    shown = [one for one in (start, base, entry) if one is not None]
    shown = shown[:-1] if base == entry else shown
    against = base if base not in (None, entry) else start
    lines = [["", *(one.label for one in shown), *(["difference"] if against else [])]]
    wanted = [(split, group.metrics[0]) for split in group.tests]
    wanted += [(group.tests[0], metric) for metric in group.metrics[1:]]
    for split, metric in wanted:
        found = [judge.interval(one, split, metric) for one in shown]
        line = [f"{split} {metric}{less(judge.sign(split, metric) < 0)}", *(said(one, digits(metric)) for one in found)]
        if against:
            apart = judge.difference(entry, against, split, metric)
            line.append("-" if apart is None else f"{said_difference(apart, digits(metric) + 1)}  p {said_p(apart.p)}")
        lines.append(line)
    costs = [["cost", *(one.label for one in shown)]]
    costs += [[word, *(said_count(one.cost()[name]) for one in shown)] for name, word in COSTS.items()]
    told_seeds = f"{len(entry.seeds)} seed{'s' * (len(entry.seeds) > 1)}"
    head = f"{group.task} · {entry.policy} · {entry.label} · {told_seeds} · {group.n} test problems; [ends of 95 %]"
    tail = [] if against is None else [f"difference: {entry.label} - {against.label}, paired on the same problems"]
    if gain := signal_gain(judge, entry):
        each = [[name, f"{said_gain(one)}  p {said_p(one.p)}"] for name, one in gain.each.items()]
        tail += ["", *columns([[f"gain in {group.metrics[0]} over", ""], *each]), "",
                 f"signal gain: {said_gain(gain.gain)} over {gain.over}, the strongest control"
                 + ("" if gain.gain.separates else "; not beyond chance")]
    if base is None:
        tail.append(f"to compare with MLE continued for the same budget, run the same line with algo={BASELINE}")
    elif not judge.same_start(entry):
        tail.append("beware: the two did not start from the same pretrained checkpoint")
    return "\n".join([head, "", *columns(lines), "", *columns(costs), "", *tail])


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words as aligned columns, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(word.ljust(width) if column == 0 else word.rjust(width)
                      for column, (word, width) in enumerate(zip(line, widths))).rstrip() for line in lines]


def leaderboard(judged: Sequence[Judge], complaints: Sequence[str] = ()) -> str:
    """All groups as Markdown."""
    parts = ["# Leaderboard", "",
             "Mean over training seeds with its 95 % interval, which covers other seeds and other test problems (one "
             "seed: problems only). Differences are to MLE continued for the same budget from the same checkpoint, "
             "paired on the same problems; p is two-sided, after Holm over the algorithms of a table. Signal gain: over the "
             "strongest control (MLE continued, the algorithm paid a constant or shuffled rewards, MLE sampled as evenly), "
             "found anew in every resample. Bold: better than every other row beyond chance. Written by "
             "`python -m rlseq.report`."]
    for judge in judged:
        parts += ["", *_markdown(judge)]
    for table in cross_tables(judged):
        parts += ["", *_crossed(table)]
    if across := across_tasks(judged):
        parts += ["", *_across(across)]
    if complaints:
        parts += ["", "Left out:", "", *(f"- {markdown(one)}" for one in complaints)]
    return "\n".join(parts) + "\n"


def _markdown(judge: Judge) -> list[str]:
    group = judge.group
    split, metric = group.tests[0], group.metrics[0]
    found = gains(judge)
    signal = ["signal gain"] * any(found)
    head = ["algorithm", "policy", "seeds", markdown(f"{metric} ({split})"), *signal, "difference to MLE continued", "p",
            *COSTS.values()]
    lines = [f"## {markdown(group.task)}: {markdown(metric)} on {markdown(split)}, {group.n} problems", "",
             f"`{coded(group.signature)}`", "", _row(head), "|---|---|--:|" + "--:|" * (len(head) - 3)]
    for entry, cell, gain in zip(group.entries, headline(judge), found):
        score, *apart = _words(cell)
        lines.append(_row([markdown(entry.label), markdown(entry.policy), said_seeds(entry), score,
                           *(said_signal(gain) for _ in signal), *apart, *map(said_count, entry.cost().values())]))
    others = [(one, group.metrics[0]) for one in group.tests[1:]] + [(split, one) for one in group.metrics[1:]]
    if others:
        lines += ["", _row(["algorithm", "policy", *(markdown(f"{metric} ({split})") + less(judge.sign(split, metric) < 0)
                                                     for split, metric in others)]),
                  "|---|---|" + "--:|" * len(others)]
        lines += [_row([markdown(entry.label), markdown(entry.policy),
                        *(said(judge.interval(entry, *one), digits(one[1])) for one in others)]) for entry in group.entries]
    return lines + _elsewhere(judge) + _beams(judge) + [f"\n{markdown(note)}" for note in notes(judge)]


def _elsewhere(judge: Judge) -> list[str]:
    """Signal gains on the other test splits, where an entry has any."""
    group = judge.group
    told = [(entry, [signal_gain(judge, entry, split=split) for split in group.tests[1:]]) for entry in group.entries]
    told = [(entry, found) for entry, found in told if any(found)]
    if not told:
        return []
    metric = group.metrics[0]
    return ["", _row(["signal gain elsewhere", "policy", *(markdown(f"{metric} ({split})") for split in group.tests[1:])]),
            "|---|---|" + "--:|" * (len(group.tests) - 1),
            *(_row([markdown(entry.label), markdown(entry.policy), *map(said_signal, found)]) for entry, found in told),
            "", "Elsewhere than on the headline split no control is sampled, and intervals are not corrected for the number of "
            "splits."]


def _beams(judge: Judge) -> list[str]:
    """Quality against beam width, where results have it."""
    metric, told = judge.group.metrics[0], [(entry, by_beam(judge, entry)) for entry in judge.group.entries]
    widths = sorted({width for _, found in told for width in found})
    if not widths:
        return []
    return ["", _row(["beam width", "policy", *map(str, widths)]), "|---|---|" + "--:|" * len(widths),
            *(_row([markdown(entry.label), markdown(entry.policy),
                    *(said(found.get(width), digits(metric)) for width in widths)]) for entry, found in told if found),
            "", f"Beams answered the first problems of {markdown(judge.group.tests[0])} alone, by {markdown(metric)}."]


def _crossed(table: CrossTable) -> list[str]:
    names = [markdown(name) + less(name in table.lower) for name in table.metrics]
    return [f"## {markdown(table.task)}: trained on one metric, scored by all", "",
            "A reward that is learned for its own sake shows as a gain in its column alone.", "",
            _row(["trained on", "system", *names]), "|---|---|" + "--:|" * len(names),
            *(_row([markdown(reward), markdown(label), *(said(found.get(name), digits(name)) for name in table.metrics)])
              for reward, label, found in table.rows)]


def _across(found: Sequence[Across]) -> list[str]:
    return ["## Across tasks", "",
            "Interquartile mean over tasks and seeds of the share of what the pretrained checkpoint left undone, in percent, "
            "with its 95 % interval by a bootstrap stratified over tasks (Agarwal et al. 2021). Of each task and policy its "
            "latest table counts. With few seeds the intervals are too narrow, and algorithms that other tasks have are not "
            "comparable.", "",
            _row(["algorithm", "interquartile mean", "tasks", "runs"]), "|---|--:|--:|--:|",
            *(_row([markdown(one.label), said(one.interval), str(one.tasks), str(one.runs)]) for one in found)]


def notes(judge: Judge) -> list[str]:
    """What a reader of a group's table must be warned of."""
    said_all = list(judge.notes)
    if any(len(one.seeds) == 2 for one in judge.group.entries):
        said_all.append("two seeds say little of other seeds, so intervals over two are very wide; run a third")
    for entry in judge.group.entries:
        base = judge.baseline(entry)
        if entry.stage == "after" and base is None:
            said_all.append(f"{entry.label} ({entry.policy}): no MLE continued of this policy to compare with")
        elif entry.stage == "after" and not judge.same_start(entry):
            said_all.append(f"{entry.label} ({entry.policy}) did not start from the checkpoint that MLE started from")
        elif base is not None and not set(entry.seeds) <= set(base.seeds):
            shared = sorted(set(entry.seeds) & set(base.seeds))
            said_all.append(f"{entry.label} ({entry.policy}) is compared with MLE over seeds {shared or 'none'} only")
    for entry, found in zip(judge.group.entries, gains(judge)):
        untold = [] if found is None else [said for name, said in CONTROLS.items() if name not in found.each]
        if untold:
            said_all.append(f"{entry.label} ({entry.policy}): its signal gain knows nothing of {' and '.join(untold)}")
    return said_all


def said_seeds(entry: Entry) -> str:
    """How many seeds, and whether a checkpoint that several share is one only: its interval then covers no other training."""
    shared = entry.stage == "before" and len(entry.seeds) > 1 and all(map(entry.results[0].began_as, entry.results))
    return f"{len(entry.seeds)}, one start" if shared else str(len(entry.seeds))


def said_signal(found: SignalGain | None) -> str:
    """`+2.10 [+0.31, +3.90] over a constant reward`"""
    return "-" if found is None else f"{said_gain(found.gain)} over {CONTROLS[found.over]}"


def _words(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["-", "-", "-"]
    score = f"**{said(cell.interval)}**" if cell.wins else said(cell.interval)
    return [score, "-" if cell.difference is None else said_difference(cell.difference), said_p(cell.p)]


def _row(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"


def markdown(text: str) -> str:
    """Text of others, with the signs that Markdown or HTML would take as their own made harmless."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}" if sign in "\\`*_|[]" else {"<": "&lt;", ">": "&gt;"}[sign])
    return printable(" ".join(text.split()), 0)


def coded(text: str) -> str:
    """Text of others between backquotes."""
    return printable(" ".join(text.replace("`", "'").split()), 0)


def digits(metric: str) -> int:
    """Decimals of a score: what ends at 100 needs one, nats three."""
    return 3 if metric == "nll" else 1


def less(better: bool) -> str:
    """What stands behind the name of a metric of which less is better."""
    return " (less is better)" if better else ""


def said(one: Interval | None, places: int = 1) -> str:
    """`74.1 [71.3, 76.9]`"""
    if one is None or math.isnan(one.score):
        return "-"
    return f"{one.score:.{places}f}" + ("" if math.isnan(one.low) else f" [{one.low:.{places}f}, {one.high:.{places}f}]")


def said_difference(one: Difference, places: int = 2) -> str:
    """`+2.10 [+0.31, +3.90]`"""
    return f"{one.difference:+.{places}f} [{one.low:+.{places}f}, {one.high:+.{places}f}]"


def said_gain(one: Gain) -> str:
    """`+2.10 [+0.31, +3.90]`"""
    return f"{one.gain:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


def said_p(p: float | None) -> str:
    """A p-value in three decimals."""
    if p is None or math.isnan(p):
        return "-"
    return "< 0.002" if p < 0.002 else f"{p:.3f}"      # 1000 resamples say no more than 1/1001


def said_count(value: float) -> str:
    """`740`, `12.3k`, `4.56M`: three digits or so."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if letter == "k" else size)
            return f"{scaled:.3g}{letter}" if scaled < 100 else f"{scaled:.0f}{letter}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
