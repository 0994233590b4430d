"""The report as one HTML page that needs nothing else: no network, no files beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from .comparisons import CrossTable, SignalGain, across_tasks, checkpoints, cross_tables
from .report_explorer import Shelf
from .report_figures import THEMES, figure, generalisation, learning, plain, themed, watched
from .report_groups import Entry, Judge
from .report_style import PAGE, STYLE
from .report_svg import whisker
from .report_tables import Row, change, difference, gain, interval, mark, name, number, table, title, word
from .report_text import CONTROLS, COSTS, digits, gains, headline, less, notes, said_count, said_p

PICTURE_BYTES, PAGE_BYTES, SAMPLES = 400_000, 12_000_000, 5
KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}
SCRIPTS = ("report_tables.js", "report_explorer.js")     # beside this file


def page(judged: Sequence[Judge], complaints: Sequence[str] = (), lab: Path | None = None) -> str:
    """All groups as a self-contained page; whatever a data set or a user wrote is escaped. `lab`: the laboratory's figure."""
    album, shelf = Album(), Shelf()
    tasks: dict[str, list[tuple[str, Judge]]] = {}
    for index, judge in enumerate(judged):
        tasks.setdefault(judge.group.task, []).append((f"g{index}", judge))
    contents = "".join(f'<a href="#{members[0][0]}">{escape(task)}</a>' for task, members in tasks.items())
    body = _together(judged) + "".join(_task(task, members, album, shelf) for task, members in tasks.items())
    tables = cross_tables(judged)
    body += _crossed(tables)
    contents += '<a href="#cross">rewards against metrics</a>' if tables else ""
    laboratory = _laboratory(album, lab)
    contents += '<a href="#lab">laboratory</a>' if laboratory else ""
    if complaints:
        listed = "".join(f"<li><bdi>{escape(one)}</bdi></li>" for one in complaints)
        laboratory += f'<section class="card"><h2>Left out</h2><ul>{listed}</ul></section>'
    runs = [run for judge in judged for one in judge.group.entries if one.stage == "after" for run in one.results]
    latest = max((one.finished for one in runs), default="")[:16].replace("T", " ")
    counted = f"{len(runs)} run{'s' * (len(runs) != 1)}, the latest of {latest} UTC" if runs else "no runs"
    script = "\n".join(Path(__file__).with_name(one).read_text(encoding="utf-8") for one in SCRIPTS)
    return Template(PAGE).substitute(
        contents=contents, body=body + laboratory, counted=escape(counted), style=STYLE, script=script,
        style_hash=_fingerprint(STYLE), script_hash=_fingerprint(script))


def _fingerprint(text: str) -> str:
    """What a Content-Security-Policy allows this one text to run by."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


class Album:
    """Pictures as data URIs, as long as the page stays light."""

    def __init__(self) -> None:
        self.left = PAGE_BYTES

    def take(self, path: Path) -> str | None:
        """The picture's data URI; None where it is not a png or svg, too large, or the page is full."""
        try:
            content = path.read_bytes() if path.stat().st_size <= min(PICTURE_BYTES, self.left) else b""
        except OSError:
            return None
        kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), None)
        if kind is None:
            return None
        self.left -= len(content)
        return f"data:{kind};base64," + base64.b64encode(content).decode()


def _laboratory(album: Album, path: Path | None) -> str:
    uri = album.take(path) if path is not None else None
    return "" if uri is None else (
        '<section class="card" id="lab"><h2>The laboratory</h2><p class="soft">Bias, variance and cost of every estimator on '
        "tasks small enough to enumerate; the numbers are in <code>results/lab.md</code>.</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="figure of the laboratory"><img class="lab" alt="Bias, '
        f'variance and cost of the estimators" src="{uri}"></div></section>')


def _crossed(tables: Sequence[CrossTable]) -> str:
    """What training on one reward did to every metric: a gain on its own reward alone is reward hacking."""
    parts = []
    for one in tables:
        head = ["trained on", "system", *(metric + less(metric in one.lower) for metric in one.metrics)]
        rows: list[Row] = [("", [title(reward), word(label), *(interval(found.get(metric), digits=digits(metric))
                                                               for metric in one.metrics)])
                           for reward, label, found in one.rows]
        chips = "".join(f"<span>{escape(part)}</span>" for part in one.signature.split("|"))
        parts.append(f'<section data-task="{escape(one.task)}"><h3>{escape(one.task)}</h3><p class="chips">{chips}</p>'
                     f"{table(head, rows)}</section>")
    return f'<section class="card" id="cross"><h2>Rewards against metrics</h2>{"".join(parts)}</section>' if parts else ""


def _together(judged: Sequence[Judge]) -> str:
    """Algorithms that several tables share, by one number each."""
    rows: list[Row] = [("", [title(one.label), interval(one.interval), number(one.tasks, str(one.tasks)),
                             number(one.runs, str(one.runs))]) for one in across_tasks(judged)]
    return "" if not rows else (
        '<section class="card"><h2>Over all tasks</h2><p class="soft">Interquartile mean over tasks and seeds of the share of '
        "what the pretrained checkpoint left undone, in percent: 0 is no change, 100 is perfect. Of each task and policy its "
        "latest table counts. With few seeds the intervals are too narrow, and algorithms that other tasks have are not "
        f"comparable.</p>{table(['algorithm', 'share gained', 'tables', 'runs'], rows)}</section>")


def _task(task: str, members: Sequence[tuple[str, Judge]], album: Album, shelf: Shelf) -> str:
    inside = "".join(_group(anchor, judge, album, shelf) for anchor, judge in members)
    return f'<section class="task" data-task="{escape(task)}"><h2>{escape(task)}</h2>{inside}</section>'


def _group(anchor: str, judge: Judge, album: Album, shelf: Shelf) -> str:
    group = judge.group
    split, metric = group.tests[0], group.metrics[0]
    chips = "".join(f"<span>{escape(part)}</span>" for part in group.signature.split("|"))
    warned = "".join(f"<li>{escape(one)}</li>" for one in notes(judge))
    over = generalisation(judge)
    parts = [f'<section class="card" id="{anchor}"><h3>{escape(metric)} on {escape(split)}, {group.n} problems</h3>',
             f'<p class="chips">{chips}</p>', _headline(judge), f'<ul class="notes">{warned}</ul>' if warned else "",
             _controls(judge), learning(judge, anchor), f'<div class="figures">{over}</div>' if over else "", _others(judge),
             _checkpoints(judge), _diagnostics(judge), _gallery(judge, album), shelf.explorer(group.entries, anchor),
             _samples(judge), watched(group), _origins(judge), "</section>"]
    return "".join(parts)


def _headline(judge: Judge) -> str:
    group = judge.group
    cells = headline(judge)
    known = [cell.interval for cell in cells if cell is not None]
    ends = [end for one in known for end in (one.score, one.low, one.high) if np.isfinite(end)] or [0.0]
    found = gains(judge)
    signal = ["signal gain"] * any(found)
    head = ["algorithm", "policy", "seeds", group.metrics[0], "", *signal, "difference to MLE continued", "p", *COSTS.values()]
    rows: list[Row] = []
    for index, (entry, cell) in enumerate(zip(group.entries, cells)):
        row = [name(entry, index), word(entry.policy), number(len(entry.seeds), str(len(entry.seeds)))]
        if cell is None:
            row += [number(None, "-"), "<td></td>", *[number(None, "-")] * (len(signal) + 2)]
        else:
            row += [interval(cell.interval, cell.wins),
                    f"<td>{whisker(cell.interval, min(ends), max(ends), index)}</td>",
                    *(_signal(found[index]) for _ in signal),
                    difference(cell.difference), number(cell.p, said_p(cell.p))]
        row += [number(value, said_count(value)) for value in entry.cost().values()]
        rows.append((entry.algo, row))
    return table(head, rows)


def _others(judge: Judge) -> str:
    """The primary metric on other splits, other metrics on the headline split, and folded away everything else."""
    group = judge.group
    split, metric = group.tests[0], group.metrics[0]
    splits = [(one, metric) for one in group.tests[1:]]
    metrics = [(split, one) for one in group.metrics[1:]]
    rest = [(one, other) for one in group.tests[1:] for other in group.metrics[1:]]
    shown = "".join(_scores(judge, wanted, said) for wanted, said in (
        (splits, f"{metric} on other test splits"), (metrics, f"Other metrics on {split}")) if wanted)
    folded = _scores(judge, rest, "") if rest else ""
    return shown + (f"<details><summary>Every metric on every split</summary>{folded}</details>" if folded else "")


def _scores(judge: Judge, wanted: Sequence[tuple[str, str]], heading: str) -> str:
    group = judge.group
    several = len({metric for _, metric in wanted}) > 1, len({split for split, _ in wanted}) > 1
    head = [split if several == (False, True) else (f"{metric} {split}" if several[1] else metric)
            + less(judge.sign(split, metric) < 0) for split, metric in wanted]
    rows = [(entry.algo, [name(entry, index), word(entry.policy),
                          *(interval(judge.interval(entry, *one), digits=digits(one[1])) for one in wanted)])
            for index, entry in enumerate(group.entries)]
    return (f"<h4>{escape(heading)}</h4>" if heading else "") + table(["algorithm", "policy", *head], rows)


def _signal(found: SignalGain | None) -> str:
    return number(None, "-") if found is None else gain(found.gain, CONTROLS[found.over])


def _controls(judge: Judge) -> str:
    """The gain over each control by itself; the headline's is over the strongest."""
    known = [(index, entry, one) for index, (entry, one) in enumerate(zip(judge.group.entries, gains(judge))) if one]
    names = list(dict.fromkeys(name for _, _, one in known for name in one.each))
    if not names:
        return ""
    rows: list[Row] = [(entry.algo, [name(entry, index), word(entry.policy),
                                     *(gain(one.each.get(control)) for control in names)]) for index, entry, one in known]
    return "<h4>Gain over each control</h4>" + table(["algorithm", "policy", *(CONTROLS[one] for one in names)], rows)


def _checkpoints(judge: Judge) -> str:
    """Scores on the headline split of the last, the best and the averaged weights."""
    group = judge.group
    found = [(index, entry, checkpoints(judge, entry)) for index, entry in enumerate(group.entries)]
    names = list(dict.fromkeys(one for _, _, known in found for one in known))
    if not names:
        return ""
    rows: list[Row] = [(entry.algo, [name(entry, index), word(entry.policy), *(interval(known.get(one)) for one in names)])
                       for index, entry, known in found if known]
    return (f"<h4>{escape(group.metrics[0])} on {escape(group.tests[0])} of each checkpoint</h4>"
            + table(["algorithm", "policy", *names], rows)
            + '<p class="soft">One of them was chosen on dev; all are here so that the choice can be seen.</p>')


def _diagnostics(judge: Judge) -> str:
    """Result.diagnostics: {name: {before, after}}, means over seeds."""
    tuned = [(index, entry) for index, entry in enumerate(judge.group.entries) if entry.stage == "after"]
    names = list(dict.fromkeys(one for _, entry in tuned for run in entry.results for one in run.diagnostics))
    if not names:
        return ""
    several = len({one.policy for _, one in tuned}) > 1
    systems = [f"{one.label} ({one.policy})" if several else one.label for _, one in tuned]
    parts = []
    for heading, some in themed(names).items():
        rows: list[Row] = [("", [title(plain(one)), *(_changed(entry, one) for _, entry in tuned)]) for one in some]
        parts.append(f'<h4>{escape(heading)}</h4><p class="soft">{escape(THEMES[heading][0])}</p>'
                     f"{table(['diagnostic', *systems], rows)}")
    return f"<details><summary>Diagnostics, before → after fine-tuning</summary>{''.join(parts)}</details>"


def _changed(entry: Entry, wanted: str) -> str:
    ends = []
    for stage in ("before", "after"):
        found = [run.diagnostics.get(wanted, {}).get(stage) for run in entry.results]
        known = [one for one in found if one is not None]
        ends.append(float(np.mean(known)) if known else None)
    return number(None, "-") if ends == [None, None] else change(*ends)


def _gallery(judge: Judge, album: Album) -> str:
    strips = []
    for index, entry in enumerate(judge.group.entries):
        first, shown = entry.results[0], []
        for place in first.pictures if entry.stage == "after" else []:
            uri, caption = album.take(Path(place)), Path(place).stem.replace("_", " ")
            if uri:
                below = "" if caption == str(first.seed) else caption
                shown.append(figure(below, f'<img loading="lazy" alt="{escape(f"{entry.label}: {caption}")}" src="{uri}">'))
        if shown:
            strips.append(f'<div data-algo="{escape(entry.algo)}"><p>{mark(entry, index)} <small>{escape(entry.policy)}, seed '
                          f'{first.seed}</small></p><div class="gallery" tabindex="0" role="region" aria-label="pictures of '
                          f'{escape(entry.label)}">{"".join(shown)}</div></div>')
    return f"<details><summary>Pictures: best, median, worst</summary>{''.join(strips)}</details>" if strips else ""


def _samples(judge: Judge) -> str:
    rows: list[Row] = []
    for index, entry in enumerate(judge.group.entries):
        first = entry.results[0]
        for one in first.samples[:SAMPLES] if entry.stage == "after" else []:
            text = " ".join(str(v) for k, v in one.items() if k != "reward")
            worth = one.get("reward")
            rows.append((entry.algo, [name(entry, index), number(worth, "-" if worth is None else f"{worth:.3f}"),
                                      f'<td class="text"><bdi>{escape(text)}</bdi></td>']))
    return (f"<details><summary>Answers to the first test problems</summary>"
            f"{table(['algorithm', 'reward', 'problem, reference and answer'], rows)}</details>") if rows else ""


def _origins(judge: Judge) -> str:
    head = ["algorithm", "policy", "seed", "commit", "hardware", "device", "precision", "torch", "plan", "finished",
            "configuration"]
    rows = [(entry.algo, [name(entry, index), word(entry.policy), number(run.seed, str(run.seed)),
                          word(run.commit + (" + changes" if run.dirty else "")), word(run.hardware), word(run.device),
                          word(run.precision), word(run.torch), word(run.plan), word(run.finished[:16].replace("T", " ")),
                          word(run.hash)])
            for index, entry in enumerate(judge.group.entries) if entry.stage == "after" for run in entry.results]
    return f"<details><summary>Where these rows come from</summary>{table(head, rows)}</details>"
