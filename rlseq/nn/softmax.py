"""The softmax over a large vocabulary, taken block by block, so that no [rows, A] tensor outlives its block.

`Head.score` states what is computed; here is the same with its gradient written out: backward computes each block's
logits again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..types import NEVER
from .linear import outer, product

BLOCK = {"cpu": 2**21, "cuda": 2**25}  # numbers of a block of logits; on a CPU 8 MiB in float32, for its cache
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

    The first, times a number g for each row, is multiplied out: of the states g (w_a - p W), so that p is only read.
    """

    @staticmethod
    def forward(ctx, states, weight, bias, actions, legal, detail):
        found = []
        for cut, logits in _blocks(states, weight, bias, legal):
            logp = logits.log_softmax(1)
            parts = [logp.gather(1, actions[cut, None]).squeeze(1)]
            if detail:
                possible = logp > NEVER / 2
                logp.mul_(possible)
                parts += [-(logp.exp() * logp * possible).sum(1), logp.sum(1) / possible.sum(1)]
            found.append(parts)
        logp, *more = (torch.cat(column) for column in zip(*found)) if found else [_no_rows(states)] * (3 if detail else 1)
        ctx.save_for_backward(states, weight, bias, actions, legal, *more[:1])
        return logp, *more

    @staticmethod
    @once_differentiable
    def backward(ctx, above, *above_more):
        states, weight, bias, actions, legal, *entropy = ctx.saved_tensors
        scaled = states * above[:, None].to(states.dtype)                                   # [M, H]
        wide = torch.zeros_like(weight, dtype=above.dtype).index_add_(0, actions, scaled.to(above.dtype))
        below_bias = torch.zeros_like(bias, dtype=above.dtype).index_add_(0, actions, above)
        below = weight.index_select(0, actions).mul_(above[:, None])
        for cut, logits in _blocks(states, weight, bias, legal):
            p = logits.softmax(1)
            below_bias.addmv_(p.t(), above[cut], alpha=-1)
            lower = p.to(states.dtype)
            below[cut] -= product(lower, weight.t()).mul_(above[cut, None])
            wide -= outer(lower, scaled[cut])
            if above_more:
                slope = _detail_slope(logits.log_softmax(1), *(one[cut, None] for one in (*above_more, *entropy)))
                below_bias += slope.sum(0)
                below[cut] += product(slope.to(states.dtype), weight.t())
                wide += outer(slope.to(states.dtype), states[cut])
        return below, wide.to(weight.dtype), below_bias.to(bias.dtype), None, None, None


def _no_rows(states: Tensor) -> Tensor:
    return states.new_zeros(0, dtype=torch.promote_types(states.dtype, torch.float32))


def _detail_slope(logp: Tensor, by_entropy: Tensor, by_smooth: Tensor, entropy: Tensor) -> Tensor:
    """What entropy and smoothing term add to the gradient of the logits: [rows, A]; gradients and entropy [rows, 1]."""
    possible = logp > NEVER / 2
    p = logp.exp()
    smooth = possible.to(p.dtype) / possible.sum(1, keepdim=True) - p
    return (by_smooth * smooth).addcmul_(p * (logp * possible + entropy), by_entropy, value=-1)
