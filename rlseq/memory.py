"""Memory that a step gives back is kept for the next step."""

import ctypes
import os
import sys
from functools import cache

import torch

THRESHOLD, TRIM = -3, -1                  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's mallopt(3)
LARGE = 2**30                             # bytes


@cache
def keep() -> bool:
    """Ask the C library to keep freed blocks below 1 GiB for itself; whether it will.

    By default glibc returns every large block to the system, and each step takes it again, page by page, which on a virtual
    machine can cost more than the arithmetic. Nothing happens where there is another C library.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, LARGE) for name in (THRESHOLD, TRIM))


def of(device: torch.device) -> int:
    """Bytes of memory that a device has in all; of the CPU, where the system does not say, as good as endless."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):              # not every system has these
        return 2**63
