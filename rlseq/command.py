"""What every command does with a mistake of its user, and with a reader who has left."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from .printable import printable

MISTAKES = (ValueError, KeyError, OSError, FloatingPointError, RecursionError, MemoryError)
LONGEST = 2000        # signs of a message


@contextmanager
def one_line(name: str = "rlseq", more: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """A mistake becomes one line on stderr and exit code 2; a reader who left (`| head`) ends the command without a word.

    `more` are exceptions that are mistakes of a user too. RLSEQ_TRACEBACK=1 shows where one came from.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")              # a terminal that lacks a sign is no reason to stop
    try:
        yield
        sys.stdout.flush()
    except (*MISTAKES, *more) as error:
        if isinstance(error, BrokenPipeError) and _unheard():
            raise SystemExit(0) from None
        if os.environ.get("RLSEQ_TRACEBACK"):
            raise
        if _first_to_speak():
            print(f"{name}: {said(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def exit_code(work: Callable[[], int | None], name: str = "rlseq") -> int:
    """What a command that does this work ends with: its own code or 0; else as `one_line` says, 130 where it was stopped."""
    try:
        with one_line(name):
            return work() or 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        return 130


def said(error: BaseException) -> str:
    """An exception's message in one line that steers no terminal."""
    if isinstance(error, RecursionError):
        return "brackets are nested too deeply; write it with fewer"
    if isinstance(error, MemoryError):
        return f"this machine has too little memory for that: {error}"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return printable(" ".join(text.split()) or type(error).__name__, LONGEST)


class Parser(argparse.ArgumentParser):
    """Options of the form `--name VALUE`, whose mistakes are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; --help lists the options")


def _first_to_speak() -> bool:
    """Whether no other rank of the same run has said yet why it ends: one line is enough."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    from .dist import speaks  # imports torch: not for a run of one rank that ends before it needs it
    return speaks()


def _unheard() -> bool:
    """Whether nobody reads stdout any more; then what is left goes nowhere, at exit too."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0)):
        return False                                         # another pipe broke
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
