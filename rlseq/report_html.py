"""The report as one HTML page that needs nothing else: no network, no files beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from .report_groups import Entry, Judge
from .report_style import PAGE
from .report_svg import COLOURS, Line, curves, whisker
from .report_text import COSTS, notes, said, said_count, said_difference, said_p
from .results import Result
from .stats import Difference, Interval

PICTURE_BYTES, PAGE_BYTES, SAMPLES = 400_000, 12_000_000, 5
PNG = b"\x89PNG\r\n\x1a\n"


def page(judged: Sequence[Judge], complaints: Sequence[str] = ()) -> str:
    """All groups as a self-contained page; whatever a data set or a user wrote is escaped."""
    album = Album()
    tasks: dict[str, list[tuple[str, Judge]]] = {}
    for index, judge in enumerate(judged):
        tasks.setdefault(judge.group.task, []).append((f"g{index}", judge))
    contents = "".join(f'<a href="#{members[0][0]}">{escape(task)}</a>' for task, members in tasks.items())
    body = "".join(_task(task, members, album) for task, members in tasks.items())
    if complaints:
        listed = "".join(f"<li>{escape(one)}</li>" for one in complaints)
        body += f'<section class="card"><h2>Left out</h2><ul>{listed}</ul></section>'
    runs = [run for judge in judged for one in judge.group.entries if one.stage == "after" for run in one.results]
    latest = max((one.finished for one in runs), default="")[:16].replace("T", " ")
    counted = f"{len(runs)} run{'s' * (len(runs) != 1)}, the latest of {latest} UTC" if runs else "no runs"
    return Template(PAGE).substitute(contents=contents, body=body, counted=escape(counted))


class Album:
    """Pictures as data URIs, as long as the page stays light."""

    def __init__(self) -> None:
        self.left = PAGE_BYTES

    def take(self, path: Path) -> str | None:
        """The picture's data URI; None where it is not a png, too large, or the page is full."""
        try:
            content = path.read_bytes() if path.stat().st_size <= min(PICTURE_BYTES, self.left) else b""
        except OSError:
            return None
        if not content.startswith(PNG):
            return None
        self.left -= len(content)
        return "data:image/png;base64," + base64.b64encode(content).decode()


def _task(task: str, members: Sequence[tuple[str, Judge]], album: Album) -> str:
    return f"<h2>{escape(task)}</h2>" + "".join(_group(anchor, judge, album) for anchor, judge in members)


def _group(anchor: str, judge: Judge, album: Album) -> str:
    group = judge.group
    split, metric = group.tests[0], group.metrics[0]
    chips = "".join(f"<span>{escape(part)}</span>" for part in group.signature.split("|"))
    warned = "".join(f"<li>{escape(one)}</li>" for one in notes(judge))
    parts = [f'<section class="card" id="{anchor}"><h3>{escape(metric)} on {escape(split)}, {group.n} problems</h3>',
             f'<p class="chips">{chips}</p>', _headline(judge), f'<ul class="notes">{warned}</ul>' if warned else "",
             _figures(judge), _others(judge), _gallery(judge, album), _samples(judge), _origins(judge), "</section>"]
    return "".join(parts)


def _headline(judge: Judge) -> str:
    group = judge.group
    cells = judge.cells(group.tests[0], group.metrics[0])
    known = [cell.interval for cell in cells if cell is not None]
    ends = [end for one in known for end in (one.score, one.low, one.high) if np.isfinite(end)] or [0.0]
    head = ["algorithm", "policy", "seeds", group.metrics[0], "", "difference to MLE continued", "p", *COSTS.values()]
    rows = []
    for index, (entry, cell) in enumerate(zip(group.entries, cells)):
        row = [_name(entry, index), _word(entry.policy), _number(len(entry.seeds), str(len(entry.seeds)))]
        if cell is None:
            row += [_number(None, "-"), "<td></td>", _number(None, "-"), _number(None, "-")]
        else:
            row += [_interval(cell.interval, cell.wins),
                    f"<td>{whisker(cell.interval, min(ends), max(ends), index)}</td>",
                    _difference(cell.difference), _number(cell.p, said_p(cell.p))]
        row += [_number(value, said_count(value)) for value in entry.cost().values()]
        rows.append(row)
    return _table(head, rows)


def _others(judge: Judge) -> str:
    """Every other pair of metric and test split, one a row; systems side by side."""
    group = judge.group
    wanted = [(split, metric) for metric in group.metrics for split in group.tests][1:]
    rows = [[f'<th scope="row">{escape(metric)}</th>', _word(split),
             *(_interval(judge.interval(entry, split, metric)) for entry in group.entries)] for split, metric in wanted]
    several = len({one.policy for one in group.entries}) > 1
    names = [f"{one.label} ({one.policy})" if several else one.label for one in group.entries]
    return "<h4>Other test splits and metrics</h4>" + _table(["metric", "split", *names], rows) if rows else ""


def _figures(judge: Judge) -> str:
    """Learning curves: the score on dev over updates and over seconds, and the reward while training."""
    metric = judge.group.metrics[0]
    wanted = (("finetune", "updates", "dev", f"{metric} on dev", "fine-tuning: updates"),
              ("finetune", "seconds", "dev", f"{metric} on dev", "fine-tuning: seconds"),
              ("finetune", "updates", "reward", "reward", "fine-tuning: updates"),
              ("pretrain", "updates", "dev", f"{metric} on dev", "pretraining: updates"))
    drawn = []
    for stage, x, y, name, label in wanted:
        lines = [Line(f"{entry.label} ({entry.policy}), seed {run.seed}", index, _points(run, stage, x, y))
                 for index, entry in enumerate(judge.group.entries) for run in entry.results
                 if (entry.stage == "before") == (stage == "pretrain")]
        picture = curves(lines, label, name)
        if picture:
            drawn.append(f"<figure><figcaption>{escape(name)}</figcaption>{picture}</figure>")
    if not drawn:
        return ""
    legend = "".join(f"<span>{_mark(entry, index)} <small>{escape(entry.policy)}</small></span>"
                     for index, entry in enumerate(judge.group.entries))
    return f'<h4>Learning curves</h4><p class="legend">{legend}</p><div class="figures">{"".join(drawn)}</div>'


def _points(run: Result, stage: str, x: str, y: str) -> tuple[tuple[float, float], ...]:
    """A run's curve over one stage: pretraining, or what came after it; counters start anew with a stage."""
    mine = [one for one in run.curve if (one.get("stage") == "pretrain") == (stage == "pretrain")]
    return tuple((one[x], one[y]) for one in mine if one.get(y) is not None)


def _gallery(judge: Judge, album: Album) -> str:
    strips = []
    for index, entry in enumerate(judge.group.entries):
        first, shown = entry.results[0], []
        for place in first.pictures if entry.stage == "after" else []:
            uri, caption = album.take(Path(place)), Path(place).stem.replace("_", " ")
            if uri:
                below = "" if caption == str(first.seed) else f"<figcaption>{escape(caption)}</figcaption>"
                shown.append(f'<figure><img loading="lazy" alt="{escape(f"{entry.label}: {caption}")}" src="{uri}">'
                             f"{below}</figure>")
        if shown:
            strips.append(f'<div>{_mark(entry, index)} <small>{escape(entry.policy)}, seed {first.seed}</small></div>'
                          f'<div class="gallery">{"".join(shown)}</div>')
    return "<h4>Pictures</h4>" + "".join(strips) if strips else ""


def _samples(judge: Judge) -> str:
    parts = []
    for entry in judge.group.entries:
        first = entry.results[0]
        if entry.stage == "before" or not first.samples:
            continue
        rows = [[_number(one.get("reward"), f"{one.get('reward', 0):.3f}"),
                 f'<td class="text">{escape(" ".join(str(v) for k, v in one.items() if k != "reward"))}</td>']
                for one in first.samples[:SAMPLES]]
        parts.append(f"<details><summary>{escape(entry.label)} <small>{escape(entry.policy)}, seed {first.seed}</small>"
                     f"</summary>{_table(['reward', 'problem, reference and answer'], rows)}</details>")
    return "<h4>Sampled predictions</h4>" + "".join(parts) if parts else ""


def _origins(judge: Judge) -> str:
    head = ["algorithm", "policy", "seed", "commit", "hardware", "device", "precision", "torch", "plan", "finished",
            "configuration"]
    rows = [[_name(entry, index), _word(entry.policy), _number(run.seed, str(run.seed)),
             _word(run.commit + (" + changes" if run.dirty else "")), _word(run.hardware), _word(run.device),
             _word(run.precision), _word(run.torch), _word(run.plan), _word(run.finished[:16].replace("T", " ")),
             _word(run.hash)]
            for index, entry in enumerate(judge.group.entries) if entry.stage == "after" for run in entry.results]
    return f"<details><summary>Where these rows come from</summary>{_table(head, rows)}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already; heads are text."""
    right = [cell.startswith('<td class="number') for cell in rows[0]]
    buttons = [f"<button>{escape(one)}</button>" if one else "" for one in head]
    heads = "".join(f'<th scope="col"{" class=number" * to_right}>{one}</th>' for one, to_right in zip(buttons, right))
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _name(entry: Entry, index: int) -> str:
    return f'<th scope="row">{_mark(entry, index)}</th>'


def _mark(entry: Entry, index: int) -> str:
    """An entry's colour and name."""
    return f'<i class="s{index % COLOURS}"></i>{escape(entry.label)}'


def _word(text: str) -> str:
    return f"<td>{escape(str(text))}</td>"


def _number(value: float | None, text: str) -> str:
    order = "" if value is None else f' data-order="{float(value)!r}"'
    return f'<td class="number"{order}>{escape(text)}</td>'


def _interval(one: Interval | None, wins: bool = False) -> str:
    if one is None or not np.isfinite(one.score):
        return _number(None, "-")
    score, _, ends = said(one).partition(" ")
    score = f"<strong>{score}</strong>" if wins else score
    return f'<td class="number" data-order="{one.score!r}">{score} <small>{escape(ends)}</small></td>'


def _difference(one: Difference | None) -> str:
    if one is None:
        return _number(None, "-")
    mood = "better" if one.low > 0 else "worse" if one.high < 0 else "open"
    flip = "" if one.p_flip is None else f"; sign-flip permutation test p = {one.p_flip:.4f}"
    hint = (f"{one.seeds} shared seed{'s' * (one.seeds > 1)}; paired bootstrap p = {one.p:.4f} (sacrebleu would print "
            f"{one.p_sacrebleu:.4f}){flip}; before correction")
    words, _, ends = said_difference(one).partition(" ")
    return (f'<td class="number {mood}" data-order="{one.difference!r}" title="{escape(hint)}">{words} '
            f"<small>{escape(ends)}</small></td>")
