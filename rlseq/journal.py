"""The diary of a run on disk, `metrics.jsonl` beside its checkpoint: one JSON object a line, `step`, `time` and the values.

Lines are only ever added, each in one piece, so a killed run leaves a whole diary but for its last line at most. A run that
resumes at step s takes back what came after s, for it does those steps again: no step is told twice. Time never goes back,
though the clock may: a line set back takes the time of the one before it. MLflow is fed from here (`tracking`, `sync`).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .files import NotWritten

NAME = "metrics.jsonl"
# what the trainer logs that runs on with the updates, or is known from them: it has no mean between looks
RUNNING = frozenset({"loss", "sampled_tokens", "scored_tokens", "seconds", "learning_rate", "skipped"})


class Journal:
    """Adds lines to a diary. `step` is where the run stands: 0 begins it anew; `looked` says whether dev was scored there."""

    def __init__(self, path: Path, step: int, looked: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._latest = path, 0.0
        if path.is_file():
            length, self._latest = _whole(path, step, looked)
            os.truncate(path, length)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line; what is not finite becomes null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._latest = max(self._latest, round(time.time(), 3))
        line = json.dumps({"step": step, "time": self._latest, **finite}) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise NotWritten(self.path, error) from error


def _whole(path: Path, step: int, looked: bool) -> tuple[int, float]:
    """Bytes of the diary up to the first line that is broken or later than `step` (or than its update, where it was not
    `looked` at), and its last time; none for step 0."""
    length, latest = 0, 0.0
    with path.open("rb") as file:
        for line in file if step else ():
            try:
                one = json.loads(line)
                again = not looked and one["step"] == step and "dev" in one
                if one["step"] > step or again or not line.endswith(b"\n"):
                    break
                length, latest = length + len(line), float(one["time"])
            except (ValueError, KeyError, TypeError):
                break
    return length, latest


def since(path: Path, place: int) -> Iterator[tuple[dict[str, float | None], int]]:
    """Lines from byte `place` on, each with the place after it; a line that is being written, or broken, is left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(place)
        for line in file:
            place += len(line)
            try:
                one = json.loads(line)
                one["step"], one["time"]
            except (ValueError, KeyError, TypeError):
                continue
            yield one, place


def read(path: Path) -> list[dict[str, float]]:
    """All whole lines of a diary. Raises ValueError in one line where there is none, or a line within it is broken."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such diary; a run writes it beside its checkpoint")
    lines, found = path.read_text(encoding="utf-8").splitlines(), []
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line)
            one["step"], one["time"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break                                  # the run was killed while it wrote
            raise ValueError(f"{path}, line {number}: not a line of a diary; delete it, or run the job again") from None
        found.append(one)
    return found


def means(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over updates of what each update says of itself; what is a running sum is left out."""
    names = dict.fromkeys(name for one in updates for name in one if name not in RUNNING)
    return {name: sum(found) / len(found) for name in names
            if (found := [one[name] for one in updates if one.get(name) is not None])}


def looks(lines: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], list[dict[str, float]]]:
    """What was seen before training, and at every look: its values, the means of the updates since the last, and `updates`.

    These are the points of a training curve. An update says its `loss`, a look its score on `dev`.
    """
    before: dict[str, float] = {}
    found, heard = [], []
    for line in lines:
        values = {name: value for name, value in line.items() if name not in ("step", "time")}
        if "loss" in line:
            heard.append(values)
        if "dev" in line:
            found.append({"updates": line["step"], **means(heard), **values})
            heard = []
        elif line["step"] == 0:
            before |= values
    return before, found
