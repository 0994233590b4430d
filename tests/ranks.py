"""Ranks for tests: processes that are forked from one which has torch imported, so that a test pays for no interpreter."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

import torch
import torch.multiprocessing as processes

from rlseq import dist

multiprocessing.set_forkserver_preload(["rlseq.train", "tests.toys", "tests.laws.test_training"])


def together(world: int, function: Callable[..., None], *given: object, wait: bool = True):
    """function(*given) on every rank of a group; with `wait` raises what the first failing rank raised."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return processes.start_processes(_main, (world, port, function, given), nprocs=world, join=wait, start_method="forkserver")


def _main(rank: int, world: int, port: int, function: Callable[..., None], given: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    dist.start(torch.device("cpu"))
    assert dist.world() == world and dist.rank() == rank
    function(*given)
    dist.stop()
