"""Arrays that cost time to make, kept in `runs/cache/` and mapped into memory from there: whole or absent, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from .say import say

FOLDER = Path("runs/cache")
BLOCK = 2**24                            # bytes read at a time to check them
SMALL = 2**22                            # bytes of files that are read again each time, for they take a second at most
STALE = 24 * 3600                        # seconds after which what a killed process left half-written is swept up

Arrays = dict[str, np.ndarray]
Parts = Callable[[], Iterable[Arrays]]   # makes arrays in parts, which are joined name by name


def kept(kind: str, told: object, parts: Parts) -> Arrays:
    """What `parts` makes, mapped from `runs/cache/<kind>-<hash of told>/` where it was written before, else written there.

    `told` is all that the arrays follow from, as JSON can hold it; with None nothing is written. A damaged folder, or one
    of something else, is made again, and a disk that cannot be written keeps nobody from working: both are said.
    """
    if told is None:
        return joined(parts())
    folder = FOLDER / f"{kind}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"
    if folder.exists():
        try:
            return _mapped(folder, told)
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"{folder} is damaged ({error}); it is made again")
            shutil.rmtree(folder, ignore_errors=True)
    temporary = FOLDER / f".{folder.name}.{platform.node()}.{os.getpid()}"     # in containers processes have the same numbers
    shutil.rmtree(temporary, ignore_errors=True)           # of one that was killed and had our number
    try:
        _write(temporary, told, parts())
        _sweep(folder.name, temporary)
        os.replace(temporary, folder)
    except OSError as error:
        _withdraw(temporary)
        if not folder.exists():                            # else another process was faster
            say(f"cannot write {folder} ({error.strerror or error}); going on without it")
            return joined(parts())
    except BaseException:
        _withdraw(temporary)
        raise
    return _mapped(folder, told)


def held(paths: Iterable[Path]) -> tuple[str, ...] | None:
    """What files hold, for `told`: the SHA-256 of each; None where they are too small to be worth a cache."""
    paths = list(paths)
    return tuple(sha256(path).hex() for path in paths) if sum(path.stat().st_size for path in paths) >= SMALL else None


def sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def joined(parts: Iterable[Arrays]) -> Arrays:
    """All parts in memory, name by name."""
    found: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for name, array in part.items():
            found.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _write(folder: Path, told: object, parts: Iterable[Arrays]) -> None:
    """Each array in a file of its own, as it grows; last what they are, with checksums."""
    folder.mkdir(parents=True)
    facts: dict[str, dict[str, object]] = {}
    files = {}
    try:
        for part in parts:
            for name, array in part.items():
                if name not in files:
                    files[name] = (folder / f"{name}.bin").open("wb")
                    facts[name] = {"dtype": array.dtype.str, "shape": list(array.shape[1:]), "bytes": 0, "crc32": 0}
                data = np.ascontiguousarray(array).data.cast("B") if array.size else b""
                files[name].write(data)
                facts[name]["bytes"] += len(data)
                facts[name]["crc32"] = zlib.crc32(data, facts[name]["crc32"])
    finally:
        for file in files.values():
            file.close()
    (folder / "facts.json").write_text(json.dumps({"told": told, "arrays": facts}), encoding="utf-8")


def _mapped(folder: Path, told: object) -> Arrays:
    """The arrays of a folder; raises where they are not what was written, or follow from something else."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    if facts["told"] != json.loads(json.dumps(told)):
        raise ValueError("it holds something else")
    found = {}
    for name, one in facts["arrays"].items():
        path, check, count = folder / f"{name}.bin", 0, 0
        for block in _blocks(path):
            check, count = zlib.crc32(block, check), count + len(block)
        if (count, check) != (one["bytes"], one["crc32"]):
            raise ValueError(f"{path.name} is not what was written")
        dtype = np.dtype(one["dtype"])
        if dtype.kind not in "uif":                        # objects would be addresses, which a stranger could choose
            raise ValueError(f"{path.name} holds no numbers")
        flat = np.memmap(path, dtype, "r").view(np.ndarray) if count else np.zeros(0, dtype)
        found[name] = flat.reshape(-1, *one["shape"])
    return found


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _withdraw(temporary: Path) -> None:
    """Leave nothing of what was begun, nor the empty folders around it."""
    shutil.rmtree(temporary, ignore_errors=True)
    with suppress(OSError):                                # they hold something, or never were
        FOLDER.rmdir()
        FOLDER.parent.rmdir()


def _sweep(name: str, mine: Path) -> None:
    """Remove what killed processes left of the same arrays."""
    for path in FOLDER.glob(f".{name}.*"):
        if path != mine and time.time() - path.stat().st_mtime > STALE:
            shutil.rmtree(path, ignore_errors=True)
