"""Checkpoints: safetensors and JSON, complete or absent, no pickle.

A finished one is `model.safetensors` and `model.json`; those of a run under way are numbered by their update,
`last-400.safetensors` and `last-400.json`, and the newest two are kept. The JSON is written last and names the other's
hash: a checkpoint without JSON does not exist, and one whose hash does not fit is not read. A tensor that goes by two names
(tied weights) is stored under the first; the JSON says which others it has.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import dist
from .files import whole

AGAIN = "copy it again or name another folder; where a run can make it again, move both files away"
KEPT = 2                                       # checkpoints of a run under way
Checkpoint = tuple[dict[str, Tensor], dict[str, object]]


def write_checkpoint(folder: Path, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """`name.safetensors` and then `name.json`. Both are whole before either takes its place."""
    kept, tied = _apart(tensors)
    with whole(folder / f"{name}.json") as notes, whole(folder / f"{name}.safetensors") as weights:
        try:
            save_file(kept, weights)
        except SafetensorError as error:                 # its own kind, also where the disk is full
            raise OSError(str(error).partition("error: ")[2] or str(error)) from None
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        told = {**facts, "sha256": digest} | ({"tied": tied} if tied else {})
        notes.write_text(json.dumps(told, indent=1), encoding="utf-8")


def read_checkpoint(folder: Path, name: str) -> Checkpoint:
    """What `write_checkpoint` wrote; raises ValueError where a file is missing or its hash does not fit."""
    weights, notes = folder / f"{name}.safetensors", folder / f"{name}.json"
    for path in (weights, notes):
        if not path.is_file():
            raise ValueError(f"no checkpoint file {path}; name a folder that a run wrote")
    facts = read_facts(notes)
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != facts.get("sha256"):
            raise ValueError(f"checkpoint {weights} is damaged: its hash differs from the one in {notes.name}; "
                             + AGAIN)
    try:
        found = load_file(weights)
        return found | {other: found[one] for other, one in dict(facts.get("tied", {})).items()}, facts
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{weights} is no safetensors file of its notes ({error}); {AGAIN}") from None


def read_facts(notes: Path) -> dict[str, object]:
    """A checkpoint's JSON; raises ValueError where it is none."""
    try:
        return dict(json.loads(notes.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"checkpoint notes {notes} are damaged ({error}); {AGAIN}") from None


def numbered(folder: Path, name: str) -> list[int]:
    """The updates of a run's checkpoints under way, newest first."""
    found = (path.stem.rpartition("-")[2] for path in folder.glob(f"{name}-*.json"))
    return sorted((int(one) for one in found if one.isdigit()), reverse=True)


def read_newest(folder: Path, name: str) -> Checkpoint | None:
    """The newest checkpoint of a run under way that is whole, or None where there is none.

    Says aloud which one is damaged, where the one before it is taken. Raises ValueError where all of them are.
    """
    complaints = []
    for number in numbered(folder, name):
        try:
            found = read_checkpoint(folder, f"{name}-{number}")
        except ValueError as error:
            complaints.append(str(error).partition(";")[0])
            continue
        if complaints and dist.rank() == 0:
            print(f"rlseq: {'; '.join(complaints)}; going on from update {number}", file=sys.stderr)
        return found
    if complaints:
        raise ValueError(f"{'; '.join(complaints)}; there is none before it, resume=never begins anew (and keeps the folder)")
    return None


def write_numbered(folder: Path, name: str, number: int, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """The checkpoint of update `number`; then only the newest KEPT up to it stay (later ones can only be damaged ones)."""
    write_checkpoint(folder, f"{name}-{number}", tensors, facts)
    earlier = [one for one in numbered(folder, name) if one <= number]
    drop_numbered(folder, name, earlier[:KEPT])


def drop_numbered(folder: Path, name: str, but: list[int] | tuple[int, ...] = ()) -> None:
    """Remove the checkpoints of a run under way, but for those named, and what is left of half-written ones."""
    kept = {f"{name}-{number}" for number in but}
    for suffix in (".json", ".safetensors"):             # the JSON first: without it the other does not exist
        for path in folder.glob(f"{name}-*{suffix}"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)
    for path in folder.glob(f".{name}-*.tmp"):
        path.unlink(missing_ok=True)


def left_numbered(folder: Path, name: str) -> bool:
    """Whether `drop_numbered` would find something."""
    return any(folder.glob(f"{name}-*")) or any(folder.glob(f".{name}-*.tmp"))


def differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """What two flat configurations differ in, key by key: `algo.k=4 there, 5 here`."""
    def said(one: Mapping[str, object], key: str) -> str:
        return json.dumps(one[key], sort_keys=True, default=str) if key in one else "nothing"        # as it was written
    return [f"{key}={said(there, key)} there, {said(here, key)} here"
            for key in sorted({*there, *here}) if said(there, key) != said(here, key)]


def packed(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """{group: {name: tensor}} -> {"group/name": tensor}; names hold no slash, groups may."""
    return {f"{group}/{name}": value for group, state in groups.items() for name, value in state.items()}


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What `packed` was given, groups in alphabetical order."""
    found: dict[str, dict[str, Tensor]] = {}
    for key in sorted(tensors):
        group, _, name = key.rpartition("/")
        found.setdefault(group, {})[name] = tensors[key]
    return found


def _apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU, none of them sharing memory with another, as safetensors asks for it; and {name: the name of the
    very same tensor before it} of those left out."""
    found, tied, names, taken = {}, {}, {}, set()
    for name, value in tensors.items():
        same = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and same in names:
            tied[name] = names[same]
            continue
        names[same] = name
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in taken else value
        taken.add(place)
    return found, tied
