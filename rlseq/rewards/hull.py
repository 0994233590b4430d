"""What an ordered set of vertices is worth as the convex hull of points: area, simplicity, sameness, F1.

All in tensors, without a loop over answers. Geometry is done in float64. Coordinates that are multiples of 2^-24 in
[0, 1) (uniform float32 draws) make it exact: differences have 24 bits, products 48, and a sum of such products below
32 in magnitude fits the 53 bits of a double. So orientations and areas carry no rounding and need no tolerance.
"""

import torch
from torch import Tensor

PAIRS = 1 << 22        # pairs of edges tested at once: 32 MiB for each float64 tensor of them


def _next(mask: Tensor) -> Tensor:
    """Index of the vertex after each one, [N, T]: the first one after the last real one. Masks are prefixes."""
    step = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return torch.where(step < mask.sum(1, keepdim=True), step, 0)


def _take(points: Tensor, index: Tensor) -> Tensor:
    return points.gather(1, index[..., None].expand(-1, -1, 2))


def polygon_area(points: Tensor, mask: Tensor) -> Tensor:
    """Signed area, positive counter-clockwise (shoelace formula); 0 below three vertices.

    points: [N, T, 2] vertices in order; mask: [N, T], True on a prefix; result: [N] float64.
    """
    arm = torch.where(mask[..., None], points.double() - points[:, :1].double(), 0.0)    # from the first vertex
    after = _take(arm, _next(mask))
    return (arm[..., 0] * after[..., 1] - arm[..., 1] * after[..., 0]).sum(1) / 2


def is_simple(points: Tensor, mask: Tensor) -> Tensor:
    """Whether the closed polygon meets itself nowhere: consecutive edges share their vertex alone, others nothing.

    Two edges meet when their boxes overlap and neither lies strictly on one side of the other's line. A vertex
    in the middle of a straight stretch is fine; a spike (an edge that folds back), a vertex visited twice, an edge of
    length 0 or fewer than three vertices is not. points: [N, T, 2], mask: [N, T] prefix; result: [N] bool.
    """
    width = points.shape[1]
    if width < 3:
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    rows = max(PAIRS // width ** 2, 1)
    return torch.cat([_is_simple(*part) for part in zip(points.double().split(rows), mask.split(rows))])


def _is_simple(points: Tensor, mask: Tensor) -> Tensor:
    """`is_simple` for as many rows as fit: edge i runs from vertex i to its next one; [N, T, T] is edge i, edge j."""
    after = _next(mask)
    end = _take(points, after)
    edge = end - points
    away = points[:, None] - points[:, :, None]                                  # [N, i, j, 2] from start i to j
    side = (edge[:, :, None, 0] * away[..., 1] - edge[:, :, None, 1] * away[..., 0]).sign().to(torch.int8)
    far_side = side.gather(2, after[:, None].expand(-1, len(after[0]), -1))      # of the end of edge j
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
    share = polygon_area(points, mask).abs() / area.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(is_simple(points, mask) & (area > 0), share.clamp(max=1.0), 0.0)


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
