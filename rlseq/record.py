"""What MLflow is to know of a run besides its diary: `mlflow.json` beside `metrics.jsonl`, whole or absent.

With it and the diary anybody can bring the run to an MLflow, at any time and as often as he likes: the run while it trains
(`tracking`), or `python -m rlseq.sync` later. Files that MLflow is to hold lie in the same folder, or are copied into it,
so a folder can move, and a stranger's `mlflow.json` cannot name a file outside.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .files import write_whole
from .printable import printable

NAME = "mlflow.json"
ENDS = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Record:
    """One run as MLflow is told of it; times are milliseconds since 1970."""

    uri: str                                   # where it is to be recorded; without a password
    experiment: str
    name: str
    parameters: dict[str, str]
    tags: dict[str, str]
    config: str                                # the composed configuration, YAML
    started: int
    key: str = field(default_factory=lambda: uuid.uuid4().hex)     # MLflow finds the run by it, though we lost its answer
    run_id: str | None = None                  # MLflow's own name of it, once known
    points: list[list] = field(default_factory=list)               # [step, time, {name: value}] that the diary does not hold
    tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    files: list[list[str]] = field(default_factory=list)           # [path below the run's folder, MLflow's folder]
    status: str = "RUNNING"                    # or one of ENDS
    ended: int | None = None

    def with_points(self, points: Sequence[tuple[int, Mapping[str, float]]], time: int) -> Record:
        """With values at steps that no diary holds; never earlier than what was said before."""
        time = max([self.started, time, *(one[1] for one in self.points[-1:])])
        return replace(self, points=self.points + [[step, time, dict(values)] for step, values in points])

    def with_file(self, path: Path, into: str, home: Path) -> Record:
        """With a file, copied below the run's folder `home` unless it lies there. Raises OSError where it cannot be read."""
        path, home = path.resolve(strict=True), home.resolve()
        if not path.is_relative_to(home):
            kept = home / f"mlflow-{self.key[:8]}" / into / path.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            path = Path(shutil.copyfile(path, kept))
        entry = [path.relative_to(home).as_posix(), into]
        return replace(self, files=[one for one in self.files if one != entry] + [entry])

    def ending(self, status: str, time: int) -> Record:
        """Ended as FINISHED, FAILED or KILLED. Raises ValueError for another status."""
        if status not in ENDS:
            raise ValueError(f"a run ends as {', '.join(ENDS)}, not {status!r}")
        return replace(self, status=status, ended=max([self.started, time, *(one[1] for one in self.points[-1:])]))


def write(path: Path, record: Record) -> None:
    """Write a record: the file is whole or as it was. Raises OSError in one line where the disk is full or read-only."""
    write_whole(path, json.dumps(asdict(record), indent=1))


def read(path: Path) -> Record:
    """What `write` wrote. Raises ValueError in one line where it is damaged or names a file outside its folder."""
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        files = [Path(file) for file, _ in record.files]
        assert all(isinstance(values, dict) and isinstance(step, int) for step, _, values in record.points), "points"
        assert record.key.isalnum() and record.status in ("RUNNING", *ENDS), "key or status"
        assert all(isinstance(one, str) for one in (record.uri, record.experiment, record.name, record.config)), "names"
    except (OSError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{path}: not the record of a run ({error}); delete it, no result needs it") from None
    home = path.parent.resolve()
    for file in files:
        if not (home / file).resolve().is_relative_to(home):
            raise ValueError(f"{path}: names {printable(str(file))}, which lies outside its folder; nothing of it is sent")
    return record
