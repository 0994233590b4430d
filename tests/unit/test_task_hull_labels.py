"""Hulls of many sets at once are Qhull's, index for index: drawn sets, ragged ones, and the awkward ones of users."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull, QhullError

from rlseq.tasks.hull import labels
from rlseq.tasks.hull.labels import hull_of, hulls_of


def drawn(rows, n, seed=0):
    return np.random.default_rng(seed).random((rows, n, 2), dtype=np.float32)


@pytest.mark.parametrize("rows, n", [(500, 3), (500, 4), (500, 7), (2000, 50), (40, 500), (5, 3000)])
def test_drawn_sets_have_the_hulls_of_qhull(rows, n):
    points = drawn(rows, n)
    expected = [hull_of(one) for one in points]
    assert hulls_of(points) == expected == hulls_of(points.astype(np.float64))
    assert sorted(expected[0]) == sorted(ConvexHull(points[0].astype(float)).vertices)


def test_what_stands_beyond_a_count_does_not_matter():
    points, counts = drawn(500, 30), np.random.default_rng(1).integers(3, 31, 500)
    expected = [hull_of(one[:count]) for one, count in zip(points, counts)]
    assert hulls_of(points, counts) == expected
    points[np.arange(30) >= counts[:, None]] = 0
    assert hulls_of(points, counts) == expected


@pytest.mark.parametrize("grid", [3, 6, 40])
@pytest.mark.parametrize("n", [4, 10, 30])
def test_collinear_and_equal_points_are_left_to_qhull(grid, n):
    points = np.random.default_rng(grid * n).integers(0, grid, (300, n, 2)) / 64
    flat = [np.linalg.matrix_rank(one - one[0]) < 2 for one in points]
    assert hulls_of(points[~np.array(flat)]) == [hull_of(one) for one, on_a_line in zip(points, flat) if not on_a_line]
    for one in points[flat]:
        with pytest.raises(QhullError):
            hulls_of(one[None])


def test_only_awkward_sets_go_through_qhull(monkeypatch):
    seen = []
    monkeypatch.setattr(labels, "hull_of", lambda points: seen.append(len(points)) or hull_of(points))
    points = drawn(1000, 20)
    hulls_of(points)
    assert not seen
    points[17, 4] = points[17].min(0)                  # the corner of the box, twice: a vertex
    points[17, 9] = points[17, 4]
    assert hulls_of(points)[17] == hull_of(points[17]) and seen == [20]


@pytest.mark.parametrize("points", [drawn(9, 8) * 3 - 1, drawn(9, 8) / np.float32(3), drawn(9, 8).astype(float) * 1e6,
                                    drawn(2, 40000)])
def test_points_off_the_drawn_grid_have_the_hulls_of_qhull_too(points):
    assert hulls_of(points) == [hull_of(one) for one in points]


def test_parts_and_nothing(monkeypatch):
    points = drawn(50, 9)
    whole = hulls_of(points)
    monkeypatch.setattr(labels, "POINTS", 20)          # two sets at a time
    assert hulls_of(points) == whole and hulls_of(points[:0]) == []
    with pytest.raises(QhullError):
        hulls_of(points[:3, :2])
