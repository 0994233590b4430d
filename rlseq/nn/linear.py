"""Linear layers, on the faster of the two matrix products that torch has on a CPU.

`F.linear` states what is computed. On many AMD chips oneDNN's float32 product is about twice as fast as MKL's, which
`F.linear` calls; in bf16 both are oneDNN's, but weights can be laid out for it once. A probe of some milliseconds decides
for each type, once a process; RLSEQ_PRODUCT=onednn or plain in the environment decides without it, so that two processes
agree to the last bit on any machine. Everywhere else (GPUs, float64) this is `F.linear`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Then = Literal["none", "relu"]
MARGIN = {torch.float32: 1.15, torch.bfloat16: 0.85}      # how much faster: a choice between equals would differ by chance


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: Then = "none") -> Tensor:
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()                          # a slice takes oneDNN's reference code: a thousand times slower
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")


@cache
def onednn_wins(dtype: torch.dtype) -> bool:
    """Whether oneDNN's product of a type is to be taken on this machine: said by RLSEQ_PRODUCT, or timed.

    Raises ValueError where RLSEQ_PRODUCT asks for what there is not.
    """
    said = os.environ.get("RLSEQ_PRODUCT", "")
    if said not in ("", "onednn", "plain"):
        raise ValueError(f"RLSEQ_PRODUCT={said} is not one of onednn, plain; unset it to let a timing choose")
    if dtype not in MARGIN or said == "plain" or not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.ones(256, 256, dtype=dtype), torch.ones(1024, 256, dtype=dtype)
    taken: dict[Callable, list[float]] = {F.linear: [], _onednn: []}
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for _ in range(15):
                for way, seconds in taken.items():
                    start = time.perf_counter()
                    way(x, weight)
                    seconds.append(time.perf_counter() - start)
    except (AttributeError, NotImplementedError, RuntimeError) as error:      # a torch without it, a chip without this type
        if said:
            raise ValueError(f"RLSEQ_PRODUCT=onednn, but torch {torch.__version__} has no such product of {dtype} here; "
                             "unset it or set it to plain") from error
        return False
    plain, other = (min(seconds) for seconds in taken.values())          # the least disturbed
    return said == "onednn" or plain > MARGIN[dtype] * other


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (x.device.type == "cpu" and x.dtype == weight.dtype and x.numel() > 0 and torch.backends.mkldnn.enabled
            and onednn_wins(x.dtype))


_made: ContextVar[dict[tuple[object, ...], tuple[Tensor, Tensor]] | None] = ContextVar("made", default=None)


@contextmanager
def constant_weights() -> Iterator[None]:
    """Within, no weight changes: each is lowered for autocast or laid out for oneDNN once, not at every step."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def _once(weight: Tensor, make: Callable[[Tensor], Tensor], purpose: object) -> Tensor:
    """make(weight), kept while weights are constant; carries no gradient then."""
    made = _made.get()
    if made is None or torch.is_grad_enabled():
        return make(weight)
    key = (weight.data_ptr(), weight.shape, weight.stride(), weight.dtype, purpose)
    if key not in made:
        made[key] = weight, make(weight)                      # the first keeps its address from being used again
    return made[key][1]


def _lower(one: Tensor, dtype: torch.dtype) -> Tensor:
    return one if one.dtype in (dtype, torch.float64) else _once(one, lambda own: own.to(dtype), dtype)


class _Product(torch.autograd.Function):
    """x W^T + b and its three gradients by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, then: Then) -> Tensor:
        result = _onednn(x, weight, bias, then)
        ctx.save_for_backward(x, weight, result if then == "relu" else None)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, above: Tensor):
        x, weight, result = ctx.saved_tensors
        above = above.contiguous() if result is None else above * (result > 0)
        wanted_x, wanted_weight, wanted_bias, _ = ctx.needs_input_grad
        rows, below = above.flatten(0, -2), x.flatten(0, -2)
        return (_onednn(above, weight.t()) if wanted_x else None,
                outer(rows, below) if wanted_weight else None,
                rows.sum(0) if wanted_bias else None, None)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """[M, N], [M, K] -> left^T right [N, K]; oneDNN is faster with the longer side last.

    bf16 takes the plain product, which is oneDNN's too and chooses a better layout for this shape.
    """
    if left.dtype == torch.bfloat16 or not _fits(left, right):
        return left.t() @ right
    wide = left.shape[1] > right.shape[1]
    return _onednn(right.t(), left.t()).t() if wide else _onednn(left.t(), right.t())


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: Then = "none") -> Tensor:
    """x [..., K], weight [N, K], bias [N] -> x weight^T + bias [..., N], through max(., 0) if `then` is "relu"."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x = x if x.dtype == torch.float64 else x.to(dtype)
        weight, bias = _lower(weight, dtype), None if bias is None else _lower(bias, dtype)
    if not _fits(x, weight):
        result = F.linear(x, weight, bias)
        return result.relu() if then == "relu" else result
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (x, weight, bias)):
        return _Product.apply(x, weight, bias, then)
    if _made.get() is None or torch.is_grad_enabled():
        return _onednn(x, weight, bias, then)
    rows = x.numel() // x.shape[-1]
    packed = _once(weight, lambda one: torch.ops.mkldnn._reorder_linear_weight(one.contiguous(), rows), "packed")
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, then, [], "")


class Linear(nn.Linear):
    """`nn.Linear` by `product`; `then` adds a rectifier."""

    def forward(self, x: Tensor, then: Then = "none") -> Tensor:
        return product(x, self.weight, self.bias, then)
