"""Pictures drawn as SVG text: learning curves, and a score's interval on a table's common scale.

Colours are classes (s0 ... s7) that the page's style sheet fills in, so that they fit light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .stats import Interval

COLOURS = 8                                    # as many as a reader can tell apart
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 250, 46, 12, 14, 40


@dataclass(frozen=True)
class Line:
    """One curve: its name, the index of its colour and its points (x, y)."""

    name: str
    colour: int
    points: tuple[tuple[float, float], ...]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A tick's label: `0.25`, `70`, `1.5k`, `2M`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def curves(lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Curves over common axes; empty where no curve has two points."""
    lines = [one for one in lines if len(one.points) > 1]
    if not lines:
        return ""
    xs = [x for one in lines for x, _ in one.points]
    ys = [y for one in lines for _, y in one.points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    room = 0.06 * (high - low) or 1.0
    low, high, right = low - room, high + room, right if right > left else left + 1
    across = lambda x: LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
    down = lambda y: HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    said = f"{y_label} over {x_label}: " + ", ".join(dict.fromkeys(one.name for one in lines))
    parts = [f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">']
    for y in ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{number(y)}</text>')
    for x in ticks(left, right):
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(x)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
                 f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}'
                 "</text>")
    for one in lines:
        points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in one.points)
        parts.append(f'<polyline class="s{one.colour % COLOURS}" points="{points}"><title>{escape(one.name)}</title>'
                     "</polyline>")
    return "".join(parts) + "</svg>"


def whisker(one: Interval, low: float, high: float, colour: int) -> str:
    """A dot with its interval on the scale from low to high; empty where the score is unknown."""
    if not math.isfinite(one.score) or not high > low:
        return ""
    place = lambda value: 4 + 112 * (min(max(value, low), high) - low) / (high - low)
    bar = "" if math.isnan(one.low) else (f'<line class="s{colour % COLOURS}" x1="{place(one.low):.1f}" '
                                          f'x2="{place(one.high):.1f}" y1="8" y2="8"/>')
    return (f'<svg class="whisker" viewBox="0 0 120 16" aria-hidden="true">{bar}'
            f'<circle class="s{colour % COLOURS}" cx="{place(one.score):.1f}" cy="8" r="3.5"/></svg>')
