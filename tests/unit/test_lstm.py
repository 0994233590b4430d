"""Our LSTM against torch's own on packed rows."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlseq.nn import lstm

LENGTHS = {"equal": [4, 4, 4], "ragged": [2, 4, 1], "shorter than the padding": [3, 1, 2]}


def packed(cell, x, lengths, before):
    given = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    states, last = cell(given, before)
    return (pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])[0], *last)


def example(layers=1, bidirectional=False, dtype=torch.float64):
    torch.manual_seed(0)
    cell = nn.LSTM(6, 5, layers, batch_first=True, bidirectional=bidirectional).to(dtype)
    x = torch.randn(3, 4, 6, dtype=dtype, requires_grad=True)
    before = tuple(torch.randn(layers * (2 if bidirectional else 1), 3, 5, dtype=dtype, requires_grad=True) for _ in "hc")
    return cell, x, before


@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-12), (torch.float32, 1e-5)])      # float32: sums of 12 terms
@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_values_and_gradients_are_those_of_packed_rows(lengths, layers, bidirectional, dtype, close):
    cell, x, before = example(layers, bidirectional, dtype)
    lengths = torch.tensor(lengths)
    states, last = lstm.run(cell, x, lengths, before)
    ours, theirs = (states, *last), packed(cell, x, lengths, before)
    assert all(torch.allclose(one, other, rtol=0, atol=close) for one, other in zip(ours, theirs, strict=True))
    above, leaves = [torch.randn_like(one) for one in theirs], [x, *before, *cell.parameters()]
    for one, other in zip(torch.autograd.grad(ours, leaves, above), torch.autograd.grad(theirs, leaves, above), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=close)


def test_without_lengths_or_first_states_it_is_the_bare_cell():
    cell, x, _ = example()
    assert torch.allclose(lstm.run(cell, x)[0], cell(x)[0], rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_single_steps_are_the_whole(layers):
    cell, x, before = example(layers)
    states, last = lstm.run(cell, x, before=before)
    past = tuple(one.transpose(0, 1) for one in before)
    for t in range(x.shape[1]):
        state, past = lstm.step(cell, x[:, t], past)
        assert torch.allclose(state, states[:, t], rtol=0, atol=1e-12)
    assert all(torch.allclose(one.transpose(0, 1), other, rtol=0, atol=1e-12) for one, other in zip(past, last, strict=True))


def test_a_row_without_a_step_keeps_its_first_state():
    cell, x, before = example()
    states, last = lstm.run(cell, x, torch.tensor([0, 4, 2]), before)
    assert (states[0] == 0).all() and torch.equal(last[0][:, 0], before[0][:, 0])
    (states.sum() + last[1].sum()).backward()
    assert (x.grad[0] == 0).all() and torch.equal(before[1].grad[0, 0], torch.ones(5).double())


def test_dropout_lies_between_layers_alone():
    for layers in (1, 2):
        cell, x, before = example(layers)
        cell.dropout = 0.5
        one, other = (lstm.run(cell, x, before=before)[0] for _ in range(2))
        assert torch.equal(one, other) == (layers == 1)


def test_what_it_cannot_do_is_left_to_torch():
    cell, x, _ = example()
    assert lstm.fits(cell, x) and not lstm.fits(nn.GRU(6, 5), x) and not lstm.fits(cell, x.float())
    assert not lstm.fits(cell.to("meta"), x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not lstm.fits(*(one.float() for one in (example()[0], x)))


@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, True)])
def test_an_affine_map_of_few_features_is_the_same_folded(layers, bidirectional):
    cell, _, _ = example(layers, bidirectional)
    few = lstm.Affine(*(torch.randn(shape).double().requires_grad_() for shape in ((3, 4, 2), (6, 2), (6,))))
    lengths = torch.tensor([2, 4, 1])
    ours, theirs = (lstm.run(cell, x, lengths)[0] for x in (few, few.whole()))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    above, leaves = torch.randn_like(ours), [*few, *cell.parameters()]
    for one, other in zip(torch.autograd.grad(ours, leaves, above), torch.autograd.grad(theirs, leaves, above), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-15), (torch.float32, 2e-7), (torch.bfloat16, 0.0)])
def test_tanh_by_way_of_the_sigmoid_is_tanh(dtype, close):
    x = torch.linspace(-20, 20, 4001).to(dtype).requires_grad_()
    (ours,), (theirs,) = (torch.autograd.grad(one.sum(), x) for one in (lstm.tanh(x), torch.tanh(x)))
    assert torch.allclose(lstm.tanh(x), torch.tanh(x), rtol=0, atol=close)
    assert torch.allclose(ours, theirs, rtol=0, atol=4 * close)
