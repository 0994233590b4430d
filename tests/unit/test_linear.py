import time

import pytest
import torch
import torch.nn.functional as F

from rlseq.nn import linear


@pytest.fixture
def onednn(monkeypatch):
    """The product by oneDNN, whichever is faster here."""
    if not linear.onednn_wins.__wrapped__(torch.bfloat16):
        pytest.skip("this build of torch or this processor has no oneDNN product in both types")
    monkeypatch.setattr(linear, "onednn_wins", lambda dtype: dtype in linear.MARGIN)


def tensors(*shapes):
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("then", ["none", "relu"])
@pytest.mark.parametrize("inner, outer", [(24, 40), (40, 24)])
def test_both_products_have_the_same_values_and_gradients(onednn, then, inner, outer):
    given = tensors((3, 5, inner), (outer, inner), (outer,))
    plain = F.linear(*given) if then == "none" else F.linear(*given).relu()
    fast = linear.product(*given, then)
    assert fast.grad_fn.name().startswith("_Product")                       # or this test compares nothing
    above = torch.randn_like(plain)
    assert torch.allclose(fast, plain, atol=1e-5)                           # float32 sums of 40 terms of size 1
    for one, other in zip(torch.autograd.grad(plain, given, above), torch.autograd.grad(fast, given, above)):
        assert torch.allclose(one, other, atol=1e-4)                        # sums of at most 40 products of size 1 to 3


def test_a_gradient_that_repeats_one_number_is_taken(onednn):
    x, weight = tensors((4, 8), (6, 8))
    linear.product(x, weight).sum().backward()                              # its gradient is an expanded 1
    assert torch.allclose(x.grad, weight.sum(0).expand(4, 8).detach(), atol=1e-5)


def test_other_types_take_the_plain_product(onednn):
    x, weight = (one.double() for one in tensors((4, 8), (6, 8)))
    assert torch.equal(linear.product(x, weight), F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear.product(x.float(), weight.float()).dtype == torch.bfloat16


def test_bf16_products_are_autocasts_own(onednn):
    given = tensors((3, 5, 24), (40, 24), (40,))
    with torch.autocast("cpu", torch.bfloat16):
        plain, fast = F.linear(*given), linear.product(*given)
    assert fast.dtype == plain.dtype == torch.bfloat16
    above = torch.randn_like(plain)
    for one, other in zip((plain, *torch.autograd.grad(plain, given, above)), (fast, *torch.autograd.grad(fast, given, above))):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= 2**-7 * one.abs().max()      # one rounding to 8 bits of the largest


def test_weights_are_lowered_once_and_only_while_they_are_constant():
    x, weight = tensors((4, 8), (6, 8))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with linear.constant_weights():
            first = linear.product(x, weight)
            weight.mul_(2)
            assert torch.equal(linear.product(x, weight), first)         # said to be constant, so not looked at again
        assert not torch.equal(linear.product(x, weight), first)
    with torch.autocast("cpu", torch.bfloat16), linear.constant_weights():
        linear.product(x, weight).float().sum().backward()
    assert weight.grad is not None and x.grad is not None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_laid_out_once_multiply_any_number_of_rows(onednn, precision):
    weight, bias, *several = tensors((40, 24), (40,), (64, 24), (3, 5, 24), (1, 24))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), linear.constant_weights():
        for x in several:
            for part in (slice(0, 40), slice(8, 20)):                   # and slices of one weight are told apart
                found = linear.product(x, weight[part], bias[part])
                assert torch.allclose(found, F.linear(x, weight[part], bias[part]), atol=1e-5 if precision == "fp32" else 0.1)


def test_without_a_gradient_nothing_is_kept(onednn):
    x, weight = tensors((4, 8), (6, 8))
    with torch.no_grad():
        assert linear.product(x, weight).grad_fn is None


def test_a_bias_learns_also_where_nothing_else_does(onednn):
    x, weight, bias = tensors((4, 8), (6, 8), (6,))
    linear.product(x.detach(), weight.detach(), bias).sum().backward()
    assert torch.equal(bias.grad, torch.full((6,), 4.0))


def test_the_environment_may_choose_the_product(monkeypatch):
    monkeypatch.setenv("RLSEQ_PRODUCT", "plain")
    assert linear.onednn_wins.__wrapped__(torch.float32) is False
    monkeypatch.setenv("RLSEQ_PRODUCT", "fastest")
    with pytest.raises(ValueError, match="RLSEQ_PRODUCT=fastest is not one of onednn, plain"):
        linear.onednn_wins.__wrapped__(torch.float32)


def test_a_type_that_the_processor_lacks_takes_the_plain_product(monkeypatch):
    def lacking(x, weight):
        raise RuntimeError("could not create a primitive descriptor")
    monkeypatch.setattr(linear, "_onednn", lacking)
    assert linear.onednn_wins.__wrapped__(torch.bfloat16) is False
    monkeypatch.setenv("RLSEQ_PRODUCT", "onednn")
    with pytest.raises(ValueError, match="no such product of torch.bfloat16 here; unset it"):
        linear.onednn_wins.__wrapped__(torch.bfloat16)


def test_the_probe_compares_float32_even_within_autocast(monkeypatch):
    seen = set()
    monkeypatch.setattr(linear.F, "linear", lambda x, weight: seen.add(torch.is_autocast_enabled("cpu")) or x @ weight.T)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear.onednn_wins.__wrapped__(torch.float32) in (True, False)
    assert seen == {False}


def test_a_slice_of_a_weight_is_no_slower_than_a_weight(onednn):
    # the slow code takes 0.2 s here, the fast one 0.0001 s
    x, weight, wide = torch.randn(128, 256), torch.randn(256, 256), torch.randn(256, 512)
    with torch.no_grad():
        for product in (lambda weight: linear.product(x, weight), lambda left: linear.outer(left[:128], x)):
            seconds = []
            for given in (weight, wide[:, 256:]):
                start = time.perf_counter()
                assert torch.allclose(product(given), product(given.contiguous()), atol=1e-4)
                seconds.append(time.perf_counter() - start)
            assert seconds[1] < seconds[0] + 0.1
