"""Sweeps: a run that fails lets the others go on, in this process and in others."""

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from rlseq import sweeps
from rlseq.paths import ROOT
from rlseq.run import main
from rlseq.sweeps import Failed, going_on, launched

TINY = ["task=sort", "plan=smoke", "tracking=none", "compare=null", "controls=false", "algo=mle", "plan.pretrain.updates=1",
        "plan.finetune.updates=1", "plan.test=4", "policy.width=16"]


def ends(code, words):
    with going_on(words):
        raise SystemExit(code)


def test_in_a_sweep_a_mistake_is_kept_until_the_end_and_an_interruption_is_not(capsys):
    with pytest.raises(Failed, match="the same command does what is missing"):
        ends(2, "algo=ppo seed=1")
    assert "so ended the run algo=ppo seed=1; the others" in capsys.readouterr().err
    for code, words in ((2, ""), (130, "algo=ppo"), (-1, "algo=ppo")):
        with pytest.raises(SystemExit):
            ends(code, words)
    assert not capsys.readouterr().err


def test_what_a_launcher_says_of_a_dead_worker_is_one_line():
    class TerminatedWorkerError(RuntimeError):
        __module__ = "joblib.externals.loky.process_executor"
    with pytest.raises(Failed, match=r"a worker of the sweep died \(killed\); the same command goes on"), launched():
        raise TerminatedWorkerError("killed\n\nmuch more")
    with pytest.raises(RuntimeError, match="ours"), launched():
        raise RuntimeError("ours")


def test_a_signal_to_the_sweep_reaches_its_workers(monkeypatch, capsys):
    monkeypatch.setattr(sweeps, "GRACE", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    with pytest.raises(SystemExit) as stopped, launched():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    worker.join(10)
    assert stopped.value.code == 143 and worker.exitcode == -signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().err and signal.getsignal(signal.SIGTERM) == before


def swept(text, code, folder):
    """What a sweep over three seeds, two of them no seeds, must leave behind."""
    lines = [line for line in re.split(r"\n|(?=rlseq: )", text) if line.startswith("rlseq: ")]      # or behind another's bar
    assert code == 2 and len(lines) == 5, text
    for seed in ("-1", "-2"):
        assert sum(f"seed={seed} must be a whole number" in line for line in lines) == 1
        assert sum("so ended the run" in line and f"seed={seed};" in line for line in lines) == 1
    assert "not every run of the sweep came to its end" in lines[-1] and "Traceback" not in text
    assert [path.name for path in (folder / "runs/smoke").rglob("*.json")] == ["0.json"], "the good one is done"


def test_a_run_that_fails_lets_the_others_of_its_sweep_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rlseq.run", "-m", *TINY, "seed=-1,0,-2"])
    with pytest.raises(SystemExit) as stopped:
        main()
    swept(capsys.readouterr().err, stopped.value.code, tmp_path)


def alive():
    """How many objects there are of the kinds that hold a run's data; other tests may have left some."""
    kinds = ("Trainer", "Policy", "SequenceEnv", "Problems")
    return Counter(name for one in gc.get_objects() if (name := type(one).__name__) in kinds)


def test_a_run_that_is_over_leaves_none_of_its_data_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rlseq.run", "-m", *TINY, "seed=0"])
    before = alive()
    main()
    gc.collect()
    assert alive() <= before


def test_joblib_runs_a_sweep_in_processes_of_its_own(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs pip install -e '.[sweeps]'")
    found = subprocess.run(
        [sys.executable, "-m", "rlseq.run", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *TINY, "seed=-1,0,-2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])})
    swept(found.stderr, found.returncode, tmp_path)
