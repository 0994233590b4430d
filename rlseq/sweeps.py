"""Runs of a sweep, in this process, in others or on other machines: one that fails lets the others go on."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .printable import printable

LAUNCHERS = ("joblib", "submitit")
GRACE = 8.0                    # seconds that workers have for their step and checkpoint


class Failed(Exception):
    """A run of a sweep ended with a user's mistake. Hydra keeps it until all runs have ended; it travels between processes."""


@contextmanager
def going_on(words: str) -> Iterator[None]:
    """In the run of a sweep with these overrides, exit code 2 becomes `Failed`, and what was said is led back to it.

    A run that is alone ("") ends as it does; so does one that was interrupted, for that is meant for all.
    """
    try:
        yield
    except SystemExit as stopped:
        if not words or stopped.code != 2:
            raise
        print(f"rlseq: so ended the run {printable(words, 300)}; the others of the sweep go on", file=sys.stderr, flush=True)
        raise Failed("not every run of the sweep came to its end (see above); the same command does what is missing") from None


@contextmanager
def launched() -> Iterator[None]:
    """What a launcher says of a worker that was killed, or of a job that the cluster ended, becomes `Failed`.

    A SIGTERM to the sweep is one to its worker processes, which would go on without it: each finishes its step and writes a
    checkpoint before all are gone.
    """
    before = signal.signal(signal.SIGTERM, _passed_on)
    try:
        yield
    except RuntimeError as error:
        if type(error).__module__.partition(".")[0] not in LAUNCHERS:
            raise
        said = next(iter(str(error).splitlines()), "")
        raise Failed(f"a worker of the sweep died ({said}); the same command goes on with what it left") from error
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _passed_on(number: int, frame: object) -> None:
    workers = multiprocessing.active_children()
    for one in workers:
        one.terminate()
    if workers:
        print("rlseq: stopping; the same command goes on with what is left of the sweep", file=sys.stderr, flush=True)
        time.sleep(GRACE)                        # they do not end themselves, but wait for a run that never comes
    raise SystemExit(128 + number)
