"""MLflow where it runs: reaching it, patience with it, and reading what it holds. It is imported late, for it is slow.

Only this file and `delivery` know MLflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from .printable import printable

DEFAULT_URI = "sqlite:///runs/mlflow.db"
SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
RESULT, PICTURES = "result", "pictures"        # artifact folders; the first is also the tag of a run with a result
BUSY = ("locked", "busy", "deadlock", "already exists", "unique constraint")         # others are at it: try again
PATIENCE = 60.0                                # seconds that others may be at it
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_LOGGING_LEVEL": "ERROR",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}     # we come again by ourselves
T = TypeVar("T")


def resolve(uri: str | None) -> str:
    """The tracking URI in use: None means MLFLOW_TRACKING_URI or the default; a SQLite file's path becomes absolute.

    Raises ValueError for an empty one.
    """
    uri = (os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI) if uri is None else uri
    if not uri.strip():
        raise ValueError(f"tracking.uri is empty; give a URI such as {DEFAULT_URI} or http://127.0.0.1:5000, or none")
    path = file_of(uri)
    return uri if path is None else SQLITE + str(path.absolute())


def file_of(uri: str) -> Path | None:
    """The file behind a SQLite URI."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) and ":memory:" not in uri else None


def reachable(uri: str) -> None:
    """Raises ValueError in one line, soon, where nobody answers; MLflow itself would try for minutes."""
    where, path = urlsplit(uri), file_of(uri)
    scheme = where.scheme.split("+")[0]
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                with contextlib.closing(sqlite3.connect(path, timeout=0)) as database:
                    database.execute("PRAGMA schema_version")
            elif not os.access(path.parent, os.W_OK):
                raise PermissionError(f"{path.parent} cannot be written to")
        elif scheme in ("http", "https"):
            open_address = where._replace(netloc=where.netloc.rpartition("@")[2]).geturl()
            urllib.request.urlopen(open_address, timeout=10).close()
        elif scheme in PORTS and where.hostname:
            socket.create_connection((where.hostname, where.port or PORTS[scheme]), timeout=10).close()
    except urllib.error.HTTPError:
        return                                 # somebody answers; whether we may enter, MLflow will say
    except (OSError, sqlite3.Error, ValueError) as error:
        if "locked" not in str(error):         # a database in use is one
            raise ValueError(f"no MLflow at {plain(uri)} ({first(error)})") from None


def connect(uri: str):
    """An MLflow client that is quiet and tells nobody."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient  # here, for it takes a second and most commands do without
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with alone(uri):
            path = file_of(uri)
            if path is not None and not (path.is_file() and path.stat().st_size):
                new = path.with_name(path.name + ".new")               # made elsewhere: a killed process leaves no half one
                new.unlink(missing_ok=True)
                patiently(lambda: MlflowClient(tracking_uri=SQLITE + str(new)).search_experiments(), uri)
                os.replace(new, path)
            return patiently(lambda: MlflowClient(tracking_uri=uri), uri)


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Only one process at a time in here for a SQLite file: MLflow's making of a new one breaks in parallel."""
    path = file_of(uri)
    if path is None:
        yield
        return
    with contextlib.closing(sqlite3.connect(path.with_name(path.name + ".lock"), timeout=300, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")        # a lock that works on every system and ends with its process
        yield


def experiment_id(client, name: str, uri: str) -> str:
    """Id of the experiment, created where absent; another process may create it at the same moment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        path = file_of(uri)                    # absolute, so that an MLflow started elsewhere finds the files
        return client.create_experiment(name, artifact_location=path and (path.parent / "mlartifacts").as_uri())
    if found.lifecycle_stage != "active":
        raise ValueError(f"the MLflow experiment {name!r} at {plain(uri)} was deleted; restore it there")
    return found.experiment_id


def patiently(action: Callable[[], T], uri: str) -> T:
    """The action's result; tried again while others hold the database. Raises ValueError in one line in the end."""
    until, pause = time.monotonic() + PATIENCE, 0.1
    while True:
        try:
            return action()
        except ValueError:
            raise
        except Exception as error:             # MLflow, SQLAlchemy, requests: each has its own family
            busy = any(word in str(error).lower() for word in BUSY)
            if not busy or time.monotonic() + pause > until:
                raise ValueError(f"MLflow at {plain(uri)} fails ({first(error)})") from error
        time.sleep(pause * (1 + os.getpid() % 10 / 10))
        pause = min(2 * pause, 2.0)


def finished_results(uri: str | None, folder: Path) -> list[Path]:
    """Result files of all finished runs, fetched into `folder`; an absent SQLite file has none.

    A run's pictures lie in `../pictures` of its result.

    Raises ValueError in one line where the server cannot be reached.
    """
    uri = resolve(uri)
    path = file_of(uri)
    if path is not None and not path.is_file():
        return []
    reachable(uri)
    client = connect(uri)
    places = [one.experiment_id for one in patiently(client.search_experiments, uri)]
    wanted, token, found = f"attributes.status = 'FINISHED' and tags.`rlseq.{RESULT}` != ''", None, []
    while places:
        page = patiently(lambda: client.search_runs(places, wanted, page_token=token), uri)  # noqa: B023
        for run in page:
            home = Path(tempfile.mkdtemp(dir=folder, prefix=f"{run.info.run_id}-"))
            try:
                for name in {one.path for one in client.list_artifacts(run.info.run_id)} & {RESULT, PICTURES}:
                    client.download_artifacts(run.info.run_id, name, str(home))
            except Exception as error:         # an artifact deleted by hand is no reason to report nothing
                print(f"tracking: run {run.info.run_id} has no result to fetch: {first(error)}", file=sys.stderr)
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
    reachable(uri)
    client = connect(uri)
    run, lines = patiently(lambda: client.get_run(run_id), uri), {}
    for name in (one for one in run.data.metrics if "/" not in one):            # not pretrain/loss, test-50/accuracy
        for one in patiently(lambda: client.get_metric_history(run_id, name), uri):  # noqa: B023
            lines.setdefault((one.step, one.timestamp), {"step": one.step, "time": one.timestamp / 1000})[name] = one.value
    return run.info.run_name, [lines[key] for key in sorted(lines)]



def plain(uri: str) -> str:
    """The URI without a password, for people and files."""
    where = urlsplit(uri)
    return where._replace(netloc=f"{where.username}@{where.netloc.rpartition('@')[2]}").geturl() if where.password else uri


def first(error: BaseException) -> str:
    """An exception's first line, fit for a terminal."""
    return printable(f"{type(error).__name__}: {error}".splitlines()[0], 300)
