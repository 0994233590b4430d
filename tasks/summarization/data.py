"""Texts and their summaries from three sources, in splits that share no text."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from rlseq.reading import Paired, read_jsonl, read_pairs, text_field

from . import docstrings

HELD_OUT, PER_PACKAGE, LARGE = 1000, 100, 0.05   # docstrings: most pairs in dev and in test, most of one package there;
                                                 # a package with a larger share of all pairs always trains
FIELDS = (("source", "target"), ("text", "summary"), ("document", "summary"), ("article", "highlights"),
          ("dialogue", "summary"))
ENDINGS = (".tsv", ".jsonl", ".tsv.gz", ".jsonl.gz")


@dataclass(frozen=True)
class Example:
    """A text and the summaries that people wrote of it; none for new input."""

    source: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """Splits "train", "dev" and "test", and what they were read from, beyond the texts themselves."""

    splits: dict[str, list[Example]]
    origin: str = ""

    @property
    def fingerprint(self) -> str:
        """A short hash of the origin and of every text."""
        digest = hashlib.sha256(self.origin.encode())
        for split, examples in sorted(self.splits.items()):
            digest.update(split.encode())
            for one in examples:
                digest.update("\0".join((one.source, *one.references)).encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()[:12]


def read(data: str, path: str | None, seed: int) -> Data:
    """The three splits of "docstrings", "dialogsum" or "files"; raises ValueError for a path missing or not needed."""
    if data == "docstrings":
        if path is not None:
            raise ValueError(f"task.path={path} is not used by task.data=docstrings; set task.data=dialogsum or files")
        return of_docstrings(docstrings.load(), seed)
    if path is None:
        raise ValueError(f"task.data={data} needs task.path: " + (
            "the folder with train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz" if data == "dialogsum" else
            "a .tsv or .jsonl file, two aligned text files as SOURCE,TARGET, or a folder of train, dev and test files"))
    return dialogsum(Path(path)) if data == "dialogsum" else files(path, seed)


def same(text: str) -> str:
    """The text without case, punctuation and white space: equal for texts that a reader would call the same."""
    return re.sub(r"[\W_]+", "", text.lower())


def of_docstrings(corpus: docstrings.Corpus, seed: int) -> Data:
    """Whole packages fill test, then dev, in the order of a hash of (seed, name); the others train.

    Dev and test end at 1000 pairs (or a twentieth of all) and take at most 100 of a package, spread over it, so that
    each has many hands; large packages always train. What such a package has beyond its share is left out.
    """
    most = min(HELD_OUT, len(corpus.pairs) // 20)
    of: dict[str, list[Example]] = {}
    for pair in corpus.pairs:
        of.setdefault(pair.package, []).append(Example(pair.source, (pair.summary,)))
    splits: dict[str, list[Example]] = {"test": [], "dev": [], "train": []}
    left_out = 0
    for name in sorted(of, key=lambda one: hashlib.sha256(f"{seed}/{one}".encode()).digest()):
        small = len(of[name]) <= LARGE * len(corpus.pairs)
        split = next((one for one in ("test", "dev") if small and len(splits[one]) < most), "train")
        room = len(of[name]) if split == "train" else min(PER_PACKAGE, most - len(splits[split]), len(of[name]))
        splits[split] += [of[name][place * len(of[name]) // room] for place in range(room)]
        left_out += len(of[name]) - room
    logging.getLogger(__name__).info(
        f"{len(corpus.pairs)} pairs of {len(of)} packages: {', '.join(f'{split} {len(splits[split])}' for split in splits)}"
        f", {left_out} of held-out packages are left out; of {corpus.report['files']} files {corpus.report['unparsed']} "
        f"do not parse; {corpus.report['copies']} copied texts are left out")
    read_from = ", ".join(f"{name} {version}".strip() for name, version in corpus.packages.items())
    return Data(splits, f"{corpus.fingerprint} {read_from}")


def dialogsum(folder: Path) -> Data:
    """DialogSum (Chen et al. 2021) from `<split>.jsonl.gz`; train loses what dev or test also hold."""
    splits = {}
    for split in ("train", "dev", "test"):
        splits[split] = []
        for number, record in read_jsonl(folder / f"{split}.jsonl"):
            where = f"{folder / split}.jsonl, line {number}"
            named = [name for name in ("summary", "summary1", "summary2", "summary3") if name in record] or ["summary"]
            references = tuple(text_field(record, name, where)[0] for name in named)
            splits[split].append(Example(text_field(record, "dialogue", where)[0], references))
    return without_twins(splits)


def without_twins(splits: dict[str, list[Example]]) -> Data:
    """Leave out of train every text that dev or test also hold, once case and punctuation are ignored."""
    held = {same(one.source) for split in ("dev", "test") for one in splits[split]}
    kept = [one for one in splits["train"] if same(one.source) not in held]
    gone = {same(one.source) for one in splits["train"]} & held
    if gone:
        warnings.warn(f"summarization: {len(splits['train']) - len(kept)} training texts equal one of {len(gone)} in dev "
                      f"or test and are left out", stacklevel=3)
    return Data({**splits, "train": kept})


def files(path: str, seed: int) -> Data:
    """The user's own texts: a folder with train, dev and test files, or pairs that are split here by a hash.

    A folder holds train.tsv or train.jsonl (and dev, test likewise), or train.source and train.target, each also with
    .gz. Where dev or test is missing, a twentieth of the training texts (at most about 1000) takes its place.
    """
    if not Path(path).expanduser().is_dir():
        found = {"train": _pairs(path)}
    else:
        folder = Path(path).expanduser()
        found = {split: pairs for split in ("train", "dev", "test") if (pairs := _of_folder(folder, split))}
        if "train" not in found:
            raise ValueError(f"no train.tsv, train.jsonl or train.source with train.target (or .gz) in {folder}; "
                             f"put the training pairs there")
    splits = {split: [Example(source, references) for source, references in pairs] for split, pairs in found.items()}
    return without_twins(_split(splits, seed))


def _split(splits: dict[str, list[Example]], seed: int) -> dict[str, list[Example]]:
    """Dev and test as they are, or drawn from train by a hash of (seed, text), so that equal texts stay together."""
    missing = [split for split in ("dev", "test") if split not in splits]
    if not missing:
        return splits
    parts = {split: splits.get(split, []) for split in ("train", "dev", "test")} | {"train": []}
    share = min(1 / 20, HELD_OUT / max(len(splits["train"]), 1))
    for one in splits["train"]:
        drawn = int.from_bytes(hashlib.sha256(f"{seed}/{same(one.source)}".encode("utf-8", "replace")).digest()[:8])
        place = int(drawn / 2**64 / share)               # the first shares of the unit interval are the missing splits
        parts[missing[place] if place < len(missing) else "train"].append(one)
    for split in ("train", *missing):
        if not parts[split]:
            raise ValueError(f"{len(splits['train'])} training pairs are too few to take {' and '.join(missing)} from; "
                             f"give a folder with train, dev and test files")
    return parts


def _of_folder(folder: Path, split: str) -> list[Paired]:
    for ending in ENDINGS:
        if (folder / (split + ending)).is_file():
            return _pairs(str(folder / (split + ending)))
    if any((folder / f"{split}.source{gz}").is_file() for gz in ("", ".gz")):
        return read_pairs(folder / f"{split}.source", folder / f"{split}.target")
    return []


def _pairs(path: str) -> list[Paired]:
    """Pairs of a .tsv or .jsonl file, or of two aligned text files written as "SOURCE,TARGET"."""
    if "," in path and not Path(path).expanduser().exists():
        source, target = path.split(",", 1)
        return read_pairs(source, target)
    return read_pairs(path, fields=_fields(path))


def _fields(path: str) -> tuple[str, str]:
    """The names of text and summary in a JSONL file: the first known pair that its first record has."""
    if not str(path).removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json")):
        return FIELDS[0]
    _, record = next(iter(read_jsonl(path)), (1, {}))
    return next((names for names in FIELDS if all(one in record for one in names)), FIELDS[0])


