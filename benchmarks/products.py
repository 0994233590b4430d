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
def pool(kind: torch.dtype) -> Tensor:
    """Random numbers that batched products take their operands from, so that many shapes need no memory each."""
    return torch.randn(2**24).to(kind)


@cache
def batched(count: int, rows: int, inner: int, columns: int, way: Way = "fast") -> Work:
    """[count, rows, inner] x [count, inner, columns]."""
    kind = torch.bfloat16 if way == "bf16" else torch.float32
    numbers = pool(kind)
    left = numbers[:count * rows * inner].view(count, rows, inner)
    right = numbers[-count * inner * columns:].view(count, inner, columns)
    return lambda: torch.bmm(left, right)


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
    """v . tanh(q + k) of every pair from exponentials made before: one reciprocal and one dot a pair, in blocks of the
    size that a timing finds fastest."""
    query, key, value = torch.rand(count, queries, 1, width), torch.rand(count, 1, keys, width), torch.rand(width)
    one = torch.ones(())

    def in_blocks(numbers: int) -> Work:
        room = max(1, numbers // (keys * width))                                    # queries whose pairs fit
        some, each = max(1, room // queries), min(room, queries)
        pairs, out = torch.empty(some, each, keys, width), torch.empty(some * each * keys)

        def once() -> None:
            for source in range(0, count, some):
                for first in range(0, queries, each):
                    left, right = query[source:source + some, first:first + each], key[source:source + some]
                    block = pairs[:len(left), :left.shape[1]]
                    torch.addcmul(one, left, right, out=block).reciprocal_()
                    found = block.flatten(0, 2)
                    torch.mv(found, value, out=out[:len(found)])
        return once
    return min(map(in_blocks, (2**16, 2**18, 2**20)), key=_least)
