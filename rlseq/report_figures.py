"""The figures of a group: learning curves, quality against cost, length, beam width, and what was watched while training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from .comparisons import by_beam, front
from .report_groups import Entry, Group, Judge
from .report_svg import Across, Line, chart
from .report_tables import mark
from .report_text import COSTS

KNOWN = {"stage", "dev", "reward", *COSTS}     # fields of a curve's points that are an axis or have a figure of their own
THEMES = {                                     # of what is watched: {heading: (what it says, names or how they begin)}
    "References, token by token": (
        "Mass of the likeliest and of the ten likeliest actions (top1, top10), entropy and nll in nats, share of tokens whose "
        "likeliest action changed, and how the reference token's probability changed, by the rank that it had before.",
        ("gold_",)),
    "Answers drawn": (
        "To 64 dev problems, always with the same random numbers: reward, the best one's, spread and share of problems without "
        "any (flat), length over the references', share without STOP (truncated), of repeated 4-grams, of tokens copied from "
        "the source, of distinct tokens, pairs and answers.", ("sample_",)),
    "Greedy answers": ("To the same problems.", ("decoded_",)),
    "Distance between policies": (
        "KL to the pretrained policy in nats a token and an answer; drawing against scoring (draw error); the policy that drew "
        "against the one that learns (off policy; ess: effective sample size, as a share).",
        ("kl", "draw_error", "off_policy", "ess", "update_kl", "clipped", "greatest_weight")),
    "Updates": ("Means over the updates since the last look, as the algorithm says them.", ("",))}
LENGTHS, SPREAD = 3, 2.0                       # test splits x-5, x-10, x-20: so many, the largest so much above the smallest


def learning(judge: Judge, anchor: str) -> str:
    """Score on dev and reward while fine-tuning, and the final score, each over a cost that the reader chooses."""
    group = judge.group
    metric = group.metrics[0]
    drawn = {cost: "".join((
        _curves(group, cost, "dev", f"{metric} on dev"), _curves(group, cost, "reward", "reward of samples"),
        _pareto(judge, cost))) for cost in COSTS}
    if not any(drawn.values()):
        return ""
    chosen = "".join(f'<label><input type="radio" name="{anchor}-cost" value="{cost}"{" checked" * (cost == "updates")}>'
                     f"{word}</label>" for cost, word in COSTS.items())
    figures = "".join(f'<div class="figures" data-cost="{cost}">{found}</div>' for cost, found in drawn.items())
    return (f'<h4>Quality against cost</h4>{legend(group)}<fieldset class="costs"><legend>cost of fine-tuning as</legend>'
            f"{chosen}</fieldset>{figures}")


def legend(group: Group) -> str:
    """Colours and names of a group's entries."""
    several = len({one.policy for one in group.entries}) > 1
    shown = "".join(f'<span data-algo="{escape(entry.algo)}">{mark(entry, index)}'
                    f"{f' <small>{escape(entry.policy)}</small>' if several else ''}</span>"
                    for index, entry in enumerate(group.entries))
    return f'<p class="legend">{shown}</p>'


def figure(caption: str, picture: str, note: str = "") -> str:
    """A picture under its caption, above a note; empty without a picture."""
    small = f"<small>{escape(note)}</small>" if note else ""
    above = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{above}{picture}{small}</figure>" if picture else ""


def _curves(group: Group, cost: str, field: str, caption: str, stage: str = "finetune") -> str:
    lines = [over_seeds(entry, index, cost, field, stage) for index, entry in enumerate(group.entries)
             if (entry.stage == "before") == (stage == "pretrain")]
    several = any(len(one.around) > 0 for one in lines)
    doing = "pretraining" if stage == "pretrain" else "fine-tuning"
    return figure(caption, chart(lines, Across(f"{COSTS[cost]} of {doing}"), caption),
                  "mean over seeds, band from the lowest to the highest" if several else "")


def over_seeds(entry: Entry, index: int, cost: str, field: str, stage: str) -> Line:
    """An entry's curve: the mean over its seeds at the updates that all of them have, with the lowest and the highest."""
    runs = [{point["updates"]: (point[cost], point[field]) for point in run.curve
             if (point.get("stage") == "pretrain") == (stage == "pretrain")
             and _is_number(point.get(field)) and _is_number(point.get(cost))}
            for run in entry.results]
    runs = [one for one in runs if one]
    shared = sorted(set.intersection(*map(set, runs))) if runs else []
    heights = [[one[at][1] for one in runs] for at in shared]
    points = tuple((float(np.mean([one[at][0] for one in runs])), float(np.mean(one))) for at, one in zip(shared, heights))
    around = tuple((min(one), max(one)) for one in heights) if len(runs) > 1 else ()
    return Line(f"{entry.label} ({entry.policy})", entry.algo, index, points, around)


def _pareto(judge: Judge, cost: str) -> str:
    """Final test scores over what fine-tuning took; the front joins what nothing cheaper beats."""
    group = judge.group
    split, metric = group.tests[0], group.metrics[0]
    dots, stairs = [], []
    for entry, point, best in front(judge, cost):
        found = judge.interval(entry, split, metric)
        index = group.entries.index(entry)
        dots.append(Line(f"{entry.label} ({entry.policy})", entry.algo, index, (point,), ((found.low, found.high),),
                         joined=False))
        stairs += [point] if best else []
    if len(dots) < 2:
        return ""
    across = Across(f"{COSTS[cost]} of fine-tuning")
    return figure(f"{metric} on {split}, Pareto front", chart(dots, across, metric, sorted(stairs)), "bars: 95 % intervals")


def generalisation(judge: Judge) -> str:
    """Score over the length of problems, and over beam width, where the results have several of them."""
    return "".join((_lengths(judge), _beams(judge)))


def lengths(tests: Sequence[str]) -> list[tuple[int, str]]:
    """(n, split) of test splits that differ in a number alone, by rising n; empty where that is no range of lengths."""
    families: dict[str, list[tuple[int, str]]] = {}
    for split in tests:
        if found := re.fullmatch(r"(.*?)(\d+)", split):
            families.setdefault(found[1], []).append((int(found[2]), split))
    best = sorted(max(families.values(), key=len, default=[]))
    return best if len(best) >= LENGTHS and best[-1][0] >= SPREAD * best[0][0] > 0 else []


def _lengths(judge: Judge) -> str:
    group, splits, lines = judge.group, lengths(judge.group.tests), []
    metric = group.metrics[0]
    for index, entry in enumerate(group.entries):
        found = [(n, judge.interval(entry, split, metric)) for n, split in splits]
        known = [(n, one) for n, one in found if one is not None and math.isfinite(one.score)]
        lines.append(Line(f"{entry.label} ({entry.policy})", entry.algo, index, tuple((n, one.score) for n, one in known),
                          tuple((one.low, one.high) for _, one in known), joined=False))
    return figure("Length generalisation", chart(lines, Across("size of the problem", tuple(n for n, _ in splits), log=True),
                                                 metric), f"{metric}, 95 % intervals")


def _beams(judge: Judge) -> str:
    group, lines = judge.group, []
    split, metric = group.tests[0], group.metrics[0]
    for index, entry in enumerate(group.entries):
        found = by_beam(judge, entry)
        lines.append(Line(f"{entry.label} ({entry.policy})", entry.algo, index,
                          tuple((width, one.score) for width, one in found.items()),
                          tuple((one.low, one.high) for one in found.values()), joined=False))
    marks = tuple(sorted({width for one in lines for width, _ in one.points}))
    return figure("Beam width", chart(lines, Across("beam width (1: greedy)", marks, log=True), metric),
                  f"{metric} on the first problems of {split}, 95 % intervals")


def themed(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of what was watched under the headings of THEMES, each under the first that fits."""
    found: dict[str, list[str]] = {heading: [] for heading in THEMES}
    for name in names:
        found[next(heading for heading, (_, starts) in THEMES.items() if name.startswith(starts))].append(name)
    return {heading: some for heading, some in found.items() if some}


def plain(name: str) -> str:
    """`gold_change_rank_2_10` -> `gold change rank 2 to 10`"""
    return re.sub(r"(\d)_(\d)", r"\1 to \2", name).replace("_", " ")


def watched(group: Group) -> str:
    """Every other number that the training curves hold, over updates; pretraining too."""
    fields = dict.fromkeys(name for entry in group.entries for run in entry.results for point in run.curve
                           for name, value in point.items() if name not in KNOWN and _is_number(value))
    parts = []
    for heading, names in themed(fields).items():
        if drawn := "".join(_curves(group, "updates", name, plain(name)) for name in names):
            parts.append(_folded(heading, f'<p class="soft">{escape(THEMES[heading][0])}</p>{legend(group)}', drawn))
    if before := _curves(group, "updates", "dev", f"{group.metrics[0]} on dev, pretraining", "pretrain"):
        parts.append(_folded("Pretraining", "", before))
    return f"<details><summary>Watched while training</summary>{''.join(parts)}</details>" if parts else ""


def _folded(heading: str, above: str, figures: str) -> str:
    return f'<details class="theme"><summary>{escape(heading)}</summary>{above}<div class="figures">{figures}</div></details>'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
