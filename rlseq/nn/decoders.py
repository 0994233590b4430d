"""Decoders with two faces that agree: `forward` takes whole answers at once, `step` one action more, with a past.

A past is a tuple of tensors whose dimension `ROWS` is N; nothing else changes from step to step. A step may write into
the memory of the past it is given, so continue from what it returns. Stepping never drops out.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import lstm
from .attention import Attention, Kind, MultiHead, Packing, fold, read, weights
from .dropout import Dropout
from .encoders import FeedForward, Memory, Norm, Normed, places, switch_dropout
from .linear import Linear, product

Past = tuple[Tensor, ...]
Keys = tuple[Tensor, ...]        # what the decoder projects once per source; first dimension B


class RecurrentDecoder(nn.Module):
    """LSTM or GRU whose states attend to the source after the cell (Luong et al. 2015, without input feeding).

        h_t = cell(fed_t, h_{t-1});   c_t = attention(h_t, states);   o_t = tanh(W [h_t; c_t])

    No step needs the attention of the step before, so a whole answer is scored by one fused call. Attention "none"
    reads the encoder's summary in place of c_t: the classical encoder-decoder with a fixed context (Cho et al. 2014).
    """

    ROWS = 0

    def __init__(self, cell: Literal["lstm", "gru"], attention: Kind, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](width, width, layers, batch_first=True)
        self.parts = 2 if cell == "lstm" else 1                     # hidden state, and the cell state of an LSTM
        self.first = Linear(width, self.parts * layers * width)
        self.attention = None if attention == "none" else Attention(attention, width)
        self.combine = Linear(2 * width, width)
        self.dropout = Dropout(dropout)
        self.train()

    def train(self, mode: bool = True) -> "RecurrentDecoder":
        super().train(mode)
        switch_dropout(self.cell, mode, self.dropout.p)
        return self

    def keys(self, memory: Memory) -> Keys:
        """Keys of the source, projected once; without attention the summary's part of W [h; c]."""
        if self.attention is None:
            return (product(memory.summary, self.combine.weight[:, self.cell.hidden_size:], self.combine.bias),)
        return (self.attention.keys(memory.states),)

    def start(self, memory: Memory, k: int) -> Past:
        """The past of N = B*k rows before the first action."""
        first = lstm.tanh(self.first(memory.summary)).repeat_interleave(k, 0)
        return first.view(len(first), self.parts, self.cell.num_layers, -1).unbind(1)      # each [N, layers, H]

    def with_room(self, past: Past, room: int) -> Past:
        """The past before the first action in shapes that `room` steps do not change: as it is."""
        return past

    def forward(self, fed: Tensor, memory: Memory, keys: Keys, mask: Tensor | None = None,
                attend: bool = False) -> tuple[Tensor, Tensor | None]:
        """Fed vectors [N, T, H] -> states [N, T, H], attention [N, T, S] if there is any; mask [N, T] hides padding."""
        past = self.start(memory, len(fed) // len(memory.mask))
        before = tuple(part.transpose(0, 1).contiguous() for part in past)
        if lstm.fits(self.cell, fed):
            states, _ = lstm.run(self.cell, self.dropout(fed), None if mask is None else mask.sum(1), before)
        else:
            states, _ = self.cell(self.dropout(fed), before if self.parts == 2 else before[0])
        states, attention = self._attended(states, memory, keys)
        return self.dropout(states), attention

    def step(self, fed: Tensor, memory: Memory, keys: Keys, past: Past, place: int | Tensor) -> tuple[Tensor, Past]:
        """The vector fed at a place [N, H] -> its state [N, H] and the past after it."""
        if lstm.fits(self.cell, fed) and not torch.is_grad_enabled():
            states, past = lstm.step(self.cell, fed, past)
        else:
            before = tuple(part.transpose(0, 1).contiguous() for part in past)
            states, after = self.cell(fed.unsqueeze(1), before if self.parts == 2 else before[0])
            states, past = states.squeeze(1), tuple(
                part.transpose(0, 1) for part in (after if self.parts == 2 else (after,)))
        return self._attended(states.unsqueeze(1), memory, keys)[0].squeeze(1), past

    def _attended(self, states: Tensor, memory: Memory, keys: Keys) -> tuple[Tensor, Tensor | None]:
        """States of the cell [N, T, H] -> o [N, T, H] and the attention [N, T, S], if there is any."""
        if self.attention is None:
            own = product(states, self.combine.weight[:, :self.cell.hidden_size])
            return lstm.tanh(fold(own, len(keys[0])) + keys[0].unsqueeze(1)).view(states.shape), None
        attention = weights(self.attention(states, keys[0]), memory.mask)
        context = read(attention, memory.states)
        return lstm.tanh(self.combine(torch.cat([states, context], -1))), attention


class TransformerDecoder(nn.Module):
    """Transformer decoder; its past is the keys and values of the actions so far, two tensors a layer."""

    ROWS = 1

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float, norm: Norm = "before") -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feedforward, dropout, norm) for _ in range(layers))
        self.norm = nn.LayerNorm(width) if norm == "before" else nn.Identity()
        self.dropout = Dropout(dropout)
        self.width, self.heads = width, heads

    def keys(self, memory: Memory) -> Keys:
        """Cross-attention keys and values of every layer, projected once."""
        packing = Packing(memory.mask)
        states = packing.pack(memory.states)
        return tuple(part for layer in self.layers for part in layer.cross.keys(states, packing))

    def start(self, memory: Memory, k: int) -> Past:
        """Empty caches of keys and of values, two a layer: [0, N, heads, H / heads]."""
        rows = len(memory.states) * k
        return (memory.states.new_empty(0, rows, self.heads, self.width // self.heads),) * (2 * len(self.layers))

    def with_room(self, past: Past, room: int) -> Past:
        """The past before the first action in shapes that `room` steps do not change: [room, N, heads, H / heads], 0."""
        return tuple(F.pad(cache, (0, 0) * 3 + (0, room)) for cache in past)

    def forward(self, fed: Tensor, memory: Memory, keys: Keys, mask: Tensor | None = None,
                attend: bool = False) -> tuple[Tensor, Tensor | None]:
        """Fed vectors [N, T, H] -> states [N, T, H], and attention [N, T, S] of the last layer if asked.

        What the mask [N, T] hides is not computed: its states are 0.
        """
        packing, seen, attention = Packing(mask), memory.mask[:, None, None, :], None
        states = packing.pack(self.dropout(fed + places(0, fed.shape[1], fed)))
        for number, layer in enumerate(self.layers):
            want = attend and number == len(self.layers) - 1
            states, attention = layer(states, keys[2 * number:2 * number + 2], seen, packing, want)
        return packing.unpack(self.norm(states)), attention

    def step(self, fed: Tensor, memory: Memory, keys: Keys, past: Past, place: int | Tensor) -> tuple[Tensor, Past]:
        """The vector fed at a place [N, H] -> its state [N, H] and the past after it.

        Where the past has room for all places, a tensor [1] may name the place: then no shape depends on it.
        """
        if isinstance(place, Tensor):
            room = len(past[0])
            code, later = places(0, room, fed).index_select(0, place), torch.arange(room, device=place.device) > place
        else:
            code, later = places(place, place + 1, fed), None
        states, hidden, after = fed + code, ~memory.mask[:, None, None, :], ()
        for number, layer in enumerate(self.layers):
            own = slice(2 * number, 2 * number + 2)
            states, caches = layer.step(states, keys[own], hidden, past[own], place, later)
            after += caches
        return self.norm(states), after


class DecoderLayer(Normed):
    """Self-attention over the past, cross-attention over the source, feed-forward."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, norm: Norm) -> None:
        super().__init__(norm)
        self.own, self.cross = MultiHead(width, heads), MultiHead(width, heads)
        self.own_norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feedforward = FeedForward(width, feedforward, dropout, norm)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, keys: Keys, seen: Tensor, packing: Packing, attend: bool) -> tuple[Tensor, Tensor | None]:
        found = self.own.own(self.read(self.own_norm, states), None, True, packing)
        states = self.summed(self.own_norm, states + self.dropout(found))
        asking = self.read(self.cross_norm, states)
        states = self.summed(self.cross_norm, states + self.dropout(self.cross(asking, keys, seen, packing)))
        return self.feedforward(states), self.cross.probabilities(asking, keys, seen, packing) if attend else None

    def step(self, states: Tensor, keys: Keys, hidden: Tensor, caches: Past, place: int | Tensor,
             later: Tensor | None) -> tuple[Tensor, Past]:
        found, caches = self.own.own_step(self.read(self.own_norm, states), caches, place, later)
        states = self.summed(self.own_norm, states + found)
        found = self.cross.step(self.read(self.cross_norm, states), keys, hidden)
        return self.feedforward(self.summed(self.cross_norm, states + found)), caches
