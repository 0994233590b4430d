"""The limit of W1 to W3: their matrix products, softmaxes and draws, with nothing around them.

No norm, residual, embedding or optimiser. Training counts every product three times (the two of the backward pass have
the same sizes) and only real tokens. A floor for the products known here, not a proof that nothing is faster.
"""

from __future__ import annotations

from .corpus import Row, batches
from .job import ANSWERS, HEADS, INNER, LAYERS, LENGTH, WIDTH, WORDS, Job, Repetition, cpu_only, sources
from .products import Way, Work, batched, draw, linear, softmax

CHUNK = 640                      # rows whose logits are held at once


def attention(count: int, queries: int, keys: int, way: Way) -> list[Work]:
    """Energies, softmax and reading for `count` sequences, all heads."""
    size = WIDTH // HEADS
    return [batched(count * HEADS, queries, size, keys, way), softmax(count * HEADS * queries, keys),
            batched(count * HEADS, queries, keys, size, way)]


def encoder(rows: int, count: int, length: int, way: Way, fixed: bool) -> list[Work]:
    """`rows` real tokens of `count` sentences, and the keys of every decoder layer."""
    layer = [linear(rows, WIDTH, 3 * WIDTH, way, fixed), *attention(count, length, length, way),
             linear(rows, WIDTH, WIDTH, way, fixed), linear(rows, WIDTH, INNER, way, fixed),
             linear(rows, INNER, WIDTH, way, fixed), linear(rows, WIDTH, 2 * WIDTH, way, fixed)]
    return layer * LAYERS


def decoder(rows: int, own: list[Work], cross: list[Work], way: Way, fixed: bool) -> list[Work]:
    """`rows` tokens through all layers; `own` and `cross` are the attentions of one layer."""
    layer = [linear(rows, WIDTH, 3 * WIDTH, way, fixed), *own, linear(rows, WIDTH, WIDTH, way, fixed),
             linear(rows, WIDTH, WIDTH, way, fixed), *cross, linear(rows, WIDTH, WIDTH, way, fixed),
             linear(rows, WIDTH, INNER, way, fixed), linear(rows, INNER, WIDTH, way, fixed)]
    return layer * LAYERS


def vocabulary(rows: int, way: Way, fixed: bool, words: int = WORDS) -> list[Work]:
    """Logits and their softmax, a chunk of rows at a time."""
    whole, rest = divmod(rows, CHUNK)
    found = [linear(CHUNK, WIDTH, words, way, fixed), softmax(CHUNK, words)] * whole
    return found + ([linear(rest, WIDTH, words, way, fixed), softmax(rest, words)] if rest else [])


def drawing(rows: list[Row], k: int, way: Way, steps: int = LENGTH, words: int = WORDS) -> list[Work]:
    """Encode the sources, then so many steps of k answers to each."""
    count, length, total = len(rows), max(map(len, rows)), sum(map(len, rows))
    found = encoder(total, count, length, way, True)
    for step in range(1, steps + 1):
        found += decoder(count * k, attention(count * k, 1, step, way), attention(count, k, length, way), way, True)
        found += [*vocabulary(count * k, way, True, words), draw(count * k, words)]
    return found


def scoring(count: int, source: int, target: int, k: int, way: Way) -> list[Work]:
    """Forward and backward of `source` and k * `target` real tokens in all; attention at their mean lengths."""
    read, written = round(source / count), round(target / count)
    own = attention(count * k, written, written, way)
    cross = attention(count, k * written, read, way)
    forward = encoder(source, count, read, way, False) + decoder(k * target, own, cross, way, False)
    return (forward + vocabulary(k * target, way, False)) * 3


def run(work: list[Work], units: float) -> Repetition:
    """One after the other."""
    def repetition() -> float:
        for one in work:
            one()
        return units
    return repetition


def rollout(job: Job, way: Way = "fast") -> Repetition:
    """W1."""
    cpu_only(job)
    return run(drawing([pair[0] for pair in batches(job, 1)[0]], 1, way), float(sources(job) * LENGTH))


def mle(job: Job, way: Way = "fast") -> Repetition:
    """W2, a batch of average size."""
    cpu_only(job)
    cut = batches(job)
    source, target = (round(sum(len(pair[side]) for batch in cut for pair in batch) / len(cut)) for side in (0, 1))
    return run(scoring(sources(job), source, target, 1, way), float(target))


def reinforce(job: Job, way: Way = "fast") -> Repetition:
    """W3."""
    cpu_only(job)
    rows = [pair[0] for pair in batches(job, 1)[0]]
    return run(drawing(rows, ANSWERS, way) + scoring(len(rows), sum(map(len, rows)), len(rows) * LENGTH, ANSWERS, way), 1.0)
