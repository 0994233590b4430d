"""Examples in columns: a million texts with their references are a few arrays, not millions of Python objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, Literal, TypeVar

import numpy as np
import tokenizers
from tqdm import tqdm

from .kept import Arrays, kept
from .progress import progress
from .reading import Paired
from .say import speaks
from .text import Tokenizer, word_counter

RULES = 1                                # goes up when the arrays of this file change: names their cache
CHUNK = 10_000                           # examples handled at a time
TRAINED_ON = 100_000                     # examples that a tokenizer learns from, spread evenly where there are more
T = TypeVar("T")


@dataclass(frozen=True)
class Ids:
    """The ids of an example's lines (source, then references), and which tokenizer gave them."""

    tokenizer: str
    lines: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Table(Sequence, Generic[T]):
    """Examples `make(source, references)`, made anew whenever one is asked for; `make(source, references, ids)` once encoded.

    Lines are numbered over all texts of the buffer; example i holds the lines start[i] to start[i] + span[i] - 1, its source
    first. `told` names the data for caches; None keeps what follows from them in memory.
    """

    make: Callable[..., T]
    text: np.ndarray                     # [bytes] UTF-8 of all lines
    edges: np.ndarray                    # [lines + 1] where each begins in `text`
    start: np.ndarray                    # [n]
    span: np.ndarray                     # [n] lines of an example: 1 + its references
    keys: np.ndarray                     # [n, 2] 8-byte hashes: of the source as `same` sees it, of the whole example
    told: tuple[object, ...] | None = None
    ids: np.ndarray | None = None        # [ids] of all lines
    id_edges: np.ndarray | None = None   # [lines + 1] where each line begins in `ids`, which holds only the table's own lines
    id_start: np.ndarray | None = None   # [n] number of each example's first line there
    tokenizer: str = ""                  # key of the one that gave the ids

    @classmethod
    def of(cls, make: Callable[..., T], pairs: Callable[[], Iterable[Paired]], told: tuple[object, ...] | None = None,
           same: Callable[[str], str] = str) -> Table[T]:
        """The examples of a stream of pairs, which is read once, or not at all where they are in the cache."""
        told = told and (RULES, *told)
        found = kept("texts", told, lambda: _columns(pairs(), same))
        edges = _edges(found["bytes"])
        return cls(make, found["text"], edges, _edges(found["lines"])[:-1], found["lines"], found["keys"], told)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[T]:
        """Many examples at once, as `rlseq.batches` asks for them."""
        rows = np.asarray(indices)
        spans = self.span[rows]
        reach, spans = np.arange(1 + max(spans, default=0)), spans.tolist()
        texts = _bounds(self.edges, self.start[rows], reach)
        ids = texts if self.ids is None else _bounds(self.id_edges, self.id_start[rows], reach)
        whole, found = memoryview(self.text), []
        for text, own, span in zip(texts, ids, spans):
            source, *references = [str(whole[a:b], "utf-8", "surrogatepass") for a, b in zip(text, text[1:span + 1])]
            extra = () if self.ids is None else (
                Ids(self.tokenizer, tuple([self.ids[a:b] for a, b in zip(own, own[1:span + 1])])),)
            found.append(self.make(source, tuple(references), *extra))
        return found

    def take(self, rows: np.ndarray, told: tuple[object, ...] | None = None) -> Table[T]:
        """The examples of these numbers; `told` says which they are, for caches."""
        told = told and self.told and (*self.told, *told)
        ids = None if self.id_start is None else self.id_start[rows]
        return replace(self, start=self.start[rows], span=self.span[rows], keys=self.keys[rows], id_start=ids, told=told)

    def texts(self, lines: np.ndarray) -> Iterator[list[str]]:
        """The texts of these lines, some thousands at a time."""
        whole = memoryview(self.text)
        for begin in range(0, len(lines), CHUNK):
            some = lines[begin:begin + CHUNK]
            yield [str(whole[a:b], "utf-8", "surrogatepass")
                   for a, b in zip(self.edges[some].tolist(), self.edges[some + 1].tolist())]

    def joined(self) -> Iterator[bytes]:
        """Each example's lines in UTF-8 with NUL between them."""
        whole, edges = memoryview(self.text), self.edges
        for begin in range(0, len(self), CHUNK):
            for first, count in zip(self.start[begin:begin + CHUNK].tolist(), self.span[begin:begin + CHUNK].tolist()):
                at = edges[first:first + count + 1].tolist()
                yield b"\0".join(whole[a:b] for a, b in zip(at, at[1:]))

    def lines(self) -> np.ndarray:
        """Numbers of all lines of all examples, in their order."""
        total = _edges(self.span)
        return np.repeat(self.start - total[:-1], self.span) + np.arange(total[-1])

    def sizes(self, place: int) -> np.ndarray:
        """[n] how many ids each example's source (0) or first reference (1) has."""
        at = self.id_start + place
        return self.id_edges[at + 1] - self.id_edges[at]

    def encoded(self, tokenizer: Tokenizer) -> Table[T]:
        """The same with the ids of all lines, made once and kept."""
        told, lines = self.told and ("ids", tokenizer.key, *self.told), self.lines()

        def parts() -> Iterator[Arrays]:
            cutter = tokenizer.cutter()
            with _bar("tokenising", lines) as bar:
                for texts in self.texts(lines):
                    ids, sizes = cutter(texts)
                    yield {"ids": ids, "sizes": sizes.astype(np.int32)}
                    bar.update(len(texts))
        found = kept("ids", told, parts)
        return replace(self, ids=found["ids"], id_edges=_edges(found["sizes"]), id_start=_edges(self.span)[:-1],
                       tokenizer=tokenizer.key)

    def word_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """[n] words and marks of each example's source, and of its first reference."""
        lines, first, counter = self.lines(), _edges(self.span)[:-1], word_counter()

        def parts() -> Iterator[Arrays]:
            with _bar("counting words", lines) as bar:
                for texts in self.texts(lines):
                    yield {"words": counter(texts)[1].astype(np.int32)}
                    bar.update(len(texts))
        found = kept("words", self.told and ("words", *self.told), parts)["words"]
        return found[first], found[first + 1]

    def learned(self, kind: Literal["bpe", "word"], size: int) -> Tokenizer:
        """A tokenizer learned from all lines; where there are more than TRAINED_ON examples, from so many of them."""
        some = self.take(np.arange(TRAINED_ON) * len(self) // TRAINED_ON) if len(self) > TRAINED_ON else self
        lines = some.lines()

        def read(bar: tqdm) -> Iterator[str]:
            for texts in some.texts(lines):
                yield from texts
                bar.update(len(texts))

        def parts() -> Iterator[Arrays]:
            with _bar("learning a vocabulary", lines) as bar:
                text = Tokenizer.train(read(bar), kind, size).to_json()
            yield {"json": np.frombuffer(text.encode(), np.uint8)}
        told = self.told and ("tokenizer", tokenizers.__version__, kind, size, *self.told)
        return Tokenizer.from_json(kept("tokenizer", told, parts)["json"].tobytes().decode())


def _bounds(edges: np.ndarray, start: np.ndarray, reach: np.ndarray) -> list[list[int]]:
    """For each example where its lines begin, and where the last one ends (then what comes after it)."""
    return edges[np.minimum(start[:, None] + reach, len(edges) - 1)].tolist()


def _bar(what: str, lines: np.ndarray) -> tqdm:
    return progress(len(lines), what, "lines", shown=speaks(), passing=True)


def _edges(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _columns(pairs: Iterable[Paired], same: Callable[[str], str]) -> Iterator[Arrays]:
    pairs = iter(pairs)
    while chunk := list(islice(pairs, CHUNK)):
        rows = [[one.encode("utf-8", "surrogatepass") for one in (source, *references)] for source, references in chunk]
        lines = [line for row in rows for line in row]
        keys = [_hash(same(source).encode("utf-8", "surrogatepass")) + _hash(b"\0".join(row))
                for (source, _), row in zip(chunk, rows)]
        yield {"text": np.array(bytearray(b"".join(lines)), np.uint8),
               "bytes": np.fromiter(map(len, lines), np.int32, len(lines)),
               "lines": np.fromiter(map(len, rows), np.int32, len(rows)),
               "keys": np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2)}


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def overlaps(splits: Mapping[str, Table]) -> list[str]:
    """What splits repeat and share: a sentence each, with counts. Sources are compared as the tables' `same` sees them."""
    said, seen = [], dict(splits)
    for name, table in splits.items():
        seen.pop(name)
        again = len(table) - len(np.unique(table.keys[:, 1]))
        if again:
            said.append(f"{name}: {again} of {len(table)} examples repeat an earlier one")
        for other, held in seen.items():
            shared = np.isin(held.keys[:, 0], table.keys[:, 0])
            if shared.any():
                whole = int(np.isin(held.keys[:, 1], table.keys[:, 1]).sum())
                said.append(f"{other}: {int(shared.sum())} of {len(held)} sources stand in {name} too ({whole} with the same "
                            f"references); scores on {other} flatter by that")
    return said
