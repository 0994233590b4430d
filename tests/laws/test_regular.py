"""Laws of KL, entropy and reward signal: what the expected gradient is of, by enumeration in float64, to 1e-8."""

import pytest
import torch

from rlseq import algos
from rlseq.algos.regular import adapted, estimate
from rlseq.algos.sampled import shaped
from rlseq.schedule import Schedule
from tests.laws.test_algos import BASELINES, expected_loss, fixed, policy_for, same, worth
from tests.toys import Table, all_answers, gradient, loaded, log_probability

WEIGHT = 0.25
PLACES = [("reward", "k1"), ("both", "k1"), ("both", "k3"), ("both", "exact"), ("loss", "k2"), ("loss", "exact"),
          ("loss", "k3"), ("both", "k2")]


@pytest.fixture
def setting():
    """A task with a rule, its environment with one problem, a policy, and the other one that it came from."""
    task = Table(rule=True, steps=3)
    env, policy, before = loaded(task, [4]), policy_for(task), policy_for(task)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return task, env, policy, before


def made(before, **options):
    """REINFORCE whose anchor is the policy before."""
    algorithm = algos.make({"kind": "reinforce", "k": 1, "baseline": "none", **options})
    algorithm.prepare(before)
    return algorithm.double()


class Exact:
    """One problem's answers: log-probabilities of steps [M, T] and of all actions [M, T, A]; no gradient of what was before."""

    def __init__(self, env, policy, before):
        actions, mask = all_answers(env.task, env.batch)
        legal = env.legal_along(actions)
        self.mask = mask
        self.own, self.old = (one.log_probs(one.encode(env.batch), actions, legal) for one in (policy, before))
        self.old = self.old.detach()
        self.logp, self.before = (one.gather(2, actions.unsqueeze(2)).squeeze(2) * mask for one in (self.own, self.old))
        self.p = self.logp.sum(1).exp()                                    # [M]
        self.possible = legal

    def visited(self, values):
        """Sum over visited steps of values [M, T], the visiting itself held fixed."""
        return (self.p.detach() * (values * self.mask).sum(1)).sum()

    def over_actions(self, values):
        return values.masked_fill(~self.possible, 0.0).sum(2)


def wanted_kl(exact, where, kind):
    """What the head of regular.py says that the gradient is of."""
    if (where, kind) in {("reward", "k1"), ("both", "k1"), ("both", "k3"), ("both", "exact")}:
        return (exact.p * (exact.logp - exact.before).sum(1)).sum()                                 # KL of answers
    if kind in ("k2", "exact") and where == "loss":
        return exact.visited(exact.over_actions(exact.own.exp() * (exact.own - exact.old)))         # of steps
    if (where, kind) == ("loss", "k3"):
        return exact.visited(exact.over_actions(exact.old.exp() * (exact.old - exact.own)))         # the other way round
    return (exact.p * ((exact.logp - exact.before).square() / 2).sum(1)).sum()


@pytest.mark.parametrize(("where", "kind"), PLACES)
def test_the_gradient_of_kl_is_of_what_is_said(where, kind, setting, dictate):
    task, env, policy, before = setting
    algorithm = made(before, kl={"weight": WEIGHT, "where": where, "estimator": kind})
    kl = gradient(wanted_kl(Exact(env, policy, before), where, kind), policy)
    assert kl.abs().max() > 1e-2
    found = gradient(expected_loss(algorithm, task, env, policy, dictate), policy)
    same(found, -gradient(worth(task, env, policy), policy) + WEIGHT * kl)


@pytest.mark.parametrize("kind", ["k2", "k3", "exact"])
def test_other_estimators_in_the_reward_alone_are_not_the_gradient_of_kl(kind, setting, dictate):
    task, env, policy, before = setting
    algorithm = made(before, kl={"weight": WEIGHT, "where": "reward", "estimator": kind})
    found = gradient(expected_loss(algorithm, task, env, policy, dictate), policy) + gradient(worth(task, env, policy), policy)
    kl = WEIGHT * gradient(wanted_kl(Exact(env, policy, before), "reward", "k1"), policy)
    assert (found - kl).abs().max() > 1e-2 * kl.abs().max()


def test_k1_in_the_loss_pulls_nowhere_and_is_refused(setting):
    _, env, policy, before = setting
    exact = Exact(env, policy, before)
    assert gradient(exact.visited(estimate("k1", exact.logp, exact.before)), policy).abs().max() < 1e-8
    with pytest.raises(ValueError, match="^algo.kl: the gradient of k1 in the loss is 0 in expectation"):
        algos.make({"kind": "reinforce", "kl": {"weight": 0.1, "where": "loss", "estimator": "k1"}})


def test_the_steps_kl_is_that_of_answers_where_an_answer_is_one_step(dictate):
    task = Table(words=2, steps=1)
    env, policy, before = loaded(task, [4]), policy_for(task), policy_for(task)
    with torch.no_grad():
        before.head.bias.add_(torch.tensor([0.5, -0.2]))
    algorithm = made(before, kl={"weight": WEIGHT, "where": "loss", "estimator": "k2"})
    actions, mask = all_answers(task, env.batch)
    logp, old = (log_probability(one, env, actions, mask) for one in (policy, before))
    kl = gradient((logp.exp() * (logp - old.detach())).sum(), policy)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy),
         -gradient(worth(task, env, policy), policy) + WEIGHT * kl)


def test_siblings_and_references_leave_the_price_of_kl_as_it_is(dictate):
    task = Table(words=2, steps=2)
    env, policy, before = loaded(task, [4, 11]), policy_for(task), policy_for(task)
    with torch.no_grad():
        before.head.bias.add_(torch.tensor([0.5, -0.2]))
    wanted = -gradient(worth(task, env, policy), policy)
    gold = log_probability(policy, env, env.batch.target, env.batch.target_mask).mean()
    for problem in (4, 11):
        alone = loaded(task, [problem])
        actions, mask = all_answers(task, alone.batch)
        logp, old = (log_probability(one, alone, actions, mask) for one in (policy, before))
        wanted = wanted + WEIGHT / 2 * gradient((logp.exp() * (logp - old.detach())).sum(), policy)
    algorithm = made(before, k=2, baseline="leave_one_out", mle_weight=0.5,
                     kl={"weight": WEIGHT, "where": "both", "estimator": "exact"})
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), wanted - 0.5 * gradient(gold, policy))


def test_a_reference_that_the_policy_thinks_impossible_leaves_k3_finite():
    # log pi of the word 1 falls from about -1 to -200: nobody draws it, the reference mixed in holds it, exp(200) is no float32
    env, policy = loaded(Table(), [4]), policy_for(Table()).float()
    algorithm = made(policy, k=2, mle_weight=0.5, kl={"weight": WEIGHT, "where": "loss", "estimator": "k3"}).float()
    with torch.no_grad():
        policy.head.bias[1] = -200.0
        rollout = algorithm.collect(policy, env, 0.5)
    assert (rollout.grouped(rollout.actions)[:, 2] == 1).any() and not (rollout.grouped(rollout.actions)[:, :2] == 1).any()
    loss = algorithm.loss(policy, rollout)[0]
    assert torch.isfinite(loss) and torch.isfinite(gradient(loss, policy)).all()


def test_entropy_in_the_reward_is_the_entropy_of_answers(setting, dictate):
    task, env, policy, before = setting
    algorithm = made(before, entropy={"weight": WEIGHT, "where": "reward"})
    exact = Exact(env, policy, before)
    spread = gradient(-(exact.p * exact.logp.sum(1)).sum(), policy)
    steps = gradient(exact.visited(-exact.over_actions(exact.own.exp() * exact.own)), policy)
    assert (spread - steps).abs().max() > 1e-2, "the entropy of visited steps has another gradient"
    wanted = -gradient(worth(task, env, policy), policy)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), wanted - WEIGHT * spread)
    algorithm = made(before, entropy=WEIGHT)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), wanted - WEIGHT * steps)


def test_weights_follow_their_schedule_and_then_their_target(setting):
    # KL of a policy with itself is 0, below any target: the weight falls by 2% an update; entropy far below its target: rises
    task, env, policy, _ = setting
    falling = {"kind": "linear", "start": 1.0, "end": 0.5}
    algorithm = made(policy, kl={"weight": falling, "target": 3.0}, entropy={"weight": 0.1, "target": 50.0})
    for number in range(3):
        with torch.no_grad():
            log = algorithm.collect(policy, env, 0.5).log
        assert float(log["kl"]) == pytest.approx(0, abs=1e-9)
        assert float(log["kl_weight"]) == pytest.approx(0.75 * 0.98**number, abs=1e-6)
        assert float(log["entropy_weight"]) == pytest.approx(0.1 * 1.02**number, abs=1e-6)
    assert float(adapted(torch.tensor(2.0), torch.tensor(-0.1))) == pytest.approx(2 * 0.99, abs=1e-6)
    assert "sampler.regular.factors" in algorithm.state_dict(), "a resumed run goes on with the weights it had"


def test_the_policy_that_kl_is_measured_from_stays_as_it_was(setting):
    _, env, policy, _ = setting
    algorithm = made(policy, kl=0.5)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3)
        assert float(algorithm.collect(policy, env, 0.0).log["kl"].abs()) > 1e-3
    assert not any(one.requires_grad for one in algorithm.parameters())
    assert not list(made(policy).parameters()), "no copy is kept where KL is off"


@pytest.mark.parametrize("baseline", BASELINES)
def test_shaping_by_prefixes_leaves_every_baseline_unbiased(baseline, dictate):
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = made(policy, k=2, baseline=baseline, signal={"shaping": "prefix"})
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -gradient(worth(task, env, policy), policy))


def test_what_steps_earn_adds_up_to_the_reward_exactly():
    # worth of the prefixes 3, 1, 4 quarters, then STOP: 2 quarters; the differences are 3, -2, 3, -2
    mask = torch.tensor([[True, True, True, True], [True, False, False, False]])
    reward = torch.tensor([[0.0, 0.0, 0.0, 0.5], [0.25, 0.0, 0.0, 0.0]])
    found = shaped(reward, torch.tensor([[0.75, 0.25, 1.0, 9.0], [9.0, 9.0, 9.0, 9.0]]), mask)
    assert found.tolist() == [[0.75, -0.5, 0.75, -0.5], [0.25, 0.0, 0.0, 0.0]]
    task = Table(steps=3)
    env, policy = loaded(task, [4, 11, 7]), policy_for(task)
    torch.manual_seed(2)
    rollout = made(policy, k=4, signal={"shaping": "prefix"}).collect(policy, env, 0.0)
    paid = task.reward(env.batch, rollout.actions, rollout.mask)                      # multiples of 1/64: sums are exact
    assert torch.equal(rollout.reward.sum(1), paid) and (rollout.reward.abs() > 0).sum() > len(paid)


def test_a_running_scale_divides_the_gradient_by_the_deviation_of_earlier_rewards(dictate):
    # moving sums of 1, R and R^2 of 1/2, 1/4, 1/4: mean 1/2, mean square 1/2, deviation 1/2
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = made(policy, k=2, baseline="leave_one_out", signal={"scale": "running"})

    def prepare(one):
        fixed(one)
        one.sampler.moments.copy_(torch.tensor([0.5, 0.25, 0.25]))
    found = gradient(expected_loss(algorithm, task, env, policy, dictate, prepare), policy)
    same(found, -2 * gradient(worth(task, env, policy), policy))


def test_the_batchs_own_scale_is_biased_as_its_docstring_says(dictate):
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = made(policy, k=2, baseline="leave_one_out", signal={"scale": "batch"})
    found = gradient(expected_loss(algorithm, task, env, policy, dictate), policy)
    cosine = torch.cosine_similarity(found, -gradient(worth(task, env, policy), policy), dim=0)
    assert 0.5 < float(cosine) < 0.999


def test_a_clipped_reward_is_an_objective_of_its_own(dictate):
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = made(policy, k=2, baseline="leave_one_out", signal={"clip": 0.5})
    found = gradient(expected_loss(algorithm, task, env, policy, dictate), policy)
    task.worth = task.worth.clamp(max=0.5)
    same(found, -gradient(worth(task, env, policy), policy))


def test_scale_and_clip_say_what_steps_earn():
    task = Table(steps=2)
    env, policy = loaded(task, [4, 11]), policy_for(task)
    torch.manual_seed(2)
    options = ({}, {"scale": "batch"}, {"scale": "batch", "clip": 1.0})
    plain, scaled, cut = (made(policy, k=4, signal=one) for one in options)
    rewards = []
    for one in (plain, scaled, cut):
        torch.manual_seed(3)
        rewards.append(one.collect(policy, env, 0.0).reward.sum(1))
    wanted = rewards[0] / rewards[0].std(correction=0)
    assert torch.allclose(rewards[1], wanted, atol=1e-6) and torch.allclose(rewards[2], wanted.clamp(max=1.0), atol=1e-6)
    assert wanted.max() > 1


@pytest.mark.parametrize(("options", "said"), [
    ({"kl": {"weight": 0.0, "target": 3.0}}, "^algo.kl: target=3.0 multiplies the weight, which must be above 0"),
    ({"kl": -1.0}, "^algo.kl: weight: -1.0 must be 0 or more"),
    ({"kl": {"weight": 0.1, "target": -1.0}}, "must be 0 .off. or more"),
    ({"kl": {"estimator": "k4"}}, "^algo.kl.estimator='k4' is not one of k1, k2, k3, exact"),
    ({"entropy": {"wieght": 0.1}}, "^unknown option algo.entropy.wieght=0.1; did you mean 'weight'"),
    ({"signal": {"clip": -0.5}}, "^algo.signal: clip=-0.5 must be 0"),
    ({"signal": "prefix"}, "^algo.signal='prefix' is a group of"),
    ({"temperature": 0.0}, r"^algo: temperature=0.0 must lie in \[0.0001, 10000\]; for"),
    ({"top_p": 0.0}, "^algo: top_k=0 must be 0"),
    ({"most_weight": 0.0}, "^algo: most_weight=0.0 must be above 0"),
    ({"mle_weight": {"kind": "linear", "start": 1.0, "end": -1.0}}, "^algo: mle_weight: from 1.0 to -1.0 must be 0 or more")])
def test_options_that_make_no_sense_are_one_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        algos.make({"kind": "reinforce", **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["reinforce", "mixer", "actor_critic", "ppo", "grpo"])
def test_a_constant_length_is_1_or_more_and_divides(kind):
    with pytest.raises(ValueError, match="^algo.constant=30 has no effect with algo.normalise="):
        algos.make({"kind": kind, "k": 2, "constant": 30})
    with pytest.raises(ValueError, match=r"^algo.constant=0 must lie in \[1, 1000000\]"):
        algos.make({"kind": kind, "k": 2, "constant": 0})


def test_a_task_without_rewards_of_prefixes_is_refused_before_work(monkeypatch):
    algorithm, task = algos.make({"kind": "reinforce", "signal": {"shaping": "prefix"}}), Table()
    algorithm.suits(task)
    monkeypatch.setattr(Table, "has_prefix_reward", False)
    with pytest.raises(ValueError, match="^algo.signal.shaping=prefix needs rewards of unfinished answers, which task table"):
        algorithm.suits(task)


def test_the_references_weight_follows_its_schedule():
    task = Table()
    env, policy = loaded(task, [4, 11]), policy_for(task)
    algorithm = made(policy, k=2, mle_weight={"kind": "linear", "start": 0.0, "end": 1.0})
    assert algorithm.sampler.options.mle_weight == Schedule(0.0, 1.0, "linear")
    assert algorithm.collect(policy, env, 0.0).k == 2, "a weight of 0 costs nothing"
    late = algorithm.collect(policy, env, 0.5)
    assert late.k == 3 and float(late.grouped(late.weight)[:, 2].max()) == 0.5 * 2
