import pytest
import torch
from scipy.stats import binomtest

from rlseq.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_is_dropped_and_the_rest_keeps_the_mean(share):
    x = torch.ones(400, 501)                                             # not a multiple of the numbers in a word
    found = dropout(x, share, True)
    dropped = int((found == 0).sum())
    assert binomtest(dropped, x.numel(), share).pvalue > 1e-3            # seeded
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - share)), rtol=1e-4)      # the share in 65536ths


def test_neighbours_are_dropped_independently():
    zero = (dropout(torch.ones(200_000), 0.3, True) == 0).double()
    for distance in (1, 2, 3, 4, 8):                                     # four numbers come from one word
        both = int((zero[distance:] * zero[:-distance]).sum())
        assert binomtest(both, len(zero) - distance, 0.09).pvalue > 1e-4    # seeded; overlapping pairs, nearly a binomial


def test_what_was_dropped_learns_nothing_and_the_seed_decides():
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    found = dropout(x, 0.25, True)
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], found.detach())
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.25, True), found)


def test_nothing_is_dropped_in_evaluation_nor_at_share_0():
    x = torch.randn(5, 5)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x) and not Dropout(1.0)(x).any()
