"""Checkpoints: safetensors and JSON, complete or absent, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def write_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
    """`name.safetensors` and `name.json`, each complete or absent; the JSON comes last and names the other's hash."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, notes = folder / f"{name}.safetensors", folder / f"{name}.json"
    temporary = weights.with_suffix(".tmp")
    save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, temporary)
    digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    _sync(temporary)
    os.replace(temporary, weights)
    temporary = notes.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(facts | {"sha256": digest}, indent=1))
    _sync(temporary)
    os.replace(temporary, notes)


def read_checkpoint(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """What `write_checkpoint` wrote; raises ValueError where a file is missing or its hash does not fit."""
    weights, notes = folder / f"{name}.safetensors", folder / f"{name}.json"
    for path in (weights, notes):
        if not path.is_file():
            raise ValueError(f"no checkpoint file {path}; name a folder that a run wrote")
    facts = json.loads(notes.read_text())
    if hashlib.sha256(weights.read_bytes()).hexdigest() != facts.get("sha256"):
        raise ValueError(f"checkpoint {weights} is damaged: its hash differs from the one in {notes.name}; "
                         "delete both files to start over")
    return load_file(weights), facts


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
