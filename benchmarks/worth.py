"""Worth of answers of points, in a few lines of torch, so that no competitor of W5 pays more for it than another."""

import torch
from torch import Tensor


def area(points: Tensor) -> Tensor:
    """Vertices in order [N, T, 2] -> what they enclose [N] (shoelace formula, absolute value)."""
    after = points.roll(-1, 1)
    return (points[..., 0] * after[..., 1] - points[..., 1] * after[..., 0]).sum(1).abs() / 2


def tour(points: Tensor) -> Tensor:
    """Points in order [N, T, 2] -> minus the length of the closed tour through them [N]."""
    return -torch.linalg.vector_norm(points - points.roll(-1, 1), dim=-1).sum(1)
