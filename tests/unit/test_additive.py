"""Additive energies through exponentials against the formula with tanh."""

import pytest
import torch

from rlseq.nn import additive


def given(problems=3, queries=5, positions=4, width=6, dtype=torch.float64):
    torch.manual_seed(0)
    query, keys = torch.randn(problems, queries, width, dtype=dtype), torch.randn(problems, positions, width, dtype=dtype)
    return [one.requires_grad_() for one in (2 * query, 2 * keys, torch.randn(width, dtype=dtype))]


def through_exponentials(query, keys, value):
    return additive.energies(additive.exponentials(query), additive.exponentials(keys), value)


@pytest.mark.parametrize("block", [1, 50, 200, 10**6])         # one query; two queries; one problem and more; everything
@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_both_ways_have_the_same_values_and_gradients(monkeypatch, block, dtype, close):
    # float32: sums of at most 20 products of size 1 to 3, each to about 1e-7
    monkeypatch.setitem(additive.BLOCK, "cpu", block)
    inputs = given(dtype=dtype)
    plain, fast = additive.written(*inputs), through_exponentials(*inputs)
    assert torch.allclose(fast, plain, rtol=0, atol=close)
    above = torch.randn_like(plain)
    for one, other in zip(torch.autograd.grad(plain, inputs, above), torch.autograd.grad(fast, inputs, above)):
        assert torch.allclose(one, other, rtol=0, atol=close)


def test_the_gradient_is_that_of_finite_differences():
    query, keys, value = (one.detach() for one in given(2, 3, 2, 3))
    inputs = [one.requires_grad_() for one in (additive.exponentials(query / 4), additive.exponentials(keys / 4), value)]
    assert torch.autograd.gradcheck(additive.energies, inputs)


@pytest.mark.parametrize("dtype, far", [(torch.float32, 39.0), (torch.float64, 300.0)])
def test_large_projections_neither_overflow_nor_cancel(dtype, far):
    # opposite ends meet at tanh(0) and tanh(-1/2); far beyond the cut tanh is 1 whatever key of usual size it meets
    query = torch.tensor([[[far], [-far], [far - 0.5]], [[1e9], [-1e9], [0.0]]], dtype=dtype, requires_grad=True)
    keys = torch.tensor([[[-far], [far]], [[-1.0], [1.0]]], dtype=dtype, requires_grad=True)
    value = torch.ones(1, dtype=dtype)
    fast, plain = through_exponentials(query, keys, value), additive.written(query, keys, value)
    assert torch.allclose(fast, plain, atol=1e-5)               # e^2far keeps 2 far eps = 1e-5 of its argument in float32
    fast.sum().backward()
    assert torch.isfinite(query.grad).all() and torch.isfinite(keys.grad).all()


def test_half_precision_is_computed_in_float32():
    inputs = [one.detach().bfloat16() for one in given()]
    fast = through_exponentials(*inputs)
    assert fast.dtype == torch.float32 and torch.allclose(fast, additive.written(*(x.float() for x in inputs)), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(through_exponentials(*inputs), fast)
