"""Ranks: processes that train one model together, each on its share of every batch.

On one rank everything here is a no-op, so nobody else thinks of ranks. Draws and means are over all ranks within `sharing`,
which the trainer enters; outside of it every rank is by itself: all that evaluate the same policy find the same.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value, Found = TypeVar("Value"), TypeVar("Found")
BUCKET = 2**22                   # numbers that travel together, at least
PATIENCE = timedelta(days=7)     # of a rank that waits for others: rank 0 may draw pictures for hours; who dies is noticed
GONE = ("gloo", "NCCL", "by peer", "Connection", "Broken pipe", "Socket")      # what the libraries say of it


class Lost(ConnectionError):
    """Another rank has ended, so this one cannot go on."""


@dataclass(frozen=True)
class Share:
    """Which of a batch's `total` problems are this rank's: `count` of them, from number `first` on.

    A rank without any works on one of the others' all the same, so that all ranks do alike; it counts for nothing.
    """

    first: int
    count: int
    total: int

    @property
    def held(self) -> slice:
        """The problems that this rank works on, at least one."""
        start = min(self.first, self.total - 1)
        return slice(start, start + max(self.count, 1))

    def part(self, start: int, stop: int) -> Share:
        """Problems start..stop-1 of those held."""
        return Share(self.held.start + start, stop - start, self.total)


_given: ContextVar[Callable[[int], Tensor] | None] = ContextVar("given", default=None)
_share: ContextVar[Share | None] = ContextVar("share", default=None)
_heard: ContextVar[tuple[list[Tensor], Iterator[int]] | None] = ContextVar("heard", default=None)


def start(device: torch.device) -> None:
    """Join the group that torchrun describes in the environment, if it does. Of its ranks the first alone prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        with together():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        if rank() > 0:
            sys.stdout = open(os.devnull, "w")


def stop() -> None:
    """Leave the group, unless its other ranks may be gone: then they are not waited for."""
    if dist.is_initialized() and sys.exception() is None:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def together() -> Iterator[None]:
    """Within, ranks wait for each other; raises Lost where one of them has ended."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not any(words in str(error) for words in GONE):
            raise
        raise Lost(f"another rank has ended ({said}), and this one stops; the same command continues from the last "
                   "checkpoint, on any number of ranks") from error


def speaks() -> bool:
    """Whether this process is the first of its group to say why it stops: one line for all ranks."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    try:
        store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                              timeout=timedelta(seconds=5))
        return store.add(f"rlseq/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (KeyError, RuntimeError):                         # whoever kept the store is gone
        return True


def shared_out(total: int) -> Share:
    """This rank's share of `total` problems; shares differ by one problem at most."""
    first, after = total * rank() // world(), total * (rank() + 1) // world()
    return Share(first, after - first, total)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Within, this process works on a share of a batch: draws and means are those of the whole batch."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def own(problems: int) -> Share:
    """The share that `problems` loaded problems are; the whole batch where nothing is shared."""
    return _share.get() or Share(0, problems, problems)


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over the ranks that share a batch; carries no gradient."""
    share = _share.get()
    if world() == 1 or share is None:
        return value
    before, place = _heard.get() or ([], itertools.count())
    if (number := next(place)) < len(before):
        return before[number]
    found = value.detach().clone() if share.count else torch.zeros_like(value)
    with together():
        dist.all_reduce(found)
    before.append(found)
    return found


@contextmanager
def again(heard: list[Tensor]) -> Iterator[None]:
    """Within, totals are taken from `heard` as far as it goes, and new ones added to it: for work that one rank must do
    again, while the others have done it."""
    token = _heard.set((heard, itertools.count()))
    try:
        yield
    finally:
        _heard.reset(token)


def mean(value: Tensor) -> Tensor:
    """A mean over the problems of a rank -> the mean over those of all ranks that share a batch; carries no gradient."""
    share = _share.get()
    return value if world() == 1 or share is None else total(value.detach() * (share.count / share.total))


def uniform(rows: int, device: torch.device) -> Tensor:
    """[rows] numbers in [0, 1), as many for each problem: this share of one draw for the whole batch, so that two ranks
    equal one."""
    given, share = _given.get(), _share.get()
    if given is not None:
        return given(rows).to(device)
    if share is None or share.count == share.total:
        return torch.rand(rows, device=device)
    each = rows // max(share.count, 1)
    return torch.rand(share.total * each, device=device)[share.held.start * each:share.held.stop * each]


@contextmanager
def dictated(numbers: Callable[[int], Tensor]) -> Iterator[None]:
    """Within, `uniform(rows)` is `numbers(rows)`: for expectations taken over all draws, and for draws to be repeated."""
    token = _given.set(numbers)
    try:
        yield
    finally:
        _given.reset(token)


def add_up(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes, in place, its sum over all ranks."""
    if world() > 1:
        _travel(tensors, dist.all_reduce)


def like_first(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes, in place, what it is on rank 0."""
    if world() > 1:
        _travel(tensors, lambda flat: dist.broadcast(flat, 0))


def _travel(tensors: Sequence[Tensor], send: Callable[[Tensor], object]) -> None:
    """Small tensors travel together."""
    bucket: list[Tensor] = []
    for index, one in enumerate(tensors):
        bucket.append(one)
        last = index + 1 == len(tensors) or (tensors[index + 1].dtype, tensors[index + 1].device) != (one.dtype, one.device)
        if last or sum(map(Tensor.numel, bucket)) >= BUCKET:
            flat = torch.cat([each.detach().reshape(-1) for each in bucket])
            with together():
                send(flat)
            for each, part in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                each.detach().copy_(part.view_as(each))
            bucket = []


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether a flag stands on any rank; all ranks must ask."""
    if world() == 1:
        return flag
    found = torch.tensor([int(flag)], device=device)
    with together():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def told(value: Value) -> Value:
    """Rank 0's value, on every rank; all ranks must ask."""
    found = [value]
    if world() > 1:
        with together():
            dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    return found[0]


def gathered(value: Value) -> list[Value]:
    """Every rank's value, in their order, on every rank; all ranks must ask."""
    if world() == 1:
        return [value]
    found: list[Value] = [value] * world()
    with together():
        dist.all_gather_object(found, value)
    return found


def each(tasks: Sequence[Value], do: Callable[[Value], Found]) -> list[Found]:
    """[do(task) for task in tasks], shared by the ranks; all of them must call, and get all of it."""
    found = gathered([do(one) for one in tasks[rank()::world()]])
    return [found[number % world()][number // world()] for number in range(len(tasks))]


def barrier() -> None:
    """Wait for all ranks."""
    if world() > 1:
        with together():
            dist.barrier()
