"""What the rewards of W6 are computed on: answers beside references, point sets, polygons."""

from __future__ import annotations

import random

import numpy as np
from scipy.spatial import ConvexHull

from .corpus import WORDS, Row, pairs
from .job import POINTS, Job


def count(job: Job) -> int:
    """Items of one repetition."""
    return 1024 if job.quick else 4096


def answers(job: Job, joined: int) -> tuple[list[Row], list[Row]]:
    """Answers and references of `joined` target lines each, without STOP: a fifth of the words is another one, a tenth
    missing, and now and then a stretch is turned round."""
    rows = [pair[1][:-1] for pair in pairs(job, count(job) * joined)]
    references = [sum(rows[start:start + joined], []) for start in range(0, len(rows), joined)]
    random_, found = random.Random(job.seed), []
    for reference in references:
        row = [word if random_.random() > 0.2 else random_.randrange(4, WORDS) for word in reference if random_.random() > 0.1]
        if random_.random() < 0.3:
            place = random_.randrange(len(row) + 1)
            row = row[:place] + row[place:place + 4][::-1] + row[place + 4:]
        found.append(row or reference[:1])
    return found, references


def texts(rows: list[Row]) -> list[str]:
    """The same ids as words that every tokenizer leaves whole."""
    return [" ".join(f"w{word}" for word in row) for row in rows]


def point_sets(job: Job) -> np.ndarray:
    """Uniform points [N, 50, 2], float32."""
    return np.random.default_rng(job.seed).random((count(job), POINTS, 2), dtype=np.float32)


def hull(points: np.ndarray) -> list[int]:
    """Positions of the hull's vertices, counter-clockwise from the leftmost one, by Qhull."""
    around = ConvexHull(points.astype(np.float64)).vertices
    corners = points[around].tolist()
    return np.roll(around, -corners.index(min(corners))).tolist()


def polygons(job: Job) -> list[np.ndarray]:
    """Vertices [L, 2] float64 of each answer: the hull, or the hull with two vertices in each other's place."""
    random_, found = random.Random(job.seed), []
    for points in point_sets(job):
        order = hull(points)
        if random_.random() < 0.5:
            one, other = random_.sample(range(len(order)), 2)
            order[one], order[other] = order[other], order[one]
        found.append(points[order].astype(np.float64))
    return found
