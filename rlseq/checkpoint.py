"""Checkpoints: safetensors and JSON, complete or absent, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def write_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
    """`name.safetensors` and `name.json`; the JSON names the other's hash. Both are whole before either takes its place."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, notes = folder / f"{name}.safetensors", folder / f"{name}.json"
    new_weights, new_notes = weights.with_suffix(".tmp"), notes.with_suffix(".json.tmp")
    save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, new_weights)
    digest = hashlib.sha256(new_weights.read_bytes()).hexdigest()
    new_notes.write_text(json.dumps(facts | {"sha256": digest}, indent=1))
    _sync(new_weights)
    _sync(new_notes)
    os.replace(new_weights, weights)
    os.replace(new_notes, notes)


def read_checkpoint(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """What `write_checkpoint` wrote; raises ValueError where a file is missing or its hash does not fit."""
    weights, notes = folder / f"{name}.safetensors", folder / f"{name}.json"
    for path in (weights, notes):
        if not path.is_file():
            raise ValueError(f"no checkpoint file {path}; name a folder that a run wrote")
    try:
        facts = dict(json.loads(notes.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"checkpoint notes {notes} are damaged ({error}); delete both files to start over") from None
    if hashlib.sha256(weights.read_bytes()).hexdigest() != facts.get("sha256"):
        raise ValueError(f"checkpoint {weights} is damaged: its hash differs from the one in {notes.name}; "
                         "delete both files to start over")
    try:
        return load_file(weights), facts
    except SafetensorError as error:
        raise ValueError(f"{weights} is no safetensors file ({error}); delete both files to start over") from None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
