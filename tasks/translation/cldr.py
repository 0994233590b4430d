"""An endless, exactly correct parallel corpus: what CLDR (through Babel) and num2words know, said in two locales.

What is said is drawn first, without any language: kinds of sentences and values. Then each language says it, so the
two sides agree by construction. The split of an item is a hash of what is said, so no two splits share content.
"""

from __future__ import annotations

import zlib
from random import Random
from string import Formatter

from rlseq.text import clean

from .expressions import ALL, KINDS, LISTS, Language, enumeration, styles
from .sentences import SENTENCES

SHARE = 20             # one content in 20 belongs to test, one to dev, the rest to train
ONE = 0.6              # share of items with one sentence; the others have two


class Corpus:
    """Pairs of sentences in two locales, such as "en" and "de": item i of a split depends on (split, seed, i) only.

    Where we have sentences for both languages an item is one or two of them; else it is a list, in CLDR's pattern, of
    one to three expressions, of the kinds that both sides can say. Raises ValueError for a locale CLDR does not know.
    """

    def __init__(self, source: str, target: str, seed: int) -> None:
        self.sides, self.seed = (Language.of(source), Language.of(target)), seed
        self.tables = [SENTENCES.get(side.locale.language) for side in self.sides]
        found = {kind: styles(kind, self.sides) for kind in (ALL if all(self.tables) else KINDS)}
        self.styles = {kind: ways for kind, ways in found.items() if ways}
        self.sentences = sorted(name for name, one in (self.tables[0] or {}).items() if self._sayable(one))
        if not self.styles:
            raise ValueError(f"task.pair={source}-{target}: CLDR says too little in these locales; take another pair")

    def _sayable(self, sentence: str) -> bool:
        return all(self.tables) and all(
            not kind or kind in self.styles and (not style or style in self.styles[kind] or ALL[kind].styles == ("",))
            for _, kind, style in slots(sentence))

    def item(self, split: str, index: int) -> tuple[str, str]:
        """Source and target of item `index` of "train", "dev" or "test"."""
        random = Random(f"{self.seed}/{split}/{index}")
        while True:
            content = self._draw(random)
            if belongs(content) != split:
                continue
            style = random.random()
            try:
                return tuple(self._say(content, style, table, side) for table, side in zip(self.tables, self.sides))
            except LookupError:
                continue                    # a plural form that this locale lacks, too rare for the probes to meet

    def _draw(self, random: Random) -> tuple:
        if not self.sentences:
            single = sorted(set(self.styles) - LISTS)
            first = random.choice(sorted(self.styles))
            names = [first] if first in LISTS else random.sample(single, min(random.randint(1, 3), len(single)))
            return tuple((name, ((name, ALL[name].draw(random)),)) for name in names)
        names = random.sample(self.sentences, 1 if random.random() < ONE else 2)
        return tuple((name, tuple((kind, ALL[kind].draw(random)) for kind in self._kinds(name))) for name in names)

    def _kinds(self, sentence: str) -> list[str]:
        return list(dict.fromkeys(kind for _, kind, _ in slots(self.tables[0][sentence]) if kind))

    def _say(self, content: tuple, drawn: float, table: dict[str, str] | None, side: Language) -> str:
        said = []
        for name, values in content:
            values = dict(values)

            def say(kind: str, style: str = "", values: dict = values) -> str:
                ways = self.styles[kind]
                return ALL[kind].say(values[kind], style or ways[int(drawn * len(ways))], side)
            if self.sentences:
                text = "".join(words + (say(kind, style) if kind else "") for words, kind, style in slots(table[name]))
                said.append(text[:-1] if text.endswith("..") else text)      # "p.m." closes a sentence by itself
            else:
                said.append(say(name))
        return clean(" ".join(said) if self.sentences else enumeration(said, side))


def slots(sentence: str) -> list[tuple[str, str, str]]:
    """A sentence cut at its slots: the words before each, its kind and its style; both "" behind the last."""
    return [(words, kind or "", style or "") for words, kind, style, _ in Formatter().parse(sentence)]


def belongs(content: tuple) -> str:
    """The split of what is said; the style it is said in does not count."""
    return {0: "test", 1: "dev"}.get(zlib.crc32(repr(content).encode()) % SHARE, "train")
