"""Laws of algorithms, for every YAML of conf/algo: what they descend is what they say, in expectation and exactly."""

from dataclasses import replace

import pytest
import torch

from rlseq import algos, exact
from tests.toys import (
    TINY,
    Table,
    algorithm_of,
    all_answers,
    configured,
    gradient,
    is_sampler,
    loaded,
    log_probability,
    task_for,
    tiny_policy,
    tiny_shape,
)

NAMES = sorted(configured("algo"))
SAMPLERS = [name for name in NAMES if is_sampler(name)]
UNBIASED = [name for name in SAMPLERS if not algos.make(configured("algo")[name]).bias]   # the others say why; the lab measures
SHAPES = {"lstm": {"head": "vocabulary", "encoder": "lstm", "decoder": "lstm"}, "transformer": {"head": "vocabulary"}}
PURE = {"normalise": "sum", "mle_weight": 0.0, "entropy": 0.0, "delta": 1.0}      # the policy gradient and nothing else
BASELINES = ("none", "mean", "greedy", "leave_one_out", "learned")


def policy_for(task, shape="lstm"):
    return tiny_policy(tiny_shape({**SHAPES[shape], **TINY}), task.sizes)


def reinforce(policy, **options):
    algorithm = algos.make({"kind": "reinforce", "k": 2, **options})
    torch.manual_seed(1)
    algorithm.prepare(policy)
    return algorithm.double()


def fixed(algorithm):
    """A moving mean of 1/2 over what came before, as if many batches had been seen; exact in float32."""
    algorithm.mean.copy_(torch.tensor([0.25, 0.5]))


def every_draw(task, env, policy, k):
    """All B*k-tuples of answers and their probabilities: yields [N, T] and a float."""
    return exact.every_draw(policy, env, k)


def expected_loss(algorithm, task, env, policy, dictate, prepare=fixed):
    """Sum over all draws of probability x the algorithm's own loss; its gradient is the expected gradient."""
    total = 0.0
    for actions, probability in every_draw(task, env, policy, algorithm.k):
        dictate(actions)
        if hasattr(algorithm, "mean"):
            prepare(algorithm)
        with torch.no_grad():
            rollout = algorithm.collect(policy, env, 0.5)
        total = total + probability * algorithm.loss(policy, rollout)[0]
    return total


def worth(task, env, policy):
    """J = mean over problems of sum_y p(y | x) R(y), by enumeration; carries gradient."""
    return exact.worth(policy, env)


def same(found, wanted, scale=1.0):
    """Gradients of order 0.1, sums of a few hundred float64 terms: an error of 1e-8 is no rounding."""
    assert wanted.abs().max() > 1e-3 * scale, "the law would hold for nothing"
    assert (found - wanted).abs().max() < 1e-8


@pytest.mark.parametrize("rule", [False, True], ids=["all legal", "rule"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", UNBIASED)
def test_the_expected_gradient_is_that_of_the_expected_reward(name, shape, rule, dictate):
    task = Table(rule=rule, steps=3 if rule else 2)                    # 36 or 49 pairs of answers
    env, policy = loaded(task, [4]), policy_for(task, shape)
    algorithm = algorithm_of(name, policy, {**PURE, "k": 2})
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -gradient(worth(task, env, policy), policy))


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_is_unbiased_for_two_problems_with_two_answers_each(baseline, dictate):
    task = Table(words=2, steps=2)                                     # 3 answers, 81 draws of 2 x 2
    env, policy = loaded(task, [4, 11]), policy_for(task)
    algorithm = reinforce(policy, baseline=baseline)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -gradient(worth(task, env, policy), policy))


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_is_unbiased_with_a_rule(baseline, dictate):
    task = Table(rule=True)
    env, policy = loaded(task, [5]), policy_for(task)
    algorithm = reinforce(policy, baseline=baseline)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -gradient(worth(task, env, policy), policy))


@pytest.mark.parametrize("name", UNBIASED)
def test_a_constant_reward_gives_no_expected_gradient(name, dictate):
    task = Table(steps=2, same=0.75)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = algorithm_of(name, policy, {**PURE, "k": 2})
    assert gradient(expected_loss(algorithm, task, env, policy, dictate), policy).abs().max() < 1e-8


def test_a_constant_length_divides_the_gradient(dictate):
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = reinforce(policy, normalise="constant", constant=16)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy),
         -gradient(worth(task, env, policy), policy) / 16, 1 / 16)


def test_normalising_by_sequence_divides_each_answer_by_its_length(dictate):
    # without a baseline: E = -sum_y p(y) R(y) / |y| grad log p(y), which is grad sum_y p(y) R(y) / |y| by definition
    task = Table(steps=3)
    env, policy = loaded(task, [4]), policy_for(task)
    actions, mask = all_answers(task, env.batch)
    reward = task.reward(env.batch, actions, mask) / mask.sum(1)
    wanted = gradient((log_probability(policy, env, actions, mask).exp() * reward).sum(), policy)
    algorithm = reinforce(policy, k=1, baseline="none", normalise="sequence")
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), -wanted)


@pytest.mark.parametrize("normalise", ["sum", "constant"])
def test_mle_weight_adds_the_references_log_likelihood(normalise, dictate):
    task = Table(words=2, steps=2)
    env, policy = loaded(task, [4, 11]), policy_for(task)
    algorithm = reinforce(policy, mle_weight=0.3, normalise=normalise, **({"constant": 4} if normalise == "constant" else {}))
    gold = log_probability(policy, env, env.batch.target, env.batch.target_mask).mean()
    wanted = -gradient(worth(task, env, policy), policy) - 0.3 * gradient(gold, policy)
    wanted = wanted / 4 if normalise == "constant" else wanted
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), wanted)


def test_the_entropy_bonus_is_the_entropy_of_the_visited_steps(dictate):
    # its gradient is taken at the steps that were visited, not through the visiting
    task = Table(rule=True, steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = reinforce(policy, entropy=0.1)
    bonus = 0.0
    for actions, probability in every_draw(task, env, policy, 2):
        mask = (actions == 0).cumsum(1) - (actions == 0).long() == 0
        legal = env.legal_along(actions)
        logp = policy.log_probs(policy.encode(env.batch), actions, legal)
        spread = -(logp.exp() * logp).masked_fill(~legal, 0.0).sum(2)
        bonus = bonus + probability * (spread * mask).sum() / 2
    wanted = -gradient(worth(task, env, policy), policy) - 0.1 * gradient(bonus, policy)
    same(gradient(expected_loss(algorithm, task, env, policy, dictate), policy), wanted)


def test_the_critic_learns_and_leaves_the_policy_alone(dictate):
    task = Table(steps=2)
    env, policy = loaded(task, [4, 7]), policy_for(task)
    algorithm = reinforce(policy, baseline="learned", k=1)
    total, miss = expected_loss(algorithm, task, env, policy, dictate), 0.0
    value = algorithm.value(policy.encode(env.batch).summary.detach())
    for actions, probability in every_draw(task, env, policy, 1):
        mask = (actions == 0).cumsum(1) - (actions == 0).long() == 0
        miss = miss + probability * (value.squeeze(1) - task.reward(env.batch, actions, mask)).square().mean()
    found = torch.autograd.grad(total, list(algorithm.value.parameters()), retain_graph=True)
    wanted = torch.autograd.grad(miss, list(algorithm.value.parameters()))
    assert max(one.abs().max() for one in wanted) > 1e-3
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 1e-8
    same(gradient(total, policy), -gradient(worth(task, env, policy), policy))


def test_the_moving_mean_is_of_earlier_batches_only(dictate):
    task = Table(steps=2)
    env, policy = loaded(task, [4]), policy_for(task)
    algorithm = algos.make({"kind": "reinforce", "k": 2, "baseline": "mean"})
    actions, mask = all_answers(task, env.batch)
    reward = task.reward(env.batch, actions, mask)
    history = []
    for row in (0, 2, 4):
        dictate(actions[row:row + 2])
        rollout = algorithm.collect(policy, env, 0.0)
        weights = [0.95**age for age in reversed(range(len(history)))]
        base = sum(w * r for w, r in zip(weights, history)) / sum(weights) if history else 0.0
        assert rollout.weight[0, 0] == pytest.approx(float(reward[row]) - base, abs=1e-6)      # float32
        history.append(float(reward[row:row + 2].mean()))


def with_garbage(rollout):
    """The same answers, with other actions and weights after STOP and two columns more of them."""
    def longer(rows, fill):
        return None if rows is None else torch.cat([rows, torch.full_like(rows[:, :1], fill).expand(
            -1, 2, *rows.shape[2:])], 1)
    changed = {"actions": longer(rollout.actions, 1), "mask": longer(rollout.mask, False),
               "legal": longer(rollout.legal, True), "fed": longer(rollout.fed, 1)}
    for name in ("logp", "reward", "weight"):
        changed[name] = longer(getattr(rollout, name), 0.0)
    after = ~changed["mask"]
    changed["actions"] = torch.where(after, 2, changed["actions"])
    changed["weight"] = torch.where(after, 3.0, changed["weight"])
    changed["fed"] = None if changed["fed"] is None else torch.where(after, 2, changed["fed"])
    extra = {name: torch.where(after, -3.0, longer(one, 0.0)) if one.dim() > 1 else one
             for name, one in rollout.extra.items()}
    return replace(rollout, **changed, extra=extra)


@pytest.mark.parametrize("shape", ["lstm", "lstm with a rule", "transformer", "pointer"])
@pytest.mark.parametrize("name", NAMES)
def test_what_stands_after_stop_changes_neither_loss_nor_gradient(name, shape):
    if shape == "pointer":                             # other heads than the vocabulary's score padding as well
        task = task_for("sort", "pointer")
        env = loaded(task, [one for one in (task.examples("dev")[i] for i in range(60)) if len(one.values) in (3, 4, 5)][:3])
        env.load(replace(env.batch, source=env.batch.source.double()))
        policy = tiny_policy(tiny_shape({"head": "pointer", "encoder": "lstm"}), task.sizes)
    else:
        task = Table(words=4, steps=4, rule="rule" in shape)
        env, policy = loaded(task, [4, 11, 14]), policy_for(task, shape.split()[0])
    algorithm = algorithm_of(name, policy, {"k": 3, "label_smoothing": 0.1, "entropy": 0.1, "mle_weight": 0.1})
    with torch.no_grad():
        rollout = algorithm.collect(policy, env, 0.7)
    assert not rollout.mask.all()
    loss, other = (algorithm.loss(policy, one)[0] for one in (rollout, with_garbage(rollout)))
    assert float(loss.detach()) == pytest.approx(float(other.detach()), abs=1e-12)
    assert (gradient(loss, policy) - gradient(other, policy)).abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_pure_and_collect_leaves_no_gradient(name):
    task = Table()
    env, policy = loaded(task, [4, 11]), policy_for(task)
    algorithm = algorithm_of(name, policy, {"k": 2})
    with torch.no_grad():
        rollout = algorithm.collect(policy, env, 0.5)
    assert not any(one.requires_grad for one in vars(rollout).values() if isinstance(one, torch.Tensor))
    first, second = algorithm.loss(policy, rollout)[0], algorithm.loss(policy, rollout)[0]
    assert torch.equal(first, second) and first.requires_grad and first.dim() == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_names_options_that_its_algorithm_has(name):
    assert isinstance(algos.make(configured("algo")[name]), algos.Algorithm)
    with pytest.raises(ValueError, match="unknown option algo.no_such_option"):
        algos.make({**configured("algo")[name], "no_such_option": 1})
