"""Locks: one process at a time in a folder, whoever dies, and jobs of a sweep that share a checkpoint train it once."""

import errno
import json
import os
import signal
import sys
import time

import pytest
import torch

from rlseq import dist, experiment, locks, pretrain
from rlseq.setup import check


@pytest.fixture
def forked():
    """`forked(work)` runs work() in a child process; `forked.end()` waits for all, which must end well or be killed."""
    children = []

    def fork(work):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                work()
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
        return child

    def end():
        ends = {os.waitpid(child, 0)[1] for child in children}
        children.clear()
        assert ends <= {0, signal.SIGKILL}
    fork.end = end
    yield fork
    end()


def until(ready, seconds=30.0):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_at_a_time_is_in_and_all_get_in(tmp_path, forked, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.01)

    def work():
        with locks.alone(tmp_path / "place"):
            (tmp_path / "inside").mkdir()                                # fails where another is in
            time.sleep(0.05)
            (tmp_path / "inside").rmdir()
            with (tmp_path / "been").open("a") as file:
                file.write("x")
    for _ in range(6):
        forked(work)
    forked.end()
    assert (tmp_path / "been").read_text() == "x" * 6 and not list((tmp_path / "place").iterdir()), "nothing is left lying"


def test_a_file_that_its_holder_removed_is_no_lock(tmp_path, monkeypatch):
    plain = locks.fcntl.flock

    def meanwhile(handle, how):                                          # after opening: one leaves, another comes
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").touch()
        plain(handle, how)
    monkeypatch.setattr(locks.fcntl, "flock", meanwhile)
    assert locks._take(tmp_path / ".lock") is None


def test_a_holder_that_is_killed_lets_the_next_one_in(tmp_path, forked, capfd, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.01)

    def hold():
        with locks.alone(tmp_path / "place"):
            (tmp_path / "held").touch()
            time.sleep(60)

    def follow():
        with locks.alone(tmp_path / "place"):
            (tmp_path / "followed").touch()
    first = forked(hold)
    until((tmp_path / "held").exists)
    forked(follow)
    time.sleep(0.2)
    assert not (tmp_path / "followed").exists()
    os.kill(first, signal.SIGKILL)
    until((tmp_path / "followed").exists)
    said = capfd.readouterr().err
    assert said.count("rlseq: ") == 1 and f"process {first} on " in said and "waiting until that is done" in said, said


def test_a_file_system_without_locks_is_said_and_nobody_waits(tmp_path, capsys, monkeypatch):
    def refuse(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locks.alone(tmp_path):
        pass
    assert "without locks (No locks available)" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_full_disk_is_no_reason_not_to_hold_a_lock(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(locks.os, "pwrite", full)
    with locks.alone(tmp_path):
        assert (tmp_path / locks.NAME).is_file() and locks.busy(tmp_path)


def test_all_ranks_wait_for_the_lock_of_rank_0(tmp_path, monkeypatch):
    asked, answers = [], iter([False, False, True])
    monkeypatch.setattr(locks, "WAIT", 0.0)
    monkeypatch.setattr(dist, "rank", lambda: 1)
    monkeypatch.setattr(dist, "anywhere", lambda flag, device: asked.append(flag) or next(answers))
    with locks.alone(tmp_path / "place", torch.device("cpu")):
        assert asked == [False] * 3 and not (tmp_path / "place").exists(), "only rank 0 touches the file"


def tiny(folder, algo="mle", **changes):
    """A checked configuration of few and tiny steps."""
    stage = {"updates": 3, "batch": 4, "every": 3, "dev": 4}
    return check({
        "policy": {"head": "copy", "width": 8, "heads": 2, "feedforward": 8, "encoder_layers": 1, "decoder_layers": 1},
        "task": {"name": "sort", "head": "copy"}, "algo": {"kind": algo, **changes},
        "plan": {"pretrain": stage, "finetune": stage, "test": 4}, "tracking": {"uri": "none"}, "seed": 0,
        "device": "cpu", "precision": "fp32", "pretrained": None, "compare": None, "results": str(folder / "results"),
        "runs": str(folder / "runs"), "tests": ["headline"], "decode": {}, "cuda_graphs": False, "controls": False,
        "beams": [], "accumulate": 1, "shard": False, "reward_limit": 600, "resume": "auto"},
        {"task": "sort", "policy": "copy", "algo": algo, "plan": "smoke"})


def counted(monkeypatch, module, name, file):
    """Let a function of a module add a line to a file at every call, and take a little longer."""
    plain = getattr(module, name)

    def function(*given):
        with file.open("a") as out:
            out.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return plain(*given)
    monkeypatch.setattr(module, name, function)


def test_jobs_that_need_the_same_pretrained_checkpoint_train_it_once(tmp_path, forked, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.01)
    counted(monkeypatch, pretrain, "_pretrain", tmp_path / "trained")

    def work():
        found = pretrain.pretrain(tiny(tmp_path))
        with (tmp_path / "found").open("a") as out:
            out.write(f"{found.hash} {found.cost.seconds}\n")
    for _ in range(3):
        forked(work)
    forked.end()
    assert len((tmp_path / "trained").read_text().split()) == 1
    assert len(set((tmp_path / "found").read_text().splitlines())) == 1, "all take the one that was trained"


def test_jobs_with_the_same_baseline_train_it_once(tmp_path, forked, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.01)
    setup = tiny(tmp_path)
    pretrained = pretrain.pretrain(setup)
    counted(monkeypatch, experiment, "finetune", tmp_path / "trained")
    for _ in range(2):
        forked(lambda: experiment.done(setup, pretrained))
    forked.end()
    assert len(list((tmp_path / "results").rglob("*.json"))) == 1 and not list(tmp_path.rglob(".lock"))
    assert len((tmp_path / "trained").read_text().split()) == 1


def test_two_configurations_do_not_take_the_same_place(tmp_path, forked, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.01)
    setups = [tiny(tmp_path, "reinforce", k=k) for k in (2, 3)]
    pretrained = pretrain.pretrain(setups[0])
    plain = experiment.results.write_whole
    monkeypatch.setattr(experiment.results, "write_whole", lambda *given: time.sleep(0.7) or plain(*given))
    for setup in setups:
        forked(lambda setup=setup: experiment.done(setup, pretrained, own=True))
    forked.end()
    held = [json.loads(path.read_text())["config"]["algo"]["k"] for path in (tmp_path / "results").rglob("*.json")]
    assert sorted(held) == [2, 3]
