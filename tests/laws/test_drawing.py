"""Laws of drawing: answers are scored under what drew them, or weighed, or refused; MIXER's beginnings are given."""

import pytest
import torch

from rlseq import algos
from rlseq.decode import beam, truncated
from rlseq.env import through_stop
from tests.laws.test_algos import SAMPLERS, policy_for, same, worth
from tests.toys import Table, algorithm_of, all_answers, gradient, loaded, log_probability, task_for, tiny_policy, tiny_shape

CUTS = [{"temperature": 1.7}, {"temperature": 0.6}, {"top_k": 2}, {"top_p": 0.6},
        {"temperature": 1.4, "top_k": 3, "top_p": 0.8}]


def drawn_log_probability(policy, env, actions, mask, temperature=1.0, top_k=0, top_p=1.0):
    """Of whole answers [M] under the distribution that is drawn from; carries gradient."""
    logp = policy.log_probs(policy.encode(env.batch), actions, env.legal_along(actions))
    cut = truncated(logp.flatten(0, 1), temperature, top_k, top_p).view_as(logp)
    return (cut.gather(2, actions.unsqueeze(2)).squeeze(2) * mask).sum(1)


def made(policy, **options):
    algorithm = algos.make({"kind": "reinforce", "k": 1, "baseline": "none", **options})
    algorithm.prepare(policy)
    return algorithm.double()


def expected_gradient(algorithm, env, policy, dictate, logq):
    """Sum over answers of the probability that drew them times the gradient of the algorithm's loss; k = 1."""
    total, (actions, _) = 0.0, all_answers(env.task, env.batch)
    for row, chance in zip(actions, logq.detach().exp(), strict=True):
        if float(chance) > 1e-12:
            dictate(row.unsqueeze(0))
            with torch.no_grad():
                rollout = algorithm.collect(policy, env, 0.5)
            total = total + float(chance) * algorithm.loss(policy, rollout)[0]
    return gradient(total, policy)


@pytest.mark.parametrize("rule", [False, True], ids=["all legal", "rule"])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_answers_are_scored_under_what_drew_them(cut, rule, dictate):
    # and the expected gradient is that of the expected reward under just that distribution
    task = Table(words=4, steps=2, rule=rule)
    env, policy = loaded(task, [4]), policy_for(task)
    actions, mask = all_answers(task, env.batch)
    logq = drawn_log_probability(policy, env, actions, mask, **cut)
    assert float(logq.detach().exp().sum()) == pytest.approx(1, abs=1e-12)
    reward = task.reward(env.batch, actions, mask).double()
    wanted = -gradient((logq.exp() * reward).sum(), policy)
    assert (wanted + gradient(worth(task, env, policy), policy)).abs().max() > 1e-3
    same(expected_gradient(made(policy, **cut), env, policy, dictate, logq), wanted)


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("shape", ["vocabulary", "pointer", "copy"])
def test_every_head_scores_a_cut_distribution_as_it_drew(shape, cut):
    if shape == "pointer":
        task = task_for("sort", "pointer")
        env = loaded(task, [task.examples("dev")[i] for i in range(4)])
        env.load(type(env.batch)(**{**vars(env.batch), "source": env.batch.source.double()}))
        policy = tiny_policy(tiny_shape({"head": "pointer", "encoder": "lstm"}), task.sizes)
    elif shape == "copy":
        task = task_for("translation", "copy")
        env = loaded(task, [task.examples("dev")[i] for i in range(2)])
        policy = tiny_policy(tiny_shape({"head": "copy", "encoder": "lstm", "decoder": "lstm"}), task.sizes)
        env.horizon = 6
    else:
        task = Table(words=4, steps=4, rule=True)
        env, policy = loaded(task, [4, 11, 14]), policy_for(task)
    algorithm = made(policy, k=3, entropy=0.1, **cut)                  # with and without entropy the heads go other ways
    with torch.no_grad():
        rollout = algorithm.collect(policy, env, 0.5)
        assert rollout.mask.sum() > 3
        for one in (algorithm, made(policy, k=3, **cut)):
            found = one.loss(policy, rollout if one is algorithm else one.collect(policy, env, 0.5))[1]
            assert float(found["off_policy"]) < 1e-6


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_scored_actions_are_the_drawn_actions_bit_for_bit(name, dictate):
    # nothing writes an answer out and reads it in again: what is scored and paid are the very ids that were drawn
    task = Table(words=4, steps=4, rule=True)
    env, policy = loaded(task, [4, 11]), policy_for(task)
    answers = torch.tensor([[1, 2, 3, 1], [2, 0, 0, 0], [3, 1, 0, 0], [1, 3, 2, 0]])
    algorithm = algorithm_of(name, policy, {"k": 2})
    dictate(answers)
    with torch.no_grad():
        rollout = algorithm.collect(policy, env, 1.0)
    kept = rollout.grouped(rollout.actions * rollout.mask)[:, :2].flatten(0, 1)
    assert torch.equal(kept[:, :4], answers) and not kept[:, 4:].any()
    mask = through_stop(answers)
    own = log_probability(policy, env, answers, mask)
    drawn = rollout.grouped(rollout.logp * rollout.mask)[:, :2].flatten(0, 1).sum(1)
    assert (own - drawn).abs().max() < 1e-6


@pytest.mark.parametrize("cut", [{"temperature": 1.7}, {"temperature": 0.6}], ids=str)
def test_off_policy_answers_are_weighed_so_that_pi_itself_learns(cut, dictate):
    task = Table(words=4, steps=2, rule=True)
    env, policy = loaded(task, [4]), policy_for(task)
    logq = drawn_log_probability(policy, env, *all_answers(task, env.batch), **cut)
    algorithm = made(policy, off_policy="allow", most_weight=1e6, **cut)
    wanted = -gradient(worth(task, env, policy), policy)
    same(expected_gradient(algorithm, env, policy, dictate, logq), wanted)
    low = made(policy, off_policy="allow", most_weight=0.5, **cut)
    assert (expected_gradient(low, env, policy, dictate, logq) - wanted).abs().max() > 1e-3, "weights are cut"


def test_what_importance_weights_do_is_reported():
    # weights w = pi(y) / q(y): ess = (sum w)^2 / (n sum w^2)
    task = Table(words=4, steps=3)
    env, policy = loaded(task, [4, 11, 7]), policy_for(task)
    algorithm = made(policy, k=8, off_policy="allow", temperature=3.0)
    torch.manual_seed(4)
    rollout = algorithm.collect(policy, env, 0.0)
    weight = (log_probability(policy, env, rollout.actions, rollout.mask).detach()
              - drawn_log_probability(policy, env, rollout.actions, rollout.mask, 3.0)).exp()
    assert float(rollout.log["greatest_weight"]) == pytest.approx(weight.max().item(), abs=1e-6)
    ess = weight.detach().sum() ** 2 / (24 * weight.detach().square().sum())
    assert float(rollout.log["ess"]) == pytest.approx(float(ess), abs=1e-6) and float(ess) < 0.99
    assert "ess" not in made(policy, k=8, off_policy="allow").collect(policy, env, 0.0).log


def test_answers_of_a_beam_are_refused_or_weighed():
    with pytest.raises(ValueError, match="^algo: beam=4 answers are not drawn, .* or set off_policy=allow"):
        algos.make({"kind": "reinforce", "k": 4, "beam": 4})
    with pytest.raises(ValueError, match="^algo: beam=2 must be at least k=4"):
        algos.make({"kind": "reinforce", "k": 4, "beam": 2, "off_policy": "allow"})
    task = Table(steps=2, rule=True)                                   # 6 legal answers: a beam of 8 holds them all
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = made(policy, k=8, beam=8, off_policy="allow")
    with torch.no_grad():
        rollout = algorithm.collect(policy, env, 0.0)
    same(gradient(algorithm.loss(policy, rollout)[0], policy), -gradient(worth(task, env, policy), policy))


def test_a_beam_gives_its_best_answers_in_order():
    task = Table(words=4, steps=3)
    env, policy = loaded(task, [4, 11]), policy_for(task)
    rollout, score = beam(policy, env, 200, length_penalty=0.0, keep=3)
    for problem, example in enumerate((4, 11)):
        alone = loaded(task, [example])
        actions, mask = all_answers(task, alone.batch)
        best = log_probability(policy, alone, actions, mask).sort(descending=True)
        found = rollout.grouped(rollout.actions * rollout.mask)[problem]
        assert torch.equal(found, actions[best.indices[:3], :found.shape[1]])
        assert torch.allclose(score.view(2, 3)[problem], best.values[:3].detach(), atol=1e-9)


def mixed_objective(task, env, policy, share):
    """Mean over problems of -log pi of the given beginning - E R of what is drawn after it, by enumeration."""
    parts = []
    for problem in env.batch.examples:
        alone = loaded(task, [problem])
        gold = task.reference(problem)
        given = len(gold) - int(torch.tensor(share * len(gold)).ceil())
        actions, mask = all_answers(task, alone.batch)
        begins = (actions[:, :given] == torch.tensor(gold[:given], dtype=torch.long)).all(1) & (mask.sum(1) > given)
        begins = begins if given < len(gold) else (mask.sum(1) == given) & (actions[:, :given] == torch.tensor(gold)).all(1)
        scores = policy(policy.encode(alone.batch), actions, mask, alone.legal_along(actions)).logp * mask
        reward = task.reward(alone.batch, actions, mask).double()
        after = scores[begins][:, given:].sum(1)
        assert float(after.detach().exp().sum()) == pytest.approx(1, abs=1e-12)
        drawn = (after.exp() * reward[begins]).sum() if given < len(gold) else 0.0
        parts.append(-scores[begins][0, :given].sum() - drawn)
    return torch.stack(parts).mean()


def mixer_gradient(algorithm, task, env, policy, dictate):
    """Expected gradient of MIXER for one problem: over all that may follow the given beginning."""
    actions, mask = all_answers(task, env.batch)
    total, mass, seen = 0.0, 0.0, set()
    for row in actions:
        dictate(row.repeat(algorithm.k, 1))
        with torch.no_grad():
            rollout = algorithm.collect(policy, env, 0.0)
        taken = tuple((rollout.actions * rollout.mask)[0].tolist())
        if taken in seen:
            continue
        seen.add(taken)
        own = rollout.mask & (rollout.extra["given"] == 0)
        chance = float((rollout.logp * own)[0].sum().exp())
        mass, total = mass + chance, total + chance * algorithm.loss(policy, rollout)[0]
    assert mass == pytest.approx(1, abs=1e-6)
    return gradient(total, policy)


@pytest.mark.parametrize("rule", [False, True], ids=["all legal", "rule"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_mixer_descends_cross_entropy_of_the_beginning_and_risk_of_the_rest(share, rule, dictate):
    task = Table(steps=3, rule=rule)
    env, policy = loaded(task, [5]), policy_for(task)                  # its reference has three actions
    assert env.batch.target.shape[1] == 3
    algorithm = algos.make({"kind": "mixer", "delta": share})
    torch.manual_seed(1)
    algorithm.prepare(policy)
    wanted = gradient(mixed_objective(task, env, policy, share), policy)
    same(mixer_gradient(algorithm.double(), task, env, policy, dictate), wanted)
    if share == 1.0:
        assert (wanted + gradient(worth(task, env, policy), policy)).abs().max() < 1e-9, "all drawn: REINFORCE"


def test_mixer_draws_more_of_the_end_as_training_goes_on():
    task = Table(words=4, steps=4)
    env, policy = loaded(task, [5, 4]), policy_for(task)               # references of 4 and of 3 actions
    algorithm = algos.make({"kind": "mixer", "k": 2})
    algorithm.prepare(policy)
    algorithm = algorithm.double()
    given = []
    for progress in (0.0, 0.3, 0.5, 0.7, 0.9):                         # shares 0, 1/4, 1/2, 3/4, 1 of each reference
        rollout = algorithm.collect(policy, env, progress)
        rows = rollout.extra["given"].sum(1).long().tolist()
        assert rows[0] == rows[1] and rows[2] == rows[3]
        given.append((rows[0], rows[2]))
        target = env.batch.target.repeat_interleave(2, 0)
        kept = rollout.extra["given"].bool()
        assert torch.equal(rollout.actions[kept], target[:, :kept.shape[1]][kept[:, :target.shape[1]]])
    assert given == [(4, 3), (3, 2), (2, 1), (1, 0), (0, 0)]


def test_mixers_baseline_learns_and_leaves_the_policy_alone(dictate):
    # two steps, all drawn: the expected squared distance of w h_t + b from the reward, over the steps
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = algos.make({"kind": "mixer", "delta": 1.0})
    torch.manual_seed(1)
    algorithm.prepare(policy)
    algorithm = algorithm.double()
    actions, mask = all_answers(task, env.batch)
    row = actions[int((mask.sum(1) == 2).nonzero()[0])]
    dictate(row.unsqueeze(0))
    with torch.no_grad():
        rollout = algorithm.collect(policy, env, 0.0)
    found = torch.autograd.grad(algorithm.loss(policy, rollout)[0], list(algorithm.value.parameters()))
    states = policy.score(rollout).states.detach()
    miss = (algorithm.value(states).squeeze(2) - task.reward(env.batch, row[None], mask[:1] | True)).square().mean()
    for one, other in zip(found, torch.autograd.grad(miss, list(algorithm.value.parameters())), strict=True):
        assert other.abs().max() > 1e-3 and (one - other).abs().max() < 1e-8


@pytest.mark.parametrize(("options", "said"), [
    ({"top_k": 4}, "would leave out references"), ({"delta": 2.0}, "algo.delta: 2.0 must lie in"),
    ({"baseline": "leave_one_out"}, "needs k >= 2 answers")])
def test_mixer_refuses_what_makes_no_sense(options, said):
    with pytest.raises(ValueError, match=said) as error:
        algos.make({"kind": "mixer", **options})
    assert "\n" not in str(error.value)
