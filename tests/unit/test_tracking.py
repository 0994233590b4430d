"""What is tracked arrives in MLflow, quietly, from several processes at once, and its failures cost one line."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from rlseq.journal import NAME, Journal
from rlseq.server import finished_results, history, resolve
from rlseq.tracking import Tracker, open_tracker, ui_command

ONE_RUN = """
import sys, json, pathlib
from rlseq.journal import NAME, Journal
from rlseq.tracking import open_tracker
uri, number, folder = sys.argv[1:]
tracker = open_tracker(uri, "toy")
run = pathlib.Path(folder, "run", number)
tracker.start(run, f"run {number}", {f"p{i}": i for i in range(150)} | {"number": number},
              {"task": "toy", "commit": "abc"}, "seed: 1")
tracker.points([(7, {"test/accuracy": 0.5})])
journal = Journal(run / NAME, 0)
for step in range(300):
    journal.add(step, {"loss": 1 / (step + 1), "dev/accuracy": float("nan")})
    tracker.follow(step, {})
home = pathlib.Path(folder, number); home.mkdir()
(home / f"{number}.json").write_text("{}"); (home / "a.png").write_bytes(b"png")
tracker.artifact(home / f"{number}.json", "result")
tracker.picture(home / "a.png")
tracker.table("samples", [{"text": "a -> b", "reward": 0.5}, {"text": "c", "reward": 1.0}])
tracker.finish("FINISHED")
"""


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three processes that create and fill one SQLite file at the same time; their terminal output."""
    home = tmp_path_factory.mktemp("a folder")               # with a space, as users have
    uri = f"sqlite:///{home}/runs/mlflow.db"
    (home / "runs").mkdir()
    (home / "runs" / "mlflow.db.new").write_bytes(b"half")   # of a process that was killed while it made one
    started = [subprocess.Popen([sys.executable, "-c", ONE_RUN, uri, str(number), str(home)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[2])
               for number in range(3)]
    return uri, home, [one.communicate(timeout=120)[0] for one in started], [one.returncode for one in started]


def test_three_processes_share_one_new_database_without_a_word(three):
    _, _, said, codes = three
    assert codes == [0, 0, 0] and said == ["", "", ""]


def test_everything_arrives(three):
    from mlflow import MlflowClient
    uri, home, _, _ = three
    client = MlflowClient(uri)
    [place] = [one for one in client.search_experiments() if one.name == "toy"]
    runs = client.search_runs([place.experiment_id])
    assert sorted(run.data.params["number"] for run in runs) == ["0", "1", "2"]
    for run in runs:
        assert run.info.status == "FINISHED" and len(run.data.params) == 151 and run.data.tags["task"] == "toy"
        assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "test/accuracy")] == [(7, 0.5)]
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(one.step, one.value) for one in history] == [(step, 1 / (step + 1)) for step in range(300)]
        assert {one.path for one in client.list_artifacts(run.info.run_id)} == {
            "config.yaml", "pictures", "result", "samples.json"}
        assert run.info.artifact_uri.startswith((home / "runs" / "mlartifacts").as_uri())
        kept = Path(client.download_artifacts(run.info.run_id, "samples.json")).read_text()
        assert json.loads(kept) == {"columns": ["text", "reward"], "data": [["a -> b", 0.5], ["c", 1.0]]}


def test_a_half_made_database_of_a_killed_process_is_made_again(three):
    assert {path.name for path in (three[1] / "runs").iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so that MLflow is loaded once for all four processes")
def test_eight_runs_in_four_processes_share_a_file_and_lose_nothing(three, tmp_path):
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  for all of them
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            try:
                for seed in range(2):
                    tracker = open_tracker(three[0], "eight")
                    tracker.start(tmp_path / f"{number}-{seed}", f"{number}-{seed}", {"seed": seed}, {}, "")
                    journal = Journal(tmp_path / f"{number}-{seed}" / NAME, 0)
                    for step in range(1, 101):
                        journal.add(step, {"loss": 1.0, "reward": 0.5})
                        tracker.follow(step, {})
                    tracker.points([(100, {"test/accuracy": 0.5})])
                    tracker.finish()
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    eight = "join runs using (run_uuid) join experiments using (experiment_id) where experiments.name = 'eight'"
    with closing(sqlite3.connect(three[1] / "runs" / "mlflow.db")) as found:
        values = found.execute(f"select key, count(*), count(distinct run_uuid) from metrics {eight} group by key").fetchall()
        ends = found.execute(f"select runs.status, count(distinct run_uuid) from metrics {eight} group by 1").fetchall()
    assert sorted(values) == [("loss", 800, 8), ("reward", 800, 8), ("test/accuracy", 8, 8)] and ends == [("FINISHED", 8)]


def test_results_of_finished_runs_are_found_again(three, tmp_path):
    uri = three[0]
    unfinished = open_tracker(uri, "toy")
    unfinished.start(tmp_path / "broken", "broken", {}, {}, "")
    (tmp_path / "9.json").write_text("{}")
    unfinished.artifact(tmp_path / "9.json", "result")
    unfinished.finish("FAILED")
    (tmp_path / "fetched").mkdir()
    found = finished_results(uri, tmp_path / "fetched")
    assert sorted(path.name for path in found) == ["0.json", "1.json", "2.json"]
    assert all((path.parent.parent / "pictures" / "a.png").read_bytes() == b"png" for path in found)
    assert finished_results(f"sqlite:///{tmp_path}/absent.db", tmp_path) == []
    assert not (tmp_path / "absent.db").exists()


def test_what_a_run_said_is_read_back_line_by_line(three, tmp_path):
    uri = three[0]
    tracker = open_tracker(uri, "toy")
    tracker.start(tmp_path, "told", {}, {}, "")
    journal = Journal(tmp_path / NAME, 0)
    journal.add(0, {"kl": 0.5, "test/accuracy": 1.0})
    journal.add(1, {"loss": 2.0, "reward": 0.25})
    time.sleep(0.01)
    journal.add(1, {"dev": 3.0})
    tracker.finish()
    name, lines = history(uri, tracker.run_id)
    assert name == "told"
    assert [{key: value for key, value in line.items() if key != "time"} for line in lines] == [
        {"step": 0, "kl": 0.5}, {"step": 1, "loss": 2.0, "reward": 0.25}, {"step": 1, "dev": 3.0}]
    with pytest.raises(ValueError, match="MLflow at .* fails .*0000"):
        history(uri, "0" * 32)


def test_a_place_where_no_database_can_be_is_one_line_at_once(tmp_path):
    (tmp_path / "x.db").write_text("these are notes, and they are long enough to be read as a header" * 40)
    begun = time.perf_counter()
    for uri in ("sqlite:////proc/x/mlflow.db", f"sqlite:///{tmp_path}/x.db"):
        with pytest.raises(ValueError, match="no MLflow at .*tracking=none") as caught:
            open_tracker(uri, "toy")
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - begun < 5


def test_a_file_that_is_not_there_costs_one_line_and_not_the_run(three, tmp_path, capsys):
    tracker = open_tracker(three[0], "toy")
    tracker.start(tmp_path / "run", "unlucky", {}, {}, "")
    tracker.artifact(tmp_path / "absent.png", "pictures")
    tracker.picture(tmp_path / "absent too.png")
    tracker.finish()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "absent.png could not be recorded, the run goes on" in said


def test_no_tracking_records_nothing_and_imports_nothing(tmp_path):
    code = ("import sys; from rlseq.tracking import open_tracker; tracker = open_tracker('none', 'toy');"
            "tracker.start('x', 'a', {}, {}, ''); tracker.follow(1, {'a': 1.0}); tracker.finish();"
            "assert 'mlflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert type(open_tracker("none", "toy")) is Tracker and ui_command("none") == ""


def test_addresses_do_not_depend_on_where_the_reader_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve(None) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert ui_command(None) == (f"python -m mlflow ui --backend-store-uri sqlite:///{tmp_path}/runs/mlflow.db "
                                "--host 127.0.0.1 --port 5000")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve(None) == "http://server:5000" and resolve("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert ui_command(None) == "python -m webbrowser http://server:5000"
    with pytest.raises(ValueError, match="tracking.uri is empty"):
        resolve(" ")
