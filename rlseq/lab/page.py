"""What the laboratory leaves: lines on the screen, lab.json with every number, lab.md for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from ..files import write_whole
from .kl import Pull, Value
from .moments import ROUNDING
from .rows import Row

COLUMNS = ("bias", "se", "z", "cosine", "one update", "variance", "sampled", "scored", "ms", "variance x tokens",
           "tokens to signal")
WIDTHS = (9, 8, 6, 7, 7, 9, 8, 8, 7, 10, 10)     # of the columns on the screen
SHORT = {"one update": "one", "variance x tokens": "x tokens", "tokens to signal": "to signal"}
READ = """An update is what one gradient step would follow on the loaded problems: **bias** is how far its expectation is from
grad J, in units of |grad J|, and **se** the error that chance leaves in it (`exact`: all sets of k answers were gone through).
**z** says how far a bias is beyond chance; what claims to be unbiased and has a significant one makes the command fail.
**cosine** compares the expected update with grad J whatever its length, and **one update** a single one, on average.
**variance** is the trace of an update's covariance, and **variance x tokens** weighs it with the tokens sampled and scored.
**tokens to signal** divides that by the squared length of the expected update, so that estimators of any length compare: so
many tokens until the noise of the averaged update is as large as the update, less is better, and milliseconds, those of tiny
networks, say little elsewhere."""


@dataclass(frozen=True)
class Lab:
    """All that was found."""

    about: dict[str, object]
    scenes: list[dict[str, object]]
    rows: list[Row]
    values: list[tuple[str, Value]]
    pulls: list[tuple[str, Pull]]
    broken: list[str]


def number(value: float) -> str:
    """Three digits: `0.0123`, `4.56`, `12,300`; - where there is none."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"


def cells(row: Row) -> list[str]:
    """A row's cells below COLUMNS."""
    return [number(row.bias) if row.bias > 1e-9 else "0", number(row.error) if row.draws else "exact",
            number(row.z) if row.draws and row.p < 1 else "-", f"{row.cosine:.3f}", f"{row.aligned:.3f}", number(row.variance),
            number(row.sampled), number(row.scored), f"{1000 * row.seconds:.1f}", number(row.price), number(row.effort)]


def heading(scene: dict[str, object]) -> str:
    return (f"{scene['problem']}, {scene['policy']}: {scene['sources']} source(s), {scene['answers']:,} answers each; "
            f"J {scene['J']:.4f}, |grad J| {scene['slope']:.4f}, KL to the pretrained {scene['kl']:.4f} nats; likeliest "
            f"answer {scene['likeliest']:.2f}, entropy {scene['entropy']:.2f} nats, {scene['parameters']} parameters")


def line(row: Row) -> str:
    """For the screen."""
    return _aligned(row.estimator, cells(row), row.claim)


def head() -> str:
    """What stands above the lines, a column's name short enough for its width."""
    return _aligned("estimator", [SHORT.get(one, one) for one in COLUMNS], "")


def _aligned(first: str, others: Sequence[str], last: str) -> str:
    return f"{first:<58} " + " ".join(f"{one:>{width}}" for one, width in zip(others, WIDTHS)) + f"  {last}".rstrip()


def write(folder: Path, lab: Lab) -> None:
    """lab.json and lab.md; lab.svg lies beside them."""
    whole = {"about": lab.about, "scenes": lab.scenes, "rows": [one.record() for one in lab.rows],
             "kl_values": [{"scene": where, **asdict(one)} for where, one in lab.values],
             "kl_gradients": [{"scene": where, **asdict(one), "claimed": one.claimed} for where, one in lab.pulls],
             "broken": lab.broken}
    write_whole(folder / "lab.json", "{\n" + ",\n".join(
        f"{json.dumps(name)}: " + ("[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if isinstance(value, list) and value
                                   else json.dumps(value)) for name, value in whole.items()) + "\n}\n")
    write_whole(folder / "lab.md", markdown(lab))


def markdown(lab: Lab) -> str:
    exact = sum(not one.draws for one in lab.rows)
    claimed = [one for one in lab.rows if one.claim == "unbiased"]
    sure = sum(one.error < ROUNDING for one in claimed)
    verdict = "**Biased against their claim:**\n\n" + "\n".join(f"- {escape(one)}" for one in lab.broken) if lab.broken else (
        f"{len(claimed)} claim to be unbiased, and are: {sure} of them to rounding, the others as far as chance lets see.")
    made = f"Made by `{lab.about['command']}`. {len(lab.rows)} measurements, {exact} of them exact expectations."
    parts = ["# The laboratory: bias, variance and cost of every estimator", "", f"{made} {verdict}", "",
             "## How to read it", "", READ, "", "![tokens to signal of every estimator](lab.svg)", "", "| | |", "|---|---|",
             *(f"| {name} | {value} |" for name, value in lab.about.items() if name != "command"), ""]
    parts += kl_part(lab.values, lab.pulls)
    for scene in lab.scenes:
        own = [one for one in lab.rows if (one.problem, one.policy) == (scene["problem"], scene["policy"])]
        parts += [f"## {heading(scene)}", ""]
        parts += table("Claimed unbiased", [one for one in own if one.claim == "unbiased"])
        parts += table("Biased by design", [one for one in own if one.claim == "biased by design"])
        parts += table("Another objective", [one for one in own if one.claim == "another objective"])
    return "\n".join(parts + reasons(lab.rows))


def table(title: str, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    return [f"<details><summary>{title}: {len(rows)}</summary>", "", "| estimator | " + " | ".join(COLUMNS) + " |",
            "|---|" + "--:|" * len(COLUMNS), *(f"| {one.estimator} | " + " | ".join(cells(one)) + " |" for one in rows), "",
            "</details>", ""]


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why what is biased by design is so: a line for every algorithm and reason."""
    named: dict[str, list[str]] = {}
    for one in rows:
        if one.reason:
            named.setdefault(one.reason, []).append(one.algorithm)
    return ["## Why", "", *(f"- {', '.join(sorted(set(names)))}: {reason}" for reason, names in sorted(named.items())), ""]


def kl_part(found: Sequence[tuple[str, Value]], pulls: Sequence[tuple[str, Pull]]) -> list[str]:
    """The estimators of KL, exactly: their values, and their gradients in the reward, in the loss and in both."""
    if not found:
        return []
    parts = ["## KL to the pretrained policy, over all answers", "",
             "An answer's estimate: its mean over the true KL, less 1, and its standard deviation in nats.", "",
             "| scene | estimator | bias | deviation |", "|---|---|--:|--:|",
             *(f"| {where} | {one.estimator} | {number(round(one.bias, 9))} | {number(one.deviation)} |"
               for where, one in found), "",
             "What a price on it adds to the update, against -grad KL of answers: bias of the mean as a share, its cosine, and "
             "the deviation of one update.", "", "| scene | estimator | where | bias | cosine | deviation |",
             "|---|---|---|--:|--:|--:|"]
    for where, one in pulls:
        said = f"refused: {one.refused.split(';')[0].split(': ')[-1]} | - | -" if one.refused else (
            f"{number(one.bias if one.bias > 1e-6 else 0.0)} | {one.cosine:.3f} | {number(one.deviation)}")
        parts.append(f"| {where} | {one.estimator} | {one.where} | {said} |")
    return [*parts, ""]
