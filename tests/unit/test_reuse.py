"""Parts of PPO, GRPO, MRT and RAML by hand: advantages, minibatches, when to stop, duplicates, what is refused."""

import pytest
import torch

from rlseq import algos
from rlseq.algos.actor_critic import advantages
from rlseq.algos.mrt import repeated
from rlseq.algos.raml import echo
from rlseq.algos.reuse import Reuse
from rlseq.types import STOP
from tests.toys import made, setting


def test_advantages_by_hand():
    # rewards 0, 0, 1 and values 0.5, 0.25, 0.75, discount 1/2, trace 1/2: delta = 0.125 - 0.5, 0.375 - 0.25, 1 - 0.75
    # = -0.375, 0.125, 0.25; A_2 = 0.25, A_1 = 0.125 + 0.25 / 4 = 0.1875, A_0 = -0.375 + 0.1875 / 4 = -0.328125
    reward, value = torch.tensor([[0.0, 0.0, 1.0, 9.0]]), torch.tensor([[0.5, 0.25, 0.75, 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    assert advantages(reward, value, mask, 0.5, 0.5).tolist() == [[-0.328125, 0.1875, 0.25, 0.0]]


def test_advantages_at_trace_1_are_the_reward_to_go_less_the_value_and_at_0_one_step():
    reward, value = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 0.25, 0.125]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert advantages(reward, value, mask, 1.0, 1.0).tolist() == [[6.5, 5.75, 3.875]]
    assert advantages(reward, value, mask, 1.0, 0.0).tolist() == [[0.75, 1.875, 3.875]]


def test_minibatches_hold_every_problem_once_an_epoch_with_all_its_answers():
    task, env, policy = setting(words=4, steps=4)
    env.load(task.collate([4, 5, 6, 7, 8]))
    algorithm = made("ppo", policy, k=3, reuse={"epochs": 2, "minibatches": 2})
    rollout = algorithm.collect(policy, env, 0.0)
    parts = [algorithm.part(rollout, number) for number in range(algorithm.passes)]
    assert [part.batch.examples for part in parts] == [[4, 6, 8], [5, 7]] * 2
    for part in parts[:2]:
        rows = [3 * (problem - 4) + i for problem in part.batch.examples for i in range(3)]
        for name in ("actions", "mask", "logp", "reward", "weight"):
            assert torch.equal(getattr(part, name), getattr(rollout, name)[rows]), name
        assert torch.equal(part.extra["target"], rollout.extra["target"][rows]) and part.k == 3
    assert made("ppo", policy, reuse={"minibatches": 9}).part(rollout, 8).batch.examples == [7], "no minibatch is empty"


@pytest.mark.parametrize(("stop", "seen", "enough"), [(0.0, 9.0, False), (0.1, 0.09, False), (0.1, 0.11, True)])
def test_steps_end_where_the_policy_has_moved_far_enough(stop, seen, enough):
    assert Reuse(stop=stop).enough({"update_kl": torch.tensor(seen)}) == enough


def test_an_answer_counts_as_repeated_after_its_first_time_in_its_group():
    task, env, policy = setting(words=4, steps=3)
    env.load(task.collate([4, 5]))
    rollout = made("grpo", policy, k=3).collect(policy, env, 0.0)
    actions = torch.tensor([[1, STOP, 3], [1, STOP, 2], [1, 2, STOP], [2, 2, 2], [1, STOP, STOP], [2, 2, 2]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    again = repeated(type(rollout)(rollout.batch, actions, mask, *[mask.float()] * 3, k=3))
    assert again.tolist() == [False, True, False, False, False, True]


def test_an_illegal_reference_action_is_replaced_by_a_legal_one_and_stop_comes_last():
    legal = torch.tensor([[True, False, True, False], [True, False, False, False], [True, True, False, True],
                          [False, True, False, True]])
    wanted = torch.tensor([1, 1, STOP, STOP])
    for uniform in (0.0, 0.3, 0.999):
        found = echo(wanted, legal, 4, 0.5, torch.full((4,), uniform)).tolist()
        assert found == [2, STOP, STOP, 1 if uniform < 0.5 else 3]


def test_a_word_outside_the_vocabulary_can_be_kept_but_is_no_replacement():
    # copied words are 5 and up; words 1 .. 4 share the rate when 7 is wanted, 1, 2 and 4 when 3 is
    uniform = (torch.arange(1200) + 0.5) / 1200
    for wanted, others in ((7, [1, 2, 3, 4]), (3, [1, 2, 4])):
        found = echo(torch.full((1200,), wanted), None, 5, 0.5, uniform).bincount(minlength=8).tolist()
        assert found == [{wanted: 600}.get(a, 600 // len(others) if a in others else 0) for a in range(8)]


@pytest.mark.parametrize(("options", "said"), [
    ({"kind": "ppo", "critic": {"trace": 2.0}}, r"algo.critic: trace=2.0 must lie in \[0, 1\]"),
    ({"kind": "actor_critic", "critic": {"weight": -1.0}}, "algo.critic: weight=-1.0 must be 0 or more"),
    ({"kind": "ppo", "reuse": {"epochs": 0}}, "algo.reuse.epochs=0 is not int from 1 to"),
    ({"kind": "grpo", "reuse": {"clip": 1.5}}, "algo.reuse: clip=1.5 must lie between"),
    ({"kind": "grpo", "k": 1}, "k >= 2"), ({"kind": "best_of_n", "k": 1}, "algo.k=2 or more"),
    ({"kind": "mrt", "k": 1, "reference": False}, "nothing to be compared with"), ({"kind": "mrt", "alpha": 0.0}, "above 0"),
    ({"kind": "mrt", "signal": {"clip": 0.5}}, "algo.reference=false"), ({"kind": "mrt", "kl": 0.1}, "algo.kl.where=loss"),
    ({"kind": "raml", "rate": 1.5}, "algo.rate: 1.5 must lie in"), ({"kind": "raml", "tau": 0.0}, "algo.tau=0.0 above 0"),
    ({"kind": "dagger", "rate": -0.5}, "algo.rate: -0.5 must lie in"),
    ({"kind": "ppo", "epochs": 2}, "unknown option algo.epochs")])
def test_options_that_make_no_sense_are_one_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        algos.make(options)
    assert "\n" not in str(error.value)
