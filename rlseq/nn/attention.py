"""Attention of queries over source positions. Keys are projected once per source, however many queries come."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..types import NEVER
from .additive import energies, exponentials
from .linear import Linear

Kind = Literal["none", "dot", "bilinear", "additive", "cosine"]


def fold(rows: Tensor, problems: int) -> Tensor:
    """[N, T, H] -> [B, k*T, H]: all queries to one source side by side, so that no source is copied."""
    return rows.reshape(problems, -1, rows.shape[-1])


class Attention(nn.Module):
    """Energies of one head, by kind:

        dot       q . k / sqrt(H)                 (Luong et al. 2015; scaled as in Vaswani et al. 2017)
        bilinear  q . W k / sqrt(H)               (Luong et al. 2015, "general")
        additive  v . tanh(W q + U k)             (Bahdanau et al. 2015)
        cosine    g cos(q, W k), g learned        (Graves et al. 2014)
    """

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        if kind not in ("dot", "bilinear", "additive", "cosine"):
            raise ValueError(f"no attention {kind!r}; there are: dot, bilinear, additive, cosine")
        self.kind, self.scale = kind, 1 / math.sqrt(width)
        self.key = nn.Identity() if kind == "dot" else Linear(width, width, bias=False)
        if kind == "additive":
            self.query = Linear(width, width)
            self.value = nn.Parameter(torch.empty(width).uniform_(-self.scale, self.scale))
        if kind == "cosine":
            self.gain = nn.Parameter(torch.tensor(10.0))

    def keys(self, states: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H], once per source; of additive energies their exponentials."""
        keys = self.key(states)
        if self.kind == "additive":
            return exponentials(keys)
        return F.normalize(keys, dim=-1) if self.kind == "cosine" else keys

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Queries [N, T, H], keys [B, S, H] -> energies [N, T, S]; row n asks source n // k."""
        rows, steps, _ = query.shape
        query = fold(query, keys.shape[0])
        if self.kind == "additive":
            energy = energies(exponentials(self.query(query)), keys, self.value)
        elif self.kind == "cosine":
            energy = self.gain * (F.normalize(query, dim=-1) @ keys.transpose(1, 2))
        else:
            energy = self.scale * (query @ keys.transpose(1, 2))
        return energy.view(rows, steps, keys.shape[1])


def weights(energy: Tensor, mask: Tensor) -> Tensor:
    """Energies [N, T, S], mask [B, S] -> attention [N, T, S] that sums to 1 over real positions (float32 at least)."""
    rows, steps, positions = energy.shape
    energy = energy.view(mask.shape[0], -1, positions).masked_fill(~mask.unsqueeze(1), NEVER)
    return energy.to(torch.promote_types(energy.dtype, torch.float32)).softmax(-1).view(rows, steps, positions)


def read(attention: Tensor, states: Tensor) -> Tensor:
    """Attention [N, T, S] over states [B, S, H] -> contexts [N, T, H]."""
    rows, steps, _ = attention.shape
    return (fold(attention.to(states.dtype), states.shape[0]) @ states).view(rows, steps, -1)


class MultiHead(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with fused kernels; queries of one source share its keys."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"policy.width={width} is not a multiple of policy.heads={heads}")
        self.heads, self.dropout = heads, dropout
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)

    def split(self, rows: Tensor) -> Tensor:
        """[N, T, H] -> [N, heads, T, H / heads]."""
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)

    def keys(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, H] -> keys and values, each [B, heads, S, H / heads]."""
        key, value = self.key_value(states).chunk(2, dim=-1)
        return self.split(key), self.split(value)

    def forward(self, query: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor | None = None,
                causal: bool = False) -> Tensor:
        """Queries [B, Q, H]; mask broadcasts to [B, heads, Q, S], True where seen -> [B, Q, H]."""
        found = F.scaled_dot_product_attention(self.split(self.query(query)), *keys, attn_mask=mask, is_causal=causal,
                                               dropout_p=self.dropout if self.training else 0.0)
        return self.out(found.transpose(1, 2).flatten(2))

    def probabilities(self, query: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """The same attention written out, mean over heads: [B, Q, S], rows sum to 1."""
        energy = self.split(self.query(query)) @ keys[0].transpose(2, 3) / math.sqrt(keys[0].shape[-1])
        return energy.to(torch.promote_types(energy.dtype, torch.float32)).masked_fill(~mask, NEVER).softmax(-1).mean(1)
