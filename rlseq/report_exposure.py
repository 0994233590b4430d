"""What the exposure-bias test found: losses by mistakes with intervals, policies compared, as a table, JSON and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import write_whole
from .report_style import DARK, LIGHT
from .report_svg import COLOURS, HEIGHT, WIDTH, Across, Line, chart, shade
from .report_text import coded, columns, said, said_difference
from .resampling import Score
from .stats import Difference, Interval, over_seeds, paired

if TYPE_CHECKING:
    from .recovery import Found, Plan

Systems = Mapping[str, Mapping[str, "Found"]]      # label -> seed -> what was measured
MADE = {"random": "drawn at random, the same for all",
        "shared": "what the first checkpoint of {base} most likely does wrong, the same for all",
        "own": "what each policy most likely does wrong itself"}
DRAWN = {"random": "drawn, the same for all", "shared": "the first checkpoint's likeliest, the same for all",
         "own": "each policy's likeliest"}                             # above a chart, which is as wide as some sixty signs
STYLE = "svg { " + LIGHT + " }\n@media (prefers-color-scheme: dark) { svg { " + DARK + """ } }
.ground { fill: var(--card); } text { font: 14px system-ui, sans-serif; fill: var(--soft); } .head { fill: var(--ink); }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); } polyline { fill: none; stroke-width: 2; }
polygon { stroke: none; opacity: .16; } g line { stroke-width: 2; } .d1 polyline { stroke-dasharray: 7 4; }
.d2 polyline { stroke-dasharray: 2 3; }
""" + "\n".join(f".s{i} {{ stroke: var(--c{i}); }} .s{i} :is(circle, polygon), rect.s{i} {{ fill: var(--c{i}); }}"
                for i in range(COLOURS))
READ = """**clean**: the policy is fed the reference up to that share of it and answers from there, greedily. **wrong**: so it
is, but the next action (or more, see above) is legal and not the reference's. **loss** is the difference. **beyond** is
what is left of it when the same wrong action is put into the clean answer and nothing else changes there: above 0, the
mistake led to others; 0, the policy went on as if nothing had happened; below 0, it made up for it. A pointer's clean
answer loses the action that the mistake used up, and none takes its place: where all must be named, beyond is below 0 for
that alone. Where several answers are right, such as a hull from any of its corners, an action that the reference does not
take may cost nothing. The last columns compare with {base}, paired on the same problems and seeds: below 0, the policy
recovers better; but one that is worse when clean has less to lose. Intervals are not corrected for the number of rows; they
cover other problems and, from two seeds on, other seeds. Only *random* and *shared* mistakes are the same for all; a
policy's *own* may weigh more or less than another's. **nats more**: what an action of the reference costs more so long
after a mistake, fed the reference but for that; where making up for a mistake means to leave the reference, it costs too.
Energies of pointers have no bound, and thousands of nats may be one problem's."""
GAP = 24                                           # between charts


@dataclass(frozen=True)
class Row:
    """One policy, or the mean over its seeds, after one kind of mistakes at one place (None: at all of them).

    `apart` is how much larger a loss is than that of the policy that is compared with, None where no seeds are common;
    `beyond` is known of the reward alone.
    """

    label: str
    kind: str
    place: float | None
    metric: str
    clean: float
    wrong: float
    loss: Interval
    loss_apart: Difference | None
    beyond: Interval | None
    beyond_apart: Difference | None


@dataclass(frozen=True)
class Later:
    """Nats more that a reference's action costs so many actions after the last wrong one."""

    label: str
    kind: str
    distance: int
    more: Interval


@dataclass(frozen=True)
class Findings:
    """All that was found. `about` is said at the head of the files, `notes` below the table."""

    title: str
    base: str
    metrics: tuple[str, ...]
    rows: Sequence[Row]
    later: Sequence[Later]
    about: Mapping[str, object]
    checkpoints: Sequence[Mapping[str, object]]
    notes: Sequence[str]


def compared(systems: Systems, base: str, plan: Plan, scores: Mapping[str, Score]) -> list[Row]:
    """Rows of every policy, by metric and kind; `scores` of the reward, first, and of the other metrics."""
    losses = {metric: _loss(score) for metric, score in scores.items()}
    return [_row(systems, base, label, kind, place, metric, scores[metric], losses[metric], plan)
            for metric in scores for kind in plan.kinds for label in systems for place in (*plan.places, None)]


def _row(systems: Systems, base: str, label: str, kind: str, place: float | None, metric: str, score: Score, loss: Score,
         plan: Plan) -> Row:
    seeds = list(systems[label])
    common = [seed for seed in seeds if seed in systems[base]] if label != base else []

    def of(what: str, label: str, seeds: Sequence[str]) -> list[np.ndarray]:
        return [_beside(systems[label][seed], what, kind, place, metric, plan.places) for seed in seeds]

    def both(what: str) -> tuple[Interval, Difference | None]:
        apart = paired(of(what, label, common), of(what, base, common), loss) if common else None
        return over_seeds(of(what, label, seeds), loss), apart
    sums = np.stack([one.sum(0) for one in of("clean", label, seeds)])
    clean, wrong = (float(np.mean([score(one) for one in half])) for half in np.split(sums, 2, axis=1))
    return Row(label, kind, place, metric, clean, wrong, *both("clean"),
               *(both(f"{kind} alone") if metric == "reward" else (None, None)))


def _beside(run: Found, what: str, kind: str, place: float | None, metric: str, places: Sequence[float]) -> np.ndarray:
    """Statistics of two ways to answer, beside each other [n, 2 m]; place None: of all places together."""
    def over(name: str) -> np.ndarray:
        return run[name, place, metric] if place is not None else sum(run[name, one, metric] for one in places)
    return np.concatenate([over(what), over(kind)], 1)


def _loss(score: Score) -> Score:
    """What the second half of summed statistics [2 m] scores less than the first."""
    return lambda total: score(total[:len(total) // 2]) - score(total[len(total) // 2:])


def lasting(systems: Systems, plan: Plan, distances: Sequence[int]) -> list[Later]:
    """How long mistakes are felt, over all places together."""
    def mean(total: np.ndarray) -> float:
        return total[0] / total[1] if total[1] else math.nan
    return [Later(label, kind, distance, over_seeds([run["after", kind, distance] for run in runs.values()], mean))
            for kind in plan.kinds for label, runs in systems.items() for distance in distances]


def text(found: Findings) -> str:
    """For a terminal."""
    first, kinds = found.metrics[0], list(dict.fromkeys(one.kind for one in found.rows))
    labels = list(dict.fromkeys(one.label for one in found.rows))
    blocks = [found.title]
    for kind in kinds:
        own = [one for one in found.rows if one.kind == kind]
        lines = [[f"{first} x 100", "clean", "wrong", "loss", "beyond", f"loss - {found.base}'s", f"beyond - {found.base}'s"]]
        lines += [_cells(f"{one.label}, {said_place(one.place)}", one) for one in own if one.metric == first]
        for metric in found.metrics[1:]:
            lines += [[f"{metric}, at all places", *[""] * 6]]
            lines += [_cells(one.label, one) for one in own if one.metric == metric and one.place is None]
        shown = [line[:None if len(labels) > 1 else 5] for line in lines]
        blocks.append("\n".join([f"{kind}: {MADE[kind].format(base=found.base)}", "", *columns(shown)]))
    blocks.append("\n".join(_later(found, kinds, labels)))
    return "\n\n".join(blocks + ["\n".join(found.notes)] * bool(found.notes))


def _cells(name: str, row: Row) -> list[str]:
    apart = ["-" if one is None else said_difference(one) for one in (row.loss_apart, row.beyond_apart)]
    return [name, f"{row.clean:.1f}", f"{row.wrong:.1f}", said(row.loss), said(row.beyond), *apart]


def _later(found: Findings, kinds: Sequence[str], labels: Sequence[str]) -> list[str]:
    distances = list(dict.fromkeys(one.distance for one in found.later))
    cells = {(one.kind, one.label, one.distance): said(one.more, 2) for one in found.later}
    lines = [["nats more, so many actions later", *map(str, distances)]]
    lines += [[f"{label}, {kind}", *(cells[kind, label, one] for one in distances)] for kind in kinds for label in labels]
    return columns(lines)


def said_place(place: float | None) -> str:
    """`at 1/4`, `all`"""
    return "all" if place is None else f"at {Fraction(place).limit_denominator(1000)}"


def markdown(found: Findings, name: str) -> str:
    """A page that says how it was made before what came out."""
    head = list(found.checkpoints[0])
    return "\n".join([
        "# How policies recover from wrong prefixes", "",
        f"Made by `{coded(str(found.about['command']))}`.", "", "| | |", "|---|---|",
        *(f"| {key} | {coded(str(value))} |" for key, value in found.about.items() if key != "command"), "",
        f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1),
        *(f"| {' | '.join(coded(str(one[key])) for key in head)} |" for one in found.checkpoints), "",
        "```text", text(found), "```", "", READ.format(base=found.base), "", f"![losses and nats by policy]({name}.svg)", ""])


def picture(found: Findings) -> str:
    """Losses over places and nats over distances, a column for each kind of mistakes; colours follow light and dark mode."""
    kinds = list(dict.fromkeys(one.kind for one in found.rows))
    labels = list(dict.fromkeys(one.label for one in found.rows))
    width, abreast = len(kinds) * (WIDTH + GAP) + GAP, 2 * len(kinds)                  # names in a line of the legend
    top = 76 + 20 * math.ceil(len(labels) / abreast)
    height = top + 2 * (HEIGHT + 2 * GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="Losses">'
             f'<style>{STYLE}</style><rect class="ground" width="{width}" height="{height}"/>']
    for index, label in enumerate(labels):
        x, y = GAP + index % abreast * (WIDTH + GAP) // 2, 14 + 20 * (index // abreast)
        parts.append(f'<rect class="{shade(index)}" x="{x}" y="{y}" width="12" height="12"/>'
                     f'<text class="head" x="{x + 18}" y="{y + 11}">{escape(label)}</text>')
    marks = tuple(dict.fromkeys(one.distance for one in found.later))
    for column, kind in enumerate(kinds):
        x = GAP + column * (WIDTH + GAP)
        losses = [_line(label, index, [(one.place, one.loss) for one in found.rows if one.place is not None and (
            one.label, one.kind, one.metric) == (label, kind, found.metrics[0])]) for index, label in enumerate(labels)]
        nats = [_line(label, index, [(one.distance, one.more) for one in found.later if (one.label, one.kind) == (label, kind)])
                for index, label in enumerate(labels)]
        parts.append(f'<text class="head" x="{x}" y="{top - 32}">{escape(kind)}: {escape(DRAWN[kind])}</text>')
        parts += _placed(losses, Across("where the mistake is, share of the reference"), f"loss in {found.metrics[0]} x 100", x,
                         top)
        parts += _placed(nats, Across("actions after the mistake", marks, True), "nats more an action of the reference", x,
                         top + HEIGHT + 2 * GAP)
    return "".join(parts) + "</svg>\n"


def _placed(lines: Sequence[Line], across: Across, what: str, x: int, y: int) -> list[str]:
    """A chart at a place, what it shows above it."""
    placed = f'<svg x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"'
    drawn = chart(lines, across, what).replace('<svg class="chart"', placed, 1)
    return [f'<text x="{x}" y="{y - 8}">{escape(what)}</text>', drawn]


def _line(label: str, index: int, places: Sequence[tuple[float, Interval]]) -> Line:
    known = [(x, one) for x, one in places if math.isfinite(one.score)]
    return Line(label, label, index, tuple((x, one.score) for x, one in known), tuple((one.low, one.high) for _, one in known),
                joined=len(known) > 1 and all(math.isfinite(one.low) for _, one in known))


def write(found: Findings, folder: Path, name: str) -> None:
    """NAME.json, NAME.svg and NAME.md, each whole or not at all, the page last."""
    data = {"about": dict(found.about), "checkpoints": list(found.checkpoints), "base": found.base, "notes": list(found.notes),
            "rows": [asdict(one) for one in found.rows], "later": [asdict(one) for one in found.later]}
    write_whole(folder / f"{name}.json", json.dumps(_finite(data), indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / f"{name}.svg", picture(found))
    write_whole(folder / f"{name}.md", markdown(found, name))


def _finite(value: object) -> object:
    """NaN as null: JSON has no word for it."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
