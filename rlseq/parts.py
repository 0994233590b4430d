"""What does not fit memory is done in parts, one after the other; they follow from the problems alone, so nothing changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

SHORT = ("can't allocate memory", "not enough memory", "out of memory")       # what a torch without memory says

Found = TypeVar("Found")
_parts: ContextVar[int] = ContextVar("parts", default=1)


def parts() -> int:
    """In how many parts, one after the other, problems are to be answered and scored where no gradient is taken."""
    return _parts.get()


@contextmanager
def in_parts(number: int) -> Iterator[None]:
    """Within, `parts()` is this number."""
    token = _parts.set(number)
    try:
        yield
    finally:
        _parts.reset(token)


def cuts(problems: int, number: int) -> list[tuple[int, int]]:
    """Problems 0..problems-1 in `number` runs as even as can be, none empty: (start, stop) of each."""
    number = max(1, min(number, problems))
    return [(problems * i // number, problems * (i + 1) // number) for i in range(number)]


def short(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in SHORT))


def unfitted(attempt: Callable[[int], Found], number: int, what: str) -> Found:
    """attempt(number of parts), where no process may take more by itself. Raises MemoryError in one line where they do not
    fit."""
    try:
        return attempt(number)
    except (MemoryError, RuntimeError) as error:
        if not short(error):
            raise
        raise MemoryError(f"{what}: out of memory ({str(error).splitlines()[0][:200]}); with shard=true no rank cuts its batch "
                          f"finer by itself: set accumulate={2 * number}") from None


def fitted(attempt: Callable[[int], Found], number: int, most: int, what: str) -> tuple[Found, int]:
    """attempt(number of parts), with twice as many parts whenever memory runs out, up to `most`; and the number that fitted.

    Every doubling is said aloud. Raises MemoryError in one line where even `most` parts do not fit.
    """
    while True:
        try:
            return attempt(min(number, most)), number
        except (MemoryError, RuntimeError) as error:
            if not short(error):
                raise
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if number >= most:                       # out of the except clause: what the failed attempt held is free by now
            raise MemoryError(f"{what}: no memory for a single problem at a time ({said}); take a smaller model, shorter "
                              "sequences or fewer answers (algo.k)")
        number *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"rlseq: {what}: out of memory ({said}); from now on in {number} parts, with the same result to rounding, but "
              "for other draws of dropout", file=sys.stderr)
