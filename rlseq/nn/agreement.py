"""Two passes over the same answers, dropout drawn for each, as one softmax over a vocabulary, block by block.

For a real step t with weight g, logits l and m, and p = softmax(l), q = softmax(m) over A words, the loss is (R-Drop, Liang
et al. 2021; half of it, so that a price of 0 leaves the mean cross-entropy)

    sum_t g [1/2 sum_{r in p, q} -((1 - e) log r_y + e mean_a log r_a) + price / 4 (KL(p || q) + KL(q || p))]

and its gradient, with d = log p - log q,

    g [(p_j - (1 - e) 1[j = y] - e / A) / 2 + price / 4 (p_j (d_j - KL(p || q)) + p_j - q_j)]        by l_j

and by m_j the same with p and q exchanged. It is made in passing: one pass over the vocabulary, not two.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .softmax import Gradient, blocks


def agreeing(states: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor, actions: Tensor, g: Tensor, smoothing: float,
             price: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss above, a scalar with gradient; without one, mean log-probability of the actions [M] and the sum of KLs [M].

    states: [M, H] of either pass; weight: [A, H]; bias: [A]; actions: [M]; g: [M]. Results are float32 at least.
    """
    first, second = states
    if torch.is_autocast_enabled(first.device.type):
        dtype = torch.get_autocast_dtype(first.device.type)
        first, second, weight, bias = (one.to(dtype) for one in (first, second, weight, bias))
    return _Agreeing.apply(first, second, weight, bias, actions, g, smoothing, price)


class _Agreeing(torch.autograd.Function):
    """The gradient of either pass is that of cross-entropy at half the weight, were its softmax not p but

        p_j (1 + price / 2 (d_j - KL(p || q) + 1)) - price / 2 q_j
    """

    @staticmethod
    def forward(ctx, first, second, weight, bias, actions, g, smoothing, price):
        g = g.to(torch.promote_types(first.dtype, torch.float32))
        passes = [Gradient(states, weight, bias, actions, -g / 2, smoothing) for states in (first, second)]
        losses, gaps, logps = (torch.zeros_like(g) for _ in range(3))
        for (cut, one), (_, other) in zip(*(blocks(states, weight, bias, None) for states in (first, second))):
            one, other = one.log_softmax(1), other.log_softmax(1)                            # log p, log q
            logps[cut] = sum(logp.gather(1, actions[cut, None]).squeeze(1) for logp in (one, other)) / 2
            if smoothing:
                losses[cut] = (one.mean(1) + other.mean(1)) * (-smoothing / 2)
            p, q = one.exp(), other.exp()
            apart = one.sub_(other)                                                           # d
            ahead, back = _dot(p, apart), -_dot(q, apart)                                     # KL(p || q), KL(q || p)
            gaps[cut] = (ahead + back).squeeze(1)
            apart.mul_(price / 2)
            swapped = (1 + price / 2 * (1 - back) - apart).mul_(q).sub_(p, alpha=price / 2)
            passes[0].add(cut, apart.add_(1 + price / 2 * (1 - ahead)).mul_(p).sub_(q, alpha=price / 2))
            passes[1].add(cut, swapped)
        ctx.passes = passes
        ctx.mark_non_differentiable(logps, gaps)
        return (g * (losses - (1 - smoothing) * logps + price / 4 * gaps)).sum(), logps, gaps

    @staticmethod
    @once_differentiable
    def backward(ctx, above, *_):
        (first, *shared), (second, *others) = (one.times(above) for one in ctx.passes)
        return first, second, *(one + other for one, other in zip(shared, others, strict=True)), *[None] * 4


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Of each row of [rows, A]: [rows, 1], in their own precision, which autocast would lower."""
    with torch.autocast(one.device.type, enabled=False):
        return torch.bmm(one.unsqueeze(1), other.unsqueeze(2)).squeeze(2)
