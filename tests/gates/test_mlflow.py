"""Real runs against a real MLflow: a server that is killed and started again, one file under four processes, runs that die."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from rlseq import journal

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not os.environ.get("RLSEQ_LOAD"),
                                reason="takes minutes; RLSEQ_LOAD=1 python -m pytest tests/gates/test_mlflow.py")


def started(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", *words], cwd=folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def done(folder, *words):
    process = started(folder, *words)
    out, error = process.communicate(timeout=500)
    return process.returncode, out, error


def run(seed, uri, *more):
    return ("rlseq.run", "task=sort", "algo=reinforce", "plan=smoke", "compare=null", f"seed={seed}", f"tracking.uri={uri}",
            *more)


def counted(database, folder):
    """Values in MLflow, whether any is doubled, values in the diaries; and how the runs ended."""
    if not database.is_file():
        return 0, 0, 0, []
    with closing(sqlite3.connect(database)) as open_one:
        there = open_one.execute("select count(*) from metrics where key not like '%/%'").fetchone()[0]
        doubled = open_one.execute("select count(*) from (select 1 from metrics group by run_uuid, key, step "
                                   "having count(*) > 1)").fetchone()[0]
        ends = open_one.execute("select status, count(*) from runs group by status").fetchall()
    said = sum(len(line) - 2 for path in (folder / "runs").rglob(journal.NAME) if "pretrained" not in path.parts
               for line in journal.read(path))
    return there, doubled, said, ends


def test_eight_runs_in_four_processes_lose_nothing_on_one_file(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: done(tmp_path, *run(seed, uri)), range(8)))
    assert [one[0] for one in found] == [0] * 8, found
    there, doubled, said, ends = counted(tmp_path / "mlflow.db", tmp_path)
    assert there == said > 0 and not doubled and ends == [("FINISHED", 8)]


def test_a_server_killed_under_a_run_and_started_again_holds_all_of_it(tmp_path):
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]

    def serve():
        server = started(tmp_path, "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                         "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
                         "--artifacts-destination", str(tmp_path / "kept"))
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                return server
            except OSError:
                time.sleep(0.1)
        raise AssertionError("no MLflow after two minutes")

    server = serve()
    try:
        training = started(tmp_path, *run(0, f"http://127.0.0.1:{port}", "plan.finetune.updates=400",
                                          "plan.finetune.every=100"))
        for _ in range(3000):
            if counted(tmp_path / "mlflow.db", tmp_path)[0]:
                break
            time.sleep(0.1)
        os.killpg(server.pid, signal.SIGKILL)
        time.sleep(5)
        server = serve()
        out, error = training.communicate(timeout=500)
        assert training.returncode == 0, error
        code, said, complaint = done(tmp_path, "rlseq.sync")
        assert code == 0, complaint
        there, doubled, told, ends = counted(tmp_path / "mlflow.db", tmp_path)
        assert there == told > 400 and not doubled and ends == [("FINISHED", 1)]
        code, said, _ = done(tmp_path, "rlseq.sync")
        assert code == 0 and "all is in run" in said
        assert list((tmp_path / "kept").rglob("model.safetensors")) and list((tmp_path / "kept").rglob("predictions.json"))
    finally:
        os.killpg(server.pid, signal.SIGKILL)


def test_a_run_stopped_and_one_killed_go_on_in_their_mlflow_runs(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    words = [run(seed, uri, "plan.finetune.updates=300", "plan.finetune.every=100") for seed in (0, 1)]
    for one, end, code in zip(words, (signal.SIGTERM, signal.SIGKILL), (143, -9)):
        training, known = started(tmp_path, *one), counted(tmp_path / "mlflow.db", tmp_path)[0]
        for _ in range(3000):
            if counted(tmp_path / "mlflow.db", tmp_path)[0] > known + 1000:
                break
            time.sleep(0.05)
        training.send_signal(end)
        _, error = training.communicate(timeout=60)
        assert training.returncode == code, error
    assert counted(tmp_path / "mlflow.db", tmp_path)[3] == [("KILLED", 1), ("RUNNING", 1)]
    assert done(tmp_path, "rlseq.sync")[0] == 0
    assert counted(tmp_path / "mlflow.db", tmp_path)[3] == [("KILLED", 2)]
    for one in words:
        code, _, error = done(tmp_path, *one)
        assert code == 0, error
    there, doubled, said, ends = counted(tmp_path / "mlflow.db", tmp_path)
    assert there == said > 2 * 300 and not doubled and ends == [("FINISHED", 2)]
