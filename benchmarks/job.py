"""What one competitor is told, and what it gives back: a callable that does one unit of work. Needs torch alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Repetition = Callable[[], float]     # does the work once; how many units (tokens, steps, pairs) that was

SOURCES, LENGTH, ANSWERS, WORDS, WIDTH, HEADS, INNER, LAYERS = 64, 30, 5, 8000, 256, 4, 1024, 3      # W1 to W3
INSTANCES, POINTS, STEPS = 128, 50, 20                                                               # W5


@dataclass(frozen=True)
class Job:
    """The same for every competitor of a run."""

    data: str = ""              # folder of Multi30k; empty: a synthetic corpus of the same lengths
    threads: int = 2
    device: str = "cpu"
    seed: int = 0
    quick: bool = False         # a fraction of the work, for a look
    facts: dict[str, object] = field(default_factory=dict)     # what a competitor has to say of itself


def prepared(job: Job) -> Callable[[], None]:
    """Set threads and seed, before anything is built; returns what waits for the device to finish."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    return torch.cuda.synchronize if job.device == "cuda" else lambda: None


def cpu_only(job: Job) -> None:
    """Raises ValueError for another device, rather than compare across devices."""
    if job.device != "cpu":
        raise ValueError(f"measured on the CPU only, not on {job.device}")


def sources(job: Job) -> int:
    """Sources of a batch in W1 to W4."""
    return SOURCES // 8 if job.quick else SOURCES


def instances(job: Job) -> int:
    """Point sets of a batch in W5."""
    return INSTANCES // 4 if job.quick else INSTANCES
