"""What is tracked arrives in MLflow, quietly, from several processes at once, and its failures cost one line."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlseq.tracking import Tracker, finished_results, history, open_tracker, resolve, ui_command

ONE_RUN = """
import sys, json, pathlib
from rlseq.tracking import open_tracker
uri, number, folder = sys.argv[1:]
tracker = open_tracker(uri, "toy")
tracker.start(f"run {number}", {f"p{i}": i for i in range(150)} | {"number": number},
              {"task": "toy", "commit": "abc"}, "seed: 1")
for step in range(300):
    tracker.metrics(step, {"loss": 1 / (step + 1), "dev/accuracy": float("nan")})
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
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(one.step, one.value) for one in history] == [(step, 1 / (step + 1)) for step in range(300)]
        assert {one.path for one in client.list_artifacts(run.info.run_id)} == {
            "config.yaml", "pictures", "result", "samples.json"}
        assert run.info.artifact_uri.startswith((home / "runs" / "mlartifacts").as_uri())
        kept = Path(client.download_artifacts(run.info.run_id, "samples.json")).read_text()
        assert json.loads(kept) == {"columns": ["text", "reward"], "data": [["a -> b", 0.5], ["c", 1.0]]}


def test_results_of_finished_runs_are_found_again(three, tmp_path):
    uri = three[0]
    unfinished = open_tracker(uri, "toy")
    unfinished.start("broken", {}, {}, "")
    (tmp_path / "9.json").write_text("{}")
    unfinished.artifact(tmp_path / "9.json", "result")
    unfinished.finish("FAILED")
    (tmp_path / "fetched").mkdir()
    found = finished_results(uri, tmp_path / "fetched")
    assert sorted(path.name for path in found) == ["0.json", "1.json", "2.json"]
    assert all((path.parent.parent / "pictures" / "a.png").read_bytes() == b"png" for path in found)
    assert finished_results(f"sqlite:///{tmp_path}/absent.db", tmp_path) == []
    assert not (tmp_path / "absent.db").exists()


def test_what_a_run_said_is_read_back_line_by_line(three):
    uri = three[0]
    tracker = open_tracker(uri, "toy")
    tracker.start("told", {}, {}, "")
    tracker.metrics(0, {"kl": 0.5, "test/accuracy": 1.0})
    tracker.metrics(1, {"loss": 2.0, "reward": 0.25})
    time.sleep(0.01)
    tracker.metrics(1, {"dev": 3.0})
    tracker.finish()
    name, lines = history(uri, tracker.run_id)
    assert name == "told"
    assert [{key: value for key, value in line.items() if key != "time"} for line in lines] == [
        {"step": 0, "kl": 0.5}, {"step": 1, "loss": 2.0, "reward": 0.25}, {"step": 1, "dev": 3.0}]
    with pytest.raises(ValueError, match="MLflow at .* fails .*0000"):
        history(uri, "0" * 32)


def test_metrics_cost_the_training_loop_nearly_nothing(three):
    tracker = open_tracker(three[0], "toy")
    tracker.start("fast", {}, {}, "")
    begun = time.perf_counter()
    for step in range(2000):
        tracker.metrics(step, {"loss": 0.1, "reward": 0.2, "entropy": 0.3})
    taken = time.perf_counter() - begun
    tracker.finish()
    assert taken / 2000 < 1e-3                               # a training step takes 20 ms and more


def test_a_server_that_is_not_there_is_one_line_at_once():
    begun = time.perf_counter()
    for uri in ("http://127.0.0.1:9", "postgresql://user@127.0.0.1:9/x", "sqlite:////proc/x/mlflow.db"):
        with pytest.raises(ValueError, match="no MLflow at .*tracking=none") as caught:
            open_tracker(uri, "toy")
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - begun < 5


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "x.db").write_text("these are notes, and they are long enough to be read as a header" * 40)
    with pytest.raises(ValueError, match="not a database"):
        open_tracker(f"sqlite:///{tmp_path}/x.db", "toy")


def test_a_failure_after_the_start_costs_one_line_and_not_the_run(three, tmp_path, capsys):
    tracker = open_tracker(three[0], "toy")
    tracker.start("unlucky", {}, {}, "")
    tracker.artifact(tmp_path / "absent.png", "pictures")
    tracker.picture(tmp_path / "absent too.png")
    tracker.finish()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "absent.png could not be recorded, the run goes on" in said


def test_no_tracking_records_nothing_and_imports_nothing(tmp_path):
    code = ("import sys; from rlseq.tracking import open_tracker; tracker = open_tracker('none', 'toy');"
            "tracker.start('a', {}, {}, ''); tracker.metrics(1, {'a': 1.0}); tracker.finish();"
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
