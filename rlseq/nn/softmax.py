"""The softmax over a large vocabulary, taken block by block, so that no [rows, A] tensor outlives its block.

`Head.score` states what is computed; here is the same with its gradient written out. Backward computes each block's logits
again, unless the caller foresaw the gradient: then it was made in passing, in the forward pass.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..types import NEVER, Foreseen
from .linear import outer, product

BLOCK = {"cpu": 2**21, "cuda": 2**25}  # numbers of a block of logits; on a CPU 8 MiB in float32, for its cache
ROWS = 128                             # of a block at least: each adds to the whole gradient of the weight


def chosen(states: Tensor, weight: Tensor, bias: Tensor, actions: Tensor, legal: Tensor | None, detail: bool,
           foreseen: Foreseen | None = None, power: float = 1.0) -> tuple[Tensor, ...]:
    """log softmax(states weight^T + bias) at the actions; with `detail` the entropy and the mean over possible actions too;
    or with a `power` other than 1 the logarithm of the sum of all p^power.

    states: [M, H]; weight: [A, H]; bias: [A]; actions: [M], or with `detail` or a power [M, K], several of a row; legal:
    [M, A] bool, None with a power; results: [M], the first as actions, float32 at least. A wrong guess of what is foreseen,
    with a weight [M] for one action a row, costs time alone.
    """
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, weight, bias = states.to(dtype), weight.to(dtype), bias.to(dtype)
    return _Chosen.apply(states, weight, bias, actions, legal, detail, foreseen, power)


def blocks(states: Tensor, weight: Tensor, bias: Tensor, legal: Tensor | None):
    """Slices of rows and their logits, float32 at least."""
    rows = max(ROWS, BLOCK.get(states.device.type, BLOCK["cuda"]) // len(weight))
    for start in range(0, len(states), rows):
        cut = slice(start, start + rows)
        logits = product(states[cut], weight, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        yield cut, logits if legal is None else logits.masked_fill_(~legal[cut], NEVER)


class _Chosen(torch.autograd.Function):
    """With l the logits, p their softmax, H its entropy, m the number of possible actions and a the action:

        d log p_a / d l_j = 1[j = a] - p_j;   dH / d l_j = -p_j (log p_j + H);   d mean log p / d l_j = 1[possible] / m - p_j;
        d log sum p^n / d l_j = n (q_j - p_j) with q the softmax of n l
    """

    @staticmethod
    def forward(ctx, states, weight, bias, actions, legal, detail, foreseen, power):
        ctx.early, ctx.power = None, power
        if any(ctx.needs_input_grad) and foreseen is not None:
            g, e = foreseen.weight.to(_no_rows(states).dtype), foreseen.smoothing if detail else 0.0
            ctx.early = Gradient(states, weight, bias, actions, g, e)
        found = []
        for cut, logits in blocks(states, weight, bias, legal):
            logp, possible = logits.log_softmax(1), None
            parts = [logp.gather(1, actions[cut].view(len(logp), -1)).view_as(actions[cut])]
            p = logp.exp() if detail or ctx.early is not None else None
            if detail:
                if legal is not None:
                    logp.mul_(possible := logp > NEVER / 2)
                parts += [-(p * logp).sum(1), logp.sum(1) / _count(possible, logp).squeeze(1)]
            if power != 1:
                parts.append((logp * power).logsumexp(1))
            if ctx.early is not None:
                ctx.early.add(cut, p, possible)
            found.append(parts)
        none = _no_rows(states)
        logp, *more = (torch.cat(column) for column in zip(*found)) if found else [
            none.new_zeros(actions.shape), *([none, none] if detail else [none] if power != 1 else [])]
        ctx.save_for_backward(states, weight, bias, actions, legal, *more[:1])
        return logp, *more

    @staticmethod
    @once_differentiable
    def backward(ctx, above, *above_more):
        states, weight, bias, actions, legal, *first = ctx.saved_tensors          # the entropy, or the sum of powers
        if ctx.early is not None and (factor := ctx.early.factor(above, *above_more)) is not None:
            return *ctx.early.times(factor), *[None] * 5
        gradient = Gradient(states, weight, bias, actions, None if above_more else above)
        if ctx.power == 1 and above_more and not above_more[0].any():
            above_more, first = (None, above_more[1]), (None,)
        slope = partial(_slope, legal is not None) if ctx.power == 1 else partial(_slope_of_powers, ctx.power)
        for cut, logits in blocks(states, weight, bias, legal):
            if above_more:
                taken = (None if one is None else one[cut].view(len(logits), -1)
                         for one in (actions, above, *above_more, *first))
                gradient.add_slope(cut, slope(logits.log_softmax(1), *taken))
            else:
                gradient.add(cut, logits.softmax(1))
        return *gradient.times(None), *[None] * 5


class Gradient:
    """Of states, weight and bias, summed over blocks, where the chosen log-probabilities have the gradient (1 - e) g [M], the
    means over m possible actions e g; without g, where the logits have the slopes given.

    With g the slopes are g ((1 - e) 1[j = a] + e 1[possible] / m - p_j): it scales the small tensors beside p, not p itself.
    """

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor, actions: Tensor, g: Tensor | None,
                 e: float = 0.0) -> None:
        self.states, self.weight, self.actions, self.g, self.bias_type, self.e = states, weight, actions, g, bias.dtype, e
        self.scaled = None if g is None else (states * g[:, None]).to(states.dtype)         # [M, H]
        self.of_states = torch.empty_like(states)
        self.of_weight, self.of_bias = (torch.zeros_like(one, dtype=_no_rows(states).dtype) for one in (weight, bias))

    def add(self, cut: slice, p: Tensor, possible: Tensor | None = None) -> None:
        """A block's softmax [rows, A], which is changed, and which actions are possible, unless all are."""
        actions = self.actions[cut, None]
        p.scatter_add_(1, actions, p.new_full((), self.e - 1).expand(actions.shape))
        if self.e:
            even = self.e / _count(possible, p)
            p -= even if possible is None else even * possible
        self.of_bias.addmv_(p.t(), self.g[cut].to(p.dtype), alpha=-1)
        lower = p.to(self.states.dtype)
        self.of_states[cut] = product(lower, self.weight.t()) * -self.g[cut, None]
        self.of_weight -= outer(lower, self.scaled[cut])

    def add_slope(self, cut: slice, slope: Tensor) -> None:
        """The slopes of a block's logits [rows, A]."""
        self.of_bias += slope.sum(0)
        lower = slope.to(self.states.dtype)
        self.of_states[cut] = product(lower, self.weight.t())
        self.of_weight += outer(lower, self.states[cut])

    def factor(self, above: Tensor, by_entropy: Tensor | None = None, by_smooth: Tensor | None = None) -> Tensor | None:
        """What the gradients are of those that g stands for: one number, to rounding, or nothing."""
        if not len(above):
            return None
        given = torch.stack([above, *(one for one in (by_entropy, by_smooth) if one is not None)])
        shares = given.new_tensor([1 - self.e, 0, self.e][:len(given)])
        factor = (given.sum(0) * self.g).sum() / self.g.square().sum()
        off = (given - factor * shares[:, None] * self.g).abs().max()
        return factor if bool(off <= 8 * torch.finfo(above.dtype).eps * given.abs().max()) else None

    def times(self, factor: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The three gradients, times a factor."""
        parts = (self.of_states, self.of_weight, self.of_bias)
        types = (self.states.dtype, self.weight.dtype, self.bias_type)
        return tuple((one if factor is None else one * factor).to(dtype) for one, dtype in zip(parts, types, strict=True))


def _count(possible: Tensor | None, like: Tensor) -> Tensor:
    """Of the possible actions of each row of a block [rows, A]: [rows or 1, 1]."""
    return like.new_full((1, 1), like.shape[1]) if possible is None else possible.sum(1, keepdim=True).to(like.dtype)


def _no_rows(states: Tensor) -> Tensor:
    return states.new_zeros(0, dtype=torch.promote_types(states.dtype, torch.float32))


def _slope(some: bool, logp: Tensor, actions: Tensor, above: Tensor, by_entropy: Tensor | None, by_smooth: Tensor,
           entropy: Tensor | None) -> Tensor:
    """The gradient of a block's logits [rows, A] from those of chosen log-probabilities at actions, [rows, K] both, of
    entropy (if any) and smoothing term, [rows, 1] as the entropy; `some` says that not all actions are possible."""
    possible, p = logp > NEVER / 2 if some else None, logp.exp()
    even = by_smooth / _count(possible, p)
    slope = p.mul(-above.sum(1, keepdim=True) - by_smooth).add_(even if possible is None else even * possible)
    if by_entropy is not None:
        slope.addcmul_(p * ((logp if possible is None else logp * possible) + entropy), by_entropy, value=-1)
    return slope.scatter_add_(1, actions, above)


def _slope_of_powers(power: float, logp: Tensor, actions: Tensor, above: Tensor, by_sum: Tensor, powers: Tensor) -> Tensor:
    """As `_slope`, from the gradients of chosen log-probabilities and of the logarithm [rows, 1] of the sum of all p^power."""
    slope = logp.exp().mul_(-above.sum(1, keepdim=True) - power * by_sum)
    slope.addcmul_((logp * power).sub_(powers).exp_(), power * by_sum)
    return slope.scatter_add_(1, actions, above)
