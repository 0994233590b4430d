"""Additive energies (Bahdanau et al. 2015) for every pair of query and key, without the pairs in memory.

`written` states what is computed. As tanh(a + b) = 1 - 2 / (1 + e^2a e^2b), `energies` takes one exponential a query and
one a key, and leaves a product and a reciprocal to each pair; it goes through the pairs in blocks that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = {"cpu": 2**18, "cuda": 2**26}        # numbers of a block of pairs [b, q, S, H]; on a CPU 1 MiB, for its cache


def written(query: Tensor, keys: Tensor, value: Tensor) -> Tensor:
    """Projected queries [B, Q, H], keys [B, S, H], value v [H] -> v . tanh(query + key) [B, Q, S]."""
    return torch.tanh(query.unsqueeze(2) + keys.unsqueeze(1)) @ value


def exponentials(projected: Tensor) -> Tensor:
    """x -> e^2x in float32 or better; beyond +-40 (float64: +-350) x is cut, so that no product of two is 0 * inf.

    So a query and a key that nearly cancel out beyond the cut, 60 and -59.9, count as 0: both would have to be far from
    anything that initialisation or training gives them.
    """
    return _Exponentials.apply(projected.to(torch.promote_types(projected.dtype, torch.float32)))


class _Exponentials(torch.autograd.Function):
    """In place after the first product; the gradient is that without the cut."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        most = math.log(torch.finfo(x.dtype).max) - 8
        found = (2 * x).clamp_(-most, most).exp_()
        ctx.save_for_backward(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, above: Tensor) -> Tensor:
        return (above * ctx.saved_tensors[0]).mul_(2)


def energies(query: Tensor, keys: Tensor, value: Tensor) -> Tensor:
    """`written` from the exponentials of queries [B, Q, H] and keys [B, S, H] -> [B, Q, S]."""
    with torch.autocast(query.device.type, enabled=False):
        return _Energies.apply(query, keys, value.to(query.dtype))


class _Energies(torch.autograd.Function):
    """With r = 1 / (1 + Q K): energy = sum_h v (1 - 2 r), and Q dr/dQ = K dr/dK = r^2 - r."""

    @staticmethod
    def forward(ctx, query: Tensor, keys: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, keys, value)
        found = query.new_empty(*query.shape[:2], keys.shape[1])
        for block, pairs in _blocks(query, keys):
            torch.mv(pairs.flatten(0, 2), value, out=found[block].view(-1))
        return value.sum() - 2 * found

    @staticmethod
    @once_differentiable
    def backward(ctx, above: Tensor):
        query, keys, value = ctx.saved_tensors
        above = above.contiguous()
        of_query, of_keys = torch.empty_like(query), torch.zeros_like(keys)
        of_value = above.sum().expand_as(value).clone()
        for block, pairs in _blocks(query, keys):
            weight = above[block]                                                   # [b, q, S]
            of_value.addmv_(pairs.flatten(0, 2).t(), weight.reshape(-1), alpha=-2)
            pairs.addcmul_(pairs, pairs, value=-1).mul_(weight.unsqueeze(3))        # above * (r - r^2)
            torch.sum(pairs, 2, out=of_query[block])
            of_keys[block[0]] += pairs.sum(1)
        value = 2 * value
        return of_query.mul_(value).div_(query), of_keys.mul_(value).div_(keys), of_value


def _blocks(query: Tensor, keys: Tensor) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Some problems, some of their queries, and r of these with all keys [b, q, S, H], in memory that is taken again."""
    (problems, queries, width), positions = query.shape, keys.shape[1]
    room = BLOCK.get(query.device.type, BLOCK["cuda"]) // max(1, positions * width)            # queries that fit
    some, each = max(1, room // max(1, queries)), max(1, min(room, queries))
    memory, one = query.new_empty(some * each * positions * width), query.new_ones(())
    for problem in range(0, problems, some):
        for first in range(0, queries, each):
            block = slice(problem, problem + some), slice(first, first + each)
            left, right = query[block].unsqueeze(2), keys[block[0]].unsqueeze(1)
            shape = (*left.shape[:2], positions, width)
            pairs = memory[:math.prod(shape)].view(shape)
            yield block, torch.addcmul(one, left, right, out=pairs).reciprocal_()
