"""What sums beside the mixture save a copy head: `python -m benchmarks.copies [--repetitions 7] [--words 8000] [--source 286]`.

Answers as REINFORCE scores them on DialogSum: 16 sources, 8 answers each, forward and backward of the head alone by bf16 and
one thread. `mixture` is `Head.score`, which makes [N, T, A]; `sums` is `Copy.score`. In turn, medians of seconds, and how far
log-probabilities of the two lie apart in float32.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import torch

from rlseq.nn.encoders import Memory
from rlseq.nn.heads import Copy, Head
from rlseq.types import Batch, Scores, Sizes

SOURCES, ANSWERS, STEPS, WIDTH = 16, 8, 54, 128
KINDS = {"log-probability": (False, 1.0), "at temperature 0.5": (False, 0.5), "with its entropy": (True, 1.0)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__.splitlines()[0])
    for name, default in (("repetitions", 7), ("words", 8000), ("source", 286), ("sources", SOURCES)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head, rows = Copy(Sizes(vocabulary=wanted.words), "bilinear", WIDTH, None), wanted.sources * ANSWERS
    ids = torch.randint(wanted.words + 10, (wanted.sources, wanted.source))                # the last ten stand in sources alone
    mask = torch.ones_like(ids, dtype=torch.bool)
    states = torch.randn(wanted.sources, wanted.source, WIDTH)
    memory = Memory(states, mask, states[:, 0], Batch(ids, mask, ids, mask, wanted.words + 10, {"copy_ids": ids}))
    decoded = torch.randn(rows, STEPS, WIDTH, requires_grad=True)
    actions = torch.randint(wanted.words, (rows, STEPS))
    real = torch.arange(STEPS) < torch.randint(2, STEPS + 1, (rows, 1))

    def scored(way: str, detail: bool, temperature: float) -> Scores:
        score = partial(Head.score, head) if way == "mixture" else head.score
        return score(decoded, memory, head.keys(memory), actions, real, None, detail, None, temperature)

    print(f"{rows} answers of {int(real.sum()) / rows:.0f} steps, {wanted.words} words, sources of {wanted.source}\n")
    print("| | mixture | sums | ratio | apart |\n|---|--:|--:|--:|--:|")
    for kind, options in KINDS.items():
        with torch.no_grad():
            apart = (scored("mixture", *options).logp - scored("sums", *options).logp)[real].abs().max()
        seconds: dict[str, list[float]] = {"mixture": [], "sums": []}
        for _ in range(wanted.repetitions):
            for way, found in seconds.items():
                begun = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16):
                    scores = scored(way, *options)
                ((scores.logp + (scores.entropy if options[0] else 0.0)) * real).sum().backward()
                found.append(time.perf_counter() - begun)
        plain, fast = (median(seconds[way]) for way in ("mixture", "sums"))
        print(f"| {kind} | {plain:.3f} s | {fast:.3f} s | {plain / fast:.2f} | {float(apart):.1e} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
