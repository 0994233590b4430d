"""Decoders. One `forward` serves both faces: T actions at once, or T = 1 with a past, so that they agree.

A past is a tuple of tensors whose first dimension is N; nothing else changes from step to step.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from . import lstm
from .attention import Attention, Kind, MultiHead, Packing, read, weights
from .encoders import FeedForward, Memory, sinusoids, switch_dropout
from .linear import Linear

Past = tuple[Tensor, ...]
Keys = tuple[Tensor, ...]        # what the decoder projects once per source; first dimension B


class RecurrentDecoder(nn.Module):
    """LSTM or GRU whose states attend to the source after the cell (Luong et al. 2015, without input feeding).

        h_t = cell(fed_t, h_{t-1});   c_t = attention(h_t, states);   o_t = tanh(W [h_t; c_t])

    No step needs the attention of the step before, so a whole answer is scored by one fused call. Attention "none"
    reads the encoder's summary in place of c_t: the classical encoder-decoder with a fixed context (Cho et al. 2014).
    """

    def __init__(self, cell: Literal["lstm", "gru"], attention: Kind, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](width, width, layers, batch_first=True)
        self.parts = 2 if cell == "lstm" else 1                     # hidden state, and the cell state of an LSTM
        self.first = Linear(width, self.parts * layers * width)
        self.attention = None if attention == "none" else Attention(attention, width)
        self.combine = Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.train()

    def train(self, mode: bool = True) -> "RecurrentDecoder":
        super().train(mode)
        switch_dropout(self.cell, mode, self.dropout.p)
        return self

    def keys(self, memory: Memory) -> Keys:
        """Keys of the source, projected once."""
        return () if self.attention is None else (self.attention.keys(memory.states),)

    def start(self, memory: Memory, k: int) -> Past:
        """The past of N = B*k rows before the first action."""
        first = torch.tanh(self.first(memory.summary)).repeat_interleave(k, 0)
        return first.view(len(first), self.parts, self.cell.num_layers, -1).unbind(1)      # each [N, layers, H]

    def forward(self, fed: Tensor, memory: Memory, keys: Keys, past: Past, mask: Tensor | None = None,
                attend: bool = False) -> tuple[Tensor, Tensor | None, Past]:
        """Fed vectors [N, T, H] -> states [N, T, H], attention [N, T, S] if there is any, the past after them."""
        states, past = self._states(self.dropout(fed), past, mask)
        attention = None
        if self.attention is None:
            rows, steps = states.shape[:2]
            context = memory.summary.repeat_interleave(rows // len(memory.summary), 0).unsqueeze(1).expand(-1, steps, -1)
        else:
            attention = weights(self.attention(states, keys[0]), memory.mask)
            context = read(attention, memory.states)
        return self.dropout(torch.tanh(self.combine(torch.cat([states, context], -1)))), attention, past

    def _states(self, fed: Tensor, past: Past, mask: Tensor | None) -> tuple[Tensor, Past]:
        """The cell alone: states [N, T, H] and the past after them; what lies beyond a row's mask is unspecified."""
        fits = lstm.fits(self.cell, fed)
        if fits and fed.shape[1] == 1 and not torch.is_grad_enabled():
            state, past = lstm.step(self.cell, fed.squeeze(1), past)
            return state.unsqueeze(1), past
        before = tuple(part.transpose(0, 1).contiguous() for part in past)
        if fits:
            states, after = lstm.run(self.cell, fed, None if mask is None else mask.sum(1), before)
        else:
            states, after = self.cell(fed, before if self.parts == 2 else before[0])
        return states, tuple(part.transpose(0, 1) for part in (after if self.parts == 2 else (after,)))


class TransformerDecoder(nn.Module):
    """Pre-norm Transformer decoder; its past is the keys and values of the actions so far, two tensors a layer."""

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.width, self.heads = width, heads

    def keys(self, memory: Memory) -> Keys:
        """Cross-attention keys and values of every layer, projected once."""
        packing = Packing(memory.mask)
        states = packing.pack(memory.states)
        return tuple(part for layer in self.layers for part in layer.cross.keys(states, packing))

    def start(self, memory: Memory, k: int) -> Past:
        """Empty caches [N, heads, 0, H / heads]."""
        rows = len(memory.states) * k
        empty = memory.states.new_empty(rows, self.heads, 0, self.width // self.heads)
        return (empty,) * (2 * len(self.layers))

    def forward(self, fed: Tensor, memory: Memory, keys: Keys, past: Past, mask: Tensor | None = None,
                attend: bool = False) -> tuple[Tensor, Tensor | None, Past]:
        """Fed vectors [N, T, H] -> states [N, T, H], attention [N, T, S] of the last layer if asked, the past.

        What the mask [N, T] hides is not computed: its states are 0.
        """
        before, steps = past[0].shape[2], fed.shape[1]
        assert before == 0 or steps == 1, (before, steps)
        place = torch.arange(before, before + steps, device=fed.device)
        packing = Packing(mask)
        states = packing.pack(self.dropout(fed + sinusoids(place, self.width).to(fed.dtype)))
        seen, after, attention = memory.mask[:, None, None, :], (), None
        for number, layer in enumerate(self.layers):
            own = slice(2 * number, 2 * number + 2)
            want = attend and number == len(self.layers) - 1
            states, cache, attention = layer(states, keys[own], seen, past[own], packing, want)
            after += cache
        return packing.unpack(self.norm(states)), attention, after


class DecoderLayer(nn.Module):
    """Self-attention over the past, cross-attention over the source, feed-forward."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.own, self.cross = MultiHead(width, heads, dropout), MultiHead(width, heads, dropout)
        self.own_norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, keys: Keys, seen: Tensor, past: Past, packing: Packing,
                attend: bool) -> tuple[Tensor, Past, Tensor | None]:
        normal = self.own_norm(states)
        cache = tuple(torch.cat([old, new], 2) if old.shape[2] else new
                      for old, new in zip(past, self.own.keys(normal, packing), strict=True))
        states = states + self.dropout(self.own(normal, cache, None, past[0].shape[2] == 0, packing))
        normal = self.cross_norm(states)
        states = states + self.dropout(self.cross(normal, keys, seen, packing=packing))
        attention = self.cross.probabilities(normal, keys, seen, packing) if attend else None
        return self.feedforward(states), cache, attention
