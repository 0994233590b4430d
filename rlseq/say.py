"""What a command tells its user beside its results: lines on stderr, by the first rank alone."""

import os
import sys

from .printable import printable

said: set[str] = set()


def speaks() -> bool:
    """Whether this process may speak: one of a group that torchrun started does."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line on stderr, once: a run and what it is compared with read the same data."""
    if speaks() and text not in said:
        said.add(text)
        print("rlseq: " + printable(" ".join(text.split()), 0), file=sys.stderr, flush=True)
