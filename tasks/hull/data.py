"""Point sets in the unit square and their convex hulls, drawn by (split, seed, i) alone."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from .labels import hull_of, hulls_of

ENDLESS = 1 << 40                     # length of the training split: nobody reaches its end
TEST_SIZES = (50, 5, 10, 100, 200, 500)    # points in a problem of split test-<n>; the headline first
ITEMS = 1000                          # problems in dev and in each test split
TURN = np.pi * np.arange(4) / 4       # of the axes and the diagonals, the directions of the waves of "fourier"
WAVES = np.concatenate([np.pi * k * np.stack([np.cos(TURN), np.sin(TURN)]) for k in (1, 2, 4)], 1)      # [2, 12]


@dataclass(frozen=True, eq=False)
class Example:
    """Points [n, 2] (float32 as drawn, float64 as a user gave them); their hull, or () where it is not known.

    The hull lists positions of its vertices counter-clockwise from the leftmost (of several, the lowest) one.
    Two examples are equal when their points are.
    """

    points: np.ndarray
    hull: tuple[int, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Example) and np.array_equal(self.points, other.points)

    def __hash__(self) -> int:
        return hash(self.points.tobytes())


class Problems(Sequence):
    """One split: item i is n points, n uniform on n_min..n_max, coordinates uniform multiples of 2^-24 in [0, 1)."""

    def __init__(self, split: str, seed: int, n_min: int, n_max: int, count: int) -> None:
        self.n_min, self.n_max, self.count = n_min, n_max, count
        digest = blake2b(f"hull {seed} {split}".encode(), digest_size=16).digest()
        self.key = np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.__getitems__(range(*index.indices(self.count)))
        points, = self._points([operator.index(index)])
        return Example(points, hull_of(points))

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Items at any positions, as one by one, but their hulls are found all at once."""
        if not (drawn := self._points(indices)):
            return []
        counts = np.array([len(one) for one in drawn], np.int64)
        padded = np.zeros((len(drawn), counts.max(), 2), np.float32)
        padded[np.arange(padded.shape[1]) < counts[:, None]] = np.concatenate(drawn)
        return [Example(points, hull) for points, hull in zip(drawn, hulls_of(padded, counts), strict=True)]

    def _points(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Each item's points [n, 2]: item i is what Philox gives from counter (0, 0, i, 0) on."""
        philox = np.random.Philox(key=self.key)
        start, random, drawn = philox.state, np.random.Generator(philox), []
        for i in indices:
            if not -self.count <= i < self.count:
                raise IndexError(f"item {i} of {self.count}")
            start["state"]["counter"][2] = i % self.count
            philox.state = start                                     # a third of the time of a new generator
            n = int(random.integers(self.n_min, self.n_max + 1))
            drawn.append(random.random((n, 2), dtype=np.float32))
        return drawn


def in_unit_square(points: np.ndarray) -> np.ndarray:
    """Points as float32 in the unit square: as they are if they lie there, else shifted and scaled, alike on both axes.

    So that the shape is kept, the longer side of the bounding box becomes 1; the hull's vertices stay the same.
    """
    if points.dtype == np.float32 and points.size and points.min() >= 0 and points.max() <= 1:
        return points
    points = points.astype(np.float64)
    if points.min() < 0 or points.max() > 1:
        low = points.min(0)
        points = (points - low) / max((points.max(0) - low).max(), np.finfo(np.float64).tiny)
    return points.astype(np.float32)


def in_unit_squares(sets: Sequence[np.ndarray]) -> np.ndarray:
    """`in_unit_square` of each of several sets, one after the other [sum of n, 2]."""
    points = np.concatenate(sets)
    if points.dtype == np.float32 and points.size and points.min() >= 0 and points.max() <= 1:
        return points                                                # as drawn: none of them moves
    return np.concatenate([in_unit_square(one) for one in sets])


def features_of(points: np.ndarray, mask: np.ndarray, features: str) -> np.ndarray:
    """Source features [B, S, F] of padded points [B, S, 2]; 0 where padded.

    "coordinates": x, y. "polar": x, y, then, seen from the centroid of the set: dx, dy, radius, sine and cosine of the
    angle; a point at the centroid has no angle, and sine and cosine are 0. "fourier": x, y, then sines and
    cosines of twelve plane waves about the middle of the unit square: half a period, one and two over its side, along
    the axes and the diagonals (after Tancik et al. 2020).
    """
    if features == "coordinates":
        return points
    if features == "fourier":
        phase = (points - 0.5) @ WAVES.astype(np.float32)
        found = np.concatenate([points, np.sin(phase), np.cos(phase)], axis=-1)
        return np.where(mask[..., None], found, 0).astype(np.float32)
    centre = points.sum(1, keepdims=True) / np.maximum(mask.sum(1), 1)[:, None, None]
    arm = np.where(mask[..., None], points - centre, 0)
    radius = np.hypot(arm[..., :1], arm[..., 1:])
    direction = arm / np.maximum(radius, np.finfo(np.float32).tiny)
    return np.concatenate([points, arm, radius, direction[..., ::-1]], axis=-1).astype(np.float32)
