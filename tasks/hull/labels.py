"""Convex hulls of point sets: of one by Qhull, of many at once by sorting and dropping what cannot be a vertex."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

Hull = tuple[int, ...]            # positions of the vertices, counter-clockwise from the leftmost (of several, the lowest)
GRID = 24                         # coordinates k / 2^24, 0 <= k < 2^24, are exact as integers, and so are their products
INDEX = 63 - 2 * GRID             # bits of a sort key that are left for a point's position
NEAR = 1 << 8                     # a turn of 2^-40 is a straight line to Qhull's tolerance; it says what becomes of it
POINTS = 1 << 15                  # worked on at once: 256 KiB for each array of them, within a core's cache


def hull_of(points: np.ndarray) -> Hull:
    """Vertices of the convex hull of [n, 2] points by Qhull.

    Raises scipy's QhullError for points that all lie on one line.
    """
    exact = points.astype(np.float64)
    around = ConvexHull(exact).vertices          # counter-clockwise in two dimensions
    corners = exact[around].tolist()
    start = corners.index(min(corners))
    return tuple(np.roll(around, -start).tolist())


def hulls_of(points: np.ndarray, counts: np.ndarray | None = None) -> list[Hull]:
    """`hull_of` for each of [B, n, 2] points, of which the first counts [B] of a row are real (all by default).

    Sets off the grid of the drawn ones go through Qhull, and those with three points in line, or nearly, by the hull.
    """
    rows, most = max(POINTS // max(points.shape[1], 1), 1), points.shape[1]
    counts = np.full(len(points), most) if counts is None else np.asarray(counts)
    places = points * points.dtype.type(2**GRID)
    if not (len(points) and places.min(initial=0) >= 0 and places.max(initial=0) < 2**GRID
            and ((whole := places.astype(np.int64)) == places).all() and 2 < counts.min() and most < 1 << INDEX):
        return [hull_of(one[:count]) for one, count in zip(points, counts, strict=True)]
    found: list[Hull] = []
    for start in range(0, len(points), rows):
        hulls, unclear = _hulls(whole[start:start + rows], counts[start:start + rows])
        for row in unclear:
            hulls[row] = hull_of(points[start + row, :counts[start + row]])
        found += hulls
    return found


def _hulls(grid: np.ndarray, counts: np.ndarray) -> tuple[list[Hull], list[int]]:
    """Hulls of [B, n, 2] integer points, and the rows where three points lie in line, or nearly.

    Three neighbours of a ring that do not turn left: the middle one is no vertex. All such go at once, again and again,
    until nothing but the hull is left; on random points about half of the rest goes each time.
    """
    ring, fixed = _rings(grid, counts)
    places = np.stack([ring >> GRID + INDEX, ring >> INDEX & (1 << GRID) - 1]).astype(np.float64)      # [2, all points]
    position = ring & (1 << INDEX) - 1
    unclear: set[int] = set()
    while True:
        step = places[:, 1:] - places[:, :-1]
        turn = step[0, :-1] * step[1, 1:]
        turn -= step[1, :-1] * step[0, 1:]
        near = np.flatnonzero((np.abs(turn) <= NEAR) & ~fixed[1:-1]) + 1
        unclear.update(((np.cumsum(fixed)[near] - 1) // 3).tolist() if len(near) else ())
        keep = fixed.copy()
        keep[1:-1] |= turn > 0
        left = np.flatnonzero(keep)
        if len(left) == len(keep):
            break
        places, position, fixed = places.take(left, 1), position.take(left), fixed.take(left)
    vertices = position.tolist()
    ends = np.flatnonzero(fixed).reshape(-1, 3).tolist()
    return [tuple(vertices[low:last + 1] + vertices[first + 1:low]) for first, low, last in ends], sorted(unclear)


def _rings(grid: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All sets as rings in one row, and where it has R, L, R of each: L and R are its leftmost and its rightmost point.

    A ring runs from R through the points above the line L-R to L, and through those below to R again. It comes from
    sorting numbers: a point is x, y and its position in one, with all bits turned over if it lies above.
    """
    x, y, position = grid[..., 0], grid[..., 1], np.arange(grid.shape[1])
    key = x << GRID + INDEX | y << INDEX | position                                                    # [B, n]
    padded = position >= counts[:, None]
    key[padded] = -1
    high = key.max(1)
    key[padded] = np.iinfo(np.int64).max
    low = key.min(1)
    (x0, y0), (x1, y1) = ((one >> GRID + INDEX, one >> INDEX & (1 << GRID) - 1) for one in (low, high))
    above = (x1 - x0)[:, None] * (y - y0[:, None]) > (y1 - y0)[:, None] * (x - x0[:, None])
    order = np.concatenate([~high[:, None], key ^ -(above & ~padded).astype(np.int64)], 1)
    order.sort(1)
    fixed = order == low[:, None]
    fixed[:, 0] = fixed[np.arange(len(order)), counts] = True
    real = np.arange(order.shape[1]) <= counts[:, None]
    ring = order[real]
    return ring ^ ring >> 63, fixed[real]
