"""MLflow down, slow, mute, gone and back, and runs that die: nothing is lost, nothing is doubled, nobody waits."""

import json
import re
import time
from pathlib import Path

import pytest

from rlseq import journal, locks, record, sync, tracking
from rlseq.journal import Journal
from tests.fake_mlflow import FakeMlflow

STEPS = 40


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A server that is not up yet, and a tracker in a hurry."""
    monkeypatch.setattr(tracking, "EVERY", 0.05)
    monkeypatch.setattr(tracking, "SELDOM", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    one = FakeMlflow(tmp_path / "artifacts")
    with one.running():
        pass                                               # now it has a port
    return one


class Run:
    """A run of STEPS updates, as the trainer and the experiment tell of one."""

    def __init__(self, folder, uri, step=0):
        self.folder, self.step = folder, step
        self.tracker = tracking.open_tracker(uri, "toy")
        self.tracker.start(folder, "toy/0", {"lr": 0.1}, {"commit": "abc"}, "seed: 0\n")
        self.tracker.points([(5, {"pretrain/loss": 1.5})])
        self.journal = Journal(folder / journal.NAME, step)

    def train(self, updates):
        for _ in range(updates):
            self.step += 1
            self.journal.add(self.step, {"loss": 1 / self.step, "reward": 0.5})
            self.tracker.follow(self.step, {})
        return self

    def end(self, status="FINISHED"):
        if status == "FINISHED":
            result = self.folder.parent / "0.json"
            result.write_text("{}")
            self.tracker.points([(self.step, {"test/accuracy": 0.75})])
            self.tracker.table("predictions", [{"text": "a", "reward": 1.0}])
            self.tracker.artifact(result, tracking.RESULT)
        self.tracker.finish(status)

    def die(self):
        """As kill -9 leaves it: nothing more is told."""
        self.tracker._deliver = lambda: None
        self.tracker._keep = lambda *words: None
        self.tracker._ended.set()
        self.tracker._thread.join()


def until(true):
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < 20, "waited in vain"
        time.sleep(0.01)


def whole(fake, steps=STEPS):
    """The only run, with all that it said, once."""
    [name] = fake.runs
    run = fake.runs[name]
    every = list(range(1, steps + 1))
    assert fake.values(name) == {"pretrain/loss": [5], "loss": every, "reward": every, "test/accuracy": [steps]}
    assert run["params"] == {"lr": "0.1"} and run["tags"]["rlseq.result"] == "0.json" and run["info"]["status"] == "FINISHED"
    kept = sorted(path.relative_to(fake.home / name).as_posix() for path in (fake.home / name).rglob("*") if path.is_file())
    assert kept == ["config.yaml", "predictions.json", "result/0.json"]


def test_a_server_down_at_the_start_costs_two_lines_and_sync_brings_the_run(fake, tmp_path, capsys):
    begun = time.monotonic()
    Run(tmp_path / "run", fake.uri).train(STEPS).end()
    assert time.monotonic() - begun < 5
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and f"no MLflow at {fake.uri}" in said[0] and "the run goes on" in said[0]
    assert said[1].endswith(f"python -m rlseq.sync {tmp_path / 'run'}")
    assert sync.main([str(tmp_path)]) == 2 and "no MLflow" in capsys.readouterr().err
    with fake.running():
        assert sync.main([str(tmp_path)]) == 0
        assert f"{2 * STEPS + 2} values and 3 files added to run" in capsys.readouterr().out
        whole(fake)
        assert sync.main([str(tmp_path)]) == 0
        assert "all is in run" in capsys.readouterr().out
        whole(fake)


def test_a_server_that_dies_and_returns_misses_nothing(fake, tmp_path, capsys):
    with fake.running():
        run = Run(tmp_path / "run", fake.uri).train(10)
        until(lambda: fake.told("loss"))
        fake.down()
        run.train(STEPS - 10)
        until(lambda: "server" in run.tracker._complained)
        fake.up()
        run.end()
        whole(fake)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "answers again and holds all of" in said[1]


def test_answers_that_are_lost_double_nothing(fake, tmp_path):
    with fake.running():
        fake.swallow = ["runs/create", "runs/log-batch"]   # the run is created, and nobody hears of it
        run = Run(tmp_path / "run", fake.uri)
        for _ in range(4):
            until(lambda: not fake.swallow)
            fake.swallow.append("runs/log-batch")
            run.train(STEPS // 4)
        until(lambda: not fake.swallow)
        run.end()
        whole(fake)


def test_a_slow_server_makes_nobody_wait_but_the_end_and_that_not_long(fake, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(tracking.WAITS, "KILLED", 0.3)
    with fake.running():
        fake.delay = 0.7
        begun = time.perf_counter()
        run = Run(tmp_path / "run", fake.uri)
        until(lambda: fake.requests)
        slow = time.perf_counter()
        run.train(STEPS)
        assert time.perf_counter() - slow < 1.0            # alone 0.005 s
        killed = time.perf_counter()
        run.end("KILLED")
        assert time.perf_counter() - killed < 0.8 and time.perf_counter() - begun < 10
        assert "python -m rlseq.sync" in capsys.readouterr().err
        fake.delay = 0.0
        run.tracker._thread.join()                         # it is a daemon: a process would not wait for it
        assert sync.main([str(tmp_path)]) == 0
        assert [run["info"]["status"] for run in fake.runs.values()] == ["KILLED"]
        assert fake.values(run.tracker.run_id)["loss"] == list(range(1, STEPS + 1))


def test_a_killed_run_goes_on_in_the_same_mlflow_run_with_every_value_once(fake, tmp_path):
    with fake.running():
        run = Run(tmp_path / "run", fake.uri).train(30)
        until(lambda: fake.told("loss") == 30)
        run.die()
        Run(tmp_path / "run", fake.uri, step=20).train(STEPS - 20).end()        # steps 21 to 30 are done, and told, again
        whole(fake)


def test_a_run_killed_before_the_server_heard_of_it_is_recorded_once(fake, tmp_path):
    run = Run(tmp_path / "run", fake.uri).train(30)
    run.die()
    with fake.running():
        Run(tmp_path / "run", fake.uri, step=20).train(STEPS - 20).end()
        whole(fake)


def test_sync_leaves_a_living_run_alone_and_says_of_a_dead_one_that_it_was_killed(fake, tmp_path, capsys):
    with fake.running():
        run = Run(tmp_path / "run", fake.uri).train(STEPS)
        with locks.alone(tmp_path / "run"):                # as `experiment` works in it
            assert sync.main([str(tmp_path)]) == 0 and "under way, it records itself" in capsys.readouterr().out
        run.die()
        assert sync.main([str(tmp_path)]) == 0
        [one] = fake.runs.values()
        assert one["info"]["status"] == "KILLED"
        Run(tmp_path / "run", fake.uri, step=STEPS).end()
        whole(fake)


def test_what_is_evaluated_again_is_another_run_and_neither_is_lost(fake, tmp_path):
    Run(tmp_path / "run", fake.uri).train(STEPS).end()
    Run(tmp_path / "run", fake.uri, step=STEPS).end()
    with fake.running():
        assert sync.main([str(tmp_path)]) == 0
    assert len(fake.runs) == 2 and {run["tags"]["rlseq.result"] for run in fake.runs.values()} == {"0.json"}
    assert sorted(len(fake.values(name).get("loss", [])) for name in fake.runs) == [0, STEPS]    # the diary is told once


def test_sync_can_bring_a_run_to_another_server_and_fills_what_is_missing_there(fake, tmp_path):
    Run(tmp_path / "run", "http://127.0.0.1:9").train(STEPS).end()
    with fake.running():
        assert sync.main([str(tmp_path), "--tracking-uri", fake.uri]) == 0
        [run] = fake.runs.values()
        run["metrics"] = [one for one in run["metrics"] if int(one["step"]) not in (7, 8)]       # a hole
        assert sync.main([str(tmp_path), "--tracking-uri", fake.uri]) == 0
        found = {name: sorted(steps) for name, steps in fake.values(next(iter(fake.runs))).items()}
        assert found["loss"] == found["reward"] == list(range(1, STEPS + 1))


def test_time_in_a_diary_never_goes_back(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    one = Journal(tmp_path / journal.NAME, 0)
    for step, clock[0] in enumerate([1000.0, 2000.0, 500.0, 2001.0], 1):
        one.add(step, {"loss": 1.0})
    clock[0] = 10.0
    Journal(tmp_path / journal.NAME, 4).add(5, {"loss": 1.0})                   # the machine was restarted, its clock is lost
    assert [line["time"] for line in journal.read(tmp_path / journal.NAME)] == [1000.0, 2000.0, 2000.0, 2001.0, 2001.0]
    begun = record.Record("", "", "", {}, {}, "", started=500_000)
    assert begun.with_points([(1, {})], 100).points[0][1] == 500_000 and begun.ending("KILLED", 100).ended == 500_000


def test_a_diary_is_read_on_from_any_place_and_a_line_half_written_waits(tmp_path):
    path = tmp_path / journal.NAME
    one = Journal(path, 0)
    one.add(1, {"loss": 1.0})
    one.add(2, {"loss": float("inf")})
    with path.open("a") as file:
        file.write('{"step": 3, "ti')
    found = list(journal.since(path, 0))
    assert [(line["step"], line["loss"]) for line, _ in found] == [(1, 1.0), (2, None)]
    with path.open("a") as file:
        file.write('me": 5.0}\n')
    assert [line["step"] for line, _ in journal.since(path, found[-1][1])] == [3]


def test_a_password_is_neither_taken_from_the_configuration_nor_written_down(tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="holds a password.*MLFLOW_TRACKING_URI"):
        tracking.open_tracker("http://me:secret@127.0.0.1:9", "toy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    Run(tmp_path / "run", None).train(2).end()
    sync.main([str(tmp_path)])
    said = capsys.readouterr()
    assert "secret" not in said.err + said.out + "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "http://me@127.0.0.1:9" in said.err


@pytest.mark.parametrize("change", [
    {"files": [["../../secret", "result"]]}, {"files": [["/etc/passwd", "result"]]}, {"key": "x' or 1"}, {"points": [5]},
    {"status": "WELL"}, {"nonsense": 1}])
def test_a_strangers_record_is_one_line_and_sends_nothing(tmp_path, capsys, change):
    record.write(tmp_path / record.NAME, record.Record("http://127.0.0.1:9", "toy", "a", {}, {}, "", 1))
    (tmp_path / record.NAME).write_text(json.dumps(json.loads((tmp_path / record.NAME).read_text()) | change))
    assert sync.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search("not the record of a run|lies outside its folder", said), said


def test_a_metric_of_any_name_arrives(fake, tmp_path):
    with fake.running():
        tracker = tracking.open_tracker(fake.uri, "toy")
        tracker.start(tmp_path / "run", "a", {}, {}, "")
        tracker.points([(1, {"exact %": 1.0, "../up": 2.0, "a//b": float("nan"), "é" * 300: 4.0})])
        tracker.finish()
    assert {name[:9] for name in fake.values(next(iter(fake.runs)))} == {"exact _", "up", "a/b", "é" * 9}


def test_a_sync_of_nothing_is_one_line(tmp_path, capsys):
    assert sync.main([str(tmp_path / "absent"), str(Path(tmp_path))]) == 2
    assert capsys.readouterr().err.count("\n") == 1
