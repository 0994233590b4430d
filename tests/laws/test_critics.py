"""Laws of critics, clipped ratios and groups: by enumeration in float64, to 1e-8."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from rlseq import algos
from rlseq.env import through_stop
from tests.laws.test_algos import every_draw, expected_loss, policy_for, same, worth
from tests.toys import answers_of, gradient, log_probability, made, setting

POLICY_GRADIENT = {"ppo": {"critic": {"trace": 1.0}, "reuse": {"epochs": 1, "minibatches": 1}},
                   "actor_critic": {"critic": {"trace": 1.0}}}
SAMPLERS = ("actor_critic", "ppo", "grpo", "best_of_n", "mrt")


@pytest.mark.parametrize("rule", [False, True], ids=["all legal", "rule"])
@pytest.mark.parametrize("shape", ["lstm", "transformer"])
@pytest.mark.parametrize("kind", POLICY_GRADIENT)
def test_whatever_the_critic_says_advantages_at_trace_1_are_unbiased(kind, shape, rule, dictate):
    task, env, policy = setting(rule, 3 if rule else 2, shape=shape)
    algorithm = made(kind, policy, k=1, **POLICY_GRADIENT[kind])
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -gradient(worth(task, env, policy), policy))


class Known(nn.Module):
    """A critic that looks values up by the answers it is asked about, one row after the other."""

    def __init__(self, values):
        super().__init__()
        self.values, self.anchor, self.answers = values, nn.Parameter(torch.zeros(())), None

    def forward(self, states):
        found = [[self.values.get(tuple(row[:t]), 0.0) for t in range(len(row))] for row in self.answers.tolist()]
        return torch.tensor(found, dtype=states.dtype) + self.anchor


@pytest.mark.parametrize("trace", [0.0, 0.4])
def test_an_exact_critic_makes_every_trace_unbiased(trace, dictate):
    task, env, policy = setting(steps=3)
    actions, mask, logp, reward = answers_of(task, env, policy)
    mass, earned = Counter(), Counter()
    for row, length, p, r in zip(actions.tolist(), mask.sum(1).tolist(), logp.exp().tolist(), reward.tolist(), strict=True):
        for t in range(length):
            mass[tuple(row[:t])] += p
            earned[tuple(row[:t])] += p * r
    algorithm = made("actor_critic", policy, k=1, critic={"trace": trace, "weight": 0.0})
    algorithm.value = Known({prefix: earned[prefix] / mass[prefix] for prefix in mass})

    def dictated(answers):
        algorithm.value.answers = answers[:, :int(through_stop(answers).sum(1).max())]
        dictate(answers)
    same(gradient(expected_loss(algorithm, task, env, policy, dictated), policy), -gradient(worth(task, env, policy), policy))


def test_the_critic_learns_what_the_rest_will_earn_and_leaves_the_policy_alone(dictate):
    # at trace 1 the target is the reward to go: expected squared distance from it, over the expected number of steps
    task, env, policy = setting(steps=2)
    algorithm = made("actor_critic", policy, k=1, critic={"trace": 1.0, "weight": 1.0})
    total, miss = expected_loss(algorithm, task, env, policy, dictate), 0.0
    for actions, probability in every_draw(task, env, policy, 1):
        mask = through_stop(actions)
        rollout = algos.make({"kind": "mle"}).collect(policy, env, 0.0)
        states = policy.states(replace(rollout, actions=actions, mask=mask)).detach()
        error = (algorithm.value(states) - task.reward(env.batch, actions, mask).unsqueeze(1)) * mask
        miss = miss + probability * error.square().sum() / mask.sum()
    parameters = list(algorithm.value.parameters())
    for one, other in zip(*(torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (total, miss)), strict=True):
        assert other.abs().max() > 1e-4 and (one - other).abs().max() < 1e-8
    same(gradient(total, policy), -gradient(worth(task, env, policy), policy))


def test_a_shared_critic_moves_the_policys_states():
    task, env, policy = setting(steps=3)
    for shared in (False, True):
        algorithm = made("actor_critic", policy, k=2, critic={"shared": shared, "warmup": 1.0})
        rollout = algorithm.collect(policy, env, 0.5)
        assert float(rollout.weight.abs().max()) == 0.0, "while the critic warms up the policy is not moved by rewards"
        moved = float(gradient(algorithm.loss(policy, rollout)[0], policy).abs().max())
        assert (moved > 1e-4) == shared, (shared, moved)


def test_ppo_at_ratio_1_has_the_gradient_of_the_actor_critic():
    task, env, policy = setting(rule=True, steps=3)
    gradients, found = [], {}
    for kind in ("actor_critic", "ppo"):
        algorithm = made(kind, policy, k=4, critic={"trace": 0.7})
        torch.manual_seed(3)
        loss, found = algorithm.loss(policy, algorithm.collect(policy, env, 0.0))
        gradients.append(gradient(loss, policy))
    same(gradients[1], gradients[0])
    assert float(found["clipped"]) == 0.0 and abs(float(found["update_kl"])) < 1e-12 and float(found["off_policy"]) < 1e-9


def test_the_estimated_kl_is_that_of_what_drew_from_what_learns(dictate):
    # sum_y p_old(y) sum_t (ratio_t - 1 - log ratio_t) = KL(old || new), for every ratio's mean is 1
    task, env, old = setting(rule=True, steps=3)
    new = policy_for(task)
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    algorithm, total = made("ppo", old, k=1), 0.0
    for actions, probability in every_draw(task, env, old, 1):
        dictate(actions)
        rollout = algorithm.collect(old, env, 0.0)
        total += probability * float(algorithm.loss(new, rollout)[1]["update_kl"] * rollout.mask.sum())
    logp, other = (answers_of(task, env, policy)[2].detach() for policy in (old, new))
    right, wrong = float((logp.exp() * (logp - other)).sum()), float((other.exp() * (other - logp)).sum())
    assert total == pytest.approx(right, abs=1e-9) and abs(total - wrong) > 1e-3


def test_clipping_lets_no_token_gain_from_moving_further():
    # weights 1 and -1, ratios 1.5 and 0.5: min(1.5, 1.2) = 1.2 has no gradient, and so has min(-0.5, -0.8) = -0.8
    task, env, policy = setting(steps=2)
    algorithm = made("ppo", policy, k=2, critic={"weight": 0.0})
    rollout = algorithm.collect(policy, env, 0.0)
    logp = policy.score(rollout).logp.detach()
    for weight, ratio, value in ((1.0, 1.5, -1.2), (-1.0, 0.5, 0.8)):
        moved = replace(rollout, weight=torch.full_like(rollout.weight, weight), logp=logp - math.log(ratio))
        loss, found = algorithm.loss(policy, moved)
        assert float(loss.detach()) == pytest.approx(value * float(rollout.mask.sum()) / 2, abs=1e-9)
        assert float(found["clipped"]) == 1.0
        assert float(gradient(loss, policy).abs().max()) == 0.0
    back = replace(rollout, weight=torch.full_like(rollout.weight, -1.0), logp=logp - math.log(1.5))
    assert float(gradient(algorithm.loss(policy, back)[0], policy).abs().max()) > 1e-3, "the way back stays open"


@pytest.mark.parametrize("k", [2, 3])
def test_groups_that_are_only_centred_shrink_the_gradient_by_k_minus_1_over_k(k, dictate):
    task, env, policy = setting(words=2 if k == 3 else 3)
    algorithm = made("grpo", policy, k=k, std=False, normalise="sum")
    wanted = -gradient(worth(task, env, policy), policy) * (k - 1) / k
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), wanted)


def test_a_groups_rewards_are_divided_by_their_deviation():
    found = algos.grpo.centred(torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]]), True)
    deviation = math.sqrt(4 * 0.25 / 3) + 1e-4                          # of k - 1
    assert found[0].tolist() == pytest.approx([0.5 / deviation, -0.5 / deviation, -0.5 / deviation, 0.5 / deviation])
    assert found[1].tolist() == [0.0] * 4


def descent(algorithm, policy, env, actions, dictate):
    dictate(actions)
    torch.manual_seed(2)
    return gradient(algorithm.loss(policy, algorithm.collect(policy, env, 0.5))[0], policy)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_references_can_be_mixed_into_every_algorithm_that_draws(kind, dictate):
    task, env, policy = setting(words=4, steps=3)
    actions = answers_of(task, env, policy)[0][[3, 17]]
    options = {} if kind == "mrt" else {"normalise": "sum"}
    with_, without = (descent(made(kind, policy, k=2, mle_weight=mle, **options), policy, env, actions, dictate)
                      for mle in (0.3, 0.0))
    gold = log_probability(policy, env, env.batch.target, env.batch.target_mask).sum()
    same(with_ - without, -0.3 * gradient(gold, policy))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_entropy_can_be_rewarded_in_every_algorithm_that_draws(kind, dictate):
    task, env, policy = setting(words=4, steps=3)
    actions = answers_of(task, env, policy)[0][[3, 17]]
    options = {} if kind == "mrt" else {"normalise": "sum"}
    with_, without = (descent(made(kind, policy, k=2, entropy=weight, **options), policy, env, actions, dictate)
                      for weight in (0.1, 0.0))
    mask = through_stop(actions)
    logp = policy.log_probs(policy.encode(env.batch), actions)
    spread = (-(logp.exp() * logp).sum(2) * mask).sum(1).mean()
    same(with_ - without, -0.1 * gradient(spread, policy))
