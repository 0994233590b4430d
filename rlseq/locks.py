"""One at a time: jobs of a sweep that would write the same folder wait for each other."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import torch

from . import dist
from .printable import printable

try:
    import fcntl
except ImportError:                      # Windows: nobody waits there
    fcntl = None

NAME, WAIT = ".lock", 0.5                # of the file; seconds between two tries


@contextmanager
def alone(folder: Path, device: torch.device | None = None) -> Iterator[None]:
    """Within, this process is the only one that is alone in the folder; others wait for it, and say so once.

    With a device all ranks go in together, and rank 0 holds the lock for them. It is a lock of the kernel on a file in the
    folder (flock), so it ends with whoever holds it, however that dies. Between machines it holds on NFS (v4, or v3 with
    lockd) and on Lustre mounted with `flock`; where a file system knows no locks, that is said and nobody waits. A process
    that is alone in a folder must not ask for the same folder again.
    """
    path, held, said = folder / NAME, None, False
    first = device is None or dist.rank() == 0
    while True:
        held = _take(path) if first else None
        if not (held is not None if device is None else dist.anywhere(held is not None, device)):
            if first and not said:
                print(f"rlseq: {_holder(path)} works in {folder}; waiting until that is done", file=sys.stderr, flush=True)
            said = True
            time.sleep(WAIT)
            continue
        break
    try:
        yield
    finally:
        if held is not None:
            path.unlink(missing_ok=True)     # while held, so that it is ours; whoever waits sees that it is gone
            os.close(held)


def busy(folder: Path) -> bool:
    """Whether another process is alone in a folder."""
    path = folder / NAME
    held = _take(path) if path.is_file() else -1
    if held is None:
        return True
    if held >= 0:
        path.unlink(missing_ok=True)
        os.close(held)
    return False


def _take(path: Path) -> int | None:
    """The lock file, open and locked; None while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        print(f"rlseq: {path.parent} is on a file system without locks ({error.strerror}); let no two jobs that share it run "
              "at once", file=sys.stderr)
    if not _same(path, handle):
        os.close(handle)                     # its holder removed it between our opening and locking it
        return None
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    with suppress(OSError):                  # a full disk: who waits learns less, and what is written next says why
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
    return handle


def _same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Who holds the lock, as it wrote itself down."""
    try:
        return printable(path.read_text(errors="replace"), 120) or "another process"
    except OSError:
        return "another process"
