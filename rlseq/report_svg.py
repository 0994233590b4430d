"""Charts drawn as SVG text, and a score's interval on a table's common scale.

Colours and dashes are classes (s0 ... s7, d0 ... d2) that the page's style sheet fills in, to fit light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .stats import Interval

COLOURS, DASHES = 8, 3                         # as many as a reader can tell apart
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 260, 54, 14, 14, 48


@dataclass(frozen=True)
class Line:
    """One system in a chart: its name, algorithm and place in the table; points (x, y) with what lies around each (low, high).

    `joined` points are a line in a band, others are dots with bars.
    """

    name: str
    algo: str
    index: int
    points: tuple[tuple[float, float], ...]
    around: tuple[tuple[float, float], ...] = ()
    joined: bool = True


@dataclass(frozen=True)
class Across:
    """The horizontal axis: its label, marks at given values instead of round ones, and whether it is logarithmic."""

    label: str
    marks: tuple[float, ...] = ()
    log: bool = False


def shade(index: int) -> str:
    """The classes of the entry in row `index`: a colour, and a dash from the ninth on."""
    return f"s{index % COLOURS} d{index // COLOURS % DASHES}"


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
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


class Frame:
    """Axes: from values to places in the picture."""

    def __init__(self, lines: Sequence[Line], across: Across) -> None:
        xs = [x for one in lines for x, _ in one.points]
        ys = [y for one in lines for _, y in one.points]
        ys += [end for one in lines for ends in one.around for end in ends if math.isfinite(end)]
        self.across, self.left, self.right = across, min(xs), max(xs)
        if across.log:
            self.left, self.right = math.log(self.left), math.log(self.right)
        self.left, self.right = (self.left, self.right) if self.right > self.left else (self.left - 1, self.left + 1)
        room = 0.06 * (max(ys) - min(ys)) or 1.0
        self.low, self.high = min(ys) - room, max(ys) + room
        if not all(one.joined for one in lines):               # dots stay off the frame
            aside = 0.04 * (self.right - self.left)
            self.left, self.right = self.left - aside, self.right + aside

    def x(self, value: float) -> str:
        value = math.log(value) if self.across.log else value
        return f"{LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT):.1f}"

    def y(self, value: float) -> str:
        return f"{HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM):.1f}"

    def drawn(self) -> str:
        """Grid, ticks and the label below."""
        marks = self.across.marks or ticks(self.left, self.right)
        parts = []
        for y in ticks(self.low, self.high):
            place = self.y(y)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place}" y2="{place}"/>'
                         f'<text x="{LEFT - 6}" y="{float(place) + 4:.1f}" text-anchor="end">{number(y)}</text>')
        for x in marks:
            parts.append(f'<text x="{self.x(x)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(x)}</text>')
        floor, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) // 2
        return "".join(parts) + (
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
            f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.across.label)}</text>')


def chart(lines: Sequence[Line], across: Across, what: str, front: Sequence[tuple[float, float]] = ()) -> str:
    """Lines or dots over common axes, `front` as stairs behind them; empty where there is nothing to draw."""
    lines = [one for one in lines if len(one.points) > one.joined]
    if not lines:
        return ""
    frame = Frame(lines, across)
    said = f"{what} over {across.label}: " + ", ".join(dict.fromkeys(one.name for one in lines))
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">', frame.drawn()]
    if len(front) > 1:
        stairs = [front[0], *(place for last, this in zip(front, front[1:]) for place in ((this[0], last[1]), this))]
        parts.append(f'<polyline class="front" points="{_places(frame, stairs)}"/>')
    for one, aside in zip(lines, _asides(lines)):
        moved = f' transform="translate({aside:.1f} 0)"' if aside else ""
        parts.append(f'<g class="{shade(one.index)}" data-algo="{escape(one.algo)}"{moved}><title>{escape(one.name)}</title>'
                     f"{_joined(frame, one) if one.joined else _dots(frame, one)}</g>")
    return "".join(parts) + "</svg>"


def _asides(lines: Sequence[Line]) -> list[float]:
    """How far each line is moved aside, so that dots of several systems at one place stay apart."""
    found = []
    for one in lines:
        same = [other.index for other in lines if not other.joined and other.points[0][0] == one.points[0][0]]
        step = min(6.0, 40 / max(len(same), 1))
        found.append(0.0 if one.joined or len(same) < 2 else step * (same.index(one.index) - (len(same) - 1) / 2))
    return found


def _joined(frame: Frame, line: Line) -> str:
    band = ""
    if line.around:
        above = [(x, high) for (x, _), (_, high) in zip(line.points, line.around)]
        below = [(x, low) for (x, _), (low, _) in zip(line.points, line.around)]
        band = f'<polygon points="{_places(frame, above + below[::-1])}"/>'
    return band + f'<polyline points="{_places(frame, line.points)}"/>'


def _dots(frame: Frame, line: Line) -> str:
    parts = []
    for (x, y), (low, high) in zip(line.points, line.around or ((math.nan, math.nan),) * len(line.points)):
        if math.isfinite(low) and math.isfinite(high):
            parts.append(f'<line x1="{frame.x(x)}" x2="{frame.x(x)}" y1="{frame.y(low)}" y2="{frame.y(high)}"/>')
        parts.append(f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="4"/>')
    joined = f'<polyline points="{_places(frame, line.points)}"/>' if len(line.points) > 1 else ""
    return joined + "".join(parts)


def _places(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in points)


def whisker(one: Interval, low: float, high: float, index: int) -> str:
    """A dot with its interval on the scale from low to high; empty where the score is unknown."""
    if not math.isfinite(one.score) or not high > low:
        return ""
    place = lambda value: 4 + 112 * (min(max(value, low), high) - low) / (high - low)
    bar = "" if math.isnan(one.low) else f'<line x1="{place(one.low):.1f}" x2="{place(one.high):.1f}" y1="8" y2="8"/>'
    return (f'<svg class="whisker {shade(index)}" viewBox="0 0 120 16" aria-hidden="true">{bar}'
            f'<circle cx="{place(one.score):.1f}" cy="8" r="3.5"/></svg>')
