"""Sampling by chi-square, truncation by hand, beam search by exhaustion."""

import pytest
import torch
from scipy.stats import chisquare

from rlseq import decode
from rlseq.decode import (
    beam,
    check_sampling,
    draw,
    greedy,
    last_step,
    repeats,
    sample,
    sample_and_greedy,
    truncated,
)
from rlseq.nn.policy import Shape
from rlseq.parts import in_parts
from rlseq.types import NEVER
from tests.toys import TINY, Table, all_answers, loaded, log_probability, tiny_policy

SHAPES = {"lstm": {"encoder": "lstm", "decoder": "lstm"}, "transformer": {}}
P = torch.tensor([0.5, 0.25, 0.125, 0.125])


def setting(shape="lstm", rule=True, problems=(4, 5, 12, 7), **table):
    """A task, its environment and a policy that remembers what it did and seldom stops at once."""
    task = Table(**{"words": 4, "steps": 4, "rule": rule, **table})
    policy = tiny_policy(Shape(head="vocabulary", **{**TINY, **SHAPES[shape]}), task.sizes, scale=2.0)
    with torch.no_grad():
        policy.head.bias[0] -= 2
    return task, loaded(task, list(problems)), policy


def test_draws_follow_the_probabilities():
    p = torch.tensor([0.1, 0.0, 0.4, 0.2, 0.0, 0.3])
    counts = torch.bincount(draw(p.expand(20000, -1), torch.rand(20000)), minlength=6)
    assert counts[1] == counts[4] == 0
    real = p > 0
    assert chisquare(counts[real].numpy(), (20000 * p[real]).numpy().round(6)).pvalue > 1e-3        # seeded


def test_the_same_number_draws_the_action_whose_interval_holds_it():
    assert draw(P.expand(5, -1), torch.tensor([0.0, 0.49, 0.5, 0.76, 0.9])).tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("actions", [512, 1000])          # whole blocks, and a last one that is cut short
def test_draws_by_blocks_equal_draws_in_order(actions):
    torch.manual_seed(0)
    p = (3 * torch.randn(3000, actions, dtype=torch.float64)).softmax(1)
    p[:, 64:128] = 0                                       # a block without any mass
    number = torch.rand(3000, dtype=torch.float64)
    sums = p.cumsum(1)
    plain = torch.searchsorted(sums, (number * sums[:, -1]).unsqueeze(1), right=True).squeeze(1)
    assert torch.equal(draw(p, number), plain)


def test_draws_by_blocks_follow_the_probabilities():
    torch.manual_seed(0)
    p = torch.rand(700).pow(4)
    p = p / p.sum()
    counts = torch.bincount(draw(p.expand(60000, -1), torch.rand(60000)), minlength=700)
    often = p > 1e-4                                       # at least 6 expected; the rest are one class
    rest = torch.tensor([int(counts[~often].sum())]), 60000 * p[~often].sum(0, keepdim=True)
    seen, wanted = torch.cat([counts[often], rest[0]]).double(), torch.cat([60000 * p[often], rest[1]]).double()
    assert chisquare(seen.numpy(), (wanted * seen.sum() / wanted.sum()).numpy()).pvalue > 1e-3      # seeded


@pytest.mark.parametrize("actions", [5, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_illegal_action_is_never_drawn_even_at_the_ends(dtype, actions):
    # illegal actions first, last and between; numbers at 0, at the last below 1, and 1 itself, which rounding may give
    legal = torch.zeros(actions, dtype=torch.bool)
    legal[[1, 3]] = True
    torch.manual_seed(0)
    logits = (3 * torch.randn(4000, actions, dtype=dtype)).masked_fill(~legal, NEVER)
    for number in (0.0, 1 - 2**-24, 1.0):
        found = draw(logits.softmax(1), torch.full((4000,), number))
        assert legal[found].all()


def test_sums_that_creep_in_parallel_never_make_an_illegal_action(monkeypatch):
    # a GPU adds in another order for every position: there the sum at action 2, of probability 0, may exceed that at 1
    p = torch.tensor([[0.25, 0.25, 0.0, 0.5]])
    real = torch.Tensor.cumsum
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda self, dim: real(self, dim) + torch.tensor([0.0, 0.0, 0.01, 0.0]))
    assert draw(p, torch.tensor([0.505])).item() == 3


def test_temperature_takes_the_power_of_the_probabilities():
    # p^2 / sum p^2 = (16, 4, 1, 1) / 22 at temperature 1/2
    assert torch.allclose(truncated(P.log()[None], temperature=0.5).exp(), torch.tensor([[16.0, 4, 1, 1]]) / 22)
    cold = truncated(torch.tensor([[0.0, NEVER]]), temperature=0.01)
    assert cold.exp().tolist() == [[1.0, 0.0]]


def test_top_k_keeps_the_likeliest():
    assert torch.allclose(truncated(P.log()[None], top_k=2).exp(), torch.tensor([[2 / 3, 1 / 3, 0, 0]]))
    assert torch.allclose(truncated(P.log()[None], top_k=9).exp(), P[None])
    with_illegal = torch.tensor([[0.75, 0.25, 0, 0]]).log().clamp(min=NEVER)
    assert torch.allclose(truncated(with_illegal, top_k=3).exp(), torch.tensor([[0.75, 0.25, 0, 0]]))


def test_top_p_keeps_the_smallest_set_of_that_mass():
    # 0.5 alone holds mass 0.5; 0.6 needs two actions; 0.8 a third
    for top_p, kept in ((0.5, [1, 0, 0, 0]), (0.6, [2 / 3, 1 / 3, 0, 0]), (0.75, [2 / 3, 1 / 3, 0, 0])):
        assert torch.allclose(truncated(P.log()[None], top_p=top_p).exp(), torch.tensor([kept], dtype=torch.float32))
    assert (truncated(P.log()[None], top_p=0.8).exp() > 0).sum() == 3
    assert (truncated(P.log()[None], top_p=1e-9).exp() > 0).sum() == 1, "at least one action stays"


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(0.0, 0, 1.0), (-1.0, 0, 1.0), (1.0, -1, 1.0), (1.0, 0, 0.0),
                                                             (1.0, 0, 1.5)])
def test_settings_that_no_distribution_has_are_refused(temperature, top_k, top_p):
    with pytest.raises(ValueError, match="must"):
        check_sampling(temperature, top_k, top_p)


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_follow_the_policy_and_say_their_probability(shape):
    task, env, policy = setting(shape, problems=(4,), words=3, steps=3)
    rollout = sample(policy, env, 4000)
    answers, mask = all_answers(task, env.batch)
    with torch.no_grad():
        p = log_probability(policy, env, answers, mask).exp()
    place = (rollout.actions.unsqueeze(1) == answers.unsqueeze(0)).all(2).float().argmax(1)
    counts = torch.bincount(place, minlength=len(p))
    assert chisquare(counts.numpy(), (4000 * p / p.sum()).numpy()).pvalue > 1e-3                     # seeded
    assert (rollout.logp.sum(1) - p.log()[place]).abs().max() < 1e-9
    assert torch.equal(rollout.reward.sum(1), task.reward(env.batch, rollout.actions, rollout.mask))
    assert torch.equal(rollout.reward != 0, (rollout.reward != 0) & last_step(rollout.mask).bool())


def test_a_sample_at_a_cold_temperature_is_greedy():
    _, env, policy = setting()
    cold, best = sample(policy, env, 1, temperature=1e-4), greedy(policy, env)
    assert torch.equal(cold.actions, best.actions) and torch.equal(cold.reward, best.reward)


def test_greedy_takes_the_likeliest_action_at_every_step():
    _, env, policy = setting()
    rollout = greedy(policy, env)
    logp = policy.log_probs(policy.encode(env.batch), rollout.actions, rollout.legal)
    assert torch.equal(logp.argmax(2)[rollout.mask], rollout.actions[rollout.mask])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 3])
def test_greedy_answers_beside_drawn_ones_are_the_same_and_the_drawn_ones_the_policys(shape, k):
    _, env, policy = setting(shape)
    alone, (drawn, best) = greedy(policy, env), sample_and_greedy(policy, env, k)
    for field in ("actions", "mask", "reward", "legal"):
        assert torch.equal(getattr(best, field), getattr(alone, field))
    assert torch.allclose(best.logp, alone.logp, atol=1e-12) and (best.k, drawn.k) == (1, k)
    assert drawn.actions.shape == (4 * k, int(drawn.mask.sum(1).max()))
    with torch.no_grad():
        scores = policy(policy.encode(env.batch), drawn.actions, drawn.mask, drawn.legal)
    assert torch.allclose(drawn.logp, scores.logp * drawn.mask, atol=1e-12)
    assert torch.equal(drawn.reward.sum(1), env.worth(drawn.actions, drawn.mask))


def test_answers_drawn_beside_greedy_ones_follow_the_policy():
    task, env, policy = setting(problems=(4,), words=3, steps=3)
    answers, mask = all_answers(task, env.batch)
    with torch.no_grad():
        p = log_probability(policy, env, answers, mask).exp()
    drawn = sample_and_greedy(policy, env, 4000)[0].actions
    place = (drawn.unsqueeze(1) == answers.unsqueeze(0)).all(2).float().argmax(1)
    assert chisquare(torch.bincount(place, minlength=len(p)).numpy(), (4000 * p / p.sum()).numpy()).pvalue > 1e-3     # seeded


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [1, 3])
def test_greedy_goes_on_from_what_is_given_and_is_itself_where_nothing_is(shape, parts):
    _, env, policy = setting(shape, words=4, steps=6)
    given, plain = torch.tensor([[1, 2, 3], [3, 1, 2], [2, 3, 1], [2, 1, 3]]), greedy(policy, env)
    counts = torch.tensor([0, 1, 2, 3])
    with in_parts(parts):
        free, found = greedy(policy, env, (given, torch.zeros(4, dtype=torch.long))), greedy(policy, env, (given, counts))
    for field in ("actions", "mask", "reward", "logp"):
        assert torch.allclose(getattr(free, field), getattr(plain, field), atol=1e-12), field
    assert all(torch.equal(found.actions[row, :count], given[row, :count]) for row, count in enumerate(counts.tolist()))
    likeliest = policy.log_probs(policy.encode(env.batch), found.actions, env.legal_along(found.actions)).argmax(2)
    own = found.mask & (torch.arange(found.actions.shape[1]) >= counts.unsqueeze(1))
    assert torch.equal(likeliest[own], found.actions[own]) and own.any(1).all()
    assert torch.equal(found.reward.sum(1), env.worth(found.actions, found.mask))


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", [False, True])
def test_a_beam_of_one_is_greedy_and_a_wide_one_exhaustive(shape, rule):
    task, env, policy = setting(shape, rule, words=3, steps=3, problems=range(12))
    best = greedy(policy, env)
    narrow, score = beam(policy, env, 1, length_penalty=0.0)
    assert torch.equal(narrow.actions[best.mask], best.actions[best.mask]) and torch.equal(narrow.mask, best.mask)
    assert (score - best.logp.sum(1)).abs().max() < 1e-9
    wide, score = beam(policy, env, 15, length_penalty=0.0)                      # there are at most 15 answers
    for row, problem in enumerate(env.batch.examples):
        alone = loaded(task, [problem])
        answers, mask = all_answers(task, alone.batch)
        logp = log_probability(policy, alone, answers, mask)
        assert float(score[row]) == pytest.approx(float(logp.max()), abs=1e-6)
        likeliest = answers[logp.argmax()]
        assert wide.actions[row].tolist() == likeliest[:wide.actions.shape[1]].tolist()
        assert float(wide.reward[row].sum()) == float(task.reward(alone.batch, answers, mask)[logp.argmax()])


@torch.no_grad()
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
def test_beam_scores_are_the_policys_own_over_length_to_the_penalty(penalty):
    task, env, policy = setting("transformer", words=4, steps=4, problems=range(12))
    rollout, score = beam(policy, env, 15, length_penalty=penalty)
    assert len({tuple(row) for row in rollout.actions.tolist()}) > 1
    own = log_probability(policy, env, rollout.actions, rollout.mask) / rollout.mask.sum(1) ** penalty
    assert (own - score).abs().max() < 1e-6                                       # sums are kept in float32
    for row, problem in enumerate(env.batch.examples):
        alone = loaded(task, [problem])
        answers, mask = all_answers(task, alone.batch)
        every = log_probability(policy, alone, answers, mask) / mask.sum(1) ** penalty
        assert float(score[row]) == pytest.approx(float(every.max()), abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_a_narrow_beams_score_is_the_policys_own_and_its_answers_legal(shape):
    # rows part and meet at every one of five steps, each with its own past
    _, env, policy = setting(shape, True, words=4, steps=5, problems=range(16))
    for width in (2, 3):
        rollout, score = beam(policy, env, width, 0.0)
        assert (rollout.mask.sum(1) > 2).any()
        assert (log_probability(policy, env, rollout.actions, rollout.mask) - score).abs().max() < 1e-6       # float32
    legal = env.legal_along(rollout.actions)
    assert legal.gather(2, rollout.actions.unsqueeze(2)).squeeze(2)[rollout.mask].all()


def test_repeated_n_grams_by_hand():
    # 1 2 3 1 2: the bigram 2 3 is there, so 3 may not follow; of unigrams 1, 2, 3 may not; no trigram ends in 1 2 but 3
    prefix = torch.tensor([[1, 2, 3, 1, 2], [1, 1, 1, 1, 1]])
    assert repeats(prefix, 2, 5).nonzero().tolist() == [[0, 3], [1, 1]]
    assert repeats(prefix, 1, 5).nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1]]
    assert repeats(prefix, 3, 5).nonzero().tolist() == [[0, 3], [1, 1]]
    assert not repeats(prefix[:, :1], 2, 5).any() and not repeats(prefix[:, :0], 1, 5).any()


def test_a_beam_with_blocking_repeats_no_n_gram_but_plain_beam_does():
    _, env, policy = setting("lstm", False, words=3, steps=6, problems=range(20))

    def repeated(rollout, n):
        rows = [[a for a, m in zip(*row) if m and a] for row in zip(rollout.actions.tolist(), rollout.mask.tolist())]
        grams = [[tuple(row[i:i + n]) for i in range(len(row) - n + 1)] for row in rows]
        return sum(len(row) != len(set(row)) for row in grams)
    assert repeated(beam(policy, env, 3)[0], 2) > 0
    assert repeated(beam(policy, env, 3, no_repeat=2)[0], 2) == 0


def test_a_beam_without_width_is_refused():
    _, env, policy = setting()
    with pytest.raises(ValueError, match="at least 1"):
        beam(policy, env, 0)


def test_the_last_step_is_where_the_mask_ends():
    mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    assert last_step(mask).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_draws_take_their_numbers_from_dist(monkeypatch):
    _, env, policy = setting()
    calls = []
    monkeypatch.setattr(decode.dist, "uniform", lambda rows, device: calls.append(rows) or torch.zeros(rows))
    sample(policy, env, 2)
    assert set(calls) == {8}
