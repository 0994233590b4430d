"""The limit of W4 and W5: products of LSTMs, additive attention by one reciprocal and one dot a pair, softmaxes, draws.

The cell's own products come one step after the other, at perfectly compacted numbers of rows; everything else in bulk.
Training counts all of it three times.
"""

from __future__ import annotations

from .corpus import batches
from .job import LENGTH, POINTS, STEPS, WIDTH, WORDS, Job, Repetition, cpu_only, instances, sources
from .limits import run, vocabulary
from .products import Work, additive, batched, draw, linear, softmax
from .samples import hull, point_sets


def cell(lengths: list[int], width: int = WIDTH) -> list[Work]:
    """An LSTM over rows of these lengths: gates of the inputs in bulk, those of the states step by step."""
    active = [sum(length > step for length in lengths) for step in range(max(lengths))]
    return [linear(sum(lengths), WIDTH, 4 * width), *(linear(rows, width, 4 * width) for rows in active)]


def both_ways(lengths: list[int]) -> list[Work]:
    """An encoder of two directions, half the width each, and the keys of its states."""
    return cell(lengths, WIDTH // 2) * 2 + [linear(sum(lengths), WIDTH, WIDTH)]


def attention(count: int, queries: int, keys: int, read: bool) -> list[Work]:
    """Additive attention of `queries` each of `count` sources; with `read`, the mean of the states under it."""
    found = [linear(count * queries, WIDTH, WIDTH), additive(count, queries, keys, WIDTH), softmax(count * queries, keys)]
    return found + ([batched(count, queries, keys, WIDTH)] if read else [])


def rollout(job: Job) -> Repetition:
    """W4: encoder, keys, and 30 steps for every source."""
    cpu_only(job)
    rows = [len(pair[0]) for pair in batches(job, 1)[0]]
    step = [linear(len(rows), 2 * WIDTH, 4 * WIDTH), *attention(len(rows), 1, max(rows), True),
            linear(len(rows), 2 * WIDTH, WIDTH), *vocabulary(len(rows), "fast", True), draw(len(rows), WORDS)]
    return run(both_ways(rows) + step * LENGTH, float(len(rows) * LENGTH))


def mle(job: Job) -> Repetition:
    """W4, the first batch."""
    cpu_only(job)
    batch = batches(job, 1)[0]
    source, target = ([len(pair[side]) for pair in batch] for side in (0, 1))
    read, written = (round(sum(one) / sources(job)) for one in (source, target))
    forward = [*both_ways(source), *cell(target), *attention(sources(job), written, read, True),
               linear(sum(target), 2 * WIDTH, WIDTH), *vocabulary(sum(target), "fast", False)]
    return run(forward * 3, float(sum(target)))


def pointing(count: int, steps: int, glimpse: bool) -> list[Work]:
    """Decoder of `count` instances for so many steps at once: attention alone, without the cell."""
    keys = POINTS + 1
    return attention(count, steps, keys, False) + (attention(count, steps, keys, True) if glimpse else [])


def pointer_mle(job: Job) -> Repetition:
    """W5: references of their true lengths."""
    cpu_only(job)
    count = instances(job)
    target = [len(hull(points)) + 1 for points in point_sets(job)[:count]]
    keys = [linear(count * (POINTS + 1), WIDTH, WIDTH)]
    forward = cell([POINTS] * count) + keys + cell(target) + pointing(count, round(sum(target) / count), False)
    return run(forward * 3, float(count))


def pointer_reinforce(job: Job, worth: str = "area") -> Repetition:
    """W5: encoder, a sample and a greedy answer step by step, one scoring pass."""
    cpu_only(job)
    count = instances(job)
    steps, glimpse = (STEPS, False) if worth == "area" else (POINTS, True)
    encoder = cell([POINTS] * count) + [linear(count * (POINTS + 1), WIDTH, WIDTH)] * (2 if glimpse else 1)
    step = [linear(count, 2 * WIDTH, 4 * WIDTH), *pointing(count, 1, glimpse)]
    drawn = (step + [draw(count, POINTS + 1, POINTS + 1)]) * steps
    scored = encoder + cell([steps] * count) + pointing(count, steps, glimpse)
    return run(encoder + drawn + step * steps + scored * 3, float(count))
