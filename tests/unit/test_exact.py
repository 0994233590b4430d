"""Expectations over all answers: against plain sums over sequences written out here."""

import itertools

import pytest
import torch

from rlseq import decode, exact
from rlseq.nn.policy import Shape
from tests.toys import TINY, Table, loaded, tiny_policy


def setting(problems=(4, 5), rule=True):
    task = Table(words=3, steps=3, rule=rule)
    return loaded(task, list(problems)), tiny_policy(Shape("vocabulary", "lstm", "lstm", **TINY), task.sizes, scale=2.0)


def legal_sequences(words, steps, rule):
    """By hand: through STOP or the last step; with the rule no STOP first and no word after itself."""
    for length in range(1, steps + 1):
        for row in itertools.product(range(words), repeat=length):
            ended = (row[-1] == 0 or length == steps) and 0 not in row[:-1]
            if ended and not (rule and (row[0] == 0 or any(a == b for a, b in zip(row, row[1:])))):
                yield row


@pytest.mark.parametrize("rule", [False, True])
def test_all_answers_are_all_legal_sequences_once(rule):
    env, _ = setting((4,), rule)
    actions, mask = exact.all_answers(env.task, env.batch)
    found = [tuple(row[:int(real.sum())].tolist()) for row, real in zip(actions, mask)]
    assert sorted(found) == sorted(legal_sequences(3, 3, rule)) and len(set(found)) == len(found)


def test_too_many_answers_are_refused():
    env, _ = setting((4,))
    with pytest.raises(ValueError, match="more than 5 answers"):
        exact.all_answers(env.task, env.batch, limit=5)


def by_hand(policy, env):
    """log pi and reward of every sequence, step by step through `Policy.step`: [(log p, R), ...] per problem."""
    for alone in exact.one_by_one(env):
        rows = []
        for row in legal_sequences(3, 3, True):
            state, last, total = policy.start(policy.encode(alone.batch), 1), None, 0.0
            for t, action in enumerate(row):
                logp, state = policy.step(state, last, env.task.legal(alone.batch, torch.tensor([row[:t]]).view(1, -1).long()))
                total, last = total + float(logp[0, action].detach()), torch.tensor([action])
            actions = torch.tensor([row])
            rows.append((total, float(env.task.reward(alone.batch, actions, torch.ones_like(actions).bool()))))
        yield rows


def test_j_and_kl_are_their_sums_over_answers():
    env, policy = setting()
    anchor = tiny_policy(Shape("vocabulary", "lstm", "lstm", **TINY), env.task.sizes, seed=7)
    own, other = torch.tensor(list(by_hand(policy, env)), dtype=torch.float64), torch.tensor(list(by_hand(anchor, env)))
    p = own[..., 0].exp()
    assert torch.allclose(p.sum(1), torch.ones(2, dtype=torch.float64), atol=1e-12)
    assert float(exact.worth(policy, env).detach()) == pytest.approx(float((p * own[..., 1]).sum(1).mean()), abs=1e-12)
    kl = (p * (own[..., 0] - other[..., 0])).sum(1).mean()
    assert float(exact.divergence(policy, anchor, env).detach()) == pytest.approx(float(kl), abs=1e-6) and kl > 0.01


@pytest.mark.parametrize("beside", [False, True], ids=["sampled", "beside a greedy one"])
def test_dictated_answers_are_drawn(beside):
    env, policy = setting()
    actions, _ = exact.all_answers(env.task, env.batch.rows(0, 1))
    wanted = torch.cat([actions, actions.flip(0)])                               # M answers to each of two problems
    with exact.dictated(policy, env, wanted):
        both = decode.sample_and_greedy(policy, env, len(actions)) if beside else (decode.sample(policy, env, len(actions)),)
    assert torch.equal(both[0].actions * both[0].mask, wanted)
    if beside:
        assert torch.equal(both[1].actions, decode.greedy(policy, env).actions)


def test_every_draw_has_probability_one_in_all():
    env, policy = setting()
    draws = list(exact.every_draw(policy, env, 1))
    assert sum(p for _, p in draws) == pytest.approx(1, abs=1e-12) and len(draws) == len(list(legal_sequences(3, 3, True)))**2
