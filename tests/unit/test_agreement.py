"""R-Drop: the loss of two passes and its gradient, equal to what the paper states, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from rlseq import algos
from rlseq.algos import make
from rlseq.algos.base import normalised, reference
from rlseq.nn import softmax
from rlseq.nn.agreement import agreeing
from rlseq.nn.linear import product
from rlseq.nn.policy import Policy, Shape
from rlseq.pretrain import pretrain
from rlseq.types import NEVER
from tests.laws.test_training import trainer
from tests.toys import TINY, Table, gradient, loaded, task_for, tiny_policy
from tests.unit.test_locks import tiny

M, A, H = 7, 11, 6


def given(dtype=torch.float64):
    torch.manual_seed(0)
    made = [torch.randn(*size, dtype=dtype, requires_grad=True) for size in ((M, H), (M, H), (A, H), (A,))]
    return made, torch.randint(A, (M,)), torch.rand(M, dtype=dtype)


def stated(first, second, weight, bias, actions, g, smoothing, price):
    """The loss of the paper, halved, from whole tables of log-probabilities."""
    p, q = ((states @ weight.t() + bias).log_softmax(1) for states in (first, second))
    nll = [-(1 - smoothing) * one.gather(1, actions[:, None]).squeeze(1) - smoothing * one.mean(1) for one in (p, q)]
    kl = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(1)
    back = torch.nn.functional.kl_div(p, q, reduction="none", log_target=True).sum(1)
    return (g * ((nll[0] + nll[1] + price * (kl + back) / 2) / 2)).sum(), kl + back


@pytest.mark.parametrize("block", [1, 2 * A, 1000])                     # a row, two rows, everything at once
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("price", [0.0, 5.0])
def test_blocks_equal_the_loss_of_the_paper_in_values_and_gradients(monkeypatch, block, smoothing, price):
    monkeypatch.setattr(softmax, "BLOCK", {"cpu": block, "cuda": block})
    monkeypatch.setattr(softmax, "ROWS", 1)
    (first, second, weight, bias), actions, g = given()
    loss, logp, gap = agreeing((first, second), weight, bias, actions, g, smoothing, price)
    plain, kls = stated(first, second, weight, bias, actions, g, smoothing, price)
    assert torch.allclose(loss, plain, atol=1e-12, rtol=0) and torch.allclose(gap, kls, atol=1e-12, rtol=0)
    both = [(states @ weight.t() + bias).log_softmax(1).gather(1, actions[:, None]).squeeze(1) for states in (first, second)]
    assert torch.allclose(logp, (both[0] + both[1]) / 2, atol=1e-12, rtol=0)
    into = [first, second, weight, bias]
    for one, other in zip(torch.autograd.grad(3 * loss, into), torch.autograd.grad(3 * plain, into), strict=True):
        assert torch.allclose(one, other, atol=1e-12, rtol=0)


def test_its_gradient_is_that_of_finite_differences():
    (first, second, weight, bias), actions, g = given()
    assert gradcheck(lambda *parts: agreeing(parts[:2], *parts[2:], actions, g, 0.1, 5.0)[0], (first, second, weight, bias))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_lower_precision_is_near(dtype, tolerance):
    made, actions, g = given()
    exact, lower = made, [one.detach().to(dtype).requires_grad_() for one in made]
    plain = stated(*exact, actions, g, 0.1, 5.0)[0]
    loss = agreeing(lower[:2], *lower[2:], actions, g.float(), 0.1, 5.0)[0]
    assert loss.dtype == torch.float32 and abs(float((loss / plain).detach()) - 1) < tolerance
    for one, other in zip(torch.autograd.grad(loss, lower), torch.autograd.grad(plain, exact), strict=True):
        assert one.dtype == dtype and (one.double() - other).norm() < tolerance * other.norm()


def scored(policy, rollout, smoothing, normalise, price):
    """Loss, what it logs and its gradient for two draws of dropout, the same whenever this is called."""
    torch.manual_seed(2)
    loss, found = make({"kind": "mle", "label_smoothing": smoothing, "normalise": normalise,
                        "consistency": price}).loss(policy, rollout)
    return loss, found, gradient(loss, policy)


def dropping(head, examples=(0, 1, 2, 3, 4)):
    """A policy in training that drops out, and references, of unequal lengths unless said otherwise."""
    task = Table(words=4, steps=4) if head == "vocabulary" else task_for({"pointer": "hull", "copy": "sort"}[head], head)
    policy = tiny_policy(Shape(head, **TINY | {"dropout": 0.3}), task.sizes).train()
    rollout = reference(loaded(task, [task.examples("train")[i] for i in examples]))
    if head != "vocabulary":                                                       # points and numbers are float32
        return policy.float(), rollout
    return policy, replace(rollout, weight=rollout.weight.double())


@pytest.mark.parametrize("normalise", ["token", "sequence", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("head", ["vocabulary", "pointer", "copy"])
def test_mle_with_consistency_is_the_plain_formula(head, smoothing, normalise):
    policy, rollout = dropping(head)
    torch.manual_seed(2)
    losses, passes = [], []
    for _ in range(2):
        if head == "vocabulary":                    # what is padding is not computed there, and draws nothing
            logp = policy.head.logits(policy.states(rollout), None, None).log_softmax(2)
        else:
            logp = policy.log_probs(policy.encode(rollout.batch), rollout.actions, rollout.legal)
        possible = logp > NEVER / 2
        even = (logp * possible).sum(2) / possible.sum(2)
        losses.append(-(1 - smoothing) * logp.gather(2, rollout.actions.unsqueeze(2)).squeeze(2) - smoothing * even)
        passes.append(logp)
    one, other = passes
    gap = (one.exp() * (one - other)).sum(2) + (other.exp() * (other - one)).sum(2)
    wanted = normalised((sum(losses) / 2 + 5 / 4 * gap) * rollout.mask, rollout, normalise)
    loss, found, slope = scored(policy, rollout, smoothing, normalise, 5.0)
    close = 1e-10 if head == "vocabulary" else 1e-5
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), abs=close)
    assert (slope - gradient(wanted, policy)).abs().max() < close * max(1, slope.abs().max()) and slope.abs().max() > 1e-3
    between = float(((gap * rollout.mask).sum() / rollout.mask.sum()).detach())
    assert float(found["disagreement"]) == pytest.approx(between, abs=close)
    assert float(found["disagreement"]) > 1e-3


def test_what_is_legal_everywhere_takes_the_other_way_to_the_same():
    policy, rollout = dropping("vocabulary", (1, 4, 7))                             # all as long, so that they draw alike
    every = torch.ones(*rollout.actions.shape, 4, dtype=torch.bool)
    one, other = (scored(policy, replace(rollout, legal=legal), 0.1, "token", 5.0) for legal in (None, every))
    assert float(one[0].detach()) == pytest.approx(float(other[0].detach()), abs=1e-10)
    assert (one[2] - other[2]).abs().max() < 1e-10


def test_without_dropout_nothing_disagrees_and_the_loss_is_that_of_mle():
    policy, rollout = dropping("vocabulary")
    found = [make({"kind": "mle", "label_smoothing": 0.1, "consistency": price}).loss(policy.eval(), rollout)
             for price in (0.0, 5.0)]
    assert abs(float(found[1][1]["disagreement"])) < 1e-12
    assert (gradient(found[0][0], policy) - gradient(found[1][0], policy)).abs().max() < 1e-12


@pytest.mark.parametrize(("options", "said"), [
    ({"consistency": -1}, "must lie in"), ({"consistency": float("nan")}, "finite"),
    ({"consistency": 5, "dropout": False}, "leave one of them out")])
def test_a_price_that_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        make({"kind": "mle", **options})


@pytest.mark.parametrize("rule", [False, True], ids=["one softmax", "two tables"])
def test_slices_add_up_to_the_whole_batch(tmp_path, monkeypatch, rule):
    decode, calls = Policy._decode, []                                  # dropout draws anew for every slice; this does not

    def shrunk(*given):
        calls.append(0)
        states, *more = decode(*given)
        return states * (1.0 if len(calls) % 2 else 0.7), *more

    found, seen = [], []
    for slices in (1, 3):
        one = trainer("mle", tmp_path / str(slices), {"dropout": 0.0}, log := [], precise=True, batch=7, updates=4, every=9,
                      lr=1e-2, warmup=0, task=Table(words=4, steps=4, rule=rule),
                      changes={"consistency": 5.0, "label_smoothing": 0.1})
        one.accumulate, one.judge = slices, lambda policy: 0.0
        monkeypatch.setattr(Policy, "_decode", shrunk)
        one.run()
        monkeypatch.undo()
        found.append(one.learner.state_dict())
        seen.append([values["disagreement"] for _, values in log if "disagreement" in values])
    assert all((value - found[1][name]).abs().max() < 1e-7 for name, value in found[0].items())
    assert len(seen[0]) == 4 and seen[0] == pytest.approx(seen[1], abs=1e-6) and min(seen[0]) > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_row_after_the_stop_where_nothing_is_legal_does_not_matter(smoothing):
    policy, rollout = dropping("vocabulary")
    every = torch.ones(*rollout.actions.shape, 4, dtype=torch.bool)
    assert not rollout.mask.all()
    one, other = (scored(policy, replace(rollout, legal=legal), smoothing, "token", 5.0)
                  for legal in (every, every & rollout.mask.unsqueeze(2)))
    assert float(one[0].detach()) == pytest.approx(float(other[0].detach()), abs=1e-10)
    assert (one[2] - other[2]).abs().max() < 1e-10


def test_autocast_lowers_the_products_and_nothing_else():
    made, actions, g = given(torch.float32)
    first, second, weight, bias = (one.detach().bfloat16() for one in made)
    p, q = (product(4 * states, weight, bias).double().log_softmax(1) for states in (first, second))   # peaked, as trained
    with torch.autocast("cpu", torch.bfloat16):
        loss, logp, gap = agreeing((4 * made[0], 4 * made[1]), *made[2:], actions, g, 0.1, 5.0)
    kls = ((p.exp() - q.exp()) * (p - q)).sum(1)
    chosen = (p + q).gather(1, actions[:, None]).squeeze(1) / 2
    assert loss.dtype == logp.dtype == gap.dtype == torch.float32
    assert torch.allclose(gap.double(), kls, rtol=1e-5) and torch.allclose(logp.double(), chosen, rtol=1e-5)


def test_pretraining_asks_for_it(tmp_path, monkeypatch):
    asked, make_ = [], algos.make
    monkeypatch.setattr(algos, "make", lambda options: asked.append(options) or make_(options))
    setup = tiny(tmp_path)
    setup = replace(setup, pretrain=replace(setup.pretrain, consistency=5.0), shape=replace(setup.shape, dropout=0.1))
    pretrain(setup)
    diary = [json.loads(line) for line in next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()]
    seen = [line["disagreement"] for line in diary if "dev" not in line]
    assert asked[-1]["consistency"] == 5.0 and len(seen) == 3 and min(seen) > 0
