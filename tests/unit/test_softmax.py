import pytest
import torch

from rlseq.algos.base import reference
from rlseq.algos.mle import smoothed_nll
from rlseq.env import SequenceEnv
from rlseq.nn import softmax
from rlseq.nn.encoders import Memory
from rlseq.nn.heads import Head, Vocabulary
from rlseq.nn.policy import Shape, make_policy
from rlseq.types import Batch, Foreseen, Sizes
from tests.toys import TINY, Table

N, T, A, H = 3, 5, 11, 6


def given(legal):
    torch.manual_seed(0)
    head = Vocabulary(Sizes(source_ids=A, vocabulary=A), H, None).double()
    states = torch.randn(N, T, H, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(A, (N, T))
    mask = torch.arange(T) < torch.tensor([[5], [2], [4]])
    allowed = (torch.rand(N, T, A) < 0.5).scatter(2, actions.unsqueeze(2), True) if legal else None
    nothing = torch.zeros(N, 1, dtype=torch.long)
    batch = Batch(nothing, nothing.bool(), nothing, nothing.bool(), A)
    return head, states, Memory(states, mask, states[:, 0], batch), actions, mask, allowed


@pytest.mark.parametrize("block", [1, 2 * A, 1000])                # a row, two rows, everything at once
@pytest.mark.parametrize("legal", [False, True])
@pytest.mark.parametrize("detail", [False, True])
def test_blocks_equal_the_plain_softmax_in_values_and_gradients(monkeypatch, block, legal, detail):
    monkeypatch.setattr(softmax, "BLOCK", {"cpu": block, "cuda": block})
    monkeypatch.setattr(softmax, "ROWS", 1)
    head, states, memory, actions, mask, allowed = given(legal)
    plain = Head.score(head, states, memory, None, actions, mask, allowed, detail)
    fast = head.score(states, memory, None, actions, mask, allowed, detail)
    asked = [(plain.logp, fast.logp)] + ([(plain.entropy, fast.entropy), (plain.smooth, fast.smooth)] if detail else [])
    above = [torch.randn(N, T, dtype=torch.float64) * mask for _ in asked]
    for one, other in asked:
        assert torch.allclose(one * mask, other * mask, atol=1e-12, rtol=0)
    sums = [sum((side[i] * above[j]).sum() for j, side in enumerate(asked)) for i in (0, 1)]
    into = [states, head.words.weight, head.bias]
    for one, other in zip(*(torch.autograd.grad(total, into) for total in sums)):
        assert torch.allclose(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("legal", [False, True])
def test_several_actions_of_a_row_are_those_one_by_one(monkeypatch, legal):
    monkeypatch.setattr(softmax, "BLOCK", {"cpu": 2 * A, "cuda": 2 * A})
    monkeypatch.setattr(softmax, "ROWS", 1)
    head, states, _, _, mask, allowed = given(legal)
    several = torch.randint(A, (N, T, 4))                               # of eleven: some twice
    if legal:
        allowed = allowed.scatter(2, several, True)
    above, into = torch.randn(N, T, 4, dtype=torch.float64), [states, head.words.weight, head.bias]
    found, *details = head.of_actions(states, several, mask, allowed, True)
    alone = [head.of_actions(states, one, mask, allowed, True) for one in several.unbind(2)]
    assert torch.allclose(found, torch.stack([one[0] for one in alone], 2), atol=1e-12, rtol=0) and found[1, 3].eq(0).all()
    assert all(torch.equal(*pair) for pair in zip(details, alone[0][1:], strict=True))
    more = [torch.randn(N, T, dtype=torch.float64) for _ in details]
    detailed = sum((one * by).sum() for one, by in zip(details, more))
    single = sum((one[0] * above[..., k]).sum() for k, one in enumerate(alone)) + sum(
        (one * by).sum() for one, by in zip(alone[0][1:], more))
    for one, other in zip(*(torch.autograd.grad(total, into) for total in ((found * above).sum() + detailed, single))):
        assert torch.allclose(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("guess", ["right", "wrong", "zero"])
@pytest.mark.parametrize("smoothing", [None, 0.0, 0.1])            # none: no details are asked for
@pytest.mark.parametrize("legal", [False, True])
@pytest.mark.parametrize("block", [2 * A, 1000])
def test_a_foreseen_gradient_changes_nothing(monkeypatch, block, legal, smoothing, guess):
    monkeypatch.setattr(softmax, "BLOCK", {"cpu": block, "cuda": block})
    monkeypatch.setattr(softmax, "ROWS", 1)
    head, states, memory, actions, mask, allowed = given(legal)
    above = torch.randn(N, T, dtype=torch.float64) * mask
    foreseen = Foreseen({"right": -3 * above, "wrong": above + mask, "zero": 0 * above}[guess], smoothing or 0.0)
    products = []
    monkeypatch.setattr(softmax, "outer", lambda *pair: products.append(pair) or pair[0].t() @ pair[1])
    found = []
    for given_guess in (None, foreseen):
        scores = head.score(states, memory, None, actions, mask, allowed, smoothing is not None, given_guess)
        before = len(products)
        smoothed = (1 - smoothing) * scores.logp + smoothing * scores.smooth if smoothing else scores.logp
        found.append([smoothed, *torch.autograd.grad((smoothed * above).sum(), [states, head.words.weight, head.bias])])
    for one, other in zip(*found):
        assert torch.allclose(one, other, atol=1e-12, rtol=0)
    assert (len(products) == before) == (guess == "right")               # what was foreseen is not computed again


def test_a_gradient_of_the_entropy_is_none_that_was_foreseen():
    head, states, memory, actions, mask, _ = given(False)
    into = [states, head.words.weight, head.bias]
    found = []
    for foreseen in (None, Foreseen(mask.double(), 0.1)):
        scores = head.score(states, memory, None, actions, mask, None, True, foreseen)
        total = ((0.9 * scores.logp + 0.1 * scores.smooth + 0.01 * scores.entropy) * mask).sum()
        found.append(torch.autograd.grad(total, into))
    for one, other in zip(*found):
        assert torch.allclose(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("normalise", ["token", "sequence", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mle_is_foreseen(monkeypatch, normalise, smoothing):
    found, factor = [], softmax.Gradient.factor
    monkeypatch.setattr(softmax.Gradient, "factor", lambda *given: found.append(factor(*given)) or found[-1])
    task = Table(words=4, steps=4)
    policy, env = make_policy(task.sizes, Shape(head="vocabulary", **TINY)), SequenceEnv(task)
    env.load(task.collate([task.examples("train")[i] for i in range(6)]))
    smoothed_nll(policy, reference(env), smoothing, normalise)[0].backward()
    assert len(found) == 1 and found[0] is not None


def test_results_are_no_coarser_than_float32_under_autocast():
    head, states, memory, actions, mask, _ = given(False)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head.float().score(states.float(), memory, None, actions, mask, None, True)
    assert {scores.logp.dtype, scores.entropy.dtype, scores.smooth.dtype} == {torch.float32}


def test_no_block_means_no_tensor_of_all_rows_and_all_actions(monkeypatch):
    sizes = []
    product = softmax.product
    monkeypatch.setattr(softmax, "BLOCK", {"cpu": 2 * A, "cuda": 2 * A})
    monkeypatch.setattr(softmax, "ROWS", 1)
    monkeypatch.setattr(softmax, "product", lambda *parts: sizes.append((out := product(*parts)).numel()) or out)
    head, states, memory, actions, mask, _ = given(False)
    head.score(states, memory, None, actions, mask, None, False).logp.sum().backward()
    assert max(sizes) == 2 * A


def test_an_answer_without_a_step_is_scored():
    head, states, memory, actions, mask, _ = given(False)
    scores = head.score(states, memory, None, actions, mask & False, None, True, Foreseen(mask.double(), 0.1))
    assert torch.autograd.grad(scores.smooth.sum(), states)[0].abs().max() == 0
    assert scores.logp.shape == (N, T) and scores.logp.dtype == scores.entropy.dtype == torch.float64
