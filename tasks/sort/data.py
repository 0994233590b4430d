"""Lists of integers to sort, drawn by (split, seed, i) alone, and how the values look to a policy."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

ENDLESS = 1 << 40                     # length of the training split: nobody reaches its end
ITEMS = 1000                          # problems in dev and in each test split
BUCKETS = 16                          # a hash of its items gives each list one bucket, and each split has its own
TRIES = 10_000                        # redraws before we say that a split has no lists
WAVES = 7                             # wavelengths high, high / 2, ..., high / 64: neighbours stay neighbours


@dataclass(frozen=True)
class Example:
    """Integers in the order given; the reference is their sorted order."""

    values: tuple[int, ...]


def held_out(values: np.ndarray, every: int) -> np.ndarray:
    """Which values never occur in training: v mod 7 = 3, unless v is a word of the vocabulary (about 13 %)."""
    return (values % 7 == 3) & (values % every != 0)


class Problems(Sequence):
    """One split: lists of lo..hi integers below `high`, lengths uniform, in the buckets of this split.

    An item repeats an earlier one of its list with probability `duplicates`. Otherwise it is uniform on the values
    seen in training or, where `unseen`, with probability 1/2 on the held-out ones.
    Raises ValueError when no list of this split exists (too few values for lists so short).
    """

    def __init__(self, split: str, seed: int, lengths: tuple[int, int], values: tuple[int, int], duplicates: float,
                 unseen: bool, buckets: range, count: int) -> None:
        self.split, self.lengths, self.duplicates, self.buckets, self.count = split, lengths, duplicates, buckets, count
        high, every = values
        every_value = np.arange(high)
        hidden = held_out(every_value, every)
        self.seen, self.hidden = every_value[~hidden], every_value[hidden]
        self.share = 0.5 if unseen else 0.0
        digest = blake2b(f"sort {seed} {split}".encode(), digest_size=16).digest()
        self.key = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self.kept: dict[int, Example] = {}               # of finite splits: finding the right bucket costs 0.5 ms an item

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        i = operator.index(index)
        if not -self.count <= i < self.count:
            raise IndexError(f"item {i} of {self.count}")
        i %= self.count
        if i in self.kept:
            return self.kept[i]
        random = np.random.Generator(np.random.Philox(key=self.key, counter=[0, 0, i, 0]))
        for _ in range(TRIES):
            values = self._drawn(random)
            if bucket(values) in self.buckets:
                found = Example(tuple(values.tolist()))
                if self.count < ENDLESS:
                    self.kept[i] = found
                return found
        raise ValueError(f"split {self.split} has no lists of {self.lengths[0]} to {self.lengths[1]} items: "
                         "raise task.high or task.max_length")

    def _drawn(self, random: np.random.Generator) -> np.ndarray:
        n = int(random.integers(self.lengths[0], self.lengths[1] + 1))
        which, place, again, source = random.random((4, n))
        fresh = self.seen[(place * len(self.seen)).astype(np.int64)]
        if self.share:
            fresh = np.where(which < self.share, self.hidden[(place * len(self.hidden)).astype(np.int64)], fresh)
        own = np.arange(n)
        origin = np.where((again < self.duplicates) & (own > 0), (source * own).astype(np.int64), own)
        while (origin[origin] != origin).any():          # a copy of a copy: follow to the fresh value
            origin = origin[origin]
        return fresh[origin]


def bucket(values: np.ndarray) -> int:
    """Which of the BUCKETS a list falls into, by a hash of its items in order."""
    return blake2b(values.astype("<i4").tobytes(), digest_size=1).digest()[0] % BUCKETS


def feature_table(high: int) -> np.ndarray:
    """Features of each value, [high + 1, F] float32; the last row, zeros, is for padding (index -1).

    The value scaled to [-1, 1]; sine and cosine of WAVES wavelengths, for a sharper sense of what is next to what;
    the decimal digits scaled to [-1, 1]. All are functions of the number, so a value never seen is not a stranger.
    """
    values = np.arange(high)
    angles = 2 * np.pi * np.outer(values, 2.0 ** np.arange(WAVES)) / high
    digits = np.stack([values // 10 ** place % 10 for place in range(len(str(high - 1)))], 1)
    scaled = 2 * values[:, None] / (high - 1) - 1
    table = np.concatenate([scaled, np.sin(angles), np.cos(angles), digits / 4.5 - 1], 1)
    return np.concatenate([table, np.zeros_like(table[:1])]).astype(np.float32)
