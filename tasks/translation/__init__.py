"""Translation: text in one language -> the same in another, worth what sentence BLEU, chrF or exact match say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

import rlseq.task
from rlseq.build import Seed, Within
from rlseq.rewards.ngrams import sentence_bleu_ids
from rlseq.rewards.rouge import Rouge, rouge_rows
from rlseq.rewards.text import (
    Bleu,
    Chrf,
    Exact,
    Ter,
    bleu_tokenizer,
    references_of,
    sentence_worth,
)
from rlseq.say import say
from rlseq.subwords import Recut
from rlseq.table import Ids, Table, overlaps
from rlseq.text import Tokenizer, clean
from rlseq.types import STOP, Batch, Sizes, pad

from .data import Cldr, Pair, Stored, digest, tokenizer_of
from .files import Files

TESTS = {"cldr": ("test",), "files": ("test",), "multi30k": ("test-2016", "test-2017")}
KEPT = 2**17            # encoded lines kept at a time
READ = 8                # times max_tokens: most subwords that are read of a text, for memory grows with their square


class Task(rlseq.task.Task):
    """Sentences of one language into another, over one vocabulary of subwords that both share.

    data: "cldr" (embedded, endless), "multi30k" (a folder of it) or "files" (your own; see README.md); path: where.
    pair: source-target, such as "en-de"; for "cldr" any two locales of CLDR. vocabulary: most subwords.
    reward: sentence "bleu", "chrf", "rougeL" or "ter" (1 - TER) of the text, "exact" match, or "bleu_ids": BLEU over
    subwords, in tensors. Answers are scored by all of these metrics, whatever the reward.
    max_tokens: most subwords of an answer, its STOP included; longer training pairs are left out and counted, and of
    texts in other splits and of new input 8 times as many are read.
    seed: of the embedded data. Every source ends with STOP as an end mark, so none is empty.
    """

    name, version = "translation", 0
    heads = ("vocabulary", "copy")

    def __init__(self, data: Literal["cldr", "multi30k", "files"] = "cldr", path: str | None = None,
                 pair: str = "en-de", vocabulary: Annotated[int, Within(257, 10**6)] = 4000,
                 reward: Literal["bleu", "bleu_ids", "chrf", "rougeL", "ter", "exact"] = "bleu",
                 head: str = "vocabulary", max_tokens: Annotated[int, Within(2, 10_000)] = 128, seed: Seed = 0) -> None:
        languages = pair.split("-")
        if len(languages) != 2 or languages[0] == languages[1] or not all(languages):
            raise ValueError(f"task.pair={pair!r} is not two languages; write source-target, such as en-de or en-pt_BR")
        if data != "cldr" and path is None:
            raise ValueError(f"task.data={data} reads files; say where they are: task.path=FOLDER")
        if data == "cldr" and path is not None:
            raise ValueError(f"task.path={path} is not used by task.data=cldr; set task.data=files or task.data=multi30k")
        if head not in self.heads:
            raise ValueError(f"task.head={head!r} does not fit translation; it takes: {', '.join(self.heads)}")
        if max_tokens < 2:
            raise ValueError(f"task.max_tokens={max_tokens} has no room for an answer and its STOP; set it to 2 or more")
        self.public = data != "multi30k"                 # its licence keeps the texts out of what is passed on
        self.head, self.reward_name, self.max_tokens, self.vocabulary = head, reward, max_tokens, vocabulary
        self._options = {"data": data, "pair": pair, "vocabulary": vocabulary, "max_tokens": max_tokens}
        self._source = (Cldr(*languages, seed) if data == "cldr"
                        else Stored(Files(path, *languages), TESTS[data]))
        self.tests = self._source.tests
        self.cut = bleu_tokenizer(languages[1])
        self.metrics = {"bleu": Bleu(self.decode, self.cut), "chrf": Chrf(self.decode), "ter": Ter(self.decode),
                        "rougeL": Rouge("rougeL", self.decode), "exact": Exact(self.decode),
                        "bleu_lower": Bleu(self.decode, self.cut, lowercase=True)}      # as papers on Multi30k count
        self._tokenizer: Tokenizer | None = None
        self._raw: dict[str, Sequence[Pair]] = {}           # split -> all its pairs
        self._kept: Sequence[Pair] | None = None            # the training pairs that are short enough
        self._encoded: dict[str, list[int]] = {}
        self._recut: Recut | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """What `restore` brought, else learned from the training split when first needed."""
        if self._tokenizer is None:
            self._tokenizer = tokenizer_of(self._read("train"), self.vocabulary)
        return self._tokenizer

    @property
    def sizes(self) -> Sizes:
        return Sizes(source_ids=self.tokenizer.size, vocabulary=self.tokenizer.size, shared=True)

    @property
    def fingerprint(self) -> str:
        return digest(self._source, self._options)

    def examples(self, split: str) -> Sequence[Pair]:
        if split not in ("train", "dev", *self.tests):
            raise KeyError(f"no split {split!r} of translation; there are: train, dev, {', '.join(self.tests)}")
        if split != "train":
            return self._read(split)
        if self._kept is None:
            self._kept = self._fitting(self._read(split))
        return self._kept

    def collate(self, examples: Sequence[Pair]) -> Batch:
        sides = self._sides(examples)
        source, source_mask = pad([row + [STOP] for row, _ in sides])
        target, target_mask = pad([row + [STOP] for _, row in sides])
        return Batch(source, source_mask, target, target_mask, self.tokenizer.size, self._extra(source, examples), examples)

    def length(self, example: Pair) -> int:
        """Subwords of the source and of the first reference, with their STOPs."""
        if self._stored(example):
            return 2 + sum(map(len, example.ids.lines[:2]))
        source, target = self._sides([example])[0]
        return len(source) + 1 + (len(target) + 1 if example.references else 0)

    def unread(self, example: Pair) -> int:
        return max(0, len(self._encode([example.source])[0]) - READ * self.max_tokens)

    def horizon(self, batch: Batch) -> int:
        return int(self._most(batch.source.shape[1]))

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        """Worth of the text of answers against all references; 0 for new input, which has none."""
        if self.reward_name == "bleu_ids":
            known = torch.tensor([float(bool(own)) for own in references_of(batch, len(actions))], device=actions.device)
            return known * sentence_bleu_ids(actions, mask & (actions != STOP), batch.extra["references"],
                                             batch.extra["references_mask"]).float()
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        if self.reward_name == "rougeL":
            return rouge_rows(texts, [one.references for one in batch.examples]).float().to(actions.device)
        worth = sentence_worth(self.reward_name, self.cut)
        return torch.tensor([worth(text, own) if own else 0.0 for text, own in zip(texts, references_of(batch, len(texts)))],
                            device=actions.device)

    has_prefix_reward = True

    def prefix_reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return rlseq.task.prefixes(self.reward, batch, actions, mask)

    has_subwords = True

    def recut(self, examples: Sequence[Pair], share: float, random: np.random.Generator) -> list[Pair]:
        """Sources in other subwords. Departs from Provilkov et al. (2020), who cut references, too: a small policy then has
        to learn which cut was drawn."""
        recut = self._recut
        if recut is None or (recut.tokenizer, recut.share) != (self.tokenizer, share):
            recut = self._recut = Recut(self.tokenizer, share)
        sources, targets = zip(*self._sides(examples)) if examples else ((), ())
        return [replace(pair, ids=Ids(self.tokenizer.key, (np.array(source, np.int64), np.array(target, np.int64))))
                for pair, source, target in zip(examples, recut(sources, random), targets, strict=True)]

    def parse(self, line: str) -> Pair:
        return Pair(clean(line), ())

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        return self.tokenizer.decode(actions[row].tolist())

    def answer_words(self, batch: Batch, actions: Tensor, row: int) -> list[str]:
        return [self.tokenizer.shown(one) for one in takewhile(lambda one: one != STOP, actions[row].tolist())]

    def source_words(self, batch: Batch, problem: int) -> list[str]:
        return [*self.answer_words(batch, batch.source, problem), "STOP"]

    def show(self, batch: Batch, actions: Tensor, row: int) -> str:
        pair = batch.examples[row // max(len(actions) // len(batch), 1)]
        return f"{pair.source} | {' / '.join(pair.references)} | {self.answer(batch, actions, row)}"

    def state(self) -> dict[str, str]:
        return {"tokenizer": self.tokenizer.to_json()}

    def restore(self, state: dict[str, str]) -> None:
        if "tokenizer" not in state:
            raise ValueError("this checkpoint has no tokenizer, so it is not of the translation task; train it again")
        self._tokenizer, self._kept, self._encoded = Tokenizer.from_json(state["tokenizer"]), None, {}

    def decode(self, batch: Batch, actions: Tensor) -> list[str]:
        """Answers [N, T] as detokenised text, each up to its STOP."""
        return [self.tokenizer.decode(row) for row in actions.tolist()]

    def _read(self, split: str) -> Sequence[Pair]:
        if split not in self._raw:
            self._raw[split] = self._source.read(split)
        return self._raw[split]

    def _most(self, source: int | np.ndarray) -> int | np.ndarray:
        """Most actions of an answer to a source of so many ids, its end mark included."""
        return np.minimum(self.max_tokens, 2 * source + 10)

    def _fitting(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """The training pairs that are short enough; what is left out, or met twice, is said with its number."""
        if not isinstance(pairs, Table):
            return pairs                                     # endless, and none is long
        pairs = pairs.encoded(self.tokenizer)
        source, target = pairs.sizes(0), pairs.sizes(1)
        fits = (source < self.max_tokens) & (target < self._most(source + 1))
        if not fits.any():
            raise ValueError(f"all {len(pairs)} training pairs are longer than task.max_tokens={self.max_tokens} "
                             f"subwords; raise it")
        if not fits.all():
            say(f"train: {int((~fits).sum())} of {len(pairs)} pairs are left out: longer than "
                f"task.max_tokens={self.max_tokens} subwords, or the target more than twice the source")
        blank = int(((source == 0) | (target == 0)).sum())
        if blank:
            say(f"train: {blank} of {len(pairs)} pairs have an empty side; they are trained on as they are")
        self._look_over(pairs)
        return pairs.take(np.flatnonzero(fits))

    def _look_over(self, train: Table) -> None:
        """Say what other splits share with train, and how many of their texts are too long, each with its number."""
        splits = {"train": train} | {split: self._read(split) for split in ("dev", *self.tests)}
        for found in overlaps(splits):
            say(found)
        for split in ("dev", *self.tests):
            held = splits[split].encoded(self.tokenizer)
            source = held.sizes(0)
            cut = int((source > READ * self.max_tokens).sum())
            if cut:
                say(f"{split}: of {cut} of {len(held)} sources only the first {READ * self.max_tokens} subwords are read; "
                    f"raise task.max_tokens={self.max_tokens} to an eighth of what they have")
            beyond = int((held.sizes(1) >= self._most(source + 1)).sum())
            if beyond:
                say(f"{split}: {beyond} of {len(held)} references are longer than answers can be: {self.max_tokens} subwords, "
                    f"or twice the source and 10; raise task.max_tokens={self.max_tokens} or task.vocabulary={self.vocabulary}")

    def _sides(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        """Ids of each pair's source and of its first reference (none where it has none), as many as are read."""
        stored = [self._stored(pair) for pair in pairs]
        new = iter(self._encode([line for pair, known in zip(pairs, stored) if not known
                                 for line in (pair.source, *(pair.references or ("",))[:1])]))
        rows = [(pair.ids.lines[0].tolist(), pair.ids.lines[1].tolist()) if known else (next(new), next(new))
                for pair, known in zip(pairs, stored)]
        most = READ * self.max_tokens
        return [(source[:most], target[:most]) for source, target in rows]

    def _stored(self, pair: Pair) -> bool:
        """Whether a pair brings the ids that this tokenizer gave it (training pairs do: none of them is too long)."""
        return pair.ids is not None and pair.ids.tokenizer == self.tokenizer.key

    def _encode(self, lines: list[str]) -> list[list[int]]:
        known = self._encoded
        new = [line for line in dict.fromkeys(lines) if line not in known]
        if len(known) + len(new) > KEPT:
            known, new = {}, list(dict.fromkeys(lines))
        known.update(zip(new, self.tokenizer.encode_batch(new)))
        self._encoded = known                                # whole: another thread draws the next batch meanwhile
        return [known[line] for line in lines]

    def _extra(self, source: Tensor, examples: Sequence[Pair]) -> dict[str, Tensor]:
        extra = {"copy_ids": source} if self.head == "copy" else {}
        if self.reward_name == "bleu_ids":
            most = max((len(one.references) for one in examples), default=0) or 1
            rows = [self._encode([*one.references]) + [[]] * (most - len(one.references)) for one in examples]
            ids, mask = pad([row for group in rows for row in group])
            shape = (len(examples), most, -1) if ids.numel() else (len(examples), most, 0)
            extra |= {"references": ids.view(shape), "references_mask": mask.view(shape)}
        return extra
