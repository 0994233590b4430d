"""Parts of algorithms by hand: baselines, normalisation, what is refused."""

import math

import pytest
import torch

from rlseq import algos
from rlseq.algos.base import weighted_nll, with_reference
from rlseq.algos.reinforce import Reinforce
from rlseq.algos.sampled import Sampling, effective, leave_one_out, to_go
from rlseq.nn.policy import Shape
from rlseq.schedule import Schedule
from rlseq.types import Batch, Rollout, Scores
from tests.toys import TINY, Table, loaded, tiny_policy


def test_leave_one_out_is_the_mean_of_the_siblings():
    found = leave_one_out(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]))
    assert found.tolist() == [[4.0, 3.5, 1.5], [1.5, 1.5, 0.0]]
    with pytest.raises(ValueError, match="needs k >= 2"):
        leave_one_out(torch.ones(2, 1))


def test_the_reward_to_go_includes_the_own_step():
    assert to_go(torch.tensor([[1.0, 0.0, 2.0]])).tolist() == [[3.0, 2.0, 2.0]]


def test_the_effective_sample_size_by_hand():
    # weights 1, 2 and 5 of three answers: (1 + 2 + 5)^2 / (3 (1 + 4 + 25)) = 64 / 90; the fourth was not drawn
    ratio = torch.tensor([[0.0, 0.0], [math.log(4), -math.log(2)], [math.log(5), 0.0], [9.0, 9.0]])
    drawn = torch.tensor([True, True, True, False])
    assert float(effective(ratio, drawn)) == pytest.approx(64 / 90, abs=1e-6)
    assert float(effective(ratio - 500, drawn)) == pytest.approx(64 / 90, abs=1e-4)        # far off, as whole answers may be
    assert float(effective(ratio, ~drawn)) == 1 == float(effective(ratio, drawn & False))


def two_answers():
    """Log-probabilities -1, -2 and -4 of real steps, weights 1, 2 and 3; answers of two steps and of one."""
    logp = torch.tensor([[-1.0, -2.0], [-4.0, -9.0]])
    mask, weight = torch.tensor([[True, True], [True, False]]), torch.tensor([[1.0, 2.0], [3.0, 7.0]])
    batch = Batch(torch.zeros(2, 1), mask, torch.zeros(2, 1), mask, 3)
    return Scores(logp), Rollout(batch, mask.long(), mask, logp, weight * 0, weight)


@pytest.mark.parametrize(("normalise", "constant", "wanted"), [
    ("sum", 1, (1 + 4 + 12) / 2), ("constant", 10, (1 + 4 + 12) / 20), ("sequence", 1, ((1 + 4) / 2 + 12) / 2),
    ("token", 1, (1 + 4 + 12) / 3)])
def test_losses_are_normalised_as_said(normalise, constant, wanted):
    assert float(weighted_nll(*two_answers(), normalise, constant=constant)) == pytest.approx(wanted, abs=1e-6)


def test_references_join_as_the_last_answer_of_each_problem():
    task = Table(words=4, steps=4, rule=True)
    env, policy = loaded(task, [5, 4]), tiny_policy(Shape(head="vocabulary", **TINY), task.sizes)
    algorithm = Reinforce(Sampling(k=2, mle_weight=Schedule(0.5)))
    rollout = algorithm.collect(policy, env, 0.0)
    assert rollout.k == 3 and len(rollout.actions) == 6
    gold = rollout.grouped(rollout.actions)[:, -1]
    width = env.batch.target.shape[1]
    assert torch.equal(gold[:, :width], env.batch.target) and not gold[:, width:].any()
    assert rollout.grouped(rollout.weight * rollout.mask)[:, -1].amax() == 0.5 * 2
    legal = rollout.legal.gather(2, rollout.actions.unsqueeze(2)).squeeze(2)
    assert legal[rollout.mask].all()
    drawn = Reinforce(Sampling(k=2)).collect(policy, env, 0.0)
    joined = with_reference(drawn, env, 1.0)
    assert torch.equal(joined.grouped(joined.weight)[:, :2, :drawn.weight.shape[1]], drawn.grouped(drawn.weight))


@pytest.mark.parametrize(("options", "said"), [
    ({"kind": "reinforce", "k": 1}, "needs k >= 2"), ({"kind": "reinforce", "k": 0}, "^algo.k=0 is not int from 1 to"),
    ({"kind": "reinforce", "baseline": "best"}, "one of none, mean, greedy, leave_one_out, learned"),
    ({"kind": "reinforce", "mle_weight": -1.0}, "must be 0 or more"), ({"kind": "mle", "label_smoothing": 1.0}, "lie in"),
    ({"kind": "scheduled_sampling", "gold": {"start": 1, "end": 0, "kind": "exponential"}}, "algo.gold: an exponential"),
    ({"kind": "scheduled_sampling", "gold": 2.0}, "algo.gold: 2.0 must lie in"),
    ({"kind": "scheduled_sampling", "gold": 1}, "which is algo=mle"), ({"kind": "coverage", "weight": -1.0}, "0 or more"),
    ({"kind": "attention_reg", "weight": -1.0}, "0 or more"), ({"kind": "mle", "k": 2}, "unknown option algo.k=2")])
def test_options_that_make_no_sense_are_one_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        algos.make(options)
    assert "\n" not in str(error.value)


def test_an_unknown_algorithm_is_told_where_they_are():
    with pytest.raises(KeyError, match="no algorithm module 'reinforse'"):
        algos.make({"kind": "reinforse"})


def test_an_algorithm_may_live_in_a_package_of_yours(tmp_path, monkeypatch):
    (tmp_path / "mine_of_mine.py").write_text(
        "from rlseq.algos.base import Algorithm\nclass Mine(Algorithm):\n    def __init__(self, size: int = 3):\n"
        "        super().__init__()\n        self.size = size\n")
    (tmp_path / "pack_of_mine").mkdir()
    (tmp_path / "pack_of_mine" / "__init__.py").write_text("")
    (tmp_path / "mine_of_mine.py").rename(tmp_path / "pack_of_mine" / "mine.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert algos.make({"kind": "pack_of_mine.mine", "size": 4}).size == 4


def test_what_reinforce_logs_is_what_it_saw():
    task = Table(words=4, steps=4)
    env, policy = loaded(task, [5, 4]), tiny_policy(Shape(head="vocabulary", **TINY), task.sizes)
    rollout = Reinforce(Sampling(k=3), baseline="greedy").collect(policy, env, 0.0)
    reward, log = rollout.grouped(rollout.reward.sum(1)), rollout.log
    assert float(log["reward"]) == pytest.approx(float(reward.mean()))
    assert float(log["spread"]) == pytest.approx(float(reward.std(1).mean()))
    assert float(log["length"]) == pytest.approx(float(rollout.mask.sum() / 6))
    assert int(log["sampled_tokens"]) > int(rollout.mask.sum()), "the greedy answer costs tokens as well"
    _, found = Reinforce(Sampling(k=3)).loss(policy, rollout)
    assert float(found["off_policy"]) < 1e-12 and float(found["sampled_nll"]) > 0
    one = Reinforce(Sampling(k=1), baseline="none").collect(policy, loaded(task, [5]), 0.0)
    assert float(one.log["spread"]) == 0.0
