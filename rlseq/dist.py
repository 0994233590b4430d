"""Ranks. Everything is a no-op on one rank, so nobody else thinks of them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

_given: ContextVar[Callable[[int], Tensor] | None] = ContextVar("given", default=None)


def start(device: torch.device) -> None:
    """Join the group that torchrun describes in the environment, if it does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over ranks; carries no gradient."""
    if world() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world()


def uniform(rows: int, device: torch.device) -> Tensor:
    """[rows] numbers in [0, 1): this rank's share of one draw for all ranks, so that two ranks equal one."""
    given = _given.get()
    if given is not None:
        return given(rows).to(device)
    return torch.rand(world() * rows, device=device)[rank() * rows:(rank() + 1) * rows]


@contextmanager
def dictated(numbers: Callable[[int], Tensor]) -> Iterator[None]:
    """Within, `uniform(rows)` is `numbers(rows)`: for expectations taken over all draws, and for draws to be repeated."""
    token = _given.set(numbers)
    try:
        yield
    finally:
        _given.reset(token)


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_initialized():
        dist.barrier()
