"""`nn.LSTM` on a CPU for rows of unequal length: real steps alone are computed, on the fastest product.

torch's own kernels for this are slow: packed sequences run through a loop whose backward pass fills whole tensors at
every step, and oneDNN's fused layer takes no lengths. `run` equals the cell itself on packed rows (Hochreiter and
Schmidhuber 1997, with the forget gate of Gers et al. 2000):

    i, f, g, o = W x_t + U h_{t-1} + b;   c_t = s(f) c_{t-1} + s(i) tanh(g);   h_t = s(o) tanh(c_t),   s the sigmoid
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .dropout import dropout
from .linear import outer, product

Pair = tuple[Tensor, Tensor]               # hidden and cell states


def fits(cell: nn.RNNBase, x: Tensor) -> bool:
    """Whether `run` and `step` can take the cell's place: an LSTM on a CPU, in float32 or float64."""
    return (isinstance(cell, nn.LSTM) and x.device.type == "cpu" and x.dtype == cell.weight_ih_l0.dtype
            and x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu"))


class Affine(NamedTuple):
    """x W^T + b not yet multiplied out: a linear map that follows is cheaper folded into W where x has few features."""

    x: Tensor           # [N, T, F]
    weight: Tensor      # [E, F]
    bias: Tensor        # [E]

    def whole(self) -> Tensor:
        """[N, T, E]."""
        return product(self.x, self.weight, self.bias)


@dataclass(frozen=True)
class Plan:
    """The real steps of N rows [N, T] in one list, step after step, within a step the longest row first."""

    counts: tuple[int, ...]     # rows that have a step t
    order: Tensor               # [N] rows, the longest first
    place: Tensor               # [P] of a real step in [N * T]
    before: Tensor              # [P] of the state before it among N first states and P states
    last: Tensor                # [N] of each row's last state, rows as in `order`

    def slices(self, rows: int) -> list[tuple[slice, slice, slice]]:
        """Of every step: its places among P steps, those of the states before and after it among N + P states."""
        found, before, now = [], 0, 0
        for count in self.counts:
            found.append((slice(now, now + count), slice(before, before + count), slice(rows + now, rows + now + count)))
            before, now = rows + now, now + count
        return found


def make_plan(lengths: Tensor, steps: int, backwards: bool) -> Plan:
    """Lengths [N] of rows padded to T steps; `backwards` reads each row from its own end."""
    order = lengths.argsort(descending=True, stable=True)
    lengths = lengths[order]
    step, row = (torch.arange(steps).unsqueeze(1) < lengths).nonzero().unbind(1)
    counts = (torch.arange(steps).unsqueeze(1) < lengths).sum(1)
    counts = counts[counts > 0]
    start = torch.cat([torch.zeros(1, dtype=torch.long), len(order) + counts.cumsum(0) - counts])   # of states before t
    at = lengths[row] - 1 - step if backwards else step
    return Plan(tuple(counts.tolist()), order, order[row] * steps + at, start[step] + row,
                start[lengths] + torch.arange(len(order)))


def tanh(x: Tensor) -> Tensor:
    """tanh; on a CPU as 2 s(2x) - 1, for torch computes sigmoids some five times faster there. Absolute error 1e-7."""
    plain = x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64)
    return torch.tanh(x) if plain else torch.sigmoid(2 * x) * 2 - 1


def _tanh(x: Tensor, out: Tensor) -> Tensor:
    """The same without a gradient, into given memory."""
    torch.mul(x, 2, out=out).sigmoid_()
    return torch.add(out.new_tensor(-1.0), out, alpha=2, out=out)


def _gates(gates: Tensor) -> tuple[Tensor, ...]:
    """i, f, g, o [n, 4H] before their squashing -> after it, in place and apart."""
    into, forget, fresh, out = gates.chunk(4, 1)
    gates[:, :gates.shape[1] // 2].sigmoid_()
    out.sigmoid_()
    return into, forget, _tanh(fresh, fresh), out


class _Layer(torch.autograd.Function):
    """One layer in one direction over a plan: x [N, T, E] and first states [N, H] -> states [N, T, H], the last ones."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor, hidden: Tensor, cell: Tensor, plan: Plan):
        rows, steps, inner = x.shape
        width, total = hidden.shape[1], len(plan.place)
        packed = x.reshape(rows * steps, inner).index_select(0, plan.place)
        gates = product(packed, weight, bias)                                       # [P, 4H]
        states, cells = x.new_empty(rows + total, width), x.new_empty(rows + total, width)
        squashed = x.new_empty(total, width)
        torch.index_select(hidden, 0, plan.order, out=states[:rows])
        torch.index_select(cell, 0, plan.order, out=cells[:rows])
        for now, old, new in plan.slices(rows):
            into, forget, fresh, out = _gates(gates[now].add_(product(states[old], recurrent)))
            torch.mul(forget, cells[old], out=cells[new]).addcmul_(into, fresh)
            torch.mul(out, _tanh(cells[new], squashed[now]), out=states[new])
        ctx.plan, ctx.shape = plan, x.shape
        ctx.save_for_backward(packed, weight, recurrent, gates, states, cells, squashed)
        found = x.new_zeros(rows * steps, width).index_copy_(0, plan.place, states[rows:]).view(rows, steps, width)
        ends = (torch.empty_like(one).index_copy_(0, plan.order, part.index_select(0, plan.last))
                for one, part in ((hidden, states), (cell, cells)))
        return found, *ends

    @staticmethod
    @once_differentiable
    def backward(ctx, above: Tensor, above_hidden: Tensor, above_cell: Tensor):
        packed, weight, recurrent, gates, states, cells, squashed = ctx.saved_tensors
        plan, (rows, steps, inner), width = ctx.plan, ctx.shape, recurrent.shape[1]
        above = above.reshape(rows * steps, width).index_select(0, plan.place)
        hiddens, ends = above_hidden.index_select(0, plan.order), above_cell.index_select(0, plan.order)
        delta, back = torch.empty_like(gates), recurrent.t()                        # of the gates before their squashing
        for now, old, _ in reversed(plan.slices(rows)):
            into, forget, fresh, out = gates[now].chunk(4, 1)
            to_into, to_forget, to_fresh, to_out = delta[now].chunk(4, 1)
            hidden, cell = hiddens[:len(out)].add_(above[now]), ends[:len(out)]
            cell += torch.ops.aten.tanh_backward(hidden * out, squashed[now])
            torch.mul(cell, fresh, out=to_into)
            torch.mul(cell, cells[old], out=to_forget)
            torch.mul(cell, into, out=to_fresh)
            torch.mul(hidden, squashed[now], out=to_out)
            _through(torch.ops.aten.sigmoid_backward, delta[now, :2 * width], gates[now, :2 * width])
            _through(torch.ops.aten.tanh_backward, to_fresh, fresh)
            _through(torch.ops.aten.sigmoid_backward, to_out, out)
            cell *= forget
            hidden.copy_(product(delta[now], back))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = above.new_zeros(rows * steps, inner).index_copy_(0, plan.place, product(delta, weight.t()))
            of_x = of_x.view(rows, steps, inner)
        firsts = (torch.empty_like(one).index_copy_(0, plan.order, one) for one in (hiddens, ends))
        return (of_x, outer(delta, packed), outer(delta, states.index_select(0, plan.before)), delta.sum(0), *firsts, None)


def _through(derivative, above: Tensor, result: Tensor) -> None:
    """`above` times the derivative of a squashing whose result is known, in place."""
    derivative.grad_input(above, result, grad_input=above)


def _weights(cell: nn.LSTM, layer: int, way: int) -> tuple[Tensor, Tensor, Tensor]:
    """W [4H, E], U [4H, H] and b [4H], both of torch's biases in one."""
    name = f"l{layer}{'_reverse' if way else ''}"
    return (getattr(cell, f"weight_ih_{name}"), getattr(cell, f"weight_hh_{name}"),
            getattr(cell, f"bias_ih_{name}") + getattr(cell, f"bias_hh_{name}"))


def run(cell: nn.LSTM, x: Tensor | Affine, lengths: Tensor | None = None,
        before: Pair | None = None) -> tuple[Tensor, Pair]:
    """x [N, T, E], lengths [N] (all T by default), first states [layers * ways, N, H] (zeros) -> states [N, T, ways * H],
    0 where a row has ended, and the last states, as from `cell` on packed rows."""
    fold, x = (x, x.x) if isinstance(x, Affine) else (None, x)
    rows, steps, _ = x.shape
    ways = 2 if cell.bidirectional else 1
    lengths = torch.full((rows,), steps) if lengths is None else lengths
    plans = [make_plan(lengths, steps, bool(way)) for way in range(ways)]
    if before is None:
        before = (x.new_zeros(cell.num_layers * ways, rows, cell.hidden_size),) * 2
    ends = []
    for layer in range(cell.num_layers):
        if layer and cell.dropout:
            x = dropout(x, cell.dropout, True)
        found = []
        for way in range(ways):
            weight, recurrent, bias = _weights(cell, layer, way)
            if fold and layer == 0:
                weight, bias = weight @ fold.weight, bias + weight @ fold.bias
            first = (one[layer * ways + way] for one in before)
            found.append(_Layer.apply(x, weight, recurrent, bias, *first, plans[way]))
        x = torch.cat([one[0] for one in found], 2) if ways == 2 else found[0][0]
        ends += [one[1:] for one in found]
    return x, (torch.stack([one[0] for one in ends]), torch.stack([one[1] for one in ends]))


def step(cell: nn.LSTM, x: Tensor, past: Pair) -> tuple[Tensor, Pair]:
    """One step of N rows, without a gradient: x [N, E], states [N, layers, H] -> the top state [N, H], the states after."""
    hiddens, cells = [], []
    for layer in range(cell.num_layers):
        weight, recurrent, bias = _weights(cell, layer, 0)
        gates = product(x, weight, bias).add_(product(past[0][:, layer], recurrent))
        into, forget, fresh, out = _gates(gates)
        cells.append((forget * past[1][:, layer]).addcmul_(into, fresh))
        x = _tanh(cells[-1], torch.empty_like(cells[-1])).mul_(out)
        hiddens.append(x)
    return x, (torch.stack(hiddens, 1), torch.stack(cells, 1))
