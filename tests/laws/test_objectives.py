"""Laws of objectives other than the expected reward: by enumeration in float64, to 1e-8."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from rlseq import dist
from rlseq.env import through_stop
from rlseq.types import STOP, pad
from tests.laws.test_algos import every_draw, expected_loss, same, worth
from tests.toys import answers_of, gradient, log_probability, made, setting


def risk_gradient(task, env, policy, group, alpha, power):
    """d risk / d theta of one sample S (rows of all answers) by the formula, with Q_i = power(log p_i)."""
    _, _, logp, reward = answers_of(task, env, policy)
    chance = power(alpha, logp.detach()[group])
    share = chance / chance.sum()
    risk = 1 - reward[group]
    weight = alpha * share * (risk - (share * risk).sum())
    return gradient((weight * logp[group]).sum(), policy)


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("reference", [True, False])
def test_mrt_descends_the_risk_renormalised_over_its_sample(reference, unique, dictate):
    # d risk = alpha sum_i Q_i (risk_i - risk) grad log p_i: over all pairs of answers, each by its probability
    task, env, policy = setting()
    actions = answers_of(task, env, policy)[0].tolist()
    gold = [*env.batch.target[0].tolist(), STOP, STOP][:len(actions[0])]
    alpha, wanted, wrong = 0.7, 0.0, 0.0
    for drawn, probability in every_draw(task, env, policy, 2):
        group = [actions.index(row) for row in [*drawn.tolist(), *([gold] if reference else [])]]
        group = sorted(set(group)) if unique else group
        wanted = wanted + probability * risk_gradient(task, env, policy, group, alpha, lambda a, logp: logp.exp() ** a)
        wrong = wrong + probability * risk_gradient(task, env, policy, group, alpha, lambda a, logp: (a * logp.exp()).exp())
    algorithm = made("mrt", policy, k=2, alpha=alpha, reference=reference, unique=unique)
    found = gradient(expected_loss(algorithm, task, env, policy, dictate), policy)
    same(found, wanted)
    assert (found - wrong).abs().max() > 1e-3, "a softmax of probabilities in place of log-probabilities is another thing"


@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
def test_best_of_n_follows_the_log_probability_of_the_best(coarse, dictate):
    # the best of k independent draws: P(y) = p(y) / P(R = R_y) x (P(R <= R_y)^k - P(R < R_y)^k)
    task, env, policy = setting(coarse=coarse, words=2, steps=3)
    _, _, logp, reward = answers_of(task, env, policy)
    p = logp.exp().detach()
    ties, upto, below = ((p * one).sum(1) for one in (reward == reward[:, None], reward <= reward[:, None],
                                                       reward < reward[:, None]))
    chance = p / ties * (upto**3 - below**3)
    assert float(chance.sum()) == pytest.approx(1, abs=1e-12)
    algorithm = made("best_of_n", policy, k=3, normalise="sum")
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -gradient((chance * logp).sum(), policy))


def test_best_of_n_can_ask_to_beat_the_greedy_answer():
    task, env, policy = setting(words=4, steps=4, problem=7)
    algorithm = made("best_of_n", policy, k=2, beat="greedy")
    seen = set()
    for _ in range(12):
        rollout = algorithm.collect(policy, env, 0.0)
        beaten = bool(rollout.reward.sum(1).max() > rollout.log["greedy_reward"])
        assert bool((rollout.weight > 0).any()) == beaten and float(rollout.log["imitated"]) == beaten
        seen.add(beaten)
    assert seen == {True, False}


GRID = 16      # uniform numbers (i + 1/2) / 16: at rate 1/4 and 2 other words, 12 of them keep and 2 go to each


def on_the_grid(env, policy, monkeypatch, **options):
    """RAML on every combination of grid numbers at three steps: each answer comes up as often as it is probable."""
    cells = torch.cartesian_prod(*[(torch.arange(GRID) + 0.5) / GRID] * 3)                        # [16^3, 3]
    columns = iter(cells.T)
    monkeypatch.setattr(dist, "uniform", lambda rows, device: next(columns))
    algorithm = made("raml", policy, k=GRID**3, rate=0.25, normalise="sum", **options)
    return algorithm, algorithm.collect(policy, env, 0.0)


def test_raml_draws_the_exponentiated_payoff_of_the_hamming_distance(monkeypatch):
    # four actions, so 2 other words a step: exp(-distance / tau) / Z with exp(1 / tau) = 2 (1 - 1/4) / (1/4) = 6
    task, env, policy = setting(words=4, steps=3, problem=5)
    actions, mask, logp, _ = answers_of(task, env, policy)
    gold = env.batch.target[0]
    assert gold.tolist()[-1] == STOP and len(gold) == 3
    alike = (mask.sum(1) == len(gold)) & (actions[:, len(gold) - 1] == STOP)
    distance = (actions[:, :len(gold)] != gold).sum(1)
    payoff = torch.where(alike, torch.exp(-distance.double() * math.log(6)), 0.0)
    payoff = payoff / payoff.sum()
    algorithm, rollout = on_the_grid(env, policy, monkeypatch)
    drawn = Counter(map(tuple, rollout.actions.tolist()))
    for row, q in zip(actions.tolist(), payoff.tolist(), strict=True):
        assert drawn[tuple(row[:rollout.actions.shape[1]])] / GRID**3 == pytest.approx(q, abs=1e-12)
    same(gradient(algorithm.loss(policy, rollout)[0], policy), gradient(-(payoff * logp).sum(), policy))


def test_raml_never_proposes_what_is_illegal(monkeypatch):
    # no word twice in a row, STOP not first; of what is legal besides STOP the kept word has 3/4, the others share the rest
    task, env, policy = setting(words=4, steps=3, problem=5, rule=True)
    gold = [*env.batch.target[0].tolist(), STOP, STOP]

    def chance(row):
        total = 1.0
        for t, action in enumerate(row):
            legal = [a for a in range(4) if (a if t == 0 else a != row[t - 1])]
            others = [a for a in legal if a not in (STOP, gold[t])]
            if gold[t] in legal and (gold[t] == STOP or not others):
                total *= action == gold[t]
            elif gold[t] in legal:
                total *= 0.75 if action == gold[t] else (action in others) * 0.25 / len(others)
            else:
                total *= (action in others) / len(others)
        return total
    actions, mask, logp, _ = answers_of(task, env, policy)
    payoff = torch.tensor([chance(row[:length]) for row, length in zip(actions.tolist(), mask.sum(1).tolist(), strict=True)],
                          dtype=torch.float64)
    assert float(payoff.sum()) == pytest.approx(1, abs=1e-12) and int((payoff > 0).sum()) > 3
    algorithm, rollout = on_the_grid(env, policy, monkeypatch)
    assert bool(rollout.legal.gather(2, rollout.actions.unsqueeze(2)).squeeze(2)[rollout.mask].all())
    same(gradient(algorithm.loss(policy, rollout)[0], policy), gradient(-(payoff * logp).sum(), policy))


def test_raml_can_weigh_its_draws_by_the_tasks_reward(monkeypatch):
    # q'(y) ~ q(y) exp(R(y) / tau): exact here, where every draw comes up as often as it is probable
    task, env, policy = setting(words=4, steps=3, problem=5)
    _, plain = on_the_grid(env, policy, monkeypatch)
    algorithm, rollout = on_the_grid(env, policy, monkeypatch, payoff="reward", tau=0.3)
    reward = task.reward(env.batch, plain.actions, plain.mask).double()
    share = (reward / 0.3).softmax(0)                                   # each row of `plain` stands for 1 / 16^3 of q
    logp = (policy.score(plain).logp * plain.mask).sum(1)
    found = algorithm.loss(policy, replace(rollout, weight=rollout.weight.double()))[0]
    assert (gradient(found, policy) + gradient((share * logp).sum(), policy)).abs().max() < 1e-6          # float32 rewards


def test_raml_at_rate_0_is_mle():
    task, env, policy = setting(words=4, steps=4, rule=True)
    one, other = made("raml", policy, k=3, rate=0.0), made("mle", policy)
    losses = [algorithm.loss(policy, algorithm.collect(policy, env, 0.0))[0] for algorithm in (one, other)]
    same(*(gradient(loss, policy) for loss in losses))


def test_raml_adds_the_reference_at_its_weight():
    # sum over k = 3 draws and the reference, which weighs 0.5 * 3, over 4 rows: 3 (raml + 0.5 mle) / 4
    task, env, policy = setting(words=4, steps=4, rule=True)
    losses = []
    for algorithm in (made("raml", policy, k=3, rate=0.5, normalise="sum", mle_weight=weight) for weight in (0.0, 0.5)):
        torch.manual_seed(0)
        losses.append(algorithm.loss(policy, algorithm.collect(policy, env, 0.0))[0])
    mle = made("mle", policy, normalise="sum")
    plain = mle.loss(policy, mle.collect(policy, env, 0.0))[0]
    same(gradient(losses[1], policy), gradient(3 * (losses[0] + 0.5 * plain) / 4, policy))


def test_mrt_refuses_importance_weights_that_it_would_ignore():
    with pytest.raises(ValueError, match="leave algo.off_policy out"):
        made("mrt", setting()[2], temperature=0.7, off_policy="allow")


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_dagger_corrects_every_step_of_its_own_answers(rate, dictate):
    # step by step without the parallel pass: after its own prefix, the reference's action at that place if legal there
    task, env, policy = setting(rule=True, steps=3, words=4, problem=5)
    gold, wanted, skipped = [*env.batch.target[0].tolist(), STOP, STOP], 0.0, 0
    for actions, probability in every_draw(task, env, policy, 1):
        row = actions[0, :int(through_stop(actions).sum())].tolist()
        state, last = policy.start(policy.encode(env.batch), 1), None
        for t, action in enumerate(row):
            legal = task.legal(env.batch, torch.tensor([row[:t]], dtype=torch.long).view(1, -1))
            logp, state = policy.step(state, last, legal)
            if bool(legal[0, gold[t]]):
                wanted = wanted - probability * logp[0, gold[t]]
            else:
                skipped += 1
            last = torch.tensor([action])
    assert skipped > 0
    target, mask = pad([env.batch.target[0].tolist()])
    wanted = rate * wanted - (1 - rate) * log_probability(policy, env, target, mask).sum()
    algorithm, total = made("dagger", policy, rate=rate, normalise="sum"), 0.0
    for actions, probability in every_draw(task, env, policy, 1):
        dictate(actions)
        total = total + probability * algorithm.loss(policy, algorithm.collect(policy, env, 0.0))[0]
    same(gradient(total, policy), gradient(wanted, policy))


def test_dagger_without_own_answers_is_mle_bit_for_bit():
    task, env, policy = setting(rule=True, steps=4, words=4)
    both = made("dagger", policy, rate=0), made("mle", policy)
    losses = [one.loss(policy, one.collect(policy, env, 0.0))[0] for one in both]
    assert torch.equal(*(gradient(loss, policy) for loss in losses))


@pytest.mark.parametrize(("kind", "options"), [
    ("grpo", {"normalise": "sum"}), ("grpo", {"std": False}), ("mrt", {"alpha": 1.0}), ("best_of_n", {}),
    ("actor_critic", {"critic": {"trace": 0.5}})])
def test_what_is_biased_by_design_is_not_parallel_to_the_gradient_of_the_expected_reward(kind, options, dictate):
    task, env, policy = setting()
    algorithm = made(kind, policy, k=2, **options)
    found = gradient(expected_loss(algorithm, task, env, policy, dictate), policy)
    cosine = cosine_similarity(found, -gradient(worth(task, env, policy), policy), dim=0)
    assert algorithm.bias and float(cosine) < 1 - 1e-4
