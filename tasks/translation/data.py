"""The problems of translation, whatever they come from: pairs of a source and its references, by split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import Protocol

import numpy as np

from rlseq.table import TRAINED_ON, Ids, Table
from rlseq.text import Tokenizer

from .cldr import Corpus
from .files import Files, hashed

ENDLESS, HELD_OUT = 2**40, 1000     # items of CLDR's train split, and of its dev and its test split
SAMPLE = 10_000                     # items of an endless split that a tokenizer learns from
SHOWN = 50                          # items of the dev split that go into a fingerprint


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translations, cleaned; no translation when it is a user's new input."""

    source: str
    references: tuple[str, ...]
    ids: Ids | None = field(default=None, compare=False, repr=False)     # of training pairs, where they were stored


class Source(Protocol):
    """Where pairs come from."""

    tests: tuple[str, ...]

    def read(self, split: str) -> Sequence[Pair]:
        """All pairs of "train", "dev" or one of `tests`."""

    def fingerprint(self) -> list[str]:
        """Whatever tells these data from others."""


class Drawn(Sequence):
    """Items of an endless corpus, drawn when they are asked for."""

    def __init__(self, corpus: Corpus, split: str, length: int) -> None:
        self.corpus, self.split, self.length = corpus, split, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(f"item {index} of {self.length}")
        source, target = self.corpus.item(self.split, index % self.length)
        return Pair(source, (target,))


class Cldr:
    """The embedded, endless corpus."""

    tests = ("test",)

    def __init__(self, source: str, target: str, seed: int) -> None:
        self.corpus, self.seed = Corpus(source, target, seed), seed

    def read(self, split: str) -> Sequence[Pair]:
        if split == "train":
            return Drawn(self.corpus, split, ENDLESS)
        return list(Drawn(self.corpus, split, HELD_OUT))

    def fingerprint(self) -> list[str]:
        shown = [repr(self.corpus.item("dev", index)) for index in range(SHOWN)]
        return [f"babel {version('babel')}", f"num2words {version('num2words')}", f"seed {self.seed}", *shown]


class Stored:
    """Files in a folder; of the test splits asked for, those that are there (the first is always asked for)."""

    def __init__(self, files: Files, tests: tuple[str, ...]) -> None:
        self.files, self._found = files, {}
        self.tests = tuple(one for one in tests if one == tests[0] or files.has(one))

    def read(self, split: str) -> Table[Pair]:
        if split not in self._found:
            self._found[split] = self._read(split)
        return self._found[split]

    def fingerprint(self) -> list[str]:
        return [*self._digest, *([f"a tokenizer of {TRAINED_ON} pairs"] if len(self.read("train")) > TRAINED_ON else [])]

    def _read(self, split: str) -> Table[Pair]:
        if self.files.whole:
            found = self._whole.take(np.flatnonzero(self._hashed == split), told=(split,))
        else:
            found = Table.of(Pair, lambda: self.files.pairs(split), self.files.told(split))
        if not len(found):
            raise ValueError(f"{self.files.paths(split)[0]} gives no pairs for the {split} split; put more lines in it, or "
                             "name a folder that has train, dev and test files")
        return found

    @cached_property
    def _digest(self) -> list[str]:
        return [self.files.fingerprint(("train", "dev", *self.tests))]

    @cached_property
    def _whole(self) -> Table[Pair]:
        """A corpus without splits."""
        return Table.of(Pair, lambda: self.files.pairs("train"), self.files.told("train"))

    @cached_property
    def _hashed(self) -> np.ndarray:
        """[n] the split of each of its pairs."""
        return np.array([hashed(one) for texts in self._whole.texts(self._whole.start) for one in texts])


def tokenizer_of(pairs: Sequence[Pair], size: int) -> Tokenizer:
    """At most `size` subwords learned from both sides of the pairs (of the first SAMPLE, when there is no end of them)."""
    if isinstance(pairs, Table):
        return pairs.learned("bpe", size)
    some = islice(iter(pairs), SAMPLE)
    return Tokenizer.train([text for pair in some for text in (pair.source, *pair.references)], "bpe", size)


def digest(source: Source, options: dict[str, object]) -> str:
    """Twelve hexadecimal digits over the data and the options that shape them."""
    told = json.dumps([source.fingerprint(), sorted(options.items())], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:12]
