"""Encoders: codes of positions, summaries, what dropout does, and cells that stay differentiable."""

import math

import pytest
import torch

from rlseq.nn.encoders import RecurrentEncoder, Source, TransformerEncoder, Words, masked_mean, places
from rlseq.nn.lstm import Affine
from rlseq.types import Sizes


def test_sinusoids_are_the_papers():
    # PE(p, 2i) = sin(p / 10000^(2i / H)), PE(p, 2i + 1) = cos of the same
    codes = places(0, 8, torch.zeros(6))[[0, 1, 7]]
    for row, p in enumerate((0, 1, 7)):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert float(codes[row, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(codes[row, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)
    assert places(0, 3, torch.zeros(5)).shape == (3, 5)
    assert torch.equal(places(70, 75, torch.zeros(6)), places(0, 200, torch.zeros(6))[70:75])


def test_the_mean_is_over_real_positions():
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(states, torch.tensor([[True, True, False]])).tolist() == [[2.0]]


def test_a_transformer_without_positions_sees_a_set():
    torch.manual_seed(0)
    source = torch.randn(1, 6, 2)
    order, mask = torch.randperm(6), torch.ones(1, 6, dtype=torch.bool)
    encoder = TransformerEncoder(8, 2, 2, 16, 0.0)
    for positions, alike in (("none", True), ("sinusoidal", False)):
        embed = Source(Sizes(features=2), 8, positions, 0.0)
        states, summary = encoder(embed(source), mask)
        moved, same = encoder(embed(source[:, order]), mask)
        assert torch.allclose(states[:, order], moved, atol=1e-5) == alike
        assert torch.allclose(summary, same, atol=1e-5) == alike


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_last_summary_is_the_last_real_state_of_each_direction(cell):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(cell, 4, 2, True, "last", 0.0)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    states, summary = encoder(torch.randn(2, 3, 4), mask)
    for row, last in ((0, 1), (1, 2)):
        assert torch.allclose(summary[row], torch.cat([states[row, last, :2], states[row, 0, 2:]]))
    assert (states[0, 2] == 0).all()


def test_the_mean_summary_is_the_mean_of_the_states():
    encoder = RecurrentEncoder("gru", 4, 1, False, "mean", 0.0)
    mask = torch.tensor([[True, True, False]])
    states, summary = encoder(torch.randn(1, 3, 4), mask)
    assert torch.allclose(summary[0], states[0, :2].mean(0))


def test_a_cell_stays_in_training_mode_and_its_dropout_follows_the_mode():
    # cuDNN has no backward pass for cells in evaluation mode, and REINFORCE scores without dropout
    encoder = RecurrentEncoder("lstm", 8, 2, True, "last", 0.5)
    inputs, mask = torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    for mode in (True, False, True):
        encoder.train(mode)
        assert encoder.cell.training and encoder.cell.dropout == (0.5 if mode else 0.0)
        assert torch.equal(encoder(inputs, mask)[0], encoder(inputs, mask)[0]) != mode
    assert RecurrentEncoder("lstm", 8, 1, True, "last", 0.5).cell.dropout == 0, "one layer has nothing between layers"


def test_words_have_vectors_of_unit_variance():
    torch.manual_seed(0)
    assert float(Words(4000, 64)(torch.arange(4000)).detach().std()) == pytest.approx(1, abs=0.01)


def test_an_odd_width_has_no_two_directions():
    with pytest.raises(ValueError, match="must be even"):
        RecurrentEncoder("lstm", 5, 1, True, "last", 0.0)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_features_reach_a_recurrent_encoder_as_they_are_or_embedded_alike(cell):
    torch.manual_seed(0)
    source, encoder = Source(Sizes(features=2), 4, "none", 0.5), RecurrentEncoder(cell, 4, 1, False, "last", 0.5)
    points, mask = torch.randn(2, 3, 2), torch.tensor([[True, True, True], [True, False, False]])
    assert isinstance(source.factors(points), torch.Tensor)                     # dropout acts on what is embedded
    source.eval(), encoder.eval()
    lazy = source.factors(points)
    assert isinstance(lazy, Affine)
    for one, other in zip(encoder(lazy, mask), encoder(source(points), mask), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_words_and_many_features_are_embedded_at_once():
    for sizes, given in ((Sizes(source_ids=5), torch.tensor([[1, 4]])), (Sizes(features=3), torch.randn(1, 2, 3))):
        source = Source(sizes, 4, "none", 0.0)
        assert torch.equal(source.factors(given), source(given))
