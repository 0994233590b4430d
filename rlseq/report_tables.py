"""Tables of the page: cells are HTML made here, and every string of others is escaped on the way in."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from .report_groups import Entry
from .report_svg import shade
from .report_text import said, said_difference, said_gain
from .stats import Difference, Gain, Interval

Row = tuple[str, list[str]]                    # the algorithm that filters know the row by ("" always shows), and its cells


def table(head: Sequence[str], rows: Sequence[Row], caption: str = "") -> str:
    """A table in a box that scrolls; heads are text and become buttons that sort."""
    right = [cell.startswith('<td class="number') for cell in rows[0][1]]
    buttons = [f'<button type="button">{escape(one)}</button>' if one else "" for one in head]
    heads = "".join(f'<th scope="col"{" class=number" * to_right}>{one}</th>' for one, to_right in zip(buttons, right))
    body = "".join(f'<tr data-algo="{escape(algo)}">{"".join(cells)}</tr>' if algo else f"<tr>{''.join(cells)}</tr>"
                   for algo, cells in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = escape(caption or ", ".join(one for one in head if one))
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{title}<thead><tr>{heads}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def mark(entry: Entry, index: int) -> str:
    """An entry's colour and name, which may break after an underscore."""
    return f'<i class="{shade(index)}"></i>{escape(entry.label).replace("_", "_<wbr>")}'


def name(entry: Entry, index: int) -> str:
    return f'<th scope="row">{mark(entry, index)}</th>'


def title(text: str) -> str:
    """A row's head that is plain text."""
    return f'<th scope="row">{escape(text)}</th>'


def word(text: object) -> str:
    return f"<td><bdi>{escape(str(text))}</bdi></td>"


def number(value: float | None, text: str) -> str:
    order = "" if value is None else f' data-order="{float(value)!r}"'
    return f'<td class="number"{order}>{escape(text)}</td>'


def change(before: float | None, after: float | None) -> str:
    """What a number was and became; sorts by what it became."""
    words = " → ".join("-" if one is None else f"{one:.3g}" for one in (before, after))
    return number(after, words)


def interval(one: Interval | None, wins: bool = False, digits: int = 1) -> str:
    """A score with its ends, bold where it wins."""
    if one is None or not np.isfinite(one.score):
        return number(None, "-")
    score, _, ends = said(one, digits).partition(" ")
    score = f"<strong>{score}</strong>" if wins else score
    return f'<td class="number" data-order="{one.score!r}">{score} <small>{escape(ends)}</small></td>'


def difference(one: Difference | None) -> str:
    """A difference with its interval, green or red where that leaves zero outside."""
    if one is None:
        return number(None, "-")
    mood = "better" if one.low > 0 else "worse" if one.high < 0 else "open"
    flip = "" if one.p_flip is None else f"; sign-flip permutation test p = {one.p_flip:.4f}"
    hint = (f"{one.seeds} shared seed{'s' * (one.seeds > 1)}; paired bootstrap p = {one.p:.4f} (sacrebleu would print "
            f"{one.p_sacrebleu:.4f}){flip}; before correction")
    words, _, ends = said_difference(one).partition(" ")
    return (f'<td class="number {mood}" data-order="{one.difference!r}" title="{escape(hint)}">{words} '
            f"<small>{escape(ends)}</small></td>")


def gain(one: Gain | None, over: str | None = None) -> str:
    """A gain over controls, green where it is above all of them beyond chance; `over` names the strongest."""
    if one is None or not np.isfinite(one.gain):
        return number(None, "-")
    mood = "better" if one.separates else "worse" if one.high < 0 else "open"
    hint = f"{one.seeds} shared seed{'s' * (one.seeds > 1)}; paired bootstrap p = {one.p:.4f}, before correction over rows"
    words, _, ends = said_gain(one).partition(" ")
    below = f"<br><small>over {escape(over)}</small>" if over else ""
    return (f'<td class="number {mood}" data-order="{one.gain!r}" title="{escape(hint)}">{words} '
            f"<small>{escape(ends)}</small>{below}</td>")
