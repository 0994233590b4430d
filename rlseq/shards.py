"""Parameters sharded over ranks (FSDP2), for policies whose training state is too large for one.

Drawing and evaluating take whole weights, at every step of an answer. So every rank keeps a policy whole, as without
shards, and a twin of the learner is trained: of the twin's weights, their gradients and the optimiser's moments, three to
four times the policy, each rank holds one share. Whole layers of it are there while they are scored, one at a time.
"""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from .descent import Learner, full
from .nn.encoders import EncoderLayer, FeedForward


def check(ranks: int, encoder: str, decoder: str) -> None:
    """Raises ValueError for what cannot be sharded."""
    if ranks < 2:
        raise ValueError("shard=true shares weights out among ranks, and there is one; start with torchrun --standalone "
                         "--nproc-per-node 2 -m rlseq.run ..., or leave shard=false")
    if (encoder, decoder) != ("transformer", "transformer"):
        raise ValueError(f"shard=true is for Transformers, and this policy has encoder={encoder}, decoder={decoder}; leave "
                         "shard=false")


def twin(learner: Learner) -> Learner:
    """A sharded learner that is trained in place of this one, with the same weights; single numbers are [1], to be cut."""
    found = copy.deepcopy(learner)
    for one in found.modules():
        for name, value in one.named_parameters(recurse=False):
            if not value.dim():
                setattr(one, name, nn.Parameter(value.detach().view(1), value.requires_grad))
    mesh = init_device_mesh(learner.policy.first.device.type, (dist.get_world_size(),))
    for one in [*found.modules()]:
        if isinstance(one, EncoderLayer):                    # what is called as a whole; the rest goes with the learner
            fully_shard(one, mesh=mesh)
    layers = {id(part) for one in found.modules() if isinstance(one, EncoderLayer) for part in one.modules()}
    for one in [*found.modules()]:
        if isinstance(one, FeedForward) and id(one) not in layers:
            fully_shard(one, mesh=mesh)
    fully_shard(found, mesh=mesh)
    return found


@torch.no_grad()
def hand_out(whole: Learner, sharded: Learner) -> None:
    """Give the twin the weights that rank 0's learner has."""
    for value, part in zip(whole.parameters(), sharded.parameters(), strict=True):
        part.copy_(like(value, part))


@torch.no_grad()
def hand_back(sharded: Learner, whole: Learner) -> None:
    """Give the learner the weights that its twin has learnt, on all ranks."""
    for part, value in zip(sharded.parameters(), whole.parameters(), strict=True):
        if part.requires_grad:
            value.copy_(full(part).view(value.shape))


def like(value: Tensor, part: Tensor) -> Tensor:
    """A whole tensor, rank 0's, of the shape of `part`, and shared out as it is."""
    found = value.detach().view(part.shape)
    return distribute_tensor(found, part.device_mesh, part.placements) if isinstance(part, DTensor) else found


def state_of(optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state, whole; all ranks must ask."""
    return {index: {name: full(value) for name, value in state.items()}
            for index, state in optimiser.state_dict()["state"].items()}
