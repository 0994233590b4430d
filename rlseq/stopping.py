"""SIGINT and SIGTERM end a run where it can go on later.

The first signal raises `Stopped` in the main thread, at once, or, within `later()`, at its end: a step is finished, a
checkpoint is written. LIMIT seconds later the process is gone even so (a step or a write under way is waited for). A second
signal leaves at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .say import speaks

LIMIT = 9.0                                    # seconds


class Stopped(KeyboardInterrupt):
    """The system or the user asked the run to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number                   # of the signal

    @property
    def code(self) -> int:
        """The exit code that shells expect."""
        return 128 + self.number


@dataclass
class _Now:
    asked: int = 0                             # number of the signal that came
    told: bool = False                         # whether `Stopped` was raised for it
    inside: int = 0                            # how many `later()` are open
    farewell: str = ""


_now = _Now()


def asked() -> bool:
    """Whether a signal came for which `Stopped` was not raised yet."""
    return bool(_now.asked) and not _now.told


@contextmanager
def signals(farewell: str) -> Iterator[None]:
    """Within, the two signals are heard; `farewell` is the line that says how to continue, for a process that must be cut off.

    Nothing happens outside of the main thread, nor for a signal that was ignored, as nohup does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _now.asked, _now.told, _now.inside, _now.farewell = 0, False, 0, farewell
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, _heard)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def later(agreed: Callable[[bool], bool] | None = None) -> Iterator[None]:
    """What stands in here is finished before `Stopped` is raised.

    `agreed` turns whether this process was asked into whether to stop, for ranks that must stop at the same step; they are
    asked at the end of this even where it stands in a `held`.
    """
    with held():
        yield
    if agreed(asked()) if agreed else asked() and not _now.inside:
        _now.asked, _now.told = _now.asked or signal.SIGTERM, True
        raise Stopped(_now.asked)


@contextmanager
def held() -> Iterator[None]:
    """In here `Stopped` is raised at the end of a `later(agreed)` alone."""
    _now.inside += 1
    try:
        yield
    finally:
        _now.inside -= 1


def _heard(number: int, frame: object) -> None:
    if _now.asked:
        # torchrun hands a Ctrl-C, which all processes have seen, on as SIGTERM: that is no second one
        if number == _now.asked or "TORCHELASTIC_RUN_ID" not in os.environ:
            _leave(number, "left at once")
        return
    _now.asked = number
    _say(f"{signal.Signals(number).name}: finishing the step and saving; once more leaves at once")
    threading.Thread(target=_watch, args=(number,), daemon=True, name="stopping").start()
    if not _now.inside:
        _now.told = True
        raise Stopped(number)


def _watch(number: int) -> None:
    time.sleep(LIMIT)
    while _now.inside:
        time.sleep(0.1)
    _leave(number, f"left after {LIMIT:g} s")


def _leave(number: int, how: str) -> None:
    _say(f"{how}; {_now.farewell}" if _now.farewell else how)
    os._exit(128 + number)


def _say(text: str) -> None:
    """Write to stderr past Python's buffers, which a handler may have interrupted; of ranks the first alone."""
    if speaks():
        os.write(2, f"\nrlseq: {text}\n".encode())
