"""Geometry of answers: areas by hand, simplicity against an independent program in exact integers, sameness, F1."""

import itertools
import random

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from rlseq.rewards import hull
from rlseq.rewards.hull import area_and_simple, coverage, is_simple, polygon_area, same_polygon, vertex_f1


def polygons(*rows):
    """Rows of vertices -> padded points and mask; the padding holds numbers that must not matter."""
    width = max(map(len, rows)) + 1
    points = torch.full((len(rows), width, 2), 7.25)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        points[index, :len(row)] = torch.tensor(row, dtype=torch.float32).reshape(-1, 2)
        mask[index, :len(row)] = True
    return points, mask


def ids(*rows):
    width = max(map(len, rows)) + 1
    values, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        values[index, :len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, :len(row)] = True
    return values, mask


SQUARE = [(0, 0), (1, 0), (1, 1), (0, 1)]
ARROW = [(0, 0), (4, 0), (4, 4), (3, 1)]              # concave: triangle 8 less triangle (0,0) (3,1) (4,4) = 4
BOW_TIE = [(0, 0), (1, 1), (1, 0), (0, 1)]


def test_areas_by_hand():
    # unit square 1, walked backwards -1; arrow: (0*0-4*0 + 4*4-4*0 + 4*1-3*4 + 0)/2 = (0 + 16 - 8)/2 = 4; segment 0
    found = polygon_area(*polygons(SQUARE, SQUARE[::-1], ARROW, SQUARE[:2], SQUARE[:1], []))
    assert found.tolist() == [1, -1, 4, 0, 0, 0]


def test_area_of_a_hull_is_the_one_of_scipy():
    points = np.random.default_rng(0).random((40, 2), dtype=np.float32)
    true = ConvexHull(points.astype(float))
    found = polygon_area(*polygons(points[true.vertices].tolist()))
    assert found.item() == pytest.approx(true.volume, abs=1e-14)   # scipy calls the area `volume` and rounds it


def test_area_does_not_depend_on_the_first_vertex_bit_for_bit():
    points = np.random.default_rng(1).random((60, 2), dtype=np.float32)
    corners = points[ConvexHull(points.astype(float)).vertices].tolist()
    turns = [corners[start:] + corners[:start] for start in range(len(corners))]
    assert polygon_area(*polygons(*turns)).unique().numel() == 1


@pytest.mark.parametrize("vertices, simple", [
    (SQUARE, True), (ARROW, True), (BOW_TIE, False), (SQUARE[:3], True), (SQUARE[:2], False), ([], False),
    ([(0, 0), (1, 0), (2, 0), (2, 2)], True),                     # a vertex in the middle of a straight side
    ([(0, 0), (1, 0), (2, 0)], False),                            # all on one line
    ([(0, 0), (3, 0), (1, 0), (1, 2)], False),                    # a spike: back along the same line
    ([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2)], False),            # a vertex touches another side
    ([(0, 0), (1, 0), (1, 1), (0, 0), (0, 1)], False),            # a vertex visited twice
    ([(0, 0), (1, 0), (1, 0), (1, 1)], False),                    # an edge of length 0
    ([(0, 0), (4, 0), (4, 1), (3, 1), (3, 0), (1, 0), (1, 2)], False),   # two sides lie on each other in part
])
def test_simple_polygons_by_hand(vertices, simple):
    turns = [vertices[start:] + vertices[:start] for start in range(max(len(vertices), 1))]
    turns += [turn[::-1] for turn in turns]
    assert is_simple(*polygons(*turns)).tolist() == [simple] * len(turns)


def simple_in_python(vertices):
    """Another program: exact integers, segments by parametric equations over fractions of a common denominator."""
    n = len(vertices)
    edges = [(vertices[i], vertices[(i + 1) % n]) for i in range(n)]
    if n < 3 or len(set(vertices)) < n:
        return False

    def on(point, edge):
        (ax, ay), (bx, by) = edge
        if (bx - ax) * (point[1] - ay) != (by - ay) * (point[0] - ax):
            return False
        return min(ax, bx) <= point[0] <= max(ax, bx) and min(ay, by) <= point[1] <= max(ay, by)

    def proper(one, two):           # a + s (b - a) = c + t (d - c) with 0 < s, t < 1
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = *one, *two
        det = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
        s = (cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)
        t = (cx - ax) * (by - ay) - (cy - ay) * (bx - ax)
        return det != 0 and 0 < s * det < det * det and 0 < t * det < det * det

    for one, two in itertools.combinations(edges, 2):
        free = [(point, other) for edge, other in ((one, two), (two, one)) for point in edge if point not in other]
        if proper(one, two) or any(on(point, edge) for point, edge in free):
            return False
    return True


@pytest.mark.parametrize("grid", [3, 5, 30])
def test_simplicity_agrees_with_an_independent_program(grid):
    # small grids make touching, overlapping and repeated vertices common; 30 is the generic case
    draw = random.Random(grid)
    rows = [[(draw.randrange(grid), draw.randrange(grid)) for _ in range(draw.randint(3, 7))] for _ in range(2000)]
    expected = [simple_in_python(row) for row in rows]
    assert 50 < sum(expected) < 1950
    assert is_simple(*polygons(*rows)).tolist() == expected


def walks(kind, rows, width):
    """[N, T] positions of 60 points: any order, a random star with two vertices exchanged, or with one moved inwards."""
    draw = np.random.default_rng(len(kind) * width)
    points = draw.integers(0, 2**24, (rows, 60, 2)) * 2.0**-24
    order = np.argsort(draw.random((rows, 60)), 1)[:, :width]
    if kind != "any":
        arm = np.take_along_axis(points, order[..., None], 1) - 0.5
        order = np.take_along_axis(order, np.argsort(np.arctan2(arm[..., 1], arm[..., 0]), 1), 1)
    points = np.take_along_axis(points, order[..., None], 1)
    at = draw.integers(0, width - 2, rows)
    here = np.arange(rows)
    if kind == "exchanged":
        points[here, at], points[here, at + 1] = points[here, at + 1], points[here, at]
    if kind == "moved":
        points[here, at] = np.round((points[here, at] + 3 * points[here, (at + width // 2) % width]) * 2**22) / 2**24
    count = draw.integers(2, width + 1, rows)
    return torch.from_numpy(points.astype(np.float32)), torch.arange(width) < torch.from_numpy(count)[:, None]


@pytest.mark.parametrize("kind, shares", [("any", (0, 0.2)), ("star", (0.5, 1)), ("exchanged", (0.2, 0.8)),
                                          ("moved", (0.1, 0.9))])
@pytest.mark.parametrize("width", [4, 12, 50])
def test_what_decides_quickly_agrees_with_all_pairs_of_edges(kind, shares, width):
    points, mask = walks(kind, 500, width)
    found = is_simple(points, mask)
    assert torch.equal(found, hull._is_simple(points.double(), mask))
    assert shares[0] <= found.double().mean() <= shares[1] or width == 4
    area, simple = area_and_simple(points, mask)
    assert torch.equal(simple, found) and torch.equal(area, polygon_area(points, mask))


def test_all_pairs_of_edges_are_looked_at_only_where_edges_touch(monkeypatch):
    seen = []
    plain = hull._is_simple
    monkeypatch.setattr(hull, "_is_simple", lambda points, mask: seen.append(len(points)) or plain(points, mask))
    for kind in ("any", "star", "exchanged", "moved"):
        is_simple(*walks(kind, 500, 12))
    assert sum(seen) == 0
    is_simple(*polygons([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2)], SQUARE))       # a vertex touches another side
    assert sum(seen) == 1


def test_simplicity_in_parts_is_the_same(monkeypatch):
    points, mask = walks("exchanged", 64, 6)
    points[:9, 2] = points[:9, 0]                     # touching: not clear
    whole = area_and_simple(points, mask)
    monkeypatch.setattr(hull, "PAIRS", 100)           # two rows at a time
    monkeypatch.setattr(hull, "CELLS", 20)            # three
    parts = area_and_simple(points, mask)
    assert torch.equal(parts[0], whole[0]) and torch.equal(parts[1], whole[1])


@pytest.mark.parametrize("rows, width", [(0, 5), (3, 0), (3, 1), (3, 2)])
def test_nothing_has_no_area_and_is_not_simple(rows, width):
    area, simple = area_and_simple(torch.rand(rows, width, 2), torch.ones(rows, width, dtype=torch.bool))
    assert area.tolist() == [0] * rows and simple.tolist() == [False] * rows


def test_signs_at_the_limit_of_the_grid_are_exact():
    u = 2.0 ** -24
    touching = [(0, 0), (2 * u, 2 * u), (1 - u, 1 - u), (0.5, 0.75)]           # (2u, 2u) lies on the diagonal: straight
    above, below = [(0, 0), (0.5, 0.5 + u), (1 - u, 1 - u)], [(0, 0), (0.5, 0.5 - u), (1 - u, 1 - u)]
    assert is_simple(*polygons(touching, above, below)).tolist() == [True, True, True]
    # (0, 0) to (1/2 + u, 1/2) and back along (1/2, 1/2 - u): the turn is u^2, a spike to float32 and none in truth
    assert is_simple(*polygons([(0, 0), (0.5 + u, 0.5), (u, u)])).tolist() == [True]
    # twice the area: 0.5 (1 - u) - (0.5 + u)(1 - u) = -u (1 - u): clockwise by one part in 2^24, a product of 48 bits
    assert polygon_area(*polygons(above, below)).tolist() == [-u * (1 - u) / 2, u * (1 - u) / 2]


def test_coverage_by_hand():
    # half of the square 1/2; the whole 1, also walked backwards; crossing itself 0, though its signed
    # area is not 0; a hull without area 0
    crossed = [(0, 0), (1, 0.5), (0.5, 1), (1, 0)]
    points, mask = polygons(SQUARE[:3], SQUARE, SQUARE[::-1], crossed, SQUARE)
    assert polygon_area(points, mask)[3] != 0
    area = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert coverage(points, mask, area).tolist() == [0.5, 1, 1, 0, 0]


def test_the_same_polygon_has_any_start_and_sense_and_nothing_else():
    true = [4, 2, 9, 1]
    good = [true[s:] + true[:s] for s in range(4)]
    good += [row[::-1] for row in good]
    every = [list(row) for row in itertools.permutations(true)]
    answers, mask = ids(*every, [4, 2, 9], [4, 2, 9, 1, 3], [4, 2, 9, 3], [4, 4, 2, 9, 1], [])
    target, target_mask = ids(*[true] * len(answers))
    found = same_polygon(answers, mask, target, target_mask)
    assert found.tolist() == [row in good for row in every] + [False] * 5
    assert found.sum() == 8                           # 4 starts, 2 senses


def test_a_problem_without_reference_is_never_met():
    answers, mask = ids([1, 2, 3], [])
    nothing, no_mask = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool)
    assert same_polygon(answers, mask, nothing, no_mask).tolist() == [False, False]
    assert vertex_f1(answers, mask, nothing, no_mask, 4).tolist() == [0, 0]


def test_vertex_f1_by_hand():
    # all of 4: 1; 3 of 4 named and 1 wrong: 2*3/(4+4); 2 of 4 and no wrong: 2*2/(2+4); one twice: 2*4/(5+4); none: 0
    answers, mask = ids([4, 3, 2, 1], [1, 2, 3, 7], [2, 4], [1, 1, 2, 3, 4], [])
    target, target_mask = ids(*[[1, 2, 3, 4]] * 5)
    assert vertex_f1(answers, mask, target, target_mask, 8).tolist() == [1, 6 / 8, 4 / 6, 8 / 9, 0]
