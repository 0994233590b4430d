"""Attention against formulas written out one number at a time."""

import math

import pytest
import torch

from rlseq.nn.attention import Attention, MultiHead, fold, read, weights

KINDS = {
    "dot": lambda a, q, k: sum(float(x * y) for x, y in zip(q, k)) / math.sqrt(len(q)),
    "bilinear": lambda a, q, k: float(q @ a.key.weight @ k) / math.sqrt(len(q)),
    "additive": lambda a, q, k: float(a.value @ torch.tanh(a.query.weight @ q + a.query.bias + a.key.weight @ k)),
    "cosine": lambda a, q, k: float(a.gain * torch.cosine_similarity(q, a.key.weight @ k, dim=0)),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_energies_are_the_written_formula(kind):
    torch.manual_seed(0)
    attention = Attention(kind, 4).double()
    queries, states = torch.randn(4, 3, 4).double(), torch.randn(2, 5, 4).double()       # two answers to each source
    energy = attention(queries, attention.keys(states))
    for n in range(4):
        for t in range(3):
            for s in range(5):
                written = KINDS[kind](attention, queries[n, t], states[n // 2, s])
                assert float(energy[n, t, s]) == pytest.approx(written, abs=1e-12)


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(ValueError, match="there are: dot, bilinear, additive, cosine"):
        Attention("none", 4)


def test_weights_are_a_softmax_over_real_positions():
    energy = torch.tensor([[[0.0, math.log(3), 50.0]]])
    assert torch.allclose(weights(energy, torch.tensor([[True, True, False]])), torch.tensor([[[0.25, 0.75, 0.0]]]))
    assert weights(energy.bfloat16(), torch.ones(1, 3, dtype=torch.bool)).dtype == torch.float32


def test_reading_is_the_weighted_mean_of_the_states():
    states = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    assert read(torch.tensor([[[0.25, 0.75]], [[1.0, 0.0]]]), states).tolist() == [[[0.25, 1.5]], [[1.0, 0.0]]]


def test_folding_puts_the_queries_of_one_source_side_by_side():
    rows = torch.arange(8).view(4, 2, 1)
    assert fold(rows, 2).squeeze(2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_multi_head_is_softmax_of_scaled_products_head_by_head():
    torch.manual_seed(0)
    many = MultiHead(6, 2).double()
    query, states = torch.randn(1, 4, 6).double(), torch.randn(1, 5, 6).double()
    mask = torch.tensor([True, True, True, False, True])
    (q, _, _), (_, k, v) = (many.project(one)[0].chunk(3, dim=1) for one in (query, states))
    parts, p = [], []
    for head in (slice(0, 3), slice(3, 6)):
        energy = (q[:, head] @ k[:, head].T / math.sqrt(3)).masked_fill(~mask, -math.inf)
        p.append(energy.softmax(1))
        parts.append(p[-1] @ v[:, head])
    keys = many.keys(states)
    assert torch.allclose(many(query, keys, mask[None, None, None])[0], many.out(torch.cat(parts, 1)), atol=1e-12)
    assert torch.allclose(many.probabilities(query, keys, mask[None, None, None])[0], (p[0] + p[1]) / 2, atol=1e-12)


def test_self_attention_step_by_step_equals_self_attention_at_once():
    torch.manual_seed(0)
    many = MultiHead(6, 2).double()
    states = torch.randn(3, 40, 6).double()                              # more steps than a fresh cache has room for
    whole = many.own(states, None, True)
    for graph in (True, False):
        caches = (states.new_empty(0, 3, 2, 3),) * 2
        with torch.set_grad_enabled(graph):
            for place in range(40):
                found, caches = many.own_step(states[:, place], caches, place)
                assert torch.allclose(found, whole[:, place], atol=1e-12, rtol=0)


def test_weights_of_earlier_versions_are_read():
    many, earlier = MultiHead(6, 2), MultiHead(6, 2).state_dict()
    for kind in ("weight", "bias"):
        whole = earlier.pop(f"project.{kind}")
        earlier |= {f"query.{kind}": whole[:6], f"key_value.{kind}": whole[6:]}
    many.load_state_dict(earlier)
    assert torch.equal(many.project.weight[:6], earlier["query.weight"])
    assert torch.equal(many.project.bias[6:], earlier["key_value.bias"])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="policy.width=6 is not a multiple of policy.heads=4"):
        MultiHead(6, 4)
