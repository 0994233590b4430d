"""Files that appear whole or not at all, and folders that step aside."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NotWritten(OSError):
    """A file could not be written; the message says which, why and what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error.strerror or error}; make room there or choose another folder")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write to; at the end it is synced and takes the name `path` in one step, unless an exception came.

    A reader sees the old file or the new one, never a part, whenever the machine dies. What a killed process left under
    way is removed. Raises NotWritten in one line, with what to do, where the disk is full or may not be written.
    """
    mine = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        yield mine
        settle(mine)
        os.replace(mine, path)
        _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            mine.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, NotWritten):
            raise NotWritten(path, error) from error
        raise


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that appears whole; text as UTF-8."""
    with whole(path) as place:
        place.write_bytes(content.encode() if isinstance(content, str) else content)


def settle(path: Path) -> None:
    """What was written to a file so far outlives the machine."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def aside(folder: Path, but: str) -> Path | None:
    """Move what lies in a folder, except for the file named, to the first free one of FOLDER~1, FOLDER~2, ...; where it went,
    or None where there was nothing."""
    there = [one for one in folder.glob("*") if one.name != but]
    if not there:
        return None
    number = 1
    while (place := folder.with_name(f"{folder.name}~{number}")).exists():
        number += 1
    place.mkdir()
    for one in sorted(there, key=lambda one: one.suffix != ".json"):         # these first: without its JSON nothing exists
        one.rename(place / one.name)
    return place


def check_writable(folder: Path, option: str) -> None:
    """Raises ValueError naming the option where files cannot be put into a folder, which need not be there yet."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{option}={folder} cannot be written to: {there} is read-only or no folder; give another {option}")


def _sweep(path: Path) -> None:
    """Remove what processes of this machine that are gone left half-written."""
    for one in path.parent.glob(f".{path.name}.{platform.node()}.*.tmp"):
        number = one.name.split(".")[-2]
        if number.isdigit() and not _alive(int(number)):
            one.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return True
    except ProcessLookupError:
        return False
    except OSError:                            # it lives, and is another user's
        return True


def _sync(folder: Path) -> None:
    """Make a new name in a folder last, where the system can."""
    if os.name != "posix":
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
