"""Subword regularisation: training texts cut into other pieces each time, by BPE-dropout (Provilkov et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np

from .text import Tokenizer

WAYS = 16                 # of cutting a word, drawn once: drawing all of a batch anew takes as long as a small policy's step


class Recut:
    """Lines of subword ids -> the same texts in other subwords of the same tokenizer.

    Merges are made in their order, but each that is possible is passed over with the probability `share` whenever one is to
    be chosen, until none is left or all were passed over. Departs from the paper: a word has WAYS cuts, a function of the
    word and the share alone, of which one is drawn each time.
    """

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        self.tokenizer, self.share = tokenizer, share
        self.rank = {pair: rank for rank, pair in enumerate(tokenizer.merges())}
        self.known: dict[tuple[int, ...], list[list[int]]] = {}

    def __call__(self, lines: Sequence[Sequence[int]], random: np.random.Generator) -> list[list[int]]:
        """As many lines, of one or more ids for each character."""
        units = [list(self._units(line)) for line in lines]
        drawn = iter(random.integers(WAYS, size=sum(map(len, units))).tolist())
        return [[one for unit in line for one in self._ways(unit)[next(drawn)]] for line in units]

    def _units(self, line: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """What stands between spaces: no merge crosses them."""
        begins, start = self.tokenizer.begins, 0
        for end in range(1, len(line)):
            if begins[line[end]]:
                yield tuple(line[start:end])
                start = end
        if len(line):
            yield tuple(line[start:])

    def _ways(self, unit: tuple[int, ...]) -> list[list[int]]:
        if unit not in self.known:
            text = "".join(map(self.tokenizer.piece, unit))
            random = Random(f"{self.share}/{text}")
            self.known[unit] = [list(map(self.tokenizer.id, self.cut(text, random))) for _ in range(WAYS)]
        return self.known[unit]

    def cut(self, text: str, random: Random) -> list[str]:
        """Byte-level signs of what stands between spaces -> pieces, drawn anew."""
        pieces = list(text)
        while True:
            best, place = len(self.rank), -1
            for i, pair in enumerate(zip(pieces, pieces[1:])):
                rank = self.rank.get(pair, best)
                if rank < best and random.random() >= self.share:
                    best, place = rank, i
            if place < 0:
                return pieces
            pieces[place:place + 2] = [pieces[place] + pieces[place + 1]]
