"""The policy as a whole: options, tying, what gradients reach, beams that part and meet."""

import pytest
import torch

from rlseq.build import build
from rlseq.nn.policy import Shape, make_policy
from rlseq.types import Sizes
from tests.toys import TINY, Table, gradient, loaded, tiny_policy

WORDS = Sizes(source_ids=6, vocabulary=6, shared=True)


@pytest.mark.parametrize(("options", "said"), [
    ({"width": 0}, "policy.width=0 is not int from 1 to"), ({"dropout": 1.0}, "policy.dropout=1.0"),
    ({"head": "pointer", "pointing": "none"}, "must point"), ({"attention": "bahdanau"}, "one of none, dot"),
    ({"witdh": 3}, "did you mean 'width'"), ({"width": "wide"}, "is not int"), ({"tied": 1}, "is not bool")])
def test_wrong_options_are_one_clear_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        build(Shape, {"head": "vocabulary", **options}, where="policy")
    assert "\n" not in str(error.value)


def test_width_and_heads_must_fit():
    with pytest.raises(ValueError, match="not a multiple"):
        make_policy(WORDS, Shape(head="vocabulary", width=10, heads=4))


@pytest.mark.parametrize(("tied", "shared", "together"), [(True, True, True), (False, True, False), (True, False, False)])
def test_embeddings_are_tied_where_asked_and_possible(tied, shared, together):
    policy = make_policy(Sizes(6, 0, 6, shared), Shape(head="vocabulary", tied=tied, **TINY))
    assert (policy.head.words is policy.source.embed) == together
    assert len({id(one) for one in policy.parameters()}) == len(list(policy.parameters()))


@pytest.mark.parametrize("decoder", ["transformer", "lstm", "gru"])
def test_every_parameter_is_heard(decoder):
    task = Table(words=4, steps=4)
    policy = tiny_policy(Shape(head="vocabulary", decoder=decoder, tied=False, **TINY), task.sizes)
    env = loaded(task, list(range(12)))
    scores = policy(policy.encode(env.batch), env.batch.target, env.batch.target_mask)
    loss = (scores.logp * env.batch.target_mask).sum()
    grads = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    silent = [name for (name, _), one in zip(policy.named_parameters(), grads, strict=True)
              if one is None or not one.any()]
    assert not silent, silent
    assert gradient(loss.detach().requires_grad_(), policy).eq(0).all()


@pytest.mark.parametrize("decoder", ["transformer", "lstm"])
def test_selected_rows_continue_their_own_past(decoder):
    # rows 1 and 0 of one problem swapped mid-way score what they would have scored unswapped
    task = Table(words=4, steps=4)
    policy = tiny_policy(Shape(head="vocabulary", decoder=decoder, **TINY), task.sizes)
    env, first, second = loaded(task, [3]), torch.tensor([1, 2]), torch.tensor([3, 3])
    state = policy.step(policy.start(policy.encode(env.batch), 2), None)[1]
    _, state = policy.step(state, first)
    plain, _ = policy.step(state, second)
    swapped, _ = policy.step(state.select(torch.tensor([1, 0])), second)
    both, _ = policy.step(state.select(torch.tensor([1, 1])), second)
    assert torch.equal(plain, swapped.flip(0)) and torch.equal(both, plain[[1, 1]])
    assert (plain[0] - plain[1]).abs().max() > 1e-6


def test_what_is_fed_may_differ_from_what_is_scored():
    task = Table(words=4, steps=4)
    policy, env = tiny_policy(Shape(head="vocabulary", **TINY), task.sizes), loaded(task, [2])
    memory, actions = policy.encode(env.batch), torch.tensor([[1, 2, 3, 0]])
    mask, fed = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[3, 2, 3, 0]])
    scores = policy(memory, actions, mask, fed=fed).logp
    other = policy.log_probs(memory, fed).gather(2, actions.unsqueeze(2)).squeeze(2)
    assert torch.allclose(scores, other, atol=1e-12)
    assert not torch.allclose(scores, policy(memory, actions, mask).logp)
