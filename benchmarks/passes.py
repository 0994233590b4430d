"""What one softmax for two draws of dropout saves: `python -m benchmarks.passes [--repetitions 7] [--words 7000]`.

The loss of R-Drop, forward and backward from the decoder's states on, by one thread, as MLE takes it on Multi30k. `tables`
makes both passes' log-probabilities of all words, `blocks` is `nn.agreement`; `one pass` is plain MLE's, foreseen. In turn,
medians of seconds, and how far the gradients of the weight by the first two lie apart, relative to the largest number.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from rlseq.nn.agreement import agreeing
from rlseq.nn.linear import product
from rlseq.nn.softmax import chosen
from rlseq.types import Foreseen

WIDTH, SMOOTHING, PRICE = 128, 0.1, 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.passes", description=__doc__.splitlines()[0])
    for name, default in (("repetitions", 7), ("words", 7000), ("tokens", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    actions, g = torch.randint(wanted.words, (wanted.tokens,)), torch.full((wanted.tokens,), 1 / wanted.tokens)
    print(f"{wanted.tokens} tokens, {wanted.words} words\n")
    print("| | tables | blocks | ratio | one pass | apart |\n|---|--:|--:|--:|--:|--:|")
    for dtype in (torch.float32, torch.bfloat16):
        made = [(torch.randn(rows, WIDTH) * size).to(dtype).requires_grad_() for rows, size in (
            (wanted.tokens, 1), (wanted.tokens, 1), (wanted.words, WIDTH**-0.5))]
        bias = torch.zeros(wanted.words, dtype=dtype, requires_grad=True)
        ways = loss_of(*made, bias, actions, g)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(wanted.repetitions):
            for name, found in seconds.items():
                begun = time.perf_counter()
                ways[name]().backward()
                found.append(time.perf_counter() - begun)
        tables, blocks, plain = (median(seconds[name]) for name in ways)
        one, other = (torch.autograd.grad(ways[name](), made[2])[0].float() for name in ("tables", "blocks"))
        apart = (one - other).abs().max() / one.abs().max()
        print(f"| {str(dtype).removeprefix('torch.')} | {tables:.3f} s | {blocks:.3f} s | {tables / blocks:.2f} | "
              f"{plain:.3f} s | {float(apart):.1e} |")
    return 0


def loss_of(first: Tensor, second: Tensor, weight: Tensor, bias: Tensor, actions: Tensor,
            g: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The loss in each way, by name."""
    def tables() -> Tensor:
        p, q = (product(states, weight, bias).float().log_softmax(1) for states in (first, second))
        nll = sum((SMOOTHING - 1) * one.gather(1, actions[:, None]).squeeze(1) - SMOOTHING * one.mean(1) for one in (p, q)) / 2
        return (g * (nll + PRICE / 4 * ((p.exp() - q.exp()) * (p - q)).sum(1))).sum()

    def blocks() -> Tensor:
        return agreeing((first, second), weight, bias, actions, g, SMOOTHING, PRICE)[0]

    def one_pass() -> Tensor:
        logp, _, smooth = chosen(first, weight, bias, actions, None, True, Foreseen(g, SMOOTHING))
        return -(g * ((1 - SMOOTHING) * logp + SMOOTHING * smooth)).sum()
    return {"tables": tables, "blocks": blocks, "one pass": one_pass}


if __name__ == "__main__":
    sys.exit(main())
