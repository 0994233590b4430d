"""Draws that are counted instead of drawn, and an algorithm that forgets them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..algos import Algorithm
from ..types import Rollout


@contextmanager
def unchanged(algorithm: Algorithm) -> Iterator[None]:
    """Within, the algorithm's state may change; afterwards it is as before."""
    state = copy.deepcopy(algorithm.state_dict())
    try:
        yield
    finally:
        algorithm.load_state_dict(state)


def all_sets(answers: int, k: int) -> tuple[Tensor, Tensor]:
    """All multisets of k of so many answers [R, k], and in how many orders each can be drawn [R]."""
    sets = torch.tensor(list(itertools.combinations_with_replacement(range(answers), k)))
    same = (sets.unsqueeze(1) == sets.unsqueeze(2)).double()                                 # [R, k, k]
    first = same.tril(-1).sum(2) == 0
    repeats = torch.where(first, torch.lgamma(same.sum(2) + 1), 0.0).sum(1)
    return sets, (math.lgamma(k + 1) - repeats).exp().round()


def drawn_as(rollout: Rollout, wanted: Tensor, k: int) -> bool:
    """Whether the first k answers to every problem are those [N, T] that were dictated."""
    found = rollout.grouped(rollout.actions * rollout.mask)[:, :k].flatten(0, 1)
    if len(found) != len(wanted):
        return False
    longest = max(found.shape[1], wanted.shape[1])
    return torch.equal(*(pad(one, (0, longest - one.shape[1])) for one in (found, wanted)))
