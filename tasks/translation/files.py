"""Parallel text of other people in the layouts they come in: Multi30k's, Hugging Face's JSONL, one's own files.

A folder has one file or two a split (`train.en` and `train.de`, `train.tsv` or `train.jsonl`). A single file, or a
pattern with {lang}, is one corpus without splits: one source in 20 is then test, one dev, by a hash of the source.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlseq import reading
from rlseq.kept import held, sha256
from rlseq.reading import Paired, find
from rlseq.text import clean

STEMS = {
    "train": ("train",),
    "dev": ("dev", "val", "valid", "validation"),
    "test": ("test",),
    "test-2016": ("test_2016_flickr", "test2016", "test"),
    "test-2017": ("test_2017_flickr", "test2017"),
}
ONE_FILE = (".tsv", ".jsonl", ".json")
RULES = 1                                       # goes up when the pairs of the same bytes change: names their cache
SHARE = 20                                      # of a corpus without splits: one source in 20 is test, one dev


@dataclass(frozen=True)
class Files:
    """The files of one pair of languages at `path`: a folder, a file of pairs, or a pattern with {lang} and {split}."""

    path: str
    source: str
    target: str

    @property
    def whole(self) -> bool:
        """Whether all splits come from one corpus."""
        return "{split}" not in self.path and not Path(self.path).expanduser().is_dir()

    def has(self, split: str) -> bool:
        return self.whole or bool(self._found(split))

    def paths(self, split: str) -> tuple[Path, ...]:
        """The one or two files of a split; ValueError says what was looked for and what is there."""
        if self.whole:
            return self._corpus()
        found = self._found(split)
        if not found:
            folder = Path(self.path.split("{")[0]).expanduser()
            folder = folder if folder.is_dir() else folder.parent
            there = ", ".join(sorted(one.name for one in folder.iterdir())[:12]) if folder.is_dir() else "no such folder"
            looked = ", ".join(" + ".join(Path(one).name for one in group) for group in self._candidates(split)[:3])
            raise ValueError(f"task.path={self.path} has no {split} split for {self.source}-{self.target}; it takes one "
                             f"of: {looked}, ... (.gz behind is fine); there are: {there or 'no files'}. One corpus without "
                             "splits is given as a file: task.path=FOLDER/corpus.tsv")
        return found

    def pairs(self, split: str) -> Iterator[Paired]:
        """Cleaned sources with their references, of all splits where the corpus has none; ValueError names file, line and
        remedy."""
        paths, fields = self.paths(split), ("source", "target")
        name = paths[0].name.removesuffix(".gz")
        if len(paths) == 1 and not name.endswith(ONE_FILE):
            raise ValueError(f"task.path={self.path} names one file for both languages that ends in none of "
                             f"{', '.join(ONE_FILE)}; of two aligned files write the language as {{lang}}, such as "
                             "{split}.{lang}.gz")
        if len(paths) == 1 and not name.endswith(".tsv"):
            _, first = next(reading.records(paths[0]))
            inner = first.get("translation")
            fields = fields if "source" in (inner if isinstance(inner, dict) else first) else (self.source, self.target)
        for source, references in reading.pairs(*paths, fields=fields):
            yield clean(source), tuple(clean(one) for one in references)

    def fingerprint(self, splits: tuple[str, ...]) -> str:
        """SHA-256 over the bytes of all files."""
        paths = dict.fromkeys(path for split in splits if self.has(split) for path in self.paths(split))
        return hashlib.sha256(b"".join(map(sha256, paths))).hexdigest()

    def told(self, split: str) -> tuple[object, ...] | None:
        """What the pairs of a split follow from, for a cache; None where the files are too small to be worth one."""
        found = held(self.paths(split))
        return found and (RULES, self.source, self.target, *found)

    def _corpus(self) -> tuple[Path, ...]:
        if "{lang}" in self.path:
            return tuple(find(self.path.replace("{lang}", one)) for one in (self.source, self.target))
        if not self.path.removesuffix(".gz").endswith(ONE_FILE):
            raise ValueError(f"task.path={self.path} is no folder and no file ending in {', '.join(ONE_FILE)}; for two "
                             f"aligned text files write the language as {{lang}}, such as corpus.{{lang}}.gz")
        return (find(self.path),)

    def _found(self, split: str) -> tuple[Path, ...]:
        for group in self._candidates(split):
            try:
                return tuple(find(one) for one in group)
            except ValueError:
                continue
        return ()

    def _candidates(self, split: str) -> list[tuple[str, ...]]:
        groups = []
        for stem in STEMS[split]:
            if "{split}" in self.path:
                names = [self.path.replace("{split}", stem).replace("{lang}", one) for one in (self.source, self.target)]
                groups.append(tuple(dict.fromkeys(names)))
            else:
                base = str(Path(self.path) / stem)
                groups += [(f"{base}.{self.source}{ending}", f"{base}.{self.target}{ending}") for ending in ("", ".txt")]
                groups += [(base + ending,) for ending in ONE_FILE]
        return groups


def hashed(source: str) -> str:
    """The split of a source in a corpus without splits: equal sources are always in the same one."""
    return {0: "test", 1: "dev"}.get(zlib.crc32(source.encode()) % SHARE, "train")

