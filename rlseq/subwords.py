"""Subword regularisation: sources of training cut into other pieces each time, by BPE-dropout (Provilkov et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np

from .text import REMEMBERED, Tokenizer

WAYS = 16                # of cutting a word, each drawn once and kept: to draw takes far longer than to look up


class Recut:
    """Lines of subword ids -> the same texts in other subwords of the same tokenizer.

    Merges are made in their order, but each that is possible is passed over with the probability `share` whenever one is to
    be chosen, until none is left or all were passed over. Departs from the paper: what stands between spaces has WAYS cuts,
    each a function of its text and the share alone, of which one is drawn each time.
    """

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        self.tokenizer, self.share = tokenizer, share
        self.rank = {pair: rank for rank, pair in enumerate(tokenizer.merges())}
        self.known: dict[tuple[tuple[int, ...], int], list[int]] = {}

    def __call__(self, lines: Sequence[Sequence[int]], random: np.random.Generator) -> list[list[int]]:
        """As many lines, cut by the draws of a generator."""
        if len(self.known) > REMEMBERED:
            self.known = {}
        units = [list(self._units(line)) for line in lines]
        drawn = iter(random.integers(WAYS, size=sum(map(len, units))).tolist())
        return [[one for unit in line for one in self._way(unit, next(drawn))] for line in units]

    def _units(self, line: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """What stands between spaces."""
        begins, start = self.tokenizer.begins, 0
        for end in range(1, len(line)):
            if begins[line[end]]:
                yield tuple(line[start:end])
                start = end
        if len(line):
            yield tuple(line[start:])

    def _way(self, unit: tuple[int, ...], number: int) -> list[int]:
        if (unit, number) not in self.known:
            text = "".join(map(self.tokenizer.piece, unit))
            random = Random(f"{self.share}/{number}/{text}")
            self.known[unit, number] = [self.tokenizer.id(piece) for part in self.tokenizer.parts(text)
                                        for piece in self.cut(part, random)]
        return self.known[unit, number]

    def cut(self, part: str, random: Random) -> list[str]:
        """Byte-level signs that no border of the tokenizer parts -> pieces, drawn anew."""
        pieces = list(part)
        while True:
            best, place = len(self.rank), -1
            for i, pair in enumerate(zip(pieces, pieces[1:])):
                rank = self.rank.get(pair, best)
                if rank < best and random.random() >= self.share:
                    best, place = rank, i
            if place < 0:
                return pieces
            pieces[place:place + 2] = [pieces[place] + pieces[place + 1]]
