"""ROUGE F1 (Lin 2004) in two forms that agree: batched over ids, for training, and by `rouge_score`, for reporting."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from rouge_score import rouge_scorer, tokenizers
from torch import Tensor

from ..types import STOP, Batch, pad
from .bits import common_ngrams, longest_common

Kind = Literal["rougeL", "rouge1", "rouge2"]
KINDS: tuple[Kind, ...] = ("rougeL", "rouge1", "rouge2")


def rouge_l_ids(hypothesis: Tensor, mask: Tensor, references: Tensor, references_mask: Tensor) -> Tensor:
    """F1 of the longest common subsequence, L tokens, with the best reference (Lin 2004, section 3).

        F1 = 2 P R / (P + R) = 2 L / (|h| + |r|)                 with P = L / |h| and R = L / |r|

    hypothesis, mask: [N, T]; references, references_mask: [B, G, R], row n answers problem n // (N / B); all padded at
    the end. Masks are True where a token counts: no STOP. Result: [N] float64, 0 for an empty answer or no reference.
    """
    return _best_f1(*counts("rougeL", hypothesis, mask, references, references_mask))


def rouge_n_ids(hypothesis: Tensor, mask: Tensor, references: Tensor, references_mask: Tensor, n: int) -> Tensor:
    """F1 of the n-grams, each counted as often as both sides have it (Lin 2004, section 2); shapes as `rouge_l_ids`."""
    assert n >= 1, n
    return _best_f1(*counts(f"rouge{n}", hypothesis, mask, references, references_mask))


def counts(kind: str, hypothesis: Tensor, mask: Tensor, references: Tensor,
           references_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What F1 is made of: tokens or n-grams in common [N, G], of the answers [N], of the references [B, G]; shapes as
    `rouge_l_ids`."""
    if kind == "rougeL":
        return longest_common(hypothesis, mask, references, references_mask), mask.sum(1), references_mask.sum(2)
    n = int(kind[5:])
    several, k = references.shape[1], len(hypothesis) // max(len(references), 1)
    ours = (one.repeat_interleave(several, 0) for one in (hypothesis, mask))
    theirs = (one.repeat_interleave(k, 0).flatten(0, 1)[:, None] for one in (references, references_mask))
    overlap = common_ngrams(*ours, *theirs, n)[:, n - 1].view(len(hypothesis), several)
    return overlap, *((one - n + 1).clamp(min=0) for one in (mask.sum(1), references_mask.sum(2)))


def _best_f1(overlap: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """[N] best F1 over G references: [N, G] in common of [N] and [B, G] tokens or n-grams of each side."""
    if not overlap.numel():
        return torch.zeros(len(overlap), dtype=torch.float64, device=overlap.device)
    total = ours[:, None] + theirs.repeat_interleave(len(ours) // len(theirs), 0)
    return (2 * overlap.double() / total.clamp(min=1)).amax(1)


@lru_cache
def _tokenizer(stemmer: bool) -> tokenizers.DefaultTokenizer:
    return tokenizers.DefaultTokenizer(stemmer)


@lru_cache
def _scorer(kinds: tuple[Kind, ...], stemmer: bool) -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(list(kinds), tokenizer=_tokenizer(stemmer))     # its default, which it would log


@lru_cache(maxsize=100_000)
def _tokens(text: str, stemmer: bool) -> tuple[str, ...]:
    return tuple(_tokenizer(stemmer).tokenize(text))


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return "".join(_tokenizer(True).tokenize(word))


def stems(text: str) -> list[str]:
    """The words of a text as rouge_score stems them (NLTK's Porter stemmer, words of four letters or more), in a tenth of its
    time: every word is stemmed once."""
    return [stem for word in _tokenizer(False).tokenize(text) if (stem := _stem(word))]


def sides(texts: Sequence[str], references: Sequence[Sequence[str]], cut: Callable[[str], Sequence[str]],
          cut_reference: Callable[[str], Sequence[str]]) -> list[Tensor]:
    """N texts [N, T] and the references of their B problems [B, G, R] as ids of words, each with its mask: what `counts` takes.

    A problem with fewer references than others has empty ones besides.
    """
    ids: dict[str, int] = {}
    answers, mask = pad([[ids.setdefault(one, len(ids)) for one in cut(text)] for text in texts])
    several = max(map(len, references), default=0)
    filled = [[*one, *[""] * (several - len(one))] for one in references]
    known, known_mask = pad([[ids.setdefault(one, len(ids)) for one in cut_reference(text)] for one in filled for text in one])
    shape = (len(references), several, known.shape[1])
    return [answers, mask, known.view(shape), known_mask.view(shape)]


def rouge_rows(texts: Sequence[str], references: Sequence[Sequence[str]], kinds: Sequence[Kind] = ("rougeL",),
               stemmer: bool = False, device: torch.device | str = "cpu") -> Tensor:
    """[N] float64 F1 of N texts with the best of their problem's references, mean over kinds; `rouge` but batched.

    `references` has B entries of any number of texts; text n answers problem n // (N / B). Words are cut by
    rouge_score's own tokenizer (lower case, split at all but a-z and 0-9); references are cut once and kept. An empty
    reference earns 0.
    """
    both = [one.to(device) for one in sides(texts, references, _tokenizer(stemmer).tokenize,
                                            lambda text: _tokens(text, stemmer))]
    scores = [rouge_l_ids(*both) if kind == "rougeL" else rouge_n_ids(*both, int(kind[5:])) for kind in kinds]
    return torch.stack(scores).mean(0)


def rouge(texts: Sequence[str], references: Sequence[Sequence[str]], kinds: Sequence[Kind] = KINDS,
          stemmer: bool = False) -> dict[Kind, np.ndarray]:
    """rouge_score's F1 in 0..1 of N texts, each with the best of its own references: kind -> [N] float64.

    The best reference is chosen for each example and kind; a corpus score is the mean over examples. Raises
    ValueError for an unknown kind, another number of reference lists than texts, or an example without a reference.
    """
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"no ROUGE {', '.join(sorted(unknown))}; there are: {', '.join(KINDS)}")
    if len(texts) != len(references):
        raise ValueError(f"{len(texts)} texts but {len(references)} lists of references; give one list for each text")
    if missing := [str(index) for index, one in enumerate(references) if not one]:
        raise ValueError(f"no reference for example {', '.join(missing[:3])}; ROUGE needs one or more for each")
    scorer = _scorer(tuple(kinds), stemmer)
    found = [scorer.score_multi(list(known), text) for text, known in zip(texts, references)]
    return {kind: np.array([one[kind].fmeasure for one in found], dtype=np.float64) for kind in kinds}


class Rouge:
    """A `rlseq.task.Metric`: mean F1 by rouge_score, 0 to 100; statistics are [F1, 1].

    `decode(batch, actions)` gives the N texts; `batch.examples[i].references` the texts to compare with.
    """

    def __init__(self, kind: Kind, decode: Callable[[Batch, Tensor], list[str]], stemmer: bool = False) -> None:
        self.kind, self.decode, self.stemmer = kind, decode, stemmer
        self.signature = (f"{kind}|f1|case:lower|tok:a-z0-9|stemmer:{'porter' if stemmer else 'no'}|refs:best|"
                          f"rouge_score:{importlib.metadata.version('rouge-score')}")

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        k = max(len(texts) // max(len(batch), 1), 1)
        score = rouge(texts, [batch.examples[n // k].references for n in range(len(texts))], (self.kind,), self.stemmer)
        return np.stack([score[self.kind], np.ones(len(texts))], axis=1)

    def score(self, total: np.ndarray) -> float:
        return float(100 * total[0] / total[1]) if total[1] else float("nan")
