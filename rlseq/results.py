"""The result of a run on disk: `results/<task>-v<version>/<policy>/<algo>/<seed>.json`, statistics in a .npz beside it.

Format 1. The JSON holds every field of `Result` but `rows`, and the checksum of its .npz, which holds float32 arrays
[n, m] named "<stage>/<split>/<metric>" (stage: before or after fine-tuning, a variant, or beam<width>). Fields with a
default may be missing: files written before they were thought of still read.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Literal

import numpy as np

from .files import write_whole
from .printable import printable

FORMAT = 1
STAGES = ("before", "after")
COST = ("updates", "sampled_tokens", "scored_tokens", "seconds")
# parts of a configuration that say where and how watched a run was, not what was computed
CIRCUMSTANCES = ("seed", "compare", "device", "cuda_graphs", "tracking", "results", "runs", "controls", "beams",
                 "accumulate", "shard", "reward_limit", "resume")
UNPACKED = 2**31               # bytes that the statistics of one result may take


@dataclass(frozen=True)
class Result:
    """One run: what was trained, what it cost and what it reached. `before` is the pretrained checkpoint."""

    task: str
    task_version: int
    policy: str
    algo: str
    seed: int
    plan: str
    data: str                                  # fingerprint of the task's data
    reward: str                                # name of the reward
    hash: str                                  # of the configuration that made it
    rlseq: str
    commit: str
    dirty: bool
    torch: str
    hardware: str
    device: str
    precision: str
    started: str                               # ISO 8601, UTC
    finished: str
    config: dict
    task_options: dict
    pretrained: dict                           # hash, weights, cost: {updates, sampled_tokens, scored_tokens, seconds}
    cost: dict                                 # the same four, of fine-tuning
    before: dict                               # {split: {signature, n, metrics: {name: {score, signature}}}}
    after: dict
    curve: list                                # [{stage, updates, sampled_tokens, scored_tokens, seconds, loss, ...}]
    samples: list                              # [{source_answer_text, reward}]
    pictures: list                             # paths of png files, relative to the JSON's folder
    primary: str                               # name of the primary metric
    tests: list                                # names of the test splits, the headline first
    format: int = FORMAT
    control: str = ""                          # constant or shuffled: what stood in for the reward while training
    variants: dict = field(default_factory=dict)       # {last, best, averaged, ...: {split: {metric: score}}}
    beams: dict = field(default_factory=dict)          # {width: {split: {metric: score}}} of the first problems
    matched: dict = field(default_factory=dict)        # temperature at which MLE is as spread as this policy, and entropies
    diagnostics: dict = field(default_factory=dict)    # {name: {before, after}}
    groups: list = field(default_factory=list)         # answers drawn for some problems, before and after, for people
    rows: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def headline(self) -> dict:
        """What was reached after fine-tuning on the first test split."""
        return self.after[self.tests[0]]

    def began_as(self, other: Result) -> bool:
        """Whether another run of the same problems began at the same weights. Results that do not know their weights are told
        apart by configuration and by what its answers were worth: code changes, and with it what a configuration makes."""
        both = [one.pretrained.get("weights") for one in (self, other)]
        if all(both):
            return both[0] == both[1]
        key = f"before/{self.tests[0]}/{self.primary}"
        return (self.pretrained.get("hash") == other.pretrained.get("hash")
                and (key not in self.rows or key not in other.rows or np.array_equal(self.rows[key], other.rows[key])))


def signature(parts: Mapping[str, object]) -> str:
    """`task:hull-v0|split:test|n:1000|...` in the order given; raises ValueError for a `|` or `:` out of place."""
    for name, value in parts.items():
        if re.search(r"[|:\s]", name) or re.search(r"[|\n]", str(value)):
            raise ValueError(f"a signature's {name!r}: {value!r} may not hold '|' (nor its name ':'); rename it")
    return "|".join(f"{name}:{value}" for name, value in parts.items())


def comparable(one: str, without: Sequence[str] = ("seed", "commit")) -> str:
    """A signature without what may differ between results that are compared."""
    return "|".join(part for part in one.split("|") if part.split(":", 1)[0] not in without)


def config_hash(config: Mapping[str, object]) -> str:
    """12 hex digits of what a composed configuration computes: seeds, places and devices left out."""
    kept = {name: value for name, value in config.items() if name not in CIRCUMSTANCES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:12]


def check_name(name: str) -> None:
    """Raises ValueError for what is no name of a task, a policy or an algorithm: it becomes part of paths."""
    if not re.fullmatch(r"\w[\w.+-]{0,99}", name):
        raise ValueError(f"{printable(name)!r} cannot name a folder of results; use at most 100 letters, digits and . _ + -")


def place(result: Result, folder: Path) -> Path:
    """Where a result belongs: `<seed>.json`, or `<seed>-<hash8>.json` where another configuration's result lies."""
    for name in (result.task, result.policy, result.algo):
        check_name(name)
    home = Path(folder) / f"{result.task}-v{result.task_version}" / result.policy / result.algo
    if not home.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{home} is a link that leaves {folder}; name the place itself, as results=PLACE")
    usual, own = home / f"{result.seed}.json", home / f"{result.seed}-{result.hash[:8]}.json"
    if own.exists():
        return own
    try:
        held = json.loads(usual.read_text(encoding="utf-8")).get("hash") if usual.exists() else result.hash
    except (ValueError, AttributeError):
        held = None                            # not readable: it stays for its owner to look at
    return usual if held == result.hash else own


def write(result: Result, rows: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Write a result and its statistics {"<stage>/<split>/<metric>": [n, m]}; both appear whole or not at all.

    A result of the same configuration and seed is replaced, one of another configuration never.
    """
    path = place(result, folder)
    data = {one.name: getattr(result, one.name) for one in fields(result) if one.name != "rows"}
    packed = io.BytesIO()
    np.savez_compressed(packed, **{name: np.asarray(value, dtype=np.float32) for name, value in rows.items()})
    _check(data, rows, path)
    data["rows"] = {"file": path.with_suffix(".npz").name, "sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    text = json.dumps(_finite(data), indent=1, ensure_ascii=False, default=_plain)
    write_whole(path.with_suffix(".npz"), packed.getvalue())
    write_whole(path, text)                    # last: a result exists once its JSON does
    return path


def read(path: Path) -> Result:
    """A result with its statistics in `rows`; raises ValueError in one line for anything that is not a whole result."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such result") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); run the job again or delete it") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        said = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{path}: not a result of format {FORMAT} but of {said!r}; run the job again or delete it")
    stored = data.pop("rows", None)
    known = {one.name for one in fields(Result)} - {"rows"}
    needed = {one.name for one in fields(Result) if one.default is one.default_factory is MISSING} | {"format"}
    if not needed <= set(data) <= known:
        raise ValueError(f"{path}: fields missing {sorted(needed - set(data))}, unknown {sorted(set(data) - known)}; "
                         "run the job again with this version of rlseq")
    if not isinstance(stored, dict) or not {"file", "sha256"} <= set(stored):
        raise ValueError(f"{path}: does not name its .npz; run the job again or delete it")
    rows = _rows(path.parent / Path(str(stored["file"])).name, stored["sha256"], path)
    _check(data, rows, path)
    return Result(**data, rows=rows)


def _rows(path: Path, checksum: str, owner: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{owner}: {path.name} is missing beside it; run the job again or delete the result")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(f"{owner}: {path.name} is not the one it was written with; run the job again")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(one.file_size for one in archive.infolist()) > UNPACKED:
                raise ValueError(f"it would take more than {UNPACKED} bytes")
            return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
    except Exception as error:                 # zipfile, zlib and numpy: each has its own family
        raise ValueError(f"{owner}: {path.name} is no archive of statistics ({error}); run the job again") from None


def _array(content: bytes) -> np.ndarray:
    """An array of numbers as numpy writes it (format 1.0). `np.load` reads the same text of a header anew for every array,
    which takes half the time of a report of many runs."""
    kind, shape, order, begin = _header(content[:10 + int.from_bytes(content[8:10], "little")])
    return np.frombuffer(content, kind, offset=begin).reshape(shape, order=order)


@lru_cache
def _header(text: bytes) -> tuple[np.dtype, tuple[int, ...], Literal["C", "F"], int]:
    """dtype, shape, order and length; raises ValueError for what is no plain array of numbers."""
    said = ast.literal_eval(text[10:].decode("latin-1")) if text[:8] == b"\x93NUMPY\x01\x00" else {}
    if said.get("descr") not in ("<f4", "<f8"):
        raise ValueError(f"an array of {said.get('descr')}")
    return np.dtype(said["descr"]), said["shape"], "F" if said["fortran_order"] else "C", len(text)


def _check(data: dict, rows: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises ValueError where the parts of a result do not belong together."""
    for one in fields(Result):
        kind = {"str": str, "int": int, "bool": bool, "dict": dict, "list": list}.get(str(one.type))
        value = data.get(one.name)
        if kind and one.name in data and (not isinstance(value, kind) or kind is int and (
                isinstance(value, bool) or not is_number(value))):
            raise ValueError(f"{path}: {one.name}={value!r} is not {kind.__name__}")
    for name, cost in (("pretrained.cost", data["pretrained"].get("cost")), ("cost", data["cost"])):
        if not _numbers(cost) or any(cost.get(one) is None for one in COST):
            raise ValueError(f"{path}: {name} must hold {', '.join(COST)}, got {cost!r}")
    if not data["tests"]:
        raise ValueError(f"{path}: tests is empty; name at least one test split")
    for name, sound in (
            ("tests", _strings(data["tests"])), ("pictures", _strings(data["pictures"])), ("curve", sound_curve(data["curve"])),
            ("diagnostics", sound_diagnostics(data.get("diagnostics", {}))), ("matched", _numbers(data.get("matched", {}))),
            ("samples", all(isinstance(one, dict) and is_number(one.get("reward")) for one in data["samples"])),
            ("groups", all(isinstance(one, dict) for one in data.get("groups", []))),
            ("pretrained", _texts({name: value for name, value in data["pretrained"].items() if name != "cost"})),
            *((name, all(isinstance(one, dict) and all(map(_numbers, one.values())) for one in data.get(name, {}).values()))
              for name in ("variants", "beams"))):
        if not sound:
            raise ValueError(f"{path}: {name} is not as rlseq writes it; run the job again or delete it")
    for stage in STAGES:
        for split in data["tests"]:
            _check_split(data, rows, stage, split, path)


def _check_split(data: dict, rows: Mapping[str, np.ndarray], stage: str, split: str, path: Path) -> None:
    found = data[stage].get(split)
    if not isinstance(found, dict) or not {"signature", "n", "metrics"} <= set(found) or not isinstance(
            found["metrics"], dict) or not isinstance(found["signature"], str):
        raise ValueError(f"{path}: {stage}.{split} must hold signature, n and metrics, got {found!r}")
    if data["primary"] not in found["metrics"]:
        raise ValueError(f"{path}: {stage}.{split} lacks the primary metric {data['primary']!r}")
    for metric, said in found["metrics"].items():
        name = f"{stage}/{split}/{metric}"
        if not isinstance(said, dict) or not {"score", "signature"} <= set(said) or not is_number(said["score"]) or (
                not isinstance(said["signature"], str)):
            raise ValueError(f"{path}: {name} must hold score and signature, got {said!r}")
        if name not in rows or np.ndim(rows[name]) != 2 or not 0 < len(rows[name]) == found["n"] or not (
                rows[name].shape[1] and rows[name].dtype.kind in "fiu"):
            got = np.shape(rows[name]) if name in rows else "nothing"
            raise ValueError(f"{path}: statistics {name!r} must be [{found['n']}, m], got {got}")


def sound_curve(curve: object) -> bool:
    """Whether a training curve is points of numbers, each with the name of its stage."""
    return isinstance(curve, list) and all(isinstance(one, dict) and isinstance(one.get("stage"), str) and _numbers(
        {name: value for name, value in one.items() if name != "stage"}) for one in curve)


def sound_diagnostics(found: object) -> bool:
    """Whether diagnostics are numbers before and after."""
    return isinstance(found, dict) and all(map(_numbers, found.values()))


def is_number(value: object) -> bool:
    """Whether JSON holds a number here, or none; whole ones as large as a machine's."""
    return value is None or isinstance(value, Real) and (not isinstance(value, int) or abs(value) < 2**63)


def _numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


def _texts(value: dict) -> bool:
    return all(isinstance(one, str) for one in value.values())


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _plain(value: object) -> object:
    """numpy numbers and other leaves as JSON can hold them."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _finite(value: object) -> object:
    """NaN and infinities as null: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
