"""Summarization: a text becomes one short text; words that the vocabulary lacks are copied from the source."""

from __future__ import annotations

import hashlib
from functools import cached_property
from itertools import takewhile
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlseq import task
from rlseq.build import Seed, Within
from rlseq.rewards.paper_rouge import PaperRouge
from rlseq.rewards.rouge import KINDS, Rouge, rouge_rows
from rlseq.rewards.text import Bleu, Chrf, Exact, Ter, references_of, sentence_worth
from rlseq.say import say
from rlseq.table import Table, overlaps
from rlseq.text import UNK, Tokenizer, shown, words
from rlseq.types import STOP, Batch, Sizes, pad

from . import docstrings
from .data import Data, Example, read

LIMITS = {"docstrings": docstrings.PIECES, "dialogsum": (400, 60), "files": (400, 60)}     # pieces of source and of target
Pieces = Annotated[int, Within(1, 10_000)]
KEPT = 2**16                                    # most encoded examples kept in memory
READ = 8                                        # times max_target: most words of a held-out reference that are scored


class Encoded(NamedTuple):
    """An example as ids; `copies` are the actions that copy each source position, `unknown` what V + j stands for."""

    source: Tensor                              # [S] long, through the end mark 0
    copies: Tensor                              # [S] long
    target: Tensor                              # [T] long, through STOP
    unknown: tuple[str, ...]                    # distinct source pieces outside the vocabulary


class Task(task.Task):
    """Texts -> summaries. Action 0 is STOP, 1 UNK, then words by frequency; V + j copies the j-th unknown source word.

    Any action is legal: an answer is written without its UNKs and without copies of words that the source lacks. A
    reference word that neither vocabulary nor source holds is UNK in the target, so such a reference earns less than 1.
    reward: ROUGE ("rougeL", "rouge1", "rouge2", "mix" of the three), sentence "bleu", "chrf", "ter" (1 - TER) or "exact".
    `max_source` and `max_target` count words and punctuation marks; by default 200 and 30 for docstrings, else 400
    and 60. Longer sources are cut; longer targets are left out of train only; both are counted and said.
    """

    name = "summarization"
    version = 1
    heads = ("copy", "vocabulary")
    tests = ("test",)

    def __init__(self, data: Literal["docstrings", "dialogsum", "files"] = "docstrings", path: str | None = None,
                 vocabulary: Annotated[int, Within(3, 10**6)] = 8000,
                 reward: Literal["rougeL", "rouge1", "rouge2", "mix", "bleu", "chrf", "ter", "exact"] = "rougeL",
                 head: Literal["copy", "vocabulary"] = "copy", seed: Seed = 0,
                 max_source: Pieces | None = None, max_target: Pieces | None = None) -> None:
        longest = LIMITS[data]
        self.data, self.path, self.vocabulary, self.head, self.seed = data, path, vocabulary, head, seed
        self.public = data == "files"                    # docstrings and dialogues are other people's texts
        self.max_source = longest[0] if max_source is None else max_source
        self.max_target = longest[1] if max_target is None else max_target
        if vocabulary < 3 or min(self.max_source, self.max_target) < 1:
            raise ValueError(f"task.vocabulary={vocabulary} must be 3 or more, task.max_source={self.max_source} and "
                             f"task.max_target={self.max_target} 1 or more")
        self.reward_name = reward
        self.kinds = KINDS if reward == "mix" else (reward,)                 # of ROUGE, or another name
        self.metrics = {kind: Rouge(kind, self.decode) for kind in KINDS} | {
            "bleu": Bleu(self.decode), "chrf": Chrf(self.decode), "ter": Ter(self.decode), "exact": Exact(self.decode)}
        if data == "dialogsum":                          # as papers on it count: to be held against their numbers alone
            self.metrics |= {f"paper_{kind}": PaperRouge(kind, self.decode) for kind in KINDS}
        self._encoded: dict[Example, Encoded] = {}

    @cached_property
    def _data(self) -> Data:
        """Read at the first use: a restored task answers new input without it."""
        return read(self.data, self.path, self.seed)

    @cached_property
    def _train(self) -> Table[Example]:
        """Training examples whose target fits; what is left out, cut or met twice is said with its number."""
        train = self._data.splits["train"]
        source, target = train.word_counts()
        fits = target <= self.max_target
        if not fits.any():
            raise ValueError(f"none of {len(train)} training targets has at most task.max_target={self.max_target} "
                             f"words; set it higher")
        cut = int((source[fits] > self.max_source).sum())
        if cut or not fits.all():
            say(f"train: of {len(train)} examples {int((~fits).sum())} are left out, their targets are longer than "
                f"task.max_target={self.max_target}; of the others {cut} sources are cut to task.max_source={self.max_source}")
        blank = int(((source == 0) | (target == 0)).sum())
        if blank:
            say(f"train: {blank} of {len(train)} examples have an empty side; they are trained on as they are")
        self._look_over()
        return train.take(np.flatnonzero(fits), told=("targets", self.max_target))

    def _look_over(self) -> None:
        """Say what splits share, and how many held-out texts are too long, each with its number."""
        for found in overlaps(self._data.splits):
            say(found)
        for split in ("dev", "test"):
            source, target = self._data.splits[split].word_counts()
            cut, beyond = int((source > self.max_source).sum()), int((target > self.max_target).sum())
            if cut or beyond:
                say(f"{split}: of {len(source)} examples {cut} sources are cut to task.max_source={self.max_source}; {beyond} "
                    f"references are longer than answers can be, task.max_target={self.max_target}")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Words of the training sources and references by frequency, unless a checkpoint brought its own."""
        return self._train.learned("word", self.vocabulary)

    @property
    def sizes(self) -> Sizes:
        return Sizes(source_ids=self.tokenizer.size, vocabulary=self.tokenizer.size, shared=True)

    @property
    def fingerprint(self) -> str:
        shaping = f"{self.version} {self.vocabulary} {self.head} {self.max_source} {self.max_target}"
        return hashlib.sha256(f"{self._data.fingerprint} {shaping}".encode()).hexdigest()[:12]

    def examples(self, split: str) -> Table[Example]:
        if split not in ("train", "dev", "test"):
            raise KeyError(f"no split {split!r} of {self.name}; there are: train, dev, test")
        return self._train if split == "train" else self._data.splits[split]

    def _encode(self, example: Example) -> Encoded:
        found = self._encoded.get(example)
        if found is None:
            if len(self._encoded) >= KEPT:
                self._encoded.clear()
            found = self._encoded[example] = self._encode_new(example)
        return found

    def _encode_new(self, example: Example) -> Encoded:
        pieces = self._pieces(example)
        source = [self.tokenizer.id(piece) for piece in pieces]
        copied: dict[str, int] = {}             # piece outside the vocabulary -> its action
        if self.head == "copy":
            for piece, known in zip(pieces, source):
                if known == UNK:
                    copied.setdefault(piece, self.tokenizer.size + len(copied))
        copies = [copied.get(piece, known) for piece, known in zip(pieces, source)]
        wanted = words(example.references[0])[:READ * self.max_target] if example.references else []
        target = [copied.get(piece) or self.tokenizer.id(piece) for piece in wanted]
        return Encoded(*(torch.tensor([*ids, STOP]) for ids in (source, copies, target)), tuple(copied))

    def _pieces(self, example: Example) -> list[str]:
        """The words and marks that are read of a source."""
        return words(example.source)[:self.max_source]

    def collate(self, examples) -> Batch:
        encoded = [self._encode(one) for one in examples]
        source, source_mask = pad([one.source for one in encoded])
        target, target_mask = pad([one.target for one in encoded])
        size, extra = self.tokenizer.size, {}
        if self.head == "copy":
            extra["copy_ids"] = pad([one.copies for one in encoded])[0]
            size += max((len(one.unknown) for one in encoded), default=0)
        return Batch(source, source_mask, target, target_mask, size, extra, tuple(examples))

    def length(self, example: Example) -> int:
        encoded = self._encode(example)
        return len(encoded.source) + len(encoded.target)

    def unread(self, example: Example) -> int:
        return max(0, len(words(example.source)) - self.max_source)

    def horizon(self, batch: Batch) -> int:
        return self.max_target + 1

    def decode(self, batch: Batch, actions: Tensor) -> list[str]:
        """The N answers as text: what comes before STOP, without UNK and without copies that the source lacks."""
        k = max(len(actions) // max(len(batch), 1), 1)
        unknown = [self._encode(one).unknown for one in batch.examples]
        size, piece = self.tokenizer.size, self.tokenizer.piece
        texts = []
        for row, ids in enumerate(actions.tolist()):
            extra = unknown[row // k]
            ids = ids[:ids.index(STOP)] if STOP in ids else ids
            texts.append(self.tokenizer.join([piece(one) if one < size else extra[one - size] for one in ids
                                              if one != UNK and one < size + len(extra)]))
        return texts

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        if set(self.kinds) <= set(KINDS):
            return rouge_rows(texts, [one.references for one in batch.examples], self.kinds).float().to(actions.device)
        worth = sentence_worth(self.reward_name)
        return torch.tensor([worth(text, own) if own else 0.0 for text, own in zip(texts, references_of(batch, len(texts)))],
                            device=actions.device)

    has_prefix_reward = True

    def prefix_reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return task.prefixes(self.reward, batch, actions, mask)

    def parse(self, line: str) -> Example:
        return Example(line)

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        k = max(len(actions) // max(len(batch), 1), 1)
        return self.decode(batch.rows(row // k, row // k + 1), actions[row:row + 1])[0]

    def answer_words(self, batch: Batch, actions: Tensor, row: int) -> list[str]:
        extra = self._encode(batch.examples[row // max(len(actions) // max(len(batch), 1), 1)]).unknown
        copied = {self.tokenizer.size + j: shown(piece) for j, piece in enumerate(extra)}
        return [copied.get(one) or self.tokenizer.shown(one)
                for one in takewhile(lambda one: one != STOP, actions[row].tolist())]

    def source_words(self, batch: Batch, problem: int) -> list[str]:
        return [*map(shown, self._pieces(batch.examples[problem])), "STOP"]

    def show(self, batch: Batch, actions: Tensor, row: int) -> str:
        example = batch.examples[row // max(len(actions) // max(len(batch), 1), 1)]
        source = " ".join(example.source.split())
        reference = " ".join(example.references[0].split()) if example.references else "-"
        source = source if len(source) <= 200 else source[:200] + " ..."
        return f"{source} | {reference} | {self.answer(batch, actions, row)}"

    def state(self) -> dict[str, str]:
        return {"tokenizer": self.tokenizer.to_json()}

    def restore(self, state: dict[str, str]) -> None:
        """Raises ValueError for a state that is not a summarization task's."""
        if "tokenizer" not in state:
            raise ValueError(f"this checkpoint keeps {', '.join(state) or 'nothing'} but no tokenizer; it is no "
                             f"{self.name} checkpoint")
        self.tokenizer = Tokenizer.from_json(state["tokenizer"])
        self._encoded.clear()
