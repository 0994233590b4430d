"""What a pointer or copy head recalls of the answer so far, where states alone would have to count and to measure.

A pointer that compares states (Vinyals et al. 2015) must find directions in coordinates that the encoder mixed, and a copy
head (See et al. 2017) must count what it wrote. Here both are told: functions of differences of coordinates, and of how
often each item is still to come. These mean the same wherever points lie and however many they are; what to make of them is
learned. A recall is a tensor [N, M] that grows with the answer; `along` gives it for a whole answer at once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..types import STOP
from .encoders import Memory
from .linear import Linear

UNITS = 32


class Recall(nn.Module):
    """Energies a(state) . relu(W f) exp(g) log(1 + S) of candidates with features f.

    The learned gain lets energies of close candidates part; that it grows with the number of positions keeps a softmax as
    sharp over many as over few.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.units, self.ask = Linear(features, UNITS), Linear(width, UNITS)
        self.gain = nn.Parameter(torch.tensor(3.0))

    def start(self, memory: Memory, rows: int) -> Tensor:
        """[N, M] before the first action."""
        raise TypeError(f"{type(self).__name__} must define start()")

    def after(self, said: Tensor, action: Tensor, memory: Memory) -> Tensor:
        """[N, M] after one action more [N]."""
        raise TypeError(f"{type(self).__name__} must define after()")

    def along(self, fed: Tensor, memory: Memory) -> Tensor:
        """Actions [N, T] -> what is recalled before each of them [N, T, M]."""
        raise TypeError(f"{type(self).__name__} must define along()")

    def seen(self, said: Tensor, memory: Memory) -> Tensor:
        """Recalls [N, T, M] -> features of all candidates [N, T, C, F], in float32 or better."""
        raise TypeError(f"{type(self).__name__} must define seen()")

    def forward(self, states: Tensor, said: Tensor, memory: Memory) -> Tensor:
        """States [N, T, H] and recalls [N, T, M] -> energies [N, T, C]."""
        with torch.autocast(states.device.type, enabled=False):            # bf16 would round angles to a degree
            found = self.seen(said, memory)
            size = memory.mask.sum(1).to(found.dtype).repeat_interleave(len(states) // len(memory.mask)).view(-1, 1, 1)
            asked = self.ask(states.to(found.dtype)) * (self.gain.exp() / math.sqrt(UNITS) * size.log1p())
            return (self.units(found, "relu") @ asked.unsqueeze(-1)).squeeze(-1)


class Turning(Recall):
    """Points of the plane as seen from p, the one named last. Recalled: the first, the last but one and the last action.

        turn / pi, cos turn, sin turn    of the turn at p from the direction in which p was reached to that of the candidate
        angle / pi, cos, sin             of the direction of the candidate itself
        distance

    STOP, which closes a polygon, is a candidate that stands where the answer began. What has no direction yet is 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__(7, width)

    def start(self, memory: Memory, rows: int) -> Tensor:
        return torch.full((rows, 3), STOP, device=memory.mask.device)

    def after(self, said: Tensor, action: Tensor, memory: Memory) -> Tensor:
        first, _, last = said.unbind(1)
        return torch.stack([torch.where(first == STOP, action, first), last, action], 1)

    def along(self, fed: Tensor, memory: Memory) -> Tensor:
        none = torch.full_like(fed[:, :1], STOP)
        last = torch.cat([none, fed[:, :-1]], 1)
        first = torch.cat([none, fed[:, :1].expand(-1, fed.shape[1] - 1)], 1)
        return torch.stack([first, torch.cat([none, last[:, :-1]], 1), last], 2)

    def seen(self, said: Tensor, memory: Memory) -> Tensor:
        points = memory.batch.source[..., :2]
        problems, positions, _ = points.shape
        rows, steps, _ = said.shape
        offset = torch.arange(0, problems * positions, positions, device=said.device).view(-1, 1)
        place = ((said - 1).clamp_min(0).view(problems, -1) + offset).view(-1)                 # in [B * S]
        first, before, last = points.flatten(0, 1).index_select(0, place).view(rows, steps, 3, 2).unbind(2)
        ways = (points.unsqueeze(1) - last.reshape(problems, -1, 1, 2)).view(rows, steps, positions, 2)
        ways = torch.cat([(first - last).unsqueeze(2), ways], 2) * (said[..., 2:] != STOP).unsqueeze(3)
        came = ((last - before) * (said[..., 1:2] != STOP)).unsqueeze(2)                       # [N, T, 1, 2]
        x, y = ways.unbind(3)
        along, across = (ways * came).sum(3), came[..., 0] * y - came[..., 1] * x
        distance = torch.hypot(x, y)
        unit = distance.clamp_min(1e-12)
        scale = (unit * torch.hypot(came[..., 0], came[..., 1])).clamp_min(1e-12)
        return torch.stack([torch.atan2(across, along) / math.pi, along / scale, across / scale,
                            torch.atan2(y, x) / math.pi, x / unit, y / unit, distance], 3)


class Counting(Recall):
    """Items of a line that are still to come. Recalled: the action taken last, and how often each position's item is still to
    come [N, 1 + S]: fewer by one every time it is written, below 0 once it was written too often.

        more than 0, less than 0, the count clipped to [-1, 3]
        the coordinate x; asinh(1024 (x - y)) / 8 from the item y written last, which tells near ones apart as well as far ones

    Before the first item y is the least of the source. Equal items share an action, `batch.extra["copy_ids"]` [B, S]. The
    decoder's state is told whether anything is left, and what share of the positions, for it must know when to stop.
    """

    def __init__(self, width: int) -> None:
        super().__init__(5, width)
        self.tell = Linear(2, width)

    def start(self, memory: Memory, rows: int) -> Tensor:
        ids = memory.batch.extra["copy_ids"]
        same = (ids.unsqueeze(2) == ids.unsqueeze(1)) & memory.mask.unsqueeze(1)
        return F.pad(same.sum(2) * memory.mask, (1, 0), value=STOP).repeat_interleave(rows // len(ids), 0)

    def after(self, said: Tensor, action: Tensor, memory: Memory) -> Tensor:
        left = said[:, 1:] - _holding(action.unsqueeze(1), memory).squeeze(1).to(said.dtype)
        return torch.cat([action.unsqueeze(1), left], 1)

    def along(self, fed: Tensor, memory: Memory) -> Tensor:
        written = F.pad(_holding(fed[:, :-1], memory).to(fed.dtype).cumsum(1), (0, 0, 1, 0))
        left = self.start(memory, len(fed))[:, 1:].unsqueeze(1) - written
        return torch.cat([F.pad(fed[:, :-1], (1, 0), value=STOP).unsqueeze(2), left], 2)

    def seen(self, said: Tensor, memory: Memory) -> Tensor:
        place, left = memory.batch.source[..., 0], said[..., 1:]
        here = _holding(said[..., 0], memory)                                                  # [N, T, S]
        least = place.masked_fill(~memory.mask, torch.inf).amin(1, keepdim=True).unsqueeze(2)  # [B, 1, 1]
        place, least = (one.repeat_interleave(len(said) // len(place), 0) for one in (place.unsqueeze(1), least))
        last = torch.where(here, place, -torch.inf).amax(2, keepdim=True)
        last = torch.where(last > -torch.inf, last, least)
        return torch.stack([(left > 0).to(place.dtype), (left < 0).to(place.dtype), left.clamp(-1, 3).to(place.dtype),
                            place.expand(left.shape), torch.asinh(1024 * (place - last)) / 8], 3)

    def told(self, states: Tensor, said: Tensor, memory: Memory) -> Tensor:
        """States [N, T, H] that know what is left."""
        left = (said[..., 1:] > 0).to(states.dtype)
        size = memory.mask.sum(1).repeat_interleave(len(said) // len(memory.mask)).unsqueeze(1)
        return states + self.tell(torch.stack([left.amax(2), left.sum(2) / size], 2))


def _holding(actions: Tensor, memory: Memory) -> Tensor:
    """Actions [N, T] -> [N, T, S], which positions hold their item."""
    found = actions.reshape(len(memory.mask), -1, 1) == memory.batch.extra["copy_ids"].unsqueeze(1)
    return (found & memory.mask.unsqueeze(1)).view(*actions.shape, found.shape[2])          # T may be 0
