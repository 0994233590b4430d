"""What a run reports while it runs: MLflow, or nothing. The only file that knows MLflow, and it is imported late.

A run must not wait for its diary nor die of it: metrics are collected and sent by one thread in batches, and after the
start a failure to record costs one line on stderr, not the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

DEFAULT_URI = "sqlite:///runs/mlflow.db"
SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
EVERY = 2.0                                    # seconds between two sendings of metrics
CHUNK, PARAMETERS, LONGEST = 1000, 100, 6000   # MLflow's limits: metrics a batch, parameters a batch, a value's length
RESULT, PICTURES = "result", "pictures"        # artifact folders; the first is also the tag of a run with a result
T = TypeVar("T")


class Tracker:
    """Where a run is recorded; this one records nothing (tracking=none)."""

    uri: str | None = None
    run_id: str | None = None

    def start(self, run_name: str, parameters: dict[str, object], tags: dict[str, str], config_text: str) -> None:
        """Begin a run. Raises ValueError in one line where the server cannot be reached."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Values at a step; costs microseconds."""

    def picture(self, path: Path) -> None:
        """A png file."""

    def artifact(self, path: Path, folder: str) -> None:
        """A file, kept under `folder`; the result's JSON and .npz belong under "result"."""

    def table(self, name: str, rows: list[dict[str, object]]) -> None:
        """Rows with the same keys, such as sampled predictions with their rewards."""

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED; everything collected is sent first."""


class MlflowTracker(Tracker):
    """Records to an MLflow server or database."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment, self.run_id = uri, experiment, None
        self._client = _client(uri)
        self._waiting: list[tuple[str, float, int, int]] = []    # name, value, milliseconds, step
        self._sent_at = time.monotonic()
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._sending: Future | None = None                      # one at a time: a dead server must not pile up work
        self._complained = False

    def start(self, run_name, parameters, tags, config_text):
        from mlflow.entities import Param
        tags = {name: str(value) for name, value in tags.items()}
        known = {"mlflow.source.name": "rlseq", "mlflow.source.type": "LOCAL"}
        if "commit" in tags:
            known["mlflow.source.git.commit"] = tags["commit"]
        with _alone(self.uri):
            where = _patiently(lambda: _experiment(self._client, self.experiment, self.uri), self.uri)
        run = _patiently(lambda: self._client.create_run(where, tags=known | tags, run_name=run_name), self.uri)
        self.run_id = run.info.run_id
        listed = [Param(name, str(value)[:LONGEST]) for name, value in parameters.items()]
        for first in range(0, len(listed), PARAMETERS):
            self._record("parameters", lambda first=first: self._client.log_batch(
                self.run_id, params=listed[first:first + PARAMETERS]))
        self._record("the configuration", lambda: self._client.log_text(self.run_id, config_text, "config.yaml"))

    def metrics(self, step, values):
        now = int(time.time() * 1000)
        self._waiting.extend((name, float(value), now, step) for name, value in values.items())
        idle = self._sending is None or self._sending.done()
        if idle and (time.monotonic() - self._sent_at > EVERY or len(self._waiting) >= CHUNK):
            self._sent_at = time.monotonic()
            batch, self._waiting = self._waiting, []
            self._sending = self._sender.submit(self._send, batch)

    def picture(self, path):
        self.artifact(path, PICTURES)

    def artifact(self, path, folder):
        def keep():
            if not Path(path).is_file():
                raise ValueError("there is no such file")
            self._client.log_artifact(self.run_id, str(path), folder)
            if folder == RESULT and Path(path).suffix == ".json":
                self._client.set_tag(self.run_id, f"rlseq.{RESULT}", Path(path).name)
        self._record(f"{path}", keep)

    def table(self, name, rows):
        columns = {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
        self._record(f"table {name}", lambda: self._client.log_table(self.run_id, columns, f"{name}.json"))

    def finish(self, status="FINISHED"):
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise ValueError(f"a run ends as FINISHED, FAILED or KILLED, not {status!r}")
        self._sender.submit(self._send, self._waiting)
        self._waiting = []
        self._sender.shutdown(wait=True)
        if self.run_id:
            self._record("the end", lambda: self._client.set_terminated(self.run_id, status))

    def _send(self, batch: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric
        for first in range(0, len(batch), CHUNK):
            part = [Metric(*one) for one in batch[first:first + CHUNK]]
            if not self._record("metrics", lambda part=part: self._client.log_batch(self.run_id, metrics=part)):
                return

    def _record(self, what: str, action: Callable[[], object]) -> bool:
        try:
            _patiently(action, self.uri, tries=3)
            return True
        except ValueError as error:
            if not self._complained:
                print(f"tracking: {what} could not be recorded, the run goes on: {error}", file=sys.stderr)
            self._complained = True
            return False


def resolve(uri: str | None) -> str:
    """The tracking URI in use: None means MLFLOW_TRACKING_URI or the default; a SQLite file's path becomes absolute.

    Raises ValueError for an empty one.
    """
    uri = (os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI) if uri is None else uri
    if not uri.strip():
        raise ValueError(f"tracking.uri is empty; give a URI such as {DEFAULT_URI} or http://127.0.0.1:5000, or none")
    if uri.startswith(SQLITE) and ":memory:" not in uri:
        return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute())
    return uri


def open_tracker(uri: str | None, experiment: str) -> Tracker:
    """The tracker behind a URI; "none" records nothing. Raises ValueError in one line where there is no such server."""
    if uri == "none":
        return Tracker()
    uri = resolve(uri)
    _reachable(uri)
    return MlflowTracker(uri, experiment)


def ui_command(uri: str | None) -> str:
    """The command line that opens MLflow on what was recorded, for this machine's browser only; empty for "none"."""
    if uri == "none":
        return ""
    uri = resolve(uri)
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(uri)}"
    return f"python -m mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --port 5000"


def finished_results(uri: str | None, folder: Path) -> list[Path]:
    """Result files of all finished runs, fetched into `folder`; an absent SQLite file has none.

    A run's pictures lie in `../pictures` of its result.

    Raises ValueError in one line where the server cannot be reached.
    """
    uri = resolve(uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        return []
    _reachable(uri)
    client = _client(uri)
    places = [one.experiment_id for one in _patiently(client.search_experiments, uri)]
    wanted, token, found = f"attributes.status = 'FINISHED' and tags.`rlseq.{RESULT}` != ''", None, []
    while places:
        page = _patiently(lambda: client.search_runs(places, wanted, page_token=token), uri)  # noqa: B023
        for run in page:
            home = Path(tempfile.mkdtemp(dir=folder, prefix=f"{run.info.run_id}-"))
            try:
                for name in {one.path for one in client.list_artifacts(run.info.run_id)} & {RESULT, PICTURES}:
                    client.download_artifacts(run.info.run_id, name, str(home))
            except Exception as error:         # an artifact deleted by hand is no reason to report nothing
                print(f"tracking: run {run.info.run_id} has no result to fetch: {_first(error)}", file=sys.stderr)
            found += sorted((home / RESULT).glob("*.json"))
        token = page.token
        if not token:
            break
    return found


def history(uri: str | None, run_id: str) -> tuple[str, list[dict[str, float]]]:
    """A run's name and what it said, oldest first: {"step", "time", values}, as the lines of `journal` have it.

    Raises ValueError in one line where there is no such run.
    """
    uri = resolve(uri)
    _reachable(uri)
    client = _client(uri)
    run, lines = _patiently(lambda: client.get_run(run_id), uri, tries=1), {}
    for name in (one for one in run.data.metrics if "/" not in one):            # not pretrain/loss, test-50/accuracy
        for one in _patiently(lambda: client.get_metric_history(run_id, name), uri):  # noqa: B023
            lines.setdefault((one.step, one.timestamp), {"step": one.step, "time": one.timestamp / 1000})[name] = one.value
    return run.info.run_name, [lines[key] for key in sorted(lines)]


def _client(uri: str):
    """An MLflow client that is quiet and tells nobody."""
    for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
                        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"), ("MLFLOW_LOGGING_LEVEL", "ERROR"),
                        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")):
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient  # here, for it takes a second and most commands do without
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with _alone(uri):
            return _patiently(lambda: MlflowClient(tracking_uri=uri), uri)


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Only one process at a time in here for a SQLite file: MLflow's migrations of a new one break in parallel.

    The lock is a transaction on a file beside it: it works on every system and ends with its process.
    """
    if not uri.startswith(SQLITE) or ":memory:" in uri:
        yield
        return
    lock = sqlite3.connect(uri.removeprefix(SQLITE) + ".lock", timeout=300, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


def _experiment(client, name: str, uri: str) -> str:
    """Id of the experiment, created where absent; another process may create it at the same moment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        artifacts = None
        if uri.startswith(SQLITE):             # absolute, so that an MLflow started elsewhere finds the files
            artifacts = (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri()
        return client.create_experiment(name, artifact_location=artifacts)
    if found.lifecycle_stage != "active":
        raise ValueError(f"the MLflow experiment {name!r} was deleted; restore it or set another tracking.experiment")
    return found.experiment_id


def _reachable(uri: str) -> None:
    """Raises ValueError at once where MLflow itself would retry for minutes."""
    scheme, host = urlsplit(uri).scheme.split("+")[0], urlsplit(uri).hostname
    try:
        if uri.startswith(SQLITE):
            path = Path(uri.removeprefix(SQLITE))
            path.parent.mkdir(parents=True, exist_ok=True)
            with sqlite3.connect(path, timeout=30) as database:
                database.execute("PRAGMA schema_version")
            database.close()
        elif scheme in ("http", "https"):
            urllib.request.urlopen(uri, timeout=10).close()
        elif scheme in PORTS and host:
            socket.create_connection((host, urlsplit(uri).port or PORTS[scheme]), timeout=10).close()
    except urllib.error.HTTPError:
        return                                 # somebody answers; whether we may enter, MLflow will say
    except (OSError, sqlite3.Error, ValueError) as error:
        raise ValueError(f"no MLflow at {uri} ({_first(error)}); start it, set tracking.uri=URI, "
                         "or record nothing with tracking=none") from None


def _patiently(action: Callable[[], T], uri: str | None, tries: int = 6) -> T:
    """The action's result; tried again while others hold the database. Raises ValueError in one line in the end."""
    for attempt in range(tries):
        try:
            return action()
        except ValueError:
            raise
        except Exception as error:             # MLflow, SQLAlchemy, requests: each has its own family
            if attempt == tries - 1:
                raise ValueError(f"MLflow at {uri} fails ({_first(error)}); set tracking.uri=URI, or record nothing "
                                 "with tracking=none") from error
            time.sleep(0.1 * 2 ** attempt * (1 + os.getpid() % 10 / 10))


def _first(error: BaseException) -> str:
    """An exception's first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
