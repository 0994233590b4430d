"""Rewards and metrics that do wrong: one line names them and the example, and the run goes on once they are mended."""

import os
import re
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlseq import evaluate as evaluation
from rlseq import tasks
from rlseq.env import SequenceEnv
from rlseq.evaluate import evaluate
from rlseq.patience import Overdue, in_time, limited
from rlseq.run import main
from tests.toys import Table, loaded, setting
from tests.unit.test_train import trainer

ANSWERS = torch.tensor([[1, 0], [2, 0], [1, 2], [0, 0]])             # two to each of two problems
MASK = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0]]).bool()


def asked(reward, whence=lambda example: f"train example {example}"):
    """The environment with problems 4 and 9 and this reward; the message of asking it for the four answers."""
    task = Table(words=3, steps=2)
    task.reward = reward
    env = loaded(task, [4, 9])
    env.whence = whence
    with pytest.raises(ValueError) as refused:
        env.worth(ANSWERS, MASK)
    assert "\n" not in str(refused.value)
    return str(refused.value), refused.value


def odd(value, problem=9):
    """A reward that gives every answer 0.5, but `value` to those to one problem that begin with the word 1."""
    def reward(batch, actions, mask):
        own = batch.extra["problem"].repeat_interleave(len(actions) // len(batch))
        return torch.where((own == problem) & (actions[:, 0] == 1), value, 0.5)
    return reward


def test_a_reward_that_raises_is_named_with_its_error_its_line_and_the_answer():
    def reward(batch, actions, mask):
        return torch.tensor([1 / max(0, int(first) - 1 + int(problem == 4)) for problem, first in zip(
            batch.extra["problem"].repeat_interleave(len(actions) // len(batch)).tolist(), actions[:, 0].tolist())])
    said, error = asked(reward)
    assert said.startswith("reward table of task table raised ZeroDivisionError: division by zero (unit/test_worth.py, line ")
    assert "for train example 9, answer 1 of 2: 9 -> '1 2'" in said      # of problem 4 first words 1 and 2 pass, of 9 fails 1
    assert "mend tests.toys.Table.reward and give the same command again" in said
    assert isinstance(error.__cause__, ZeroDivisionError), "RLSEQ_TRACEBACK=1 must show where"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_not_finite_is_named_with_the_answer(value):
    said, _ = asked(odd(value))
    assert f"reward table of task table gave {value} for train example 9, answer 1 of 2: 9 -> '1 2'; mend" in said


@pytest.mark.parametrize(("reward", "part"), [
    (lambda batch, actions, mask: torch.ones(len(batch)), "gave a Tensor [2], where a tensor [4] belongs for 4 answers"),
    (lambda batch, actions, mask: torch.ones(4, 1), "gave a Tensor [4, 1], where a tensor [4] belongs"),
    (lambda batch, actions, mask: [1.0] * 4, "gave a list, where a tensor [4] belongs"),
    (lambda batch, actions, mask: np.ones(4), "gave a ndarray [4], where a tensor [4] belongs"),
    (lambda batch, actions, mask: None, "gave a NoneType, where"),
    (lambda batch, actions, mask: torch.ones(4, dtype=torch.complex64), "gave torch.complex64, where real numbers belong"),
    (lambda batch, actions, mask: torch.ones(4, device="meta"), "gave a tensor on meta, where the answers are on cpu"),
])
def test_a_reward_of_another_form_is_named_with_what_belongs_there(reward, part):
    assert part in asked(reward)[0]


@pytest.mark.parametrize("kind", [torch.float64, torch.int64, torch.bool, torch.bfloat16])
def test_any_real_numbers_will_do(kind):
    task = Table(words=3, steps=2)
    task.reward = lambda batch, actions, mask: torch.ones(len(actions), dtype=kind)
    found = loaded(task, [4, 9]).worth(ANSWERS, MASK)
    assert found.dtype == torch.float32 and found.tolist() == [1.0] * 4


def test_rewards_of_prefixes_are_looked_at_alike():
    task = Table(words=3, steps=2)
    task.prefix_reward = lambda batch, actions, mask: torch.full(actions.shape, float("nan"))
    with pytest.raises(ValueError, match="prefix_reward table of task table gave nan for problem 0 of its batch"):
        loaded(task, [4, 9]).prefix_worth(ANSWERS, MASK)


def test_an_error_that_no_answer_makes_alone_is_of_the_batch():
    def reward(batch, actions, mask):
        if len(actions) > 3:
            raise KeyError("crowd")
        return torch.ones(len(actions))
    said, _ = asked(reward)
    assert "raised KeyError: 'crowd'" in said and "for no answer alone) for 4 answers, the first being train example 4" in said


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("too little"), MemoryError(), RuntimeError("can't allocate memory")])
def test_being_out_of_memory_is_no_fault_of_the_reward(error):
    def reward(batch, actions, mask):
        raise error
    task = Table(words=3, steps=2)
    task.reward = reward
    with pytest.raises(type(error)) as raised:
        loaded(task, [4, 9]).worth(ANSWERS, MASK)
    assert raised.value is error


def test_what_a_stranger_wrote_cannot_steer_the_terminal():
    def reward(batch, actions, mask):
        raise RuntimeError("\x1b[2J" + "long " * 100)
    said, _ = asked(reward, whence=None)
    assert "\x1b" not in said and "\\x1b[2J" in said and len(said) < 900


def test_a_reward_on_a_gpu_is_looked_at_when_the_next_problems_come():
    task = Table(words=3, steps=2)
    task.reward = odd(float("nan"))
    env = loaded(task, [4, 9])
    env.looks_late = True                                                # as it does on a GPU
    assert env.worth(ANSWERS, MASK)[2].isnan(), "nobody waits for it"
    with pytest.raises(ValueError, match="gave nan for problem 1 of its batch"):
        env.load(env.batch)
    env.load(env.batch)                                                  # said once


def forever(batch, actions, mask):
    while True:
        time.sleep(100)


def stubborn(batch, actions, mask):
    while True:
        try:
            threading.Lock().acquire() and threading.Event().wait()
        except Exception:                                                # swallows all that it may
            pass


def one_of_them(batch, actions, mask):
    for problem in batch.extra["problem"].tolist():
        while problem == 9:
            pass
    return torch.ones(len(actions))


@pytest.mark.parametrize(("reward", "where"), [
    (forever, "train example 4, answer 1"), (stubborn, "train example 4, answer 1"), (one_of_them, "train example 9, answer 1"),
])
def test_a_reward_that_hangs_is_stopped_and_named_with_the_answer_it_hangs_on(reward, where):
    before, begun = signal.getsignal(signal.SIGALRM), time.perf_counter()
    with limited(0.2):
        said, _ = asked(reward)
    assert "reward table of task table did not come back within reward_limit=0.2 seconds (unit/test_worth.py, line" in said
    assert where in said and "(or raise the limit; 0 sets none)" in said
    assert 0.3 < time.perf_counter() - begun < 5                         # the batch, and then its answers one by one
    assert signal.getsignal(signal.SIGALRM) == before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_time_for_which_the_process_was_stopped_does_not_count():
    def stopped_for_a_while():
        if os.fork() == 0:                                               # wakes its parent, which stops itself
            time.sleep(0.6)
            os.kill(parent, signal.SIGCONT)
            os._exit(0)
        os.kill(parent, signal.SIGSTOP)
        return "came back"
    parent = os.getpid()
    with limited(0.4):
        assert in_time(stopped_for_a_while) == "came back"
    os.wait()


def test_without_a_limit_and_in_other_threads_nothing_is_set():
    found = []
    assert in_time(lambda: signal.getitimer(signal.ITIMER_REAL)) == (0.0, 0.0)
    with limited(5):
        assert in_time(lambda: signal.getitimer(signal.ITIMER_REAL))[1] == pytest.approx(0.25)
        thread = threading.Thread(target=lambda: found.append(in_time(lambda: signal.getitimer(signal.ITIMER_REAL))))
        thread.start()
        thread.join()
    assert found == [(0.0, 0.0)] and not issubclass(Overdue, Exception)


@pytest.mark.parametrize("seconds", ["abc", -1, float("inf"), float("nan"), True, None])
def test_a_limit_that_is_no_number_of_seconds_is_refused(seconds):
    with pytest.raises(ValueError, match="reward_limit=.* must be seconds"), limited(seconds):
        pass


@pytest.mark.parametrize(("rows", "part"), [
    (lambda batch, actions, mask: 1 / 0, "raised ZeroDivisionError: division by zero"),
    (lambda batch, actions, mask: np.full((len(actions), 2), np.nan), "gave nan"),
    (lambda batch, actions, mask: np.ones(len(actions)), r"gave a ndarray \[4\], where an array \[4, m\] of numbers belongs"),
    (lambda batch, actions, mask: torch.ones(len(actions), 2), "gave a Tensor"),
    (lambda batch, actions, mask: np.array([["x"]] * len(actions)), "gave a ndarray"),
])
def test_a_metric_that_does_wrong_is_named_with_split_and_example(rows, part):
    task, _, policy = setting()
    task.metrics = {"mine": SimpleNamespace(signature="x", rows=rows, score=lambda total: 0.0)}
    with pytest.raises(ValueError, match=f"^metric mine of task table {part}.* for .*test example 0, answer 1 of 1: 28 -> '"):
        evaluate(policy.float(), task, "test", torch.device("cpu"))


def test_an_evaluation_on_a_gpu_does_not_keep_a_reward_that_is_not_finite(monkeypatch):
    task, _, policy = setting()
    task.reward = lambda batch, actions, mask: torch.full((len(actions),), torch.nan)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="reward table .* gave nan for test example 0"):
        patch.setattr(evaluation, "SequenceEnv", lambda *given: late(SequenceEnv(*given)))
        evaluate(policy.float(), task, "test", torch.device("cpu"))      # one batch, no other is loaded after it


def late(env):
    env.looks_late = True
    return env


def test_the_trainer_names_the_number_of_a_training_example_and_goes_on_once_the_reward_is_mended(tmp_path):
    whole = trainer(tmp_path / "whole", algorithm={"kind": "reinforce"}, updates=6, every=2)
    whole.run()
    one = trainer(tmp_path / "broken", algorithm={"kind": "reinforce"}, updates=6, every=2)
    plain, calls = one.env.task.reward, []

    def reward(batch, actions, mask):
        calls.append(1)
        worth = plain(batch, actions, mask)
        return torch.where(batch.extra["problem"].repeat_interleave(len(actions) // len(batch)) == batch.examples[2],
                           torch.nan, worth) if len(calls) == 4 else worth
    one.env.task.reward = reward
    with pytest.raises(ValueError) as refused:
        one.run()
    named = re.search(r"train example (\d+), answer 1 of \d+: (\d+) -> ", str(refused.value))
    assert named and one.env.task.examples("train")[int(named[1])] == int(named[2])
    assert one.cost.updates == 3
    again = trainer(tmp_path / "broken", algorithm={"kind": "reinforce"}, updates=6, every=2)
    again.run()
    assert all(torch.equal(value, whole.policy.state_dict()[name]) for name, value in again.policy.state_dict().items())


def test_the_command_ends_in_one_line_and_exit_code_2_when_a_reward_hangs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks.task_class("sort"), "reward", staticmethod(forever))
    monkeypatch.setattr(sys, "argv", ["rlseq.run", "task=sort", "plan=smoke", "tracking=none", "reward_limit=0.2"])
    with pytest.raises(SystemExit) as stopped:
        main()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlseq: ")]
    assert stopped.value.code == 2 and len(lines) == 1 and "did not come back within reward_limit=0.2 seconds" in lines[0]
    assert "dev example " in lines[0], lines
