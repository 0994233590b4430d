"""What a run reports to MLflow while it trains, or nothing.

A run neither waits for MLflow nor dies of it. All that it has to say lies in its folder first: the diary (`journal`) and the
record (`record`). One thread brings both to MLflow, as far as MLflow answers: down, slow, gone and back, it misses nothing,
for what was not sent still lies there. What is missing at the end of a run, `python -m rlseq.sync` brings.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from .delivery import Delivery
from .journal import NAME as DIARY
from .record import NAME, Record, read, write
from .say import say
from .server import DEFAULT_URI, RESULT, file_of, first, plain, reachable, resolve

__all__ = ["RESULT", "MlflowTracker", "Tracker", "check", "open_tracker", "resolve", "ui_command"]
EVERY, SELDOM = 2.0, 30.0                      # seconds between two deliveries, and at most while MLflow fails
WAITS = {"FINISHED": 120.0, "FAILED": 10.0, "KILLED": 3.0}             # seconds that a run's end may wait for the last one


class Tracker:
    """Where a run is recorded; this one records nothing (tracking=none)."""

    uri: str | None = None
    run_id: str | None = None

    def start(self, folder: Path, run_name: str, parameters: Mapping[str, object], tags: Mapping[str, object],
              config_text: str) -> None:
        """Begin the run whose diary lies in `folder`, or go on with it where it did not finish."""

    def follow(self, step: int, values: Mapping[str, float]) -> None:
        """The diary grows; costs nothing."""

    def points(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Values at steps that the diary does not hold."""

    def picture(self, path: Path) -> None:
        """A png file."""

    def artifact(self, path: Path, folder: str) -> None:
        """A file, kept under `folder`; the result's JSON and .npz belong under "result"."""

    def table(self, name: str, rows: list[dict[str, object]]) -> None:
        """Rows with the same keys, such as sampled predictions with their rewards."""

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED; waits for MLflow as long as `WAITS` says."""


class MlflowTracker(Tracker):
    """Records to an MLflow server or database."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        self._writing, self._ended, self._whole = threading.Lock(), threading.Event(), False
        self._following = False                # the diary is this run's from its first line of this process on
        self._thread: threading.Thread | None = None
        self._complained: set[str] = set()

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run, once there is one."""
        return self._record.run_id if self._thread else None

    def start(self, folder, run_name, parameters, tags, config_text):
        self._folder = folder
        new = Record(plain(self.uri), self.experiment, run_name, {key: str(value) for key, value in parameters.items()},
                     {key: str(value) for key, value in tags.items()}, config_text, _now())
        self._record = begun(folder, new)
        write(folder / NAME, self._record)
        self._delivery = Delivery(folder, self.uri)
        # a daemon: a server that hangs must not keep the process
        self._thread = threading.Thread(target=self._deliver, name="tracking", daemon=True)
        self._thread.start()

    def follow(self, step, values):
        self._following = True

    def points(self, points):
        self._keep("values", lambda record: record.with_points(points, _now()))

    def picture(self, path):
        self.artifact(path, "pictures")

    def artifact(self, path, folder):
        self._keep(str(path), lambda record: record.with_file(Path(path), folder, self._folder))

    def table(self, name, rows):
        self._keep(f"table {name}", lambda record: replace(record, tables=record.tables | {name: rows}))

    def finish(self, status="FINISHED"):
        if self._thread is None:
            return
        self._keep("the end", lambda record: record.ending(status, _now()))
        self._ended.set()
        self._thread.join(WAITS[status])
        if not self._whole:
            say(f"MLflow at {plain(self.uri)} does not hold all of this run; once it answers: python -m rlseq.sync "
                f"{shlex.quote(str(self._folder))}")
        elif "server" in self._complained:
            say(f"MLflow at {plain(self.uri)} answers again and holds all of {self._folder}")

    def _keep(self, what: str, changed: Callable[[Record], Record]) -> None:
        """Change the record, here and on disk; a disk that is full costs a line, not the run."""
        try:
            with self._writing:
                self._record = changed(self._record)
                write(self._folder / NAME, self._record)
        except OSError as error:
            self._complain("disk", f"{what} could not be recorded, the run goes on ({first(error)})")

    def _deliver(self) -> None:
        """The thread: bring what there is, again and again; what fails is tried again with the next."""
        pause = 0.0
        while True:
            ended = self._ended.wait(pause)
            record = self._record
            try:
                self._delivery.bring(record, diary=ended or self._following)
                self._whole, pause = True, EVERY
            except Exception as error:         # of whatever kind: it must not end the thread
                self._whole, pause = False, min(max(2 * pause, EVERY), SELDOM)
                said = str(error) if isinstance(error, ValueError) else first(error)
                self._complain("server", f"{said}; the run goes on, its diary is {self._folder / DIARY}")
            if self._delivery.run_id not in (None, record.run_id):
                self._keep("the run's id", lambda record: replace(record, run_id=self._delivery.run_id))
            if ended:
                return

    def _complain(self, of: str, text: str) -> None:
        """One line on stderr, once of each kind."""
        if of not in self._complained:
            self._complained.add(of)
            say(text)


def begun(folder: Path, new: Record) -> Record:
    """The record of the run that did not finish in this folder, to go on with, or a new one; a finished one is put aside.

    `mlflow.json` is of the run that the diary belongs to; what was put aside is told without it.
    """
    try:
        old = read(folder / NAME) if (folder / NAME).is_file() else None
    except ValueError as error:
        say(f"{error}; MLflow gets a new run")
        return new
    if old is None:
        return new
    if old.status == "FINISHED":
        os.replace(folder / NAME, folder / f"mlflow-{old.key[:8]}.json")
        return new
    return replace(new, key=old.key, run_id=old.run_id, started=min(old.started, new.started))


def check(uri: str | None) -> None:
    """Raises ValueError in one line for a URI that no waiting would mend; a server that is down is none of them."""
    if uri == "none":
        return
    if not isinstance(uri, str | None):
        raise ValueError(f"tracking.uri={uri!r} is no URI, such as {DEFAULT_URI} or http://127.0.0.1:5000, nor none")
    if uri and urlsplit(uri).password:
        raise ValueError("tracking.uri holds a password, and results and MLflow's tables repeat the configuration; give the "
                         "whole URI in the environment variable MLFLOW_TRACKING_URI")
    uri = resolve(uri)
    if file_of(uri) is not None:
        try:
            reachable(uri)
        except ValueError as error:
            raise ValueError(f"{error}; set tracking.uri=URI, or record nothing with tracking=none") from None


def open_tracker(uri: str | None, experiment: str) -> Tracker:
    """The tracker behind a URI; "none" records nothing. Raises ValueError as `check` does."""
    if uri == "none":
        return Tracker()
    check(uri)
    return MlflowTracker(resolve(uri), experiment)


def ui_command(uri: str | None) -> str:
    """The command line that opens MLflow on what was recorded, for this machine's browser only; empty for "none"."""
    if uri == "none":
        return ""
    uri = plain(resolve(uri))
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(uri)}"
    return f"python -m mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --port 5000"


def _now() -> int:
    return int(time.time() * 1000)
