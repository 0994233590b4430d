"""Multi30k as ids, as performance figures of this project define it; or a synthetic corpus of the same lengths."""

from __future__ import annotations

import gzip
import random
import re
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from .job import WORDS, Job, sources

STOP, PAD, UNKNOWN, FIRST = range(4)       # the four special ids; words follow, the most frequent first
BATCHES = 70                               # of 64 lines: enough for every workload
Row = list[int]


def words(line: str) -> list[str]:
    """Lower-cased, split on spaces and punctuation."""
    return re.findall(r"\w+|[^\w\s]", line.lower())


def pairs(job: Job, count: int) -> list[tuple[Row, Row]]:
    """The first `count` lines as (English, German) ids, each ending in STOP; one vocabulary of 8000 for both. A quick
    run does not read the files."""
    real = job.data and not job.quick
    job.facts["data"] = "multi30k" if real else "synthetic"
    if not real:
        return synthetic(count)
    sides = []
    for language in ("en", "de"):
        path = Path(job.data) / f"train.{language}.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            sides.append([words(line) for line in file])
    counts = Counter(word for side in sides for line in side for word in line)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:WORDS - 4]
    number = {word: index + 4 for index, word in enumerate(ranked)}
    known = [[[number.get(word, UNKNOWN) for word in line] + [STOP] for line in side[:count]] for side in sides]
    return list(zip(*known, strict=True))


def synthetic(count: int) -> list[tuple[Row, Row]]:
    """Ids by Zipf's law in lines of Multi30k's lengths (mean 13.1 English, 12.4 German words; both 4 to 40)."""
    random_ = random.Random(0)
    weight = [1 / rank for rank in range(1, WORDS - 3)]

    def line(mean: float) -> Row:
        length = min(40, max(4, round(random_.gammavariate(10, mean / 10))))
        return random_.choices(range(4, WORDS), weight, k=length) + [STOP]
    return [(line(13.1), line(12.4)) for _ in range(count)]


def batches(job: Job, count: int = BATCHES) -> list[list[tuple[Row, Row]]]:
    """Batch j holds lines 64 j .. 64 j + 63 (8 lines each in a quick run)."""
    size = sources(job)
    rows = pairs(job, count * size)
    return [rows[start:start + size] for start in range(0, len(rows), size)]


def padded(rows: list[Row]) -> tuple[Tensor, Tensor]:
    """Ids [B, L] filled with PAD, and where they are real [B, L] bool."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    length = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(width) < length[:, None]
