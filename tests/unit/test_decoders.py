"""Decoders: the written recurrence, dropout by mode, and caches that belong to rows."""

import pytest
import torch

from rlseq.nn import attention
from rlseq.nn.decoders import RecurrentDecoder, TransformerDecoder
from rlseq.nn.encoders import Memory, TransformerEncoder, places


def memory(width=4, problems=2, positions=3):
    torch.manual_seed(0)
    return Memory(torch.randn(problems, positions, width), torch.ones(problems, positions, dtype=torch.bool),
                  torch.randn(problems, width), None)


@pytest.mark.parametrize("kind", ["none", "dot"])
def test_a_recurrent_step_is_its_formula(kind):
    # o = tanh(W [h; c]), c the attention's mean of the states, or the encoder's summary
    decoder, source, fed = RecurrentDecoder("gru", kind, 4, 1, 0.0), memory(), torch.randn(2, 1, 4)
    found, weights = decoder(fed, source, decoder.keys(source))
    _, after = decoder.step(fed[:, 0], source, decoder.keys(source), decoder.start(source, 1), 0)
    hidden = decoder.cell(fed, torch.tanh(decoder.first(source.summary)).unsqueeze(0))[0][:, 0]
    p = (hidden.unsqueeze(1) @ source.states.transpose(1, 2) / 2).softmax(2)
    context = source.summary if kind == "none" else (p @ source.states)[:, 0]
    assert torch.allclose(found[:, 0], torch.tanh(decoder.combine(torch.cat([hidden, context], 1))), atol=1e-6)
    assert weights is None if kind == "none" else torch.allclose(weights, p, atol=1e-6)
    assert torch.allclose(after[0][:, 0], hidden, atol=1e-6)


def test_rows_of_one_source_start_alike():
    source = memory()
    for decoder in (RecurrentDecoder("lstm", "dot", 4, 2, 0.0), TransformerDecoder(4, 2, 2, 8, 0.0)):
        past = decoder.start(source, 3)
        assert all(part.shape[decoder.ROWS] == 6 for part in past)
        assert all(torch.equal(part.select(decoder.ROWS, 0), part.select(decoder.ROWS, 2)) for part in past)


def test_a_decoders_cell_keeps_to_training_mode_and_drops_nothing_in_evaluation():
    decoder, source, fed = RecurrentDecoder("lstm", "dot", 4, 2, 0.5), memory(), torch.randn(2, 3, 4)
    for mode in (True, False):
        decoder.train(mode)
        assert decoder.cell.training and decoder.cell.dropout == (0.5 if mode else 0.0)
        one, other = (decoder(fed, source, decoder.keys(source))[0] for _ in range(2))
        assert torch.equal(one, other) != mode


def test_a_transformer_gives_its_attention_only_when_asked():
    decoder, source, fed = TransformerDecoder(4, 2, 2, 8, 0.0), memory(), torch.randn(4, 3, 4)
    given = (fed, source, decoder.keys(source))
    assert decoder(*given)[1] is None
    found = decoder(*given, attend=True)[1]
    assert found.shape == (4, 3, 3) and torch.allclose(found.sum(2), torch.ones(4, 3))


def test_packing_padding_away_changes_neither_states_nor_gradients(monkeypatch):
    torch.manual_seed(0)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [1]])
    seen = torch.arange(5) < torch.tensor([[5], [3]])
    encoder = TransformerEncoder(8, 2, 2, 16, 0.0).double()
    decoder = TransformerDecoder(8, 2, 2, 16, 0.0).double()
    source, fed = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(4, 6, 8, dtype=torch.float64)
    weight, found = torch.randn(4, 6, 8, dtype=torch.float64) * mask.unsqueeze(2), []
    for worth in (0.0, 1.0):                                             # never pack, always pack
        monkeypatch.setattr(attention, "WORTH", worth)
        encoder.zero_grad(), decoder.zero_grad()
        states, summary = encoder(source, seen)
        memory = Memory(states, seen, summary, None)
        out = decoder(fed, memory, decoder.keys(memory), mask)[0]
        (out * weight).sum().backward()
        slopes = [one.grad.clone() for part in (encoder, decoder) for one in part.parameters()]
        found.append([states * seen.unsqueeze(2), summary, out * mask.unsqueeze(2), *slopes])
    assert all(torch.allclose(one, other, atol=1e-12, rtol=0) for one, other in zip(*found))
    assert not out[~mask].any()                                          # or nothing was packed


@pytest.mark.parametrize("norm", ["before", "after"])
def test_transformers_are_those_of_torch(norm):
    torch.manual_seed(0)
    encoder, decoder = TransformerEncoder(8, 2, 2, 16, 0.0, norm), TransformerDecoder(8, 2, 2, 16, 0.0, norm)
    for part in (encoder, decoder):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": norm == "before"}
    last = [torch.nn.LayerNorm(8) if norm == "before" else None for _ in range(2)]
    theirs = (torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, **options), 2, last[0], False),
              torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, 16, **options), 2, last[1]))
    both = {"feedforward.up": "linear1", "feedforward.down": "linear2"}
    names = (both | {"feedforward.norm": "norm2", "attention.project.": "self_attn.in_proj_",
                     "attention.out": "self_attn.out_proj", "0.norm.": "0.norm1.", "1.norm.": "1.norm1."},
             both | {"feedforward.norm": "norm3", "own.project.": "self_attn.in_proj_", "own.out": "self_attn.out_proj",
                     "cross.project.": "multihead_attn.in_proj_", "cross.out": "multihead_attn.out_proj",
                     "own_norm": "norm1", "cross_norm": "norm2"})
    for ours, other, new in zip((encoder, decoder), theirs, names):
        found = {}
        for name, value in ours.state_dict().items():
            for old, called in new.items():
                name = name.replace(old, called)
            found[name] = value
        other.load_state_dict(found)
    source, fed = torch.randn(2, 5, 8), torch.randn(2, 6, 8)
    seen, mask = torch.arange(5) < torch.tensor([[5], [3]]), torch.arange(6) < torch.tensor([[6], [4]])
    states, _ = encoder(source, seen)
    wanted = theirs[0](source, src_key_padding_mask=~seen)
    assert torch.allclose(states[seen], wanted[seen], atol=1e-5)
    memory = Memory(states, seen, states[:, 0], None)
    out = decoder(fed, memory, decoder.keys(memory), mask)[0]
    later = torch.nn.Transformer.generate_square_subsequent_mask(6)
    wanted = theirs[1](fed + places(0, 6, fed), wanted, tgt_mask=later, memory_key_padding_mask=~seen, tgt_is_causal=True)
    assert torch.allclose(out[mask], wanted[mask], atol=1e-4)
