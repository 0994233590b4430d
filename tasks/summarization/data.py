"""Texts and their summaries from three sources, in splits that share no text."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rlseq import reading
from rlseq.kept import held
from rlseq.reading import Paired, find, text_field
from rlseq.say import say
from rlseq.table import TRAINED_ON, Table

from . import docstrings

HELD_OUT, PER_PACKAGE, LARGE = 1000, 100, 0.05   # docstrings: most pairs in dev and in test, most of one package there;
                                                 # a package with a larger share of all pairs always trains
FIELDS = (("source", "target"), ("text", "summary"), ("document", "summary"), ("article", "highlights"),
          ("dialogue", "summary"))
RULES = 1                                        # goes up when the pairs of the same bytes change: names their cache
NO_LETTERS = {code: None for code in range(128) if not chr(code).isalnum()}
ENDINGS = (".tsv", ".jsonl", ".tsv.gz", ".jsonl.gz")


@dataclass(frozen=True)
class Example:
    """A text and the summaries that people wrote of it; none for new input."""

    source: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """Splits "train", "dev" and "test", and what they were read from, beyond the texts themselves."""

    splits: dict[str, Table[Example]]
    origin: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the origin and of every text."""
        digest = hashlib.sha256(self.origin.encode())
        for split, examples in sorted(self.splits.items()):
            digest.update(split.encode())
            for one in examples.joined():
                digest.update(one + b"\n")
        if len(self.splits["train"]) > TRAINED_ON:
            digest.update(f"a vocabulary of {TRAINED_ON} examples".encode())
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
    text = text.lower()
    return text.translate(NO_LETTERS) if text.isascii() else re.sub(r"[\W_]+", "", text)


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
    tables = {split: Table.of(Example, lambda own=own: ((one.source, one.references) for one in own))
              for split, own in splits.items()}
    return Data(tables, f"{corpus.fingerprint} {read_from}")


def dialogsum(folder: Path) -> Data:
    """DialogSum (Chen et al. 2021) from `<split>.jsonl.gz`; train loses what dev or test also hold."""
    def pairs(split: str) -> Iterator[Paired]:
        for number, record in reading.records(folder / f"{split}.jsonl"):
            where = f"{folder / split}.jsonl, line {number}"
            named = [name for name in ("summary", "summary1", "summary2", "summary3") if name in record] or ["summary"]
            references = tuple(text_field(record, name, where)[0] for name in named)
            yield text_field(record, "dialogue", where)[0], references
    return without_twins({split: Table.of(Example, lambda split=split: pairs(split), same=same)
                          for split in ("train", "dev", "test")})


def without_twins(splits: dict[str, Table[Example]]) -> Data:
    """Leave out of train every text that dev or test also hold, once case and punctuation are ignored."""
    train = splits["train"]
    held_out = np.concatenate([splits[split].keys[:, 0] for split in ("dev", "test")])
    twins = np.isin(train.keys[:, 0], held_out)
    if twins.any():
        say(f"summarization: {int(twins.sum())} training texts equal one of {len(np.unique(train.keys[twins, 0]))} in dev "
            f"or test and are left out")
    return Data({**splits, "train": train.take(np.flatnonzero(~twins), told=("without twins of", str(_total(held_out))))})


def _total(keys: np.ndarray) -> int:
    """A number that tells sets of keys apart."""
    return int(np.unique(keys).sum(dtype=np.uint64))


def files(path: str, seed: int) -> Data:
    """The user's own texts: a folder with train, dev and test files, or pairs that are split here by a hash.

    A folder holds train.tsv or train.jsonl (and dev, test likewise), or train.source and train.target, each also with
    .gz. Where dev or test is missing, a twentieth of the training texts (at most about 1000) takes its place.
    """
    if not Path(path).expanduser().is_dir():
        splits = {"train": _of_path(path)}
    else:
        folder = Path(path).expanduser()
        splits = {split: found for split in ("train", "dev", "test") if (found := _of_folder(folder, split))}
        if "train" not in splits:
            raise ValueError(f"no train.tsv, train.jsonl or train.source with train.target (or .gz) in {folder}; "
                             f"put the training pairs there")
    return without_twins(_split(splits, seed))


def _split(splits: dict[str, Table[Example]], seed: int) -> dict[str, Table[Example]]:
    """Dev and test as they are, or drawn from train by a hash of (seed, text), so that equal texts stay together."""
    missing = [split for split in ("dev", "test") if split not in splits]
    if not missing:
        return splits
    train = splits["train"]
    share = min(1 / 20, HELD_OUT / max(len(train), 1))
    drawn = (int.from_bytes(hashlib.sha256(f"{seed}/{same(one)}".encode("utf-8", "replace")).digest()[:8])
             for texts in train.texts(train.start) for one in texts)
    place = np.fromiter((int(one / 2**64 / share) for one in drawn), np.int64, len(train))
    parts = {split: train.take(np.flatnonzero(place == number), told=(split, seed, *missing))
             for number, split in enumerate(missing)}        # the first shares of the unit interval are the missing splits
    parts["train"] = train.take(np.flatnonzero(place >= len(missing)), told=("train", seed, *missing))
    for split in ("train", *missing):
        if not len(parts[split]):
            raise ValueError(f"{len(train)} training pairs are too few to take {' and '.join(missing)} from; "
                             f"give a folder with train, dev and test files")
    return splits | parts


def _of_folder(folder: Path, split: str) -> Table[Example] | None:
    for ending in ENDINGS:
        if (folder / (split + ending)).is_file():
            return _table(folder / (split + ending))
    if any((folder / f"{split}.source{gz}").is_file() for gz in ("", ".gz")):
        return _table(folder / f"{split}.source", folder / f"{split}.target")
    return None


def _of_path(path: str) -> Table[Example]:
    """Pairs of a .tsv or .jsonl file, or of two aligned text files written as "SOURCE,TARGET"."""
    if "," in path and not Path(path).expanduser().exists():
        source, target = path.split(",", 1)
        return _table(Path(source), Path(target))
    return _table(Path(path))


def _table(*paths: Path) -> Table[Example]:
    """Pairs of one file or of two."""
    found = [find(one) for one in paths]
    fields, data = _fields(found[0]), held(found)
    return Table.of(Example, lambda: reading.pairs(*found, fields=fields), data and (RULES, fields, *data), same)


def _fields(path: Path) -> tuple[str, str]:
    """The names of text and summary in a JSONL file: the first known pair that its first record has."""
    if not path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json")):
        return FIELDS[0]
    _, record = next(reading.records(path))
    return next((names for names in FIELDS if all(one in record for one in names)), FIELDS[0])
