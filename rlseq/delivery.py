"""A run on its way to MLflow: from the diary and the record in its folder, as often as one likes, and never twice."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from . import journal
from .record import Record
from .server import RESULT, alone, connect, experiment_id, patiently, plain, reachable

# MLflow's limits: metrics a batch, parameters a batch, lengths of a value and of a name
CHUNK, PARAMETERS, LONGEST, NAMED = 1000, 100, 6000, 250
KEY = "rlseq.key"                              # tag: a run's own identity, by which MLflow finds it again
TABLES = "mlflow.loggedArtifacts"              # tag: the files that MLflow shows as tables
T = TypeVar("T")
Values = tuple[dict[str, float | None], int, int, int]                 # {name: value}, step, milliseconds, the place after it


class Delivery:
    """Brings one run to one MLflow and adds only what is not there: `bring` may be called as often as one likes.

    Metrics are told apart by name and step. `thorough` compares with all that MLflow holds; else with the last step of each
    name, which is cheap, and enough for a process that sends the lines of one diary in their order.
    """

    def __init__(self, folder: Path, uri: str, thorough: bool = False) -> None:
        self.folder, self.uri, self.thorough = folder, uri, thorough
        self.run_id: str | None = None
        self.values = self.files = 0                                   # added so far
        self.missing: set[str] = set()                                 # files of the record that lie there no more
        self._client, self._status, self._begun = None, "", False
        self._known: dict[str, set[int]] | dict[str, int] | None = None
        self._place = {"points": 0, "diary": 0}                        # how much of both is there
        self._listed: dict[str, dict[str, int | None]] = {}            # {folder: {file: bytes}} as MLflow has them
        self._tags: dict[str, str] = {}

    def bring(self, record: Record, diary: bool = True) -> None:
        """Send what is missing; not the `diary` while it is none yet. Raises ValueError in one line where MLflow fails."""
        try:
            if self._client is None:
                reachable(self.uri)
                self._client = connect(self.uri)
            self._begin(record)
            if record.status in ("FAILED", "KILLED"):                  # first, for there may be little time
                self._end(record)
            self._send("points", ((values, step, when, place) for place, (step, when, values) in enumerate(record.points, 1)
                                  if place > self._place["points"]))
            if diary:
                self._send("diary", _lines(self.folder / journal.NAME, self._place["diary"]))
            for name, rows in record.tables.items():
                self._table(name, rows)
            for name, into in record.files:
                self._file(self.folder / name, into)
            if record.status != "RUNNING":
                self._end(record)
        except BaseException:
            self._known = None                                         # an answer may be lost though the values arrived
            raise

    def _begin(self, record: Record) -> None:
        """Find or create the run, and tell it what it is."""
        if self._begun:
            return
        from mlflow.entities import Param, ViewType
        with alone(self.uri):
            place = self._do(lambda: experiment_id(self._client, record.experiment, self.uri))
        found = self._do(lambda: self._client.search_runs([place], f"tags.`{KEY}` = '{record.key}'", ViewType.ALL, 1))
        if found and found[0].info.lifecycle_stage != "active":
            raise ValueError(f"run {found[0].info.run_id} was deleted in MLflow at {plain(self.uri)}; restore it there")
        known = {KEY: record.key, "mlflow.source.name": "rlseq", "mlflow.source.type": "LOCAL"}
        if "commit" in record.tags:
            known["mlflow.source.git.commit"] = record.tags["commit"]
        run = found[0] if found else self._do(lambda: self._client.create_run(
            place, start_time=record.started, tags=known | record.tags, run_name=record.name))
        self.run_id, self._status, self._tags = run.info.run_id, run.info.status, dict(run.data.tags)
        self._known = None if found else {}
        if record.status == "RUNNING" and self._status != "RUNNING":
            self._do(lambda: self._client.update_run(self.run_id, "RUNNING"))
            self._status = "RUNNING"
        listed = [Param(name, value[:LONGEST]) for name, value in record.parameters.items() if name not in run.data.params]
        for first in range(0, len(listed), PARAMETERS):
            self._do(lambda: self._client.log_batch(self.run_id, params=listed[first:first + PARAMETERS]))  # noqa: B023
        self._text(record.config, "config.yaml")
        self._begun = True

    def _send(self, which: str, lines: Iterable[Values]) -> None:
        """Log the values that MLflow does not hold, in batches, and remember the place after each."""
        from mlflow.entities import Metric
        batch: list[Metric] = []
        place = self._place[which]
        for values, step, when, after in lines:
            if self._known is None:
                self._known = self._steps()
            if batch and len(batch) + len(values) > CHUNK:
                self._log(batch)
                batch, self._place[which] = [], place
            for name, value in values.items():
                if not self._has(label(name), step):
                    batch.append(Metric(label(name), math.nan if value is None else float(value), when, step))
            place = after
        self._log(batch)
        self._place[which] = place

    def _log(self, batch: list) -> None:
        for first in range(0, len(batch), CHUNK):
            part = batch[first:first + CHUNK]
            self._do(lambda: self._client.log_batch(self.run_id, metrics=part))  # noqa: B023
            self.values += len(part)

    def _steps(self) -> dict[str, set[int]] | dict[str, int]:
        """What MLflow holds: of each name all its steps, or the last one."""
        data = self._do(lambda: self._client.get_run(self.run_id)).data
        if not self.thorough:
            return {one.key: one.step for one in data.to_proto().metrics}
        return {name: {one.step for one in self._do(lambda: self._client.get_metric_history(self.run_id, name))}  # noqa: B023
                for name in data.metrics}

    def _has(self, name: str, step: int) -> bool:
        known = self._known.get(name)
        return known is not None and (step in known if self.thorough else step <= known)

    def _table(self, name: str, rows: list[dict[str, object]]) -> None:
        """Rows as the JSON that MLflow shows as a table; its own `log_table` would add them to those that are there."""
        columns = list(rows[0]) if rows else []
        data = [[row.get(key) for key in columns] for row in rows]
        self._text(json.dumps({"columns": columns, "data": data}), f"{name}.json")
        entry = {"path": f"{name}.json", "type": "table"}
        known = json.loads(self._tags.get(TABLES, "[]"))
        if entry not in known:
            self._tag(TABLES, json.dumps([*known, entry]))

    def _text(self, text: str, name: str) -> None:
        self._put(name, "", len(text.encode()), lambda: self._client.log_text(self.run_id, text, name))

    def _file(self, path: Path, into: str) -> None:
        if not path.is_file():
            self.missing.add(path.name)
            return
        self._put(f"{into}/{path.name}", into, path.stat().st_size,
                  lambda: self._client.log_artifact(self.run_id, str(path), into))
        if into == RESULT and path.suffix == ".json":
            self._tag(f"rlseq.{RESULT}", path.name)

    def _put(self, name: str, folder: str, size: int, action: Callable[[], object]) -> None:
        """Do it where MLflow holds no file of this name and size."""
        if folder not in self._listed:
            found = self._do(lambda: self._client.list_artifacts(self.run_id, folder or None))
            self._listed[folder] = {one.path: one.file_size for one in found}
        if self._listed[folder].get(name) != size:
            self._do(action)
            self._listed[folder][name] = size
            self.files += 1

    def _tag(self, name: str, value: str) -> None:
        if self._tags.get(name) != value:
            self._do(lambda: self._client.set_tag(self.run_id, name, value))
            self._tags[name] = value

    def _end(self, record: Record) -> None:
        if self._status != record.status:
            self._do(lambda: self._client.set_terminated(self.run_id, record.status, record.ended))
            self._status = record.status

    def _do(self, action: Callable[[], T]) -> T:
        return patiently(action, self.uri)


def label(name: str) -> str:
    """A metric's name as MLflow takes it."""
    return posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name)).lstrip("./")[:NAMED] or "_"


def _lines(path: Path, place: int) -> Iterator[Values]:
    """Lines of a diary from a place on."""
    for line, after in journal.since(path, place):
        yield {name: value for name, value in line.items() if name not in ("step", "time")}, line["step"], \
            int(line["time"] * 1000), after
