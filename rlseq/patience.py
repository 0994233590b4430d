"""How long a call of somebody else's code may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from .build import shown

TICKS = 20                  # of the timer within the limit: time is counted in these, for a stopped process hears one at most
LONGEST = 10**9             # seconds, thirty years
T = TypeVar("T")


class Overdue(BaseException):
    """A call took longer than it may. No Exception, or the `except Exception` of what was called would swallow it."""


@dataclass
class _Watch:
    every: float = 0.0                   # seconds between two ticks; 0: nobody watches
    heard: int | None = None             # ticks since the call began; None where none is under way


_watch = _Watch()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Within, no call by `in_time` may take longer; 0 sets no limit, and another thread than the main one has none.

    The system's timer ticks during a call and is heard between two instructions of Python: what loops, waits or sleeps there
    is stopped; native code that never comes back is not. Time for which the process was stopped (SIGSTOP) does not count.
    Raises ValueError for what is no number of seconds.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST:
        raise ValueError(f"reward_limit={shown(seconds)} must be seconds, such as 600, or 0 for no limit")
    if not seconds or not hasattr(signal, "setitimer") or not _in_main_thread():
        yield
        return
    before, _watch.every = signal.signal(signal.SIGALRM, _tick), seconds / TICKS
    try:
        yield
    finally:
        _watch.every = 0.0
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def in_time(call: Callable[[], T]) -> T:
    """What the call returns; raises Overdue where it takes longer than `limited` allows. Costs two system calls."""
    if not _watch.every or not _in_main_thread():
        return call()
    _watch.heard = 0
    signal.setitimer(signal.ITIMER_REAL, _watch.every, _watch.every)
    try:
        return call()
    finally:
        _watch.heard = None
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def limit() -> float:
    """Seconds that a call may take; 0 where there is no limit."""
    return _watch.every * TICKS


def _tick(number: int, frame: object) -> None:
    if _watch.heard is not None:
        _watch.heard += 1
        if _watch.heard >= TICKS:
            raise Overdue                                # again at every tick, until it is let through


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
