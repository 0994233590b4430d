"""Attention of queries over source positions. Keys are projected once per source, however many queries come."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..types import NEVER
from .additive import energies, exponentials
from .linear import Linear, product

Kind = Literal["none", "dot", "bilinear", "additive", "cosine"]
WORTH = 0.95        # share of real positions above which packing costs more than it saves
ROOM = 32           # places of a fresh cache


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


class Packing:
    """The real positions of padded rows [N, T], side by side [M]: between attentions nothing is computed for padding."""

    def __init__(self, mask: Tensor | None) -> None:
        """Mask [N, T], True where real; None, or hardly any padding: positions stay where they are."""
        real = None if mask is None or mask.numel() == 0 else mask.flatten().nonzero().squeeze(1)
        worth = real is not None and len(real) < WORTH * mask.numel()
        self.shape, self.real = (mask.shape, real) if worth else (None, None)

    def pack(self, rows: Tensor) -> Tensor:
        """[N, T, H] -> [M, H]."""
        return rows if self.real is None else rows.flatten(0, 1).index_select(0, self.real)

    def unpack(self, rows: Tensor) -> Tensor:
        """[M, H] -> [N, T, H], 0 where padded."""
        if self.real is None:
            return rows
        count, steps = self.shape
        return rows.new_zeros(count * steps, rows.shape[-1]).index_copy(0, self.real, rows).view(count, steps, -1)


WHOLE = Packing(None)


class MultiHead(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with fused kernels; queries of one source share its keys.

    `project` holds the projections of queries, keys and values one below the other, so that a step makes one product.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"policy.width={width} is not a multiple of policy.heads={heads}")
        self.heads = heads
        self.project = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.register_load_state_dict_pre_hook(_join_projections)

    def _projected(self, rows: Tensor, first: int, last: int) -> Tensor:
        """[.., H] -> projections first..last - 1 of (query, key, value) side by side [.., (last - first) * H]."""
        cut = slice(first * rows.shape[-1], last * rows.shape[-1])
        return product(rows, self.project.weight[cut], self.project.bias[cut])

    def split(self, rows: Tensor) -> Tensor:
        """[N, T, H] -> [N, heads, T, H / heads]."""
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)

    def keys(self, states: Tensor, packing: Packing = WHOLE) -> tuple[Tensor, Tensor]:
        """[B, S, H], packed -> keys and values, each [B, heads, S, H / heads]."""
        key, value = packing.unpack(self._projected(states, 1, 3)).chunk(2, dim=-1)
        return self.split(key), self.split(value)

    def own(self, states: Tensor, mask: Tensor | None, causal: bool, packing: Packing = WHOLE) -> Tensor:
        """Self-attention of [N, T, H], packed; mask broadcasts to [N, heads, T, T], True where seen."""
        asked, key, value = packing.unpack(self.project(states)).chunk(3, dim=-1)
        return self._found(asked, self.split(key), self.split(value), mask, causal, packing)

    def forward(self, query: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor, packing: Packing = WHOLE) -> Tensor:
        """Queries [N, T, H], packed, to B sources; mask broadcasts to [B, heads, Q, S] -> [N, T, H], packed."""
        return self._found(packing.unpack(self._projected(query, 0, 1)), *keys, mask, False, packing)

    def _found(self, asked: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool,
               packing: Packing) -> Tensor:
        found = _fused(self.split(fold(asked, len(key))), key, value, mask, causal)
        return self.out(packing.pack(found.transpose(1, 2).reshape(asked.shape)))

    def own_step(self, states: Tensor, caches: Sequence[Tensor], place: int | Tensor,
                 later: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Self-attention of one new position [N, H]; caches of keys and values before it [>= place, N, heads, H / heads].

        Of fixed shape: place [1], and which places are `later` than it [room].
        """
        asked, *new = self.project(states).view(len(states), 3, self.heads, -1).unbind(1)
        caches = tuple(_remember(cache, place, one) for cache, one in zip(caches, new, strict=True))
        key, value = ((cache if later is not None else cache[:place + 1]).permute(1, 2, 0, 3) for cache in caches)
        return self.out(_few(asked.unsqueeze(2), key, value, later).view(states.shape)), caches

    def step(self, states: Tensor, keys: tuple[Tensor, Tensor], hidden: Tensor) -> Tensor:
        """`forward` for one position of every row [N, H]; `hidden` is what the mask is not."""
        asked = self._projected(states, 0, 1)
        found = _few(self.split(fold(asked.unsqueeze(1), len(keys[0]))), *keys, hidden)
        return self.out(found.transpose(1, 2).reshape(states.shape))

    def probabilities(self, query: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor, packing: Packing = WHOLE) -> Tensor:
        """The same attention written out, mean over heads: [N, T, S], rows sum to 1."""
        asked = packing.unpack(self._projected(query, 0, 1))
        energy = self.split(fold(asked, len(keys[0]))) @ keys[0].transpose(2, 3) / math.sqrt(keys[0].shape[-1])
        energy = energy.to(torch.promote_types(energy.dtype, torch.float32)).masked_fill(~mask, NEVER)
        return energy.softmax(-1).mean(1).view(*asked.shape[:2], -1)


def _fused(asked: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The fused kernel [B, heads, Q, d]; on a CPU in float32, where its backward is five times as fast as in bf16."""
    lower = asked.device.type == "cpu" and asked.dtype == torch.bfloat16
    given = (one.float() for one in (asked, key, value)) if lower else (asked, key, value)
    with torch.autocast("cpu", enabled=False) if lower else nullcontext():
        return F.scaled_dot_product_attention(*given, attn_mask=mask, is_causal=causal).to(asked.dtype)


def _few(asked: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
    """Attention [B, heads, Q, d] written out; for few queries faster than the fused kernel, in bf16 several times."""
    asked = asked / math.sqrt(key.shape[-1])
    energy = torch.bmm(asked.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    if hidden is not None:
        energy = energy.view(*asked.shape[:3], -1).masked_fill(hidden, NEVER).flatten(0, 1)
    return torch.bmm(energy.softmax(-1), value.flatten(0, 1)).view(asked.shape)


def _remember(cache: Tensor, place: int | Tensor, new: Tensor) -> Tensor:
    """The cache [room, N, heads, d] with `new` [N, heads, d] at a place; without a graph in the same memory.

    Places come first: so what has been written lies without gaps, which attention reads faster.
    """
    if isinstance(place, Tensor):
        return cache.to(new.dtype).index_copy_(0, place, new.unsqueeze(0))
    if torch.is_grad_enabled():
        return torch.cat([cache[:place], new.unsqueeze(0)])
    if place == len(cache):
        room = new.new_empty(max(place, ROOM), *new.shape)
        cache = torch.cat([cache, room]) if place else room
    cache[place] = new
    return cache


def _join_projections(module: MultiHead, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Read the weights of versions that kept the query's projection apart."""
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{prefix}{name}.{kind}", None) for name in ("query", "key_value")]
        if None not in parts:
            state[f"{prefix}project.{kind}"] = torch.cat(parts)
