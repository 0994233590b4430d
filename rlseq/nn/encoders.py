"""Encoders: a source, ids or features, becomes one state per position and one summary vector."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..types import Batch, Sizes
from . import lstm
from .attention import MultiHead, Packing
from .dropout import Dropout
from .linear import Linear

Positions = Literal["sinusoidal", "none"]
Norm = Literal["before", "after"]      # of a Transformer: before each part of a layer, or after its sum (pre-norm, post-norm)


@dataclass(frozen=True)
class Memory:
    """What the decoder may know of B sources."""

    states: Tensor      # [B, S, H]
    mask: Tensor        # [B, S] bool
    summary: Tensor     # [B, H]
    batch: Batch        # the problems themselves: copy ids, number of actions


@lru_cache(maxsize=64)
def sinusoids(length: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal codes of positions 0..length-1, [length, H] (Vaswani et al. 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    angle = torch.arange(length, device=device).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width].to(dtype)


def places(first: int, last: int, like: Tensor) -> Tensor:
    """Codes of positions first..last-1 for vectors [.., H]; tables are made for powers of 2 and kept."""
    return sinusoids(max(64, 1 << (last - 1).bit_length()), like.shape[-1], like.device, like.dtype)[first:last]


class Words(nn.Module):
    """Ids -> vectors of width H, scaled so that a tied output projection starts at unit logits."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width) / math.sqrt(width))

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.weight) * math.sqrt(self.weight.shape[1])


class Source(nn.Module):
    """Embeds the source [B, S] or [B, S, F] -> [B, S, H]; positions "none" makes a Transformer see a set."""

    def __init__(self, sizes: Sizes, width: int, positions: Positions, dropout: float) -> None:
        super().__init__()
        self.positions, self.width = positions, width
        self.embed = Words(sizes.source_ids, width) if sizes.source_ids else Linear(sizes.features, width)
        self.dropout = Dropout(dropout)

    def factors(self, source: Tensor) -> Tensor | lstm.Affine:
        """The embedded source; where it is an affine map of few features and nothing more, not multiplied out."""
        plain = isinstance(self.embed, Linear) and self.positions == "none" and not (self.training and self.dropout.p)
        few = plain and 2 * self.embed.in_features <= self.width
        return lstm.Affine(source, self.embed.weight, self.embed.bias) if few else self(source)

    def forward(self, source: Tensor) -> Tensor:
        embedded = self.embed(source)
        if self.positions == "sinusoidal":
            embedded = embedded + places(0, source.shape[1], embedded)
        return self.dropout(embedded)


def switch_dropout(cell: nn.RNNBase, on: bool, share: float) -> None:
    """Dropout between the layers of a cell; cuDNN differentiates cells in training mode alone, so they stay in it."""
    cell.train()
    cell.dropout = share if on and cell.num_layers > 1 else 0.0


class RecurrentEncoder(nn.Module):
    """LSTM or GRU, one or both directions; the summary is the last state or the mean of the states."""

    def __init__(self, cell: Literal["lstm", "gru"], width: int, layers: int, bidirectional: bool,
                 summary: Literal["last", "mean"], dropout: float) -> None:
        super().__init__()
        ways = 2 if bidirectional else 1
        if width % ways:
            raise ValueError(f"policy.width={width} must be even for a bidirectional encoder")
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](
            width, width // ways, layers, batch_first=True, bidirectional=bidirectional)
        self.ways, self.summary = ways, summary
        self.dropout = Dropout(dropout)
        self.train()

    def train(self, mode: bool = True) -> "RecurrentEncoder":
        super().train(mode)
        switch_dropout(self.cell, mode, self.dropout.p)
        return self

    def forward(self, embedded: Tensor | lstm.Affine, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, H], [B, S] -> states [B, S, H], summary [B, H]. Packed, so padding never reaches the backward cell."""
        lengths, lazy = mask.sum(1).cpu(), isinstance(embedded, lstm.Affine)
        if lstm.fits(self.cell, embedded.x if lazy else embedded):
            states, last = lstm.run(self.cell, embedded, lengths)
        else:
            embedded = embedded.whole() if lazy else embedded
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            states, last = self.cell(packed)
            states, _ = pad_packed_sequence(states, batch_first=True, total_length=embedded.shape[1])
        hidden = last[0] if isinstance(last, tuple) else last                     # [layers * ways, B, H / ways]
        if self.summary == "last":
            summary = hidden[-self.ways:].transpose(0, 1).flatten(1)
        else:
            summary = masked_mean(states, mask)
        return self.dropout(states), summary


class TransformerEncoder(nn.Module):
    """Transformer encoder; the summary is the mean of its states."""

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float, norm: Norm = "before") -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward, dropout, norm) for _ in range(layers))
        self.norm = nn.LayerNorm(width) if norm == "before" else nn.Identity()

    def forward(self, embedded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, H], [B, S] -> states [B, S, H], summary [B, H]."""
        seen, packing = mask[:, None, None, :], Packing(mask)
        states = packing.pack(embedded)
        for layer in self.layers:
            states = layer(states, seen, packing)
        states = packing.unpack(self.norm(states))
        return states, masked_mean(states, mask)


class Normed(nn.Module):
    """Parts that are added to their input, x + f(norm(x)) with norm "before" (Xiong et al. 2020), norm(x + f(x)) with "after"
    (Vaswani et al. 2017, section 3.1): f is given `read(norm, x)`, and `summed(norm, ...)` follows."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.before = norm == "before"

    def read(self, norm: nn.LayerNorm, states: Tensor) -> Tensor:
        return norm(states) if self.before else states

    def summed(self, norm: nn.LayerNorm, states: Tensor) -> Tensor:
        return states if self.before else norm(states)


class EncoderLayer(Normed):
    """Self-attention and a feed-forward block, each added as `Normed` says.

    Dropout falls on what is added and on the embedded input, as Vaswani et al. (2017, section 5.4) have it.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, norm: Norm) -> None:
        super().__init__(norm)
        self.attention = MultiHead(width, heads)
        self.feedforward = FeedForward(width, feedforward, dropout, norm)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor, packing: Packing) -> Tensor:
        found = self.attention.own(self.read(self.norm, states), seen, False, packing)
        return self.feedforward(self.summed(self.norm, states + self.dropout(found)))


class FeedForward(Normed):
    """W2 relu(W1 x), added to x as `Normed` says."""

    def __init__(self, width: int, inner: int, dropout: float, norm: Norm) -> None:
        super().__init__(norm)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = Linear(width, inner), Linear(inner, width)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        found = self.down(self.up(self.read(self.norm, states), "relu"))
        return self.summed(self.norm, states + self.dropout(found))


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """[B, S, H] and mask [B, S] -> mean over real positions [B, H]."""
    weight = mask.unsqueeze(2).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)
