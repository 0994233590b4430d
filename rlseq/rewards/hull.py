"""What an ordered set of vertices is worth as the convex hull of points: area, simplicity, sameness, F1.

All in tensors, without a loop over answers. Geometry is done in float64. Coordinates that are multiples of 2^-24 in
[0, 1) (uniform float32 draws) make it exact: differences have 24 bits, products 48, and a sum of such products below
32 in magnitude fits the 53 bits of a double. So orientations and areas carry no rounding and need no tolerance.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

PAIRS = 1 << 22        # pairs of edges tested at once: 32 MiB for each float64 tensor of them
CELLS = 1 << 16        # vertices worked on at once: 512 KiB for each float64 tensor of them, within a core's cache
GRID = 1 << 16         # to a unit: where the middle of a polygon may lie


def polygon_area(points: Tensor, mask: Tensor) -> Tensor:
    """Signed area, positive counter-clockwise (shoelace formula); 0 below three vertices.

    points: [N, T, 2] vertices in order; mask: [N, T], True on a prefix; result: [N] float64.
    """
    return torch.cat([_cross(ring[:, :-1], ring[:, 1:]).sum(0) for ring, _ in _rings(points, mask)]) / 2


def is_simple(points: Tensor, mask: Tensor) -> Tensor:
    """Whether the closed polygon meets itself nowhere: consecutive edges share their vertex alone, others nothing.

    Two edges meet when their boxes overlap and neither lies strictly on one side of the other's line. A vertex
    in the middle of a straight stretch is fine; a spike (an edge that folds back), a vertex visited twice, an edge of
    length 0 or fewer than three vertices is not. points: [N, T, 2], mask: [N, T] prefix; result: [N] bool.
    """
    return area_and_simple(points, mask)[1]


def area_and_simple(points: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`polygon_area` and `is_simple` in one go. Cheap tests decide what is clear, `_is_simple` the little that is left."""
    areas, found = [], []
    for ring, count in _rings(points, mask):
        corner = _cross(ring[:, :-1], ring[:, 1:])                                     # [T, N] triangles at the middle
        areas.append(corner.sum(0) / 2)
        apart = _is_star(ring, corner, count).double() - (count < 3).double()          # 1 simple, 0 not clear, -1 not simple
        if len(others := (apart == 0).nonzero()[:, 0]):
            apart.index_copy_(0, others, _nearest_pair(ring.index_select(2, others), count[others]))
        found.append(apart)
    apart = torch.cat(found)
    simple = apart > 0
    for unclear in (apart == 0).nonzero()[:, 0].split(max(PAIRS // max(points.shape[1], 1) ** 2, 1)):
        simple[unclear] = _is_simple(points[unclear].double(), mask[unclear])
    return torch.cat(areas), simple


def _rings(points: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """[N, T, 2] vertices in parts: [2, T + 1, n] float64, the first vertex again wherever a row has ended; counts [n].

    They are seen from the vertices' mean, rounded so that differences from it are exact too.
    """
    rows, steps = max(CELLS // max(points.shape[1], 1), 1), points.shape[1]
    for part, real in zip(points.split(rows), mask.split(rows), strict=True):
        ring, count = torch.zeros(2, steps + 1, len(part), dtype=torch.float64, device=points.device), real.sum(1)
        vertices = ring[:, :-1].copy_(part.permute(2, 1, 0))
        first = vertices[:, :1].clone()
        vertices -= first
        vertices *= real.t().double()
        ring -= (vertices.sum(1, keepdim=True) / count.clamp_min(1) * GRID).round_() / GRID
        yield ring, count


def _cross(left: Tensor, right: Tensor) -> Tensor:
    """Twice the area of the triangle between two arms [2, ..]: positive where the right one is counter-clockwise."""
    return left[0] * right[1] - left[1] * right[0]         # unfused: exactly 0 for an arm and itself


def _is_star(ring: Tensor, corner: Tensor, count: Tensor) -> Tensor:
    """Whether the vertices go round their mean once and always in one sense, as convex polygons do: [N] bool.

    Each edge then lies in a sector of its own, less than half a turn wide, so that none meets another.
    """
    above = (ring[1] >= 0).double()                                                    # changes twice in a turn
    return (corner.sign().sum(0).abs() == count) & (above.diff(dim=0).abs_().sum(0) == 2) & (count >= 3)


def _nearest_pair(ring: Tensor, count: Tensor) -> Tensor:
    """[N] float64, negative where two edges cross, positive where all are apart, 0 where it is not clear; count >= 3.

    Two edges cross if the ends of each lie on both sides of the other's line. Edge j is tested with all edges before
    it, in all rows at once; rows leave when they are decided. Not clear is what touches and crosses nowhere: an end on
    another edge, a straight stretch, an edge of length 0.
    """
    x, y = ring
    ex, ey = ring.diff(dim=1)                                            # [T, N] edges
    c = ex * y[:-1] - ey * x[:-1]                                        # a point lies to the left if ex y - ey x > c
    result, rows = torch.ones_like(x[0]), torch.arange(len(count), device=ring.device)
    nearest, starts = result, ex[:0]                                     # starts: sides of edge j's start, as `ends`
    for j in range(1, len(ex)):
        last, none = (count == j + 1).to(x.dtype), (count <= j).to(x.dtype)                    # [N] edge j of a row
        ends = (ex[:j] * y[j + 1]).addcmul_(ey[:j], x[j + 1], value=-1).sub_(c[:j])            # edge j's end, of lines before
        nearest = torch.minimum(nearest, ends[-1].abs() + none)                                # the turn into edge j
        if j > 1:
            side = (ex[j] * y[:j]).addcmul_(ey[j], x[:j], value=-1).sub_(c[j])                 # vertices before, of line j
            pair = torch.maximum(starts * ends[:-1], side[:-1] * side[1:])
            pair[0] += last                                                                    # it ends where edge 0 starts
            nearest = torch.minimum(nearest, pair.amin(0) + none)
            nearest = torch.minimum(nearest, side[1].abs() + (1 - last))                       # the turn into edge 0
        starts = ends
        if j > 1 and j & (j - 1) == 0:
            keep = ((nearest >= 0) & (count > j + 1)).nonzero()[:, 0]
            result.index_copy_(0, rows, nearest)
            rows, count, nearest = rows[keep], count[keep], nearest[keep]
            x, y, ex, ey, c, starts = (one.index_select(1, keep) for one in (x, y, ex, ey, c, starts))
            if not len(rows):
                break
    return result.index_copy_(0, rows, nearest)


def _next(mask: Tensor) -> Tensor:
    """Index of the vertex after each one, [N, T]: the first one after the last real one. Masks are prefixes."""
    step = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return torch.where(step < mask.sum(1, keepdim=True), step, 0)


def _take(points: Tensor, index: Tensor) -> Tensor:
    return points.gather(1, index[..., None].expand(-1, -1, 2))


def _is_simple(points: Tensor, mask: Tensor) -> Tensor:
    """`is_simple` for as many rows as fit: edge i runs from vertex i to its next one; [N, T, T] is edge i, edge j."""
    after = _next(mask)
    end = _take(points, after)
    edge = end - points
    away = points[:, None] - points[:, :, None]                                  # [N, i, j, 2] from start i to j
    side = (edge[:, :, None, 0] * away[..., 1] - edge[:, :, None, 1] * away[..., 0]).sign().to(torch.int8)
    far_side = side.gather(2, after[:, None].expand(-1, after.shape[1], -1))      # of the end of edge j
    across = side * far_side <= 0                                                # edge j reaches both sides of line i
    low, high = torch.minimum(points, end), torch.maximum(points, end)
    boxes = ((low[:, :, None] <= high[:, None]) & (low[:, None] <= high[:, :, None])).all(-1)
    index = torch.arange(points.shape[1], device=points.device)
    beside = after[:, :, None] == index                                          # edge j follows edge i
    apart = ~(beside | beside.mT | torch.eye(len(index), dtype=torch.bool, device=points.device))
    real = mask[:, :, None] & mask[:, None]
    crossing = (across & across.mT & boxes & apart & real).flatten(1).any(1)
    onward = _take(edge, after)
    turn = edge[..., 0] * onward[..., 1] - edge[..., 1] * onward[..., 0]
    spike = (turn == 0) & ((edge * onward).sum(-1) <= 0)                         # folds back, or has length 0
    return (mask.sum(1) >= 3) & ~crossing & ~(spike & mask).any(1)


def coverage(points: Tensor, mask: Tensor, area: Tensor) -> Tensor:
    """Share of the hull's area that a polygon made of the input's points covers; 0 if it is not simple.

    Such a polygon lies inside the hull, so its overlap with the hull is its own area. area: [N], of the hull;
    result: [N] float64 in [0, 1], 0 where the hull has no area.
    """
    answer, simple = area_and_simple(points, mask)
    share = answer.abs() / area.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(simple & (area > 0), share.clamp(max=1.0), 0.0)


def same_polygon(answer: Tensor, mask: Tensor, hull: Tensor, hull_mask: Tensor) -> Tensor:
    """Whether two lists of vertices are one polygon (Vinyals et al. 2015, the accuracy): [N] bool.

    The same cyclic order, whichever vertex is first and in whichever sense it is walked, as area, simplicity and F1
    do not depend on these either. answer: [N, T] and hull: [N, L] vertex numbers, masks True on a prefix.
    """
    if not answer.shape[1] or not hull.shape[1]:
        return torch.zeros(len(answer), dtype=torch.bool, device=answer.device)
    count = mask.sum(1, keepdim=True)                                            # [N, 1]
    first = (answer == hull[:, :1]).int().argmax(1, keepdim=True)              # 0 where absent: no match from there
    step = torch.arange(hull.shape[1], device=answer.device)
    turned = [answer.gather(1, (first + sense * step) % count.clamp_min(1)) for sense in (1, -1)]
    same = [((one == hull) | ~hull_mask).all(1) for one in turned]
    return (same[0] | same[1]) & (count[:, 0] == hull_mask.sum(1)) & (count[:, 0] > 0)


def vertex_f1(answer: Tensor, mask: Tensor, hull: Tensor, hull_mask: Tensor, size: int) -> Tensor:
    """F1 of the vertices named against those of the hull, in any order: [N] float64.

        F1 = 2 |answer & hull| / (|answer| + |hull|)        a vertex named twice counts once above and twice below

    answer: [N, T] and hull: [N, L] vertex numbers below `size`.
    """
    named, true = _members(answer, mask, size), _members(hull, hull_mask, size)
    total = mask.sum(1) + hull_mask.sum(1)
    return 2 * (named & true).sum(1).double() / total.clamp_min(1)


def _members(vertices: Tensor, mask: Tensor, size: int) -> Tensor:
    """[N, T] vertex numbers -> [N, size] bool; what the mask hides falls into a column that is cut off."""
    found = torch.zeros(len(vertices), size + 1, dtype=torch.bool, device=vertices.device)
    return found.scatter_(1, vertices.masked_fill(~mask, size), True)[:, :size]
