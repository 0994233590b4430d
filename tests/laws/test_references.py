"""Laws of the algorithms that are fed references: losses against plain formulas, scheduled sampling against enumeration."""

import itertools

import pytest
import torch

from rlseq.algos import attention_reg, coverage, make, scheduled_sampling
from rlseq.env import SequenceEnv
from rlseq.nn.policy import Shape
from tests.toys import TINY, Table, gradient, loaded, tiny_policy

SHAPES = {"lstm": {"encoder": "lstm", "decoder": "lstm"}, "gru": {"encoder": "lstm", "decoder": "gru", "attention": "dot"},
          "transformer": {}}
NORMALISE = ("token", "sequence", "sum")


def setting(shape="lstm", rule=True, problems=(4, 5, 12)):
    task = Table(words=4, steps=4, rule=rule)
    return loaded(task, list(problems)), tiny_policy(Shape(head="vocabulary", **{**TINY, **SHAPES[shape]}), task.sizes)


def plain_nll(policy, env, fed, normalise, smoothing=0.0):
    """-sum_t [(1 - e) log p(y_t) + e mean over legal a of log p(a)], one problem and one step after the other."""
    batch, totals, counts = env.batch, [], []
    legal = env.legal_along(batch.target)
    for b in range(len(batch)):
        alone, length = batch.rows(b, b + 1), int(batch.target_mask[b].sum())
        state, last, total = policy.start(policy.encode(alone), 1), None, 0.0
        for t in range(length):
            logp, state = policy.step(state, last, None if legal is None else legal[b:b + 1, t])
            open_ = torch.ones(logp.shape[1], dtype=torch.bool) if legal is None else legal[b, t]
            total = total - (1 - smoothing) * logp[0, batch.target[b, t]] - smoothing * logp[0, open_].mean()
            last = fed[b:b + 1, t]
        totals.append(total)
        counts.append(length)
    if normalise == "token":
        return sum(totals) / sum(counts)
    return sum(total / (count if normalise == "sequence" else 1) for total, count in zip(totals, counts)) / len(totals)


def agree(policy, found, wanted):
    """Value and gradient, float64 sums in another order."""
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-10)
    one, other = gradient(found, policy), gradient(wanted, policy)
    assert other.abs().max() > 1e-3 and (one - other).abs().max() < 1e-10


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("rule", [False, True], ids=["all legal", "rule"])
@pytest.mark.parametrize("shape", SHAPES)
def test_mle_is_the_plain_formula(shape, rule, smoothing, normalise):
    env, policy = setting(shape, rule)
    algorithm = make({"kind": "mle", "label_smoothing": smoothing, "normalise": normalise})
    loss, found = algorithm.loss(policy, algorithm.collect(policy, env, 0.0))
    agree(policy, loss, plain_nll(policy, env, env.batch.target, normalise, smoothing))
    assert float(found["nll"]) == pytest.approx(float(plain_nll(policy, env, env.batch.target, "token").detach()), abs=1e-10)


def sampling(**options):
    return make({"kind": "scheduled_sampling", "gold": {"kind": "linear", "start": 1, "end": 0.4}, **options})


@pytest.mark.parametrize("shape", SHAPES)
def test_scheduled_sampling_at_rate_0_is_mle_bit_for_bit(shape):
    env, policy = setting(shape)
    losses = []
    for algorithm in (make({"kind": "mle"}), sampling()):
        policy.train()
        torch.manual_seed(3)
        rollout = algorithm.collect(policy, env, 0.0)
        losses.append(algorithm.loss(policy, rollout)[0])
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(gradient(losses[0], policy), gradient(losses[1], policy))
    assert float(rollout.log["rate"]) == 0.0


@pytest.mark.parametrize("guess", ["sample", "argmax"])
@pytest.mark.parametrize("shape", SHAPES)
def test_scheduled_sampling_is_the_mean_over_all_that_could_be_fed(shape, guess, monkeypatch):
    # one reference of three actions: two inputs, each gold with probability 0.4 or one of four guesses
    env, policy = setting(shape, problems=(4,))
    steps = env.batch.target.shape[1]
    assert steps == 3
    target, legal = env.batch.target[0], env.legal_along(env.batch.target)[0]
    algorithm, rate = sampling(guess=guess), 0.6

    def likely(fed):
        """p(guess) at each step after what was fed: [T, A]; a Transformer's guesses come after the reference."""
        seen = target if shape == "transformer" else fed
        state, last, rows = policy.start(policy.encode(env.batch), 1), None, []
        for t in range(steps):
            logp, state = policy.step(state, last, legal[t:t + 1])
            rows.append(logp[0].exp().detach())
            last = seen[t:t + 1]
        p = torch.stack(rows)
        return p if guess == "sample" else torch.nn.functional.one_hot(p.argmax(1), 4).double()

    wanted, total = 0.0, 0.0
    for own in itertools.product([False, True], repeat=steps - 1):
        for guesses in itertools.product(range(4), repeat=sum(own)):
            fed, left = target.clone(), list(guesses)
            for t, swapped in enumerate(own):
                fed[t] = left.pop(0) if swapped else target[t]
            p = likely(fed)
            chance = 1.0
            for t, swapped in enumerate(own):
                chance *= rate * float(p[t, fed[t]]) if swapped else 1 - rate
            total += chance
            wanted = wanted + chance * plain_nll(policy, env, fed.unsqueeze(0), "token")
    assert total == pytest.approx(1, abs=1e-12)

    found, mass = 0.0, 0.0
    for own in itertools.product([False, True], repeat=steps - 1):
        for guesses in itertools.product(range(4), repeat=steps - 1):
            chances = []
            rollout = dictated(monkeypatch, algorithm, policy, env, own, guesses, chances)
            chance = torch.stack(chances).prod() if guess == "sample" else float(guesses == (0, 0))
            chance = float(chance) * rate ** sum(own) * (1 - rate) ** (steps - 1 - sum(own))
            mass += chance
            assert not rollout.fed.requires_grad
            found = found + chance * algorithm.loss(policy, rollout)[0]
            assert float(rollout.log["rate"]) == pytest.approx(sum(own) / (steps - 1))
            changed = (rollout.fed != rollout.actions)[0, :-1].float().mean()
            assert float(rollout.log["changed"]) == pytest.approx(float(changed))
    assert mass == pytest.approx(1, abs=1e-12)
    agree(policy, found, wanted)


def dictated(monkeypatch, algorithm, policy, env, own, guesses, chances):
    """Collect with a given choice of swapped inputs and given guesses; `chances` receives their probabilities."""
    steps, coins = len(own) + 1, [0.0 if swapped else 0.999 for swapped in own] + [0.999]
    queue = [*guesses, 0]
    sizes = []

    def uniform(rows, device):
        sizes.append(rows)
        return torch.tensor(coins) if len(sizes) == 1 else torch.zeros(rows)

    def draw(p, uniform):
        taken = torch.tensor([queue.pop(0) for _ in range(len(p))])
        p = p.gather(1, taken.unsqueeze(1)).squeeze(1)
        chances.extend(p[:max(0, steps - 1 - len(chances))])            # the last guess is heard by nobody
        return taken
    monkeypatch.setattr(scheduled_sampling.dist, "uniform", uniform)
    monkeypatch.setattr(scheduled_sampling, "draw", draw)
    with torch.no_grad():
        return algorithm.collect(policy, env, 1.0)


def test_the_realised_rate_is_close_to_the_set_one():
    # 600 references of 2 to 4 actions hold 1200 inputs: a share of 0.6 has a deviation of sqrt(.24 / 1200) = 0.014
    task = Table(words=4, steps=4)
    env, policy = setting()
    env = SequenceEnv(task)
    env.load(task.collate(list(range(24)) * 25))
    for shape in ("lstm", "transformer"):
        policy = tiny_policy(Shape(head="vocabulary", **{**TINY, **SHAPES[shape]}), task.sizes)
        rollout = sampling().collect(policy, env, 1.0)
        assert float(rollout.log["rate"]) == pytest.approx(0.6, abs=0.06)
        heard = rollout.mask[:, 1:]
        assert float(rollout.log["changed"]) <= float(rollout.log["rate"])
        swapped = ((rollout.fed != rollout.actions)[:, :-1] & heard).sum() / heard.sum()
        assert float(rollout.log["changed"]) == pytest.approx(float(swapped), abs=0.02)


def plain_unevenness(attention, length, positions):
    even = length / positions
    return sum((sum(float(attention[t][s]) for t in range(length)) - even) ** 2 for s in range(positions)) / positions


def plain_overlap(attention, length, positions):
    cover, total = [0.0] * positions, 0.0
    for t in range(length):
        for s in range(positions):
            total += min(float(attention[t][s]), cover[s])
            cover[s] += float(attention[t][s])
    return total / length


@pytest.mark.parametrize(("kind", "module", "plain"), [
    ("attention_reg", attention_reg, plain_unevenness), ("coverage", coverage, plain_overlap)])
@pytest.mark.parametrize("shape", SHAPES)
def test_penalties_equal_plain_loops_and_reach_the_attention(shape, kind, module, plain):
    env, policy = setting(shape)
    batch = env.batch
    weighed, free = make({"kind": kind, "weight": 0.7}), make({"kind": kind, "weight": 0.0})
    rollout = weighed.collect(policy, env, 0.0)
    attention = policy.score(rollout, attend=True).attention
    price = sum(plain(attention[n].detach(), int(rollout.mask[n].sum()), int(batch.source_mask[n].sum()))
                for n in range(len(batch))) / len(batch)
    loss, found = weighed.loss(policy, rollout)
    base, _ = free.loss(policy, rollout)
    assert price > 1e-4 and float(found["penalty"]) == pytest.approx(price, abs=1e-12)
    assert float((loss - base).detach()) == pytest.approx(0.7 * price, abs=1e-12)
    agree(policy, base, plain_nll(policy, env, batch.target, "token"))
    one = gradient(loss - base, policy)
    assert one.abs().max() > 1e-5
    # central differences along a fixed direction: error about step^2 = 1e-10 times a third derivative of order 10
    torch.manual_seed(0)
    way, step = [torch.randn_like(part) for part in policy.parameters()], 1e-5
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for part, direction in zip(policy.parameters(), way, strict=True):
                part.add_(sign * step * direction)
            ends.append(weighed.loss(policy, rollout)[0] - free.loss(policy, rollout)[0])
    slope = float(ends[0] - ends[1]) / (2 * step)
    along = float((one * torch.cat([direction.flatten() for direction in way])).sum())
    assert along == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_even_attention_costs_nothing_and_repeated_attention_its_overlap():
    # 4 actions over 2 positions: half each is even. All on one position: totals 4, 0 against 2, 2: (4 + 4) / 2 = 4
    mask, source = torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    even, one = torch.full((1, 4, 2), 0.5), torch.tensor([[[1.0, 0.0]] * 4])
    assert attention_reg.unevenness(even, mask, source).tolist() == [0.0]
    assert attention_reg.unevenness(one, mask, source).tolist() == [4.0]
    # overlap: the first step finds nothing covered; the three others pay 1 each, a mean of 3/4 over four actions
    assert coverage.overlap(one, mask, source).tolist() == [0.75]
    apart = torch.eye(4).unsqueeze(0)
    assert coverage.overlap(apart, mask, torch.ones(1, 4, dtype=torch.bool)).tolist() == [0.0]


@pytest.mark.parametrize("kind", ["attention_reg", "coverage"])
def test_a_policy_without_attention_is_refused(kind):
    task = Table()
    policy = tiny_policy(Shape(head="vocabulary", **TINY, encoder="lstm", decoder="lstm", attention="none"), task.sizes)
    with pytest.raises(ValueError, match="no attention"):
        make({"kind": kind}).prepare(policy)
