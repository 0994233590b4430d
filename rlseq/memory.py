"""Memory that a step gives back is kept for the next step."""

import ctypes
import sys
from functools import cache

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
