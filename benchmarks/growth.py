"""How sampled tokens per second change with answers k, source length S, answer length T and vocabulary V: 64 sources, the
model of W1, one plot each. The limit beside it says what the mathematics alone would cost."""

from __future__ import annotations

import random
from pathlib import Path

from .corpus import Row
from .job import SOURCES, Job, Repetition, cpu_only
from .workloads import Competitor, Workload

BASE = {"k": 1, "S": 20, "T": 30, "V": 8000}
RANGES = {"k": (1, 2, 4, 8, 16, 32), "S": (10, 20, 50, 100, 200), "T": (10, 20, 50, 100, 200),
          "V": (1000, 2000, 4000, 8000, 16000, 32000)}
NAMES = {"k": "answers to each source", "S": "positions of the source", "T": "tokens of the answer",
         "V": "words of the vocabulary"}


def workloads(quick: bool) -> list[Workload]:
    """One for each of k, S, T and V; a quick one has two points of each."""
    found = []
    for letter, values in RANGES.items():
        points = [{**BASE, letter: value} for value in (values[:2] if quick else values)]
        sizes = [tuple(str(one[name]) for name in "kSTV") for one in points]
        both = [(kind, who, module, size) for size in sizes
                for kind, who, module in (("ours", "rlseq", "ours"), ("limit", "limit", "limit"))]
        place = "kSTV".index(letter)
        found.append(Workload(f"growth-{letter}", f"Roll-out against {letter}, {NAMES[letter]}", "tokens/s", tuple(
            Competitor(f"{who} {letter}={size[place]}", kind, f"growth:{module}", size, quick=True)
            for kind, who, module, size in both)))
    return found


def lines_of(positions: int, words: int) -> list[tuple[Row, Row]]:
    """64 random sources of the same length."""
    random_ = random.Random(0)
    return [([*(random_.randrange(4, words) for _ in range(positions - 1)), 0], [0]) for _ in range(SOURCES)]


def ours(job: Job, k: str, positions: str, steps: str, words: str) -> Repetition:
    """rlseq's `sample`."""
    from .ours import sampling  # here, for the parent makes plots without rlseq
    return sampling(job, lines_of(int(positions), int(words)), int(k), int(steps), int(words))


def limit(job: Job, k: str, positions: str, steps: str, words: str) -> Repetition:
    """The same products, softmaxes and draws."""
    cpu_only(job)
    from .limits import drawing, run  # here, as above
    rows = [pair[0] for pair in lines_of(int(positions), int(words))]
    return run(drawing(rows, int(k), "fast", int(steps), int(words)), float(SOURCES * int(k) * int(steps)))


def plot(letter: str, found: list[dict[str, object]], folder: Path) -> None:
    """Tokens per second against one size, both axes logarithmic, as growth-<letter>.svg."""
    import matplotlib.ticker  # here, for only this needs it
    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot
    figure, axes = pyplot.subplots(figsize=(5, 3.6))
    for who, style in (("rlseq", {"marker": "o"}), ("limit", {"marker": ".", "linestyle": "--", "color": "0.5"})):
        points = [(int(str(one["name"]).split("=")[1]), one["value"]) for one in found
                  if str(one["name"]).startswith(f"{who} ") and one["value"] is not None]
        axes.plot(*zip(*points), label=who, **style) if points else None
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(RANGES[letter], [f"{value:,}" for value in RANGES[letter]])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))   # less than a decade has labels
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"{letter}: {NAMES[letter]}")
    axes.set_ylabel("sampled tokens/s")
    axes.set_title(", ".join(f"{name}={value}" for name, value in {"B": SOURCES, **BASE}.items() if name != letter), fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / f"growth-{letter}.svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
