"""The fastest matrix product known on this machine, found by timing, and the few other operations that limits hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Work = Callable[[], object]
Way = Literal["fast", "mkl", "bf16"]          # the fastest fp32 product; torch.mm in fp32; the fastest in bf16


def _least(work: Work, tries: int = 7) -> float:
    """Seconds of the fastest of several calls."""
    work()
    found = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


@cache
def linear(rows: int, inner: int, outer: int, way: Way = "fast", fixed: bool = True) -> Work:
    """[rows, inner] x [inner, outer] with an offset; `fixed` weights may be packed beforehand, as a sampler's are.

    On the CPU: torch.mm (often MKL), oneDNN, and oneDNN with packed weights, whichever a timing finds fastest.
    """
    kind = torch.bfloat16 if way == "bf16" else torch.float32
    left, right, offset = (torch.randn(*size).to(kind) for size in ((rows, inner), (outer, inner), (outer,)))
    out = torch.empty(rows, outer, dtype=kind)

    def plain() -> Tensor:
        return torch.addmm(offset, left, right.t(), out=out)
    if way == "mkl" or not torch.backends.mkldnn.is_available():
        return plain

    def onednn(weight: Tensor) -> Work:
        return lambda: torch.ops.mkldnn._linear_pointwise(left, weight, offset, "none", [], "")
    ways = [plain, onednn(right)]
    if fixed:
        ways.append(onednn(torch.ops.mkldnn._reorder_linear_weight(right, rows)))
    return min(ways, key=_least)


@cache
def batched(count: int, rows: int, inner: int, columns: int, way: Way = "fast") -> Work:
    """[count, rows, inner] x [count, inner, columns]."""
    kind = torch.bfloat16 if way == "bf16" else torch.float32
    left, right = torch.randn(count, rows, inner).to(kind), torch.randn(count, inner, columns).to(kind)
    out = torch.empty(count, rows, columns, dtype=kind)
    return lambda: torch.bmm(left, right, out=out)


@cache
def softmax(rows: int, columns: int) -> Work:
    """Of [rows, columns], in fp32."""
    given, out = torch.randn(rows, columns), torch.empty(rows, columns)
    return lambda: torch.softmax(given, 1, out=out)


@cache
def draw(rows: int, columns: int, block: int = 64) -> Work:
    """One action a row from probabilities [rows, columns], by sums of blocks and then within the block."""
    p = torch.randn(rows, columns - columns % block).softmax(1).view(rows, -1, block)
    row = torch.arange(rows)

    def once() -> Tensor:
        sums = p.sum(2).cumsum(1)
        place = torch.rand(rows, 1) * sums[:, -1:]
        chosen = torch.searchsorted(sums, place).clamp(max=sums.shape[1] - 1).squeeze(1)
        within = p[row, chosen].cumsum(1)
        return chosen * block + torch.searchsorted(within, place * within[:, -1:]).squeeze(1)
    return once


@cache
def additive(count: int, queries: int, keys: int, width: int) -> Work:
    """v . tanh(q + k) of every pair from exponentials made before: one product, one reciprocal, one dot (rows of B)."""
    query, key, value = torch.rand(count, queries, 1, width), torch.rand(count, 1, keys, width), torch.rand(width)

    def once() -> Tensor:
        return (query * key).add_(1).reciprocal_() @ value
    return once
