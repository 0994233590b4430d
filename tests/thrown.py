"""Whatever is thrown at a command ends well or in one line: what the tests of bad input share."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings


class Begins(BaseException):
    """Training would begin now: the configuration is accepted."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, or None where training began; what it wrote."""

    code: int | None
    out: bytes
    errors: str

    @property
    def well(self) -> bool:
        """Whether it did its work, or refused in one line of text and with exit code 2."""
        if self.code in (0, None):
            return True
        lines = self.errors.splitlines()
        steers = [sign for sign in self.errors[:-1] if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        return self.code == 2 and len(lines) == 1 and lines[0].startswith("rlseq") and len(lines[0]) < 2100 and not steers


@contextmanager
def arguments(*words: str):
    """The command line."""
    before, sys.argv = sys.argv, ["rlseq", *words]
    try:
        yield
    finally:
        sys.argv = before


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def ended(work: Callable[[], object], given: bytes = b"", terminal: bool = False) -> Outcome:
    """How a command ends that reads `given`; anything but an exit code or the beginning of training is raised."""
    out, errors, stdin = (Terminal if terminal else io.TextIOWrapper)(io.BytesIO(), "utf-8"), io.StringIO(), sys.stdin
    before, sys.stdout, sys.stdin = sys.stdout, out, io.TextIOWrapper(io.BytesIO(given), "utf-8")
    try:
        with redirect_stderr(errors), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = work() or 0
            except SystemExit as stopped:
                code = stopped.code or 0
            except Begins:
                code = None
        out.flush()
    finally:
        sys.stdout, sys.stdin = before, stdin
    return Outcome(code, out.buffer.getvalue(), errors.getvalue())


def unheard(work: Callable[[], int], given: bytes = b"", buffered: bool = True) -> tuple[int, str]:
    """How a command ends in a process of its own whose stdout nobody reads, as before `| head`: exit code and stderr."""
    read, written = os.pipe()
    told, tell = os.pipe()
    if not (child := os.fork()):
        code = 99
        try:
            os.close(read)
            os.dup2(written, 1)
            os.dup2(tell, 2)
            raw = open(1, "wb", buffering=-1 if buffered else 0)
            sys.stdout, sys.stderr = io.TextIOWrapper(raw, write_through=not buffered), open(2, "w")
            sys.stdin = io.TextIOWrapper(io.BytesIO(given))
            code = work() or 0
            sys.stdout.flush()                                          # as the interpreter does at its end
        finally:
            sys.stderr.flush()
            os._exit(code)
    for one in (read, written, tell):
        os.close(one)
    with open(told) as errors:
        text = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def many(count: int) -> settings:
    """So many examples, the same each time; a failing one is not made smaller, which would take minutes."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
                    suppress_health_check=list(HealthCheck))
