"""Relative geometry for a pointer: how candidates lie as seen from the points that an answer named last.

A pointer that compares states (Vinyals et al. 2015) must find directions in coordinates that the encoder mixed. Here it is
told them, as functions of differences of coordinates alone, so that they mean the same wherever the points lie and however
many they are; what to make of them is learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..types import STOP
from .linear import Linear

FEATURES, UNITS = 7, 32


def named(fed: Tensor) -> Tensor:
    """Actions fed [N, T] (the one at t was taken at t; the last is not needed) -> before each action the first, the last
    but one and the last of those taken [N, T, 3]; STOP where there is none yet."""
    none = torch.full_like(fed[:, :1], STOP)
    last = torch.cat([none, fed[:, :-1]], 1)
    before = torch.cat([none, last[:, :-1]], 1)
    first = torch.cat([none, fed[:, :1].expand(-1, fed.shape[1] - 1)], 1)
    return torch.stack([first, before, last], 2)


def also_named(said: Tensor, action: Tensor) -> Tensor:
    """What was named [N, 3], after one action more [N]."""
    first, _, last = said.unbind(1)
    return torch.stack([torch.where(first == STOP, action, first), last, action], 1)


class Turning(nn.Module):
    """Energies a(state) . relu(W f) exp(g) of candidates in the plane, with f of candidate c seen from the point p named last:

        turn / pi, cos turn, sin turn    of the turn at p from the direction in which p was reached to that of c
        angle / pi, cos, sin             of the direction of c itself
        distance

    STOP, which closes a polygon, stands where the answer began. What has no direction yet is 0. The gain exp(g) lets
    energies of close candidates part: angles differ by little where points are many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.units, self.ask = Linear(FEATURES, UNITS), Linear(width, UNITS)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor, said: Tensor, points: Tensor) -> Tensor:
        """States [N, T, H], actions named before [N, T, 3] and points [B, S, 2] -> energies [N, T, S + 1]."""
        with torch.autocast(states.device.type, enabled=False):            # bf16 would round angles to a degree
            asked = self.ask(states.to(points.dtype)) * (self.gain.exp() / math.sqrt(UNITS))
            units = self.units(seen(said, points), "relu")                                     # [N, T, S + 1, UNITS]
            return (units @ asked.unsqueeze(-1)).squeeze(-1)


def seen(said: Tensor, points: Tensor) -> Tensor:
    """Actions named before [N, T, 3] and points [B, S, 2] -> features of all candidates [N, T, S + 1, FEATURES]."""
    problems, positions, _ = points.shape
    rows, steps, _ = said.shape
    offset = torch.arange(0, problems * positions, positions, device=said.device).view(-1, 1)
    place = ((said - 1).clamp_min(0).view(problems, -1) + offset).view(-1)                     # in [B * S]
    first, before, last = points.flatten(0, 1).index_select(0, place).view(rows, steps, 3, 2).unbind(2)
    ways = (points.unsqueeze(1) - last.reshape(problems, -1, 1, 2)).view(rows, steps, positions, 2)
    ways = torch.cat([(first - last).unsqueeze(2), ways], 2) * (said[..., 2:] != STOP).unsqueeze(3)
    came = ((last - before) * (said[..., 1:2] != STOP)).unsqueeze(2)                           # [N, T, 1, 2]
    x, y = ways.unbind(3)
    along, across = (ways * came).sum(3), came[..., 0] * y - came[..., 1] * x
    distance = torch.hypot(x, y)
    unit = distance.clamp_min(1e-12)
    scale = (unit * torch.hypot(came[..., 0], came[..., 1])).clamp_min(1e-12)
    return torch.stack([torch.atan2(across, along) / math.pi, along / scale, across / scale, torch.atan2(y, x) / math.pi,
                        x / unit, y / unit, distance], 3)
