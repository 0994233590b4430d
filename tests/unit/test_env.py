"""The environment token by token, by hand on a task of two words and a STOP."""

import gymnasium
import numpy as np
import pytest
import torch

from rlseq import tasks
from rlseq.env import SequenceEnv, through_stop
from tests.toys import Table, loaded

SORT = f"rlseq/sort-v{tasks.task_class('sort').version}"


def test_the_mask_runs_through_the_first_stop():
    actions = torch.tensor([[1, 0, 2, 0], [0, 0, 0, 0], [1, 2, 1, 2]])
    assert through_stop(actions).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_an_episode_pays_at_its_last_action_only():
    task = Table(words=3, steps=3)
    env = loaded(task, [4, 9])
    env.begin(1)
    seen, info = env.reset(options={"batch": env.batch})
    assert seen["prefix"].tolist() == [[-1, -1, -1]] * 2 and info == {}
    seen, reward, ended, cut, _ = env.step(torch.tensor([1, 0]))
    assert seen["prefix"].tolist() == [[1, -1, -1], [0, -1, -1]]
    stop = torch.tensor([[0]])
    assert reward.tolist() == [0.0, float(task.reward(task.collate([9]), stop, through_stop(stop))[0])]
    assert ended.tolist() == [False, True] and cut.tolist() == [False, False]
    _, reward, ended, cut, _ = env.step(torch.tensor([2, 2]))                  # the ended row's action is ignored
    assert reward.tolist() == [0.0, 0.0] and ended.tolist() == [False, True]
    _, reward, ended, cut, _ = env.step(torch.tensor([1, 1]))                  # three actions are the horizon
    assert ended.tolist() == [False, True] and cut.tolist() == [True, False]
    answer = torch.tensor([[1, 2, 1]])
    assert reward.tolist() == [float(task.reward(task.collate([4]), answer, through_stop(answer))[0]), 0.0]
    assert env.answers()[0].tolist() == [[1, 2, 1], [0, 0, 0]]
    with pytest.raises(AssertionError, match="episode is over"):
        env.step(torch.tensor([1, 1]))


def test_legality_along_answers_is_that_of_every_prefix():
    task = Table(words=3, steps=3, rule=True)
    legal = loaded(task, [4]).legal_along(torch.tensor([[1, 2, 0]]))
    assert legal.int().tolist() == [[[0, 1, 1], [1, 0, 1], [1, 1, 0]]]
    assert loaded(Table(), [4]).legal_along(torch.tensor([[1, 2, 0]])) is None


def test_a_reset_with_a_seed_draws_the_same_problems():
    one, other = SequenceEnv(Table(), problems=5), SequenceEnv(Table(), problems=5)
    assert torch.equal(one.reset(seed=3)[0]["source"], other.reset(seed=3)[0]["source"])
    assert one.batch.examples == other.batch.examples and one.num_envs == 5
    assert other.reset(seed=4) and one.batch.examples != other.batch.examples


def test_k_answers_make_k_rows_a_problem():
    env = loaded(Table(), [4, 9])
    seen, _ = env.reset(options={"batch": env.batch, "k": 3})
    assert env.num_envs == 6 and torch.equal(seen["source"][0], seen["source"][2])
    assert env.action_space.shape == (6,) and env.observation_space["prefix"].shape == (6, 3)
    assert env.single_observation_space.contains({name: value[0].numpy() for name, value in seen.items()} | {
        "legal": seen["legal"][0].numpy().astype(np.int8), "source_mask": seen["source_mask"][0].numpy().astype(np.int8)})


def test_every_task_has_an_id_with_its_version():
    for name in tasks.names():
        assert f"rlseq/{name}-v{tasks.task_class(name).version}" in gymnasium.registry


def test_an_illegal_action_ends_the_single_episode_without_reward():
    env = gymnasium.make(SORT, options={"head": "pointer", "min_length": 3, "max_length": 3}, pool=4)
    env.reset(seed=0)
    env.step(1)
    seen, reward, terminated, truncated, info = env.step(1)                    # the same position twice
    assert (reward, terminated, truncated, info) == (0.0, True, False, {"illegal": True})
    assert seen["prefix"].tolist() == [1, -1, -1, -1]
    assert env.unwrapped.render().count("|") == 2


def test_an_answer_cut_at_the_horizon_is_paid_as_it_stands():
    env = gymnasium.make(SORT, options={"head": "copy", "min_length": 3, "max_length": 3}, pool=16).unwrapped
    env.reset(seed=0)
    for _ in range(env.horizon):
        _, reward, terminated, truncated, _ = env.step(int(env.batch.target[0, 0]))       # the smallest, again and again
    assert truncated and not terminated and reward > 0


def test_what_a_learner_was_shown_is_its_own():
    env = gymnasium.make(SORT, options={"head": "copy"}, pool=4).unwrapped
    first, _ = env.reset(seed=0)
    kept = {name: value.copy() for name, value in first.items()}
    for value in first.values():
        value.fill(0)
    again, _ = env.reset(seed=0)
    assert all(np.array_equal(again[name], kept[name]) for name in kept)


def test_unknown_tasks_and_versions_are_told(tmp_path, monkeypatch):
    with pytest.raises(KeyError, match="no task 'hul'; there are: hull"):
        tasks.make("hul")
    assert all(tasks.version(name) == tasks.task_class(name).version for name in tasks.names())
    assert {"hull", "sort"} <= set(tasks.names()) and tasks.names() == sorted(tasks.names())


def shuffled_worth(seed):
    env = loaded(Table(), list(range(6)))
    env.reward = "shuffled"
    actions = torch.tensor([[1, 2, 0], [2, 1, 0]] * 6)
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    found = env.worth(actions, through_stop(actions))
    assert torch.equal(torch.get_rng_state(), before), "answers are drawn as if nothing were shuffled"
    return found, env.task.reward(env.batch, actions, through_stop(actions)).float(), env.worth(actions, through_stop(actions))


def test_shuffled_rewards_are_those_of_the_batch_in_an_order_of_the_step():
    found, own, twice = shuffled_worth(3)
    assert torch.equal(found.sort().values, own.sort().values) and not torch.equal(found, own)
    assert torch.equal(found, shuffled_worth(3)[0]) and not torch.equal(found, shuffled_worth(4)[0])
    assert torch.equal(found, twice), "what an answer's prefixes are worth must be dealt with it"


def test_shuffling_crosses_problems_and_pays_each_answer_the_mean_in_expectation():
    env = loaded(Table(), list(range(6)))
    env.reward = "shuffled"
    place = torch.arange(6.0)
    counts = torch.zeros(6, 6)
    for seed in range(600):
        torch.manual_seed(seed)
        counts[torch.arange(6), env.dealt(place).long()] += 1
    # each of 36 counts is Binomial(600, 1/6): mean 100, sd 9.1; 5 sd
    assert (counts - 100).abs().max() < 46


def test_a_constant_reward_pays_every_answer_one():
    env = loaded(Table(), [4, 9])
    env.reward = "constant"
    actions = torch.tensor([[1, 2, 0], [2, 1, 0]])
    assert env.worth(actions, through_stop(actions)).tolist() == [1.0, 1.0]
