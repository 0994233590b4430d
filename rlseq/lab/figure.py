"""lab.svg: what every estimator costs until its signal equals its noise. Its colours follow light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .moments import ROUNDING
from .rows import Row

WIDTH, LEFT, RIGHT, TOP, STEP = 940, 300, 170, 64, 17
SHADES = ("a", "b", "c", "d", "e")             # of k: the fewest answers first
STYLE = """.lab { --paper: #fff; --ink: #1b1f27; --soft: #5d6675; --line: #e3e7ee; --a: #9c6500; --b: #d55e00; --c: #0072b2;
  --d: #00795a; --e: #a3337f; --n: #5d6675; --bad: #c21807; font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .lab { --paper: #12151b; --ink: #e6e9ef; --soft: #9aa4b5; --line: #2c333f; --a: #e6c04a;
  --b: #ff9a4d; --c: #58b4f5; --d: #3fd6a6; --e: #e59ac9; --n: #9aa4b5; --bad: #ff7a6b; } }
.lab text { fill: var(--ink); font-size: 12px; } .lab .soft { fill: var(--soft); font-size: 11px; }
.lab .head { font-weight: 600; } .lab .grid { stroke: var(--line); } .lab .paper { fill: var(--paper); }
.lab .mark { stroke-width: 1.8; } .lab .open { fill: var(--paper); } .lab .other { stroke-dasharray: 2.2 1.6; }
.lab .bad { stroke: var(--bad); stroke-width: 2.5; }
""" + "\n".join(f".lab .k{one} {{ stroke: var(--{one}); }} .lab .full.k{one} {{ fill: var(--{one}); }}"
                for one in (*SHADES, "n"))


def base(row: Row, by_sum: bool) -> str:
    """The estimator without its k and without what is usual: normalise=sum only where the algorithm does so by default."""
    words = [one for one in row.estimator.split() if not one.startswith("k=") and not (by_sum and one == "normalise=sum")]
    if len(words) > 2 and words[1] == "baseline=leave_one_out":         # the usual one, beside what is varied
        del words[1]
    return " ".join(words)


def otherwise(rows: Sequence[Row]) -> set[str]:
    """Algorithms that have a row without any option but k: their default is not the one that says normalise=sum."""
    return {one.algorithm for one in rows if all(word.startswith("k=") for word in one.estimator.split()[1:])}


def shown(rows: Sequence[Row]) -> list[Row]:
    """Those of the figure: normalised by sum or by their own default, on the problem with most of them."""
    rows = [one for one in rows if "normalise=" not in one.estimator or "normalise=sum" in one.estimator]
    finite = [one for one in rows if 0 < one.effort < math.inf]
    count = {name: sum(one.problem == name for one in finite) for name in dict.fromkeys(one.problem for one in finite)}
    most = max(count.values(), default=0)
    chosen = [name for name, number in count.items() if number == most][-1:]
    return [one for one in finite if one.problem in chosen]


def figure(rows: Sequence[Row]) -> str:
    """Rows are estimators in groups, marks are k: filled where unbiased; circles are the Transformer, squares the LSTM.

    Bias and cosine beside a row are those of its largest k with the Transformer.
    """
    rows = shown(rows)
    if not rows:
        return ""
    groups: dict[str, dict[str, list[Row]]] = {}
    other = otherwise(rows)
    for one in sorted(rows, key=lambda one: one.claim == "another objective"):                # these stand last
        groups.setdefault(one.algorithm, {}).setdefault(base(one, one.algorithm not in other), []).append(one)
    height = TOP + STEP * (sum(map(len, groups.values())) + len(groups)) + 44
    low, high = (math.log10(end(one.effort for one in rows)) for end in (min, max))
    low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    across = lambda value: LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    ks = sorted({one.k for one in rows if one.k})
    parts = [f'<svg class="lab" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
             f'aria-label="Tokens until signal equals noise, by estimator"><style>{STYLE}</style>'
             f'<rect class="paper" width="{WIDTH}" height="{height}"/>', *_legend(ks, rows[0].problem)]
    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 38}"/>'
                     f'<text class="soft" x="{x:.1f}" y="{height - 24}" text-anchor="middle">{10.0**power:g}</text>')
    parts.append(f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{height - 8}" text-anchor="middle">tokens '
                 '(sampled and scored) until the averaged update is as large as its noise; log scale</text>'
                 f'<text class="soft" x="{WIDTH - RIGHT + 14}" y="{TOP - 8}">bias</text>'
                 f'<text class="soft" x="{WIDTH - RIGHT + 66}" y="{TOP - 8}">cosine to grad J</text>')
    y = TOP
    for group, lines in groups.items():
        y += STEP
        parts.append(f'<text class="head" x="8" y="{y}">{escape(group)}</text>')
        for name, ones in lines.items():
            y += STEP
            parts += _line(name.removeprefix(group).strip() or "default", ones, y, across, ks)
    return "".join(parts) + "</svg>\n"


def _legend(ks: Sequence[int], problem: str) -> list[str]:
    found = [f'<text class="head" x="8" y="20">Problem "{escape(problem)}": cost of a signal, by estimator</text>']
    x = 8
    for index, k in enumerate(ks):
        found.append(f'<circle class="mark full k{SHADES[index % len(SHADES)]}" cx="{x + 5}" cy="36" r="4.5"/>'
                     f'<text class="soft" x="{x + 14}" y="40">k={k}</text>')
        x += 54
    for said, claim, square in (("unbiased", "unbiased", False), ("biased by design", "biased by design", False),
                                ("another objective", "another objective", False), ("squares: LSTM", "unbiased", True)):
        found += [_mark(x + 5, 36, "n", claim, square), f'<text class="soft" x="{x + 14}" y="40">{said}</text>']
        x += 34 + 6.2 * len(said)
    return found


def _line(name: str, ones: Sequence[Row], y: float, across, ks: Sequence[int]) -> list[str]:
    widest = max(ones, key=lambda one: (one.k or 0, one.policy == "transformer"))
    found = [f'<text x="24" y="{y}">{escape(name)}</text>'
             f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y - 4}" y2="{y - 4}"/>'
             f'<text class="soft" x="{WIDTH - RIGHT + 14}" y="{y}">{widest.bias if widest.bias > ROUNDING else 0:.2g}</text>'
             f'<text class="soft" x="{WIDTH - RIGHT + 66}" y="{y}">{widest.cosine:.3f}</text>']
    for one in ones:
        shade = SHADES[ks.index(one.k) % len(SHADES)] if one.k in ks else SHADES[0]
        title = (f"{one.estimator}, {one.policy}: {one.effort:.3g} tokens, bias {one.bias:.3g} +- {one.error:.2g}, "
                 f"cosine {one.cosine:.3f}; {one.claim}")
        found.append(f"<g><title>{escape(title)}</title>" + _mark(across(one.effort), y - 4, shade, one.claim,
                                                                  one.policy == "lstm") + "</g>")
        if one.claim == "unbiased" and one.p < 1e-6:
            x = across(one.effort)
            found.append(f'<path class="bad" d="M{x - 7:.1f} {y - 11}l14 14m0 -14l-14 14"/>')
    return found


def _mark(x: float, y: float, shade: str, claim: str, square: bool) -> str:
    look = {"unbiased": "full", "another objective": "open other"}.get(claim, "open")
    kind = f'class="mark {look} k{shade}"'
    if square:
        return f'<rect {kind} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
