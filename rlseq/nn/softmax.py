"""The softmax over a large vocabulary, taken block by block, so that no [rows, A] tensor outlives its block.

`Head.score` states what is computed; here is the same with its gradient written out: forward keeps one number a row (the
normaliser) and backward computes each block's logits again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..types import NEVER
from .linear import outer, product

BLOCK = {"cpu": 2**22, "cuda": 2**25}  # numbers of a block of logits; on a CPU 16 MiB in float32, for its cache
ROWS = 128                             # of a block at least: each adds to the whole gradient of the weight


def chosen(states: Tensor, weight: Tensor, bias: Tensor, actions: Tensor, legal: Tensor | None,
           detail: bool) -> tuple[Tensor, ...]:
    """log softmax(states weight^T + bias) at the actions; with `detail` the entropy and the mean over possible actions too.

    states: [M, H]; weight: [A, H]; bias: [A]; actions: [M]; legal: [M, A] bool; results: [M], float32 at least.
    """
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, weight, bias = states.to(dtype), weight.to(dtype), bias.to(dtype)
    return _Chosen.apply(states, weight, bias, actions, legal, detail)


def _blocks(states: Tensor, weight: Tensor, bias: Tensor, legal: Tensor | None):
    """Slices of rows and their logits, float32 at least."""
    rows = max(ROWS, BLOCK.get(states.device.type, BLOCK["cuda"]) // len(weight))
    for start in range(0, len(states), rows):
        cut = slice(start, start + rows)
        logits = product(states[cut], weight, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        yield cut, logits if legal is None else logits.masked_fill_(~legal[cut], NEVER)


class _Chosen(torch.autograd.Function):
    """With l the logits, p their softmax, H its entropy, m the number of possible actions and a the action:

        d log p_a / d l_j = 1[j = a] - p_j;   dH / d l_j = -p_j (log p_j + H);   d mean log p / d l_j = 1[possible] / m - p_j
    """

    @staticmethod
    def forward(ctx, states, weight, bias, actions, legal, detail):
        found = []
        for cut, logits in _blocks(states, weight, bias, legal):
            at = logits.gather(1, actions[cut, None]).squeeze(1)
            top = logits.amax(1, keepdim=True)
            total = (logits - top if detail else logits.sub_(top)).exp_().sum(1, keepdim=True).log_() + top
            parts = [at - total.squeeze(1), total.squeeze(1)]
            if detail:
                logp = logits.sub_(total)
                possible = logp > NEVER / 2
                logp.mul_(possible)
                parts += [-(logp.exp() * logp * possible).sum(1), logp.sum(1) / possible.sum(1)]
            found.append(parts)
        logp, total, *more = (torch.cat(column) for column in zip(*found)) if found else [_no_rows(states)] * 4
        ctx.save_for_backward(states, weight, bias, actions, legal, total, *more[:1])
        return (logp, *more) if detail else (logp,)

    @staticmethod
    @once_differentiable
    def backward(ctx, above, *above_more):
        states, weight, bias, actions, legal, total, *entropy = ctx.saved_tensors
        wide = torch.zeros_like(weight, dtype=total.dtype)
        below, below_bias = torch.empty_like(states), torch.zeros_like(bias, dtype=total.dtype)
        for cut, logits in _blocks(states, weight, bias, legal):
            logp = logits.sub_(total[cut, None])
            slope = _detail_slope(logp, *(one[cut, None] for one in (*above_more, *entropy))) if above_more else None
            p = logp.exp_()
            slope = p.mul_(-above[cut, None]) if slope is None else slope.addcmul_(p, above[cut, None], value=-1)
            slope.scatter_add_(1, actions[cut, None], above[cut, None])
            below_bias += slope.sum(0)
            slope = slope.to(states.dtype)
            below[cut] = product(slope, weight.t())
            wide += outer(slope, states[cut])
        return below, wide.to(weight.dtype), below_bias.to(bias.dtype), None, None, None


def _no_rows(states: Tensor) -> Tensor:
    return states.new_zeros(0, dtype=torch.promote_types(states.dtype, torch.float32))


def _detail_slope(logp: Tensor, by_entropy: Tensor, by_smooth: Tensor, entropy: Tensor) -> Tensor:
    """What entropy and smoothing term add to the gradient of the logits: [rows, A]; gradients and entropy [rows, 1]."""
    possible = logp > NEVER / 2
    p = logp.exp()
    smooth = possible.to(p.dtype) / possible.sum(1, keepdim=True) - p
    return (by_smooth * smooth).addcmul_(p * (logp * possible + entropy), by_entropy, value=-1)
