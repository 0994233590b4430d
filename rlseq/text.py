"""Text to ids and back: byte-level subwords that lose nothing, or whole words whose surface stays known for copying."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain, islice, takewhile
from typing import Literal

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from .types import STOP

UNK = 1                                     # kind "word" only
REMEMBERED = 2**19                          # most of what stands between spaces whose pieces are kept at hand
JOINED = 64                                 # how much of it is handed on at once: a call costs as much as cutting ten
SPACE = "▁"                                 # "preceded by a space", as in SentencePiece
STOP_PIECE, UNK_PIECE = "▁<stop>", "▁<unk>"  # neither kind can cut these out of a text

# Subwords never cross these borders; a digit stands alone, so that numbers can be spelled and copied digit by digit.
_SUBWORDS = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+"
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"   # written without spaces
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff"          # not \w in Python
_LETTER = rf"(?:[^\W{_CJK}]|[{_MARKS}])"
_WORDS = re.compile(rf" ?(?:#\w+#|{_LETTER}+(?:['’]{_LETTER}+)*|[^ ])")


def clean(line: str) -> str:
    """The line in Unicode NFC, every run of white space one space, none at the ends; lone surrogates become `?`."""
    return " ".join(_spaced(line))


def _spaced(line: str) -> list[str]:
    """What stands between white space, in NFC."""
    if not line.isascii():
        line = unicodedata.normalize("NFC", line.encode("utf-8", "replace").decode("utf-8"))
    return line.split()


def words(line: str) -> list[str]:
    """Words and punctuation marks of a line; `▁` in front says "preceded by a space", as the first piece always is."""
    line = clean(line)
    return [SPACE + one[1:] if one[0] == " " else one for one in _WORDS.findall(" " + line)] if line else []


class Cutter:
    """Cuts lines by cutting everything between spaces once: no piece of this file, word or subword, crosses a space.

    `cut` takes what stands between spaces, one by one, and gives values in a row and how many belong to each.
    """

    def __init__(self, cut: Callable[[list[str]], tuple[np.ndarray, np.ndarray]]) -> None:
        self.cut = cut
        self._forget()

    def __call__(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Values of all lines in a row, and how many each line has [lines]."""
        rows = [_spaced(line) for line in lines]
        spans = np.fromiter(map(len, rows), np.int64, len(rows))
        at = self._numbers(rows, int(spans.sum()))
        begin, sizes = self.edges[at], self.edges[at + 1] - self.edges[at]
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begin - (ends - sizes), sizes)
        totals, ends = np.concatenate([[0], ends]), np.cumsum(spans)
        return self.values[places], totals[ends] - totals[ends - spans]

    def _numbers(self, rows: list[list[str]], count: int) -> np.ndarray:
        """Numbers of what stands between spaces; what is new gets one, and is cut."""
        if len(self.numbers) > REMEMBERED:
            self._forget()
        before = len(self.numbers)
        found = np.fromiter(map(self.numbers.__getitem__, chain.from_iterable(rows)), np.int64, count)
        values, sizes = self.cut(list(islice(self.numbers, before, None)))
        self.values = np.concatenate([self.values, values]) if before else values
        self.edges = np.concatenate([self.edges, self.edges[-1] + np.cumsum(sizes, dtype=np.int64)])
        return found

    def _forget(self) -> None:
        self.numbers, self.values, self.edges = _Numbered(), np.zeros(0, np.int64), np.zeros(1, np.int64)


class _Numbered(dict[str, int]):
    """Counts up what it is asked for."""

    def __missing__(self, one: str) -> int:
        self[one] = number = len(self)
        return number


def word_counter() -> Cutter:
    """Tells how many `words` lines have, by the second of what it gives."""
    def cut(new: list[str]) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.fromiter((len(words(one)) for one in new), np.int64, len(new))
        return np.zeros(sizes.sum(), np.bool_), sizes
    return Cutter(cut)


def join_words(pieces: Iterable[str]) -> str:
    """The line that `words` cut; a `▁` of the text itself is always a piece of its own, so nothing is lost."""
    return clean("".join(shown(one) for one in pieces if one))


def shown(piece: str) -> str:
    """A piece of `words` for people: a blank in place of its `▁`."""
    return " " + piece[1:] if piece[0] == SPACE and len(piece) > 1 else piece


class Tokenizer:
    """Pieces of text with ids 0..size-1; id 0 is STOP, which `encode` never gives. For kind "word", id 1 is UNK.

    "bpe" (Sennrich et al. 2016, on bytes as in GPT-2) writes every Unicode string; "word" knows only its vocabulary.
    """

    def __init__(self, kind: Literal["bpe", "word"], pieces: Sequence[str], model: tokenizers.Tokenizer | None) -> None:
        self.kind, self._pieces, self._model = kind, list(pieces), model
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        self._decoder = decoders.ByteLevel()

    @classmethod
    def train(cls, lines: Iterable[str], kind: Literal["bpe", "word"], size: int) -> Tokenizer:
        """At most `size` pieces, STOP and UNK among them; the same lines in the same order give the same tokenizer."""
        if kind == "bpe":
            return cls._train_bpe(lines, size)
        if kind != "word":
            raise ValueError(f"no tokenizer of kind {kind!r}; there are: bpe, word")
        if size < 3:
            raise ValueError(f"a vocabulary of {size} words has no room beside STOP and UNK; set it to 3 or more")
        counts: Counter[str] = Counter()
        for one, times in Counter(one for line in lines for one in _spaced(line)).items():
            for piece in words(one):
                counts[piece] += times
        ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls("word", [STOP_PIECE, UNK_PIECE, *ranked[:size - 2]], None)

    @classmethod
    def _train_bpe(cls, lines: Iterable[str], size: int) -> Tokenizer:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if size < len(alphabet) + 1:
            raise ValueError(f"a vocabulary of {size} subwords cannot hold STOP and 256 bytes; set it to 257 or more")
        model = tokenizers.Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(tokenizers.Regex(_SUBWORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
        model.train_from_iterator((" " + clean(line) for line in lines), trainer)
        written = json.loads(model.to_str())    # STOP joins the model itself: added tokens are matched in texts
        vocabulary = {piece: index + 1 for piece, index in written["model"]["vocab"].items()} | {STOP_PIECE: STOP}
        written["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
        return cls._of_model(tokenizers.Tokenizer.from_str(json.dumps(written)))

    @classmethod
    def _of_model(cls, model: tokenizers.Tokenizer) -> Tokenizer:
        return cls("bpe", [model.id_to_token(index) for index in range(model.get_vocab_size())], model)

    @property
    def size(self) -> int:
        return len(self._pieces)

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that tell it from others."""
        return hashlib.sha256(self.to_json().encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @cached_property
    def begins(self) -> list[bool]:
        """[size] whether a piece opens what stands between spaces; for "bpe"."""
        return [piece.startswith("\u0120") for piece in self._pieces]                       # a space as a byte-level sign

    def merges(self) -> list[tuple[str, str]]:
        """The pairs of pieces that became one, first ones first. Raises ValueError for whole words, which have none."""
        if self._model is None:
            raise ValueError("a tokenizer of whole words has no merges of subwords")
        return [tuple(one) for one in json.loads(self._model.to_str())["model"]["merges"]]

    def parts(self, signs: str) -> list[str]:
        """Byte-level signs of a text, cut where no subword goes on; whole where they are no text."""
        found = [one for one, _ in self._model.pre_tokenizer.pre_tokenize_str(self._decoder.decode([signs]))]
        return found if "".join(found) == signs else [signs]

    def encode(self, line: str) -> list[int]:
        return self.encode_batch([line])[0]

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        if self._model is None:
            return [[self._ids.get(piece, UNK) for piece in words(line)] for line in lines]
        spaced = [" " + line if line else "" for line in map(clean, lines)]     # a first word is like any other
        return [one.ids for one in self._model.encode_batch_fast(spaced, add_special_tokens=False)]

    def cutter(self) -> Cutter:
        """Gives the ids of many lines in a row (uint16 where they fit, else int32), and how many each line has."""
        kind, begins = np.uint16 if self.size <= 2**16 else np.int32, np.array(self.begins)

        def cut(new: list[str]) -> tuple[np.ndarray, np.ndarray]:
            if self._model is None:
                rows = self.encode_batch(new)
                sizes = np.fromiter(map(len, rows), np.int64, len(rows))
                return np.fromiter(chain.from_iterable(rows), kind, int(sizes.sum())), sizes
            joined = ["".join([" " + one for one in new[i:i + JOINED]]) for i in range(0, len(new), JOINED)]
            found = [one.ids for one in self._model.encode_batch_fast(joined, add_special_tokens=False)]
            ids = np.fromiter(chain.from_iterable(found), kind)
            return ids, np.diff(np.flatnonzero(begins[ids]), append=len(ids))
        return Cutter(cut)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first STOP; for "bpe" `decode(encode(line)) == clean(line)`."""
        return self.join(self._pieces[one] for one in takewhile(lambda one: one != STOP, map(int, ids)))

    def pieces(self, line: str) -> list[str]:
        """What `encode` gives ids to; for "word" also the pieces outside the vocabulary, as they stand in the text."""
        return words(line) if self._model is None else [self._pieces[one] for one in self.encode(line)]

    def join(self, pieces: Iterable[str]) -> str:
        """`join(pieces(line)) == clean(line)` for both kinds."""
        return join_words(pieces) if self._model is None else clean(self._decoder.decode(list(pieces)))

    def shown(self, id: int) -> str:
        """One piece for people: a blank in front where a word begins; bytes that are no character alone become U+FFFD."""
        piece = self._pieces[id]
        return shown(piece) if self._model is None or id == STOP else self._decoder.decode([piece])

    def id(self, piece: str) -> int:
        """Id of a piece; UNK (word) or KeyError (bpe, where every piece has one) for an unknown piece."""
        return self._ids[piece] if self._model else self._ids.get(piece, UNK)

    def piece(self, id: int) -> str:
        return self._pieces[id]

    def to_json(self) -> str:
        inside = {"pieces": self._pieces} if self._model is None else {"model": json.loads(self._model.to_str())}
        return json.dumps({"kind": self.kind, **inside}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Raises ValueError when the text is not what `to_json` wrote."""
        try:
            data = json.loads(text)
            if data["kind"] == "word":
                return cls("word", data["pieces"], None)
            return cls._of_model(tokenizers.Tokenizer.from_str(json.dumps(data["model"])))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"this is no tokenizer written by rlseq ({error!r}); train it again") from error
