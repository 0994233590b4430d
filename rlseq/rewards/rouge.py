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

Kind = Literal["rougeL", "rouge1", "rouge2"]
KINDS: tuple[Kind, ...] = ("rougeL", "rouge1", "rouge2")


def rouge_l_ids(hypothesis: Tensor, mask: Tensor, references: Tensor, references_mask: Tensor) -> Tensor:
    """F1 of the longest common subsequence, L tokens, with the best reference (Lin 2004, section 3).

        F1 = 2 P R / (P + R) = 2 L / (|h| + |r|)                 with P = L / |h| and R = L / |r|

    hypothesis, mask: [N, T]; references, references_mask: [B, G, R], row n answers problem n // (N / B); all padded at
    the end. Masks are True where a token counts: no STOP. Result: [N] float64, 0 for an empty answer or no reference.
    """
    return _best(_common_subsequence, hypothesis, mask, references, references_mask)


def rouge_n_ids(hypothesis: Tensor, mask: Tensor, references: Tensor, references_mask: Tensor, n: int) -> Tensor:
    """F1 of the n-grams, each counted as often as both sides have it (Lin 2004, section 2); shapes as `rouge_l_ids`."""
    assert n >= 1, n
    return _best(lambda *sides: _common_ngrams(*sides, n), hypothesis, mask, references, references_mask)


def _best(common: Callable, hypothesis: Tensor, mask: Tensor, references: Tensor, references_mask: Tensor) -> Tensor:
    """[N] best F1 over G references; `common` takes each answer beside each of its references, N * G rows."""
    problems, several, length = references.shape
    rows = len(hypothesis)
    if not rows * several:
        return torch.zeros(rows, dtype=torch.float64, device=hypothesis.device)
    sides = (hypothesis.repeat_interleave(several, 0), mask.repeat_interleave(several, 0),
             references.repeat_interleave(rows // problems, 0).view(rows * several, length),
             references_mask.repeat_interleave(rows // problems, 0).view(rows * several, length))
    overlap, tokens = common(*sides)                                                    # [N * G] each
    return (2 * overlap.double() / tokens.clamp(min=1)).view(rows, several).amax(1)


def _common_subsequence(hypothesis: Tensor, mask: Tensor, reference: Tensor, reference_mask: Tensor):
    """Longest common subsequence of [rows, T] and [rows, R]; tokens of both. One pass over T for all rows at once."""
    length = reference.new_zeros(len(reference), reference.shape[1] + 1)  # per prefix of the reference
    for step in range(hypothesis.shape[1]):
        same = (hypothesis[:, step:step + 1] == reference) & reference_mask & mask[:, step:step + 1]
        length[:, 1:] = torch.maximum(length[:, 1:], length[:, :-1] + same).cummax(1).values
    return length[:, -1], mask.sum(1) + reference_mask.sum(1)


def _common_ngrams(hypothesis: Tensor, mask: Tensor, reference: Tensor, reference_mask: Tensor, n: int):
    """N-grams common to both, clipped; n-grams of both. The m-th copy of an n-gram counts if the reference has m."""
    def windows(ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        ids, real = (torch.nn.functional.pad(one, (0, max(n - one.shape[1], 0))) for one in (ids, real))
        return ids.unfold(1, n, 1), real.unfold(1, n, 1).all(2)       # [rows, windows, n], [rows, windows]

    ours, ours_real = windows(hypothesis, mask)
    theirs, theirs_real = windows(reference, reference_mask)
    again = (ours.unsqueeze(2) == ours.unsqueeze(1)).all(3).tril().sum(2)               # which copy this one is, from 1
    there = ((ours.unsqueeze(2) == theirs.unsqueeze(1)).all(3) & theirs_real.unsqueeze(1)).sum(2)
    return ((again <= there) & ours_real).sum(1), ours_real.sum(1) + theirs_real.sum(1)


@lru_cache
def _tokenizer(stemmer: bool) -> tokenizers.DefaultTokenizer:
    return tokenizers.DefaultTokenizer(stemmer)


@lru_cache
def _scorer(kinds: tuple[Kind, ...], stemmer: bool) -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(list(kinds), tokenizer=_tokenizer(stemmer))     # its default, which it would log


@lru_cache(maxsize=100_000)
def _tokens(text: str, stemmer: bool) -> tuple[str, ...]:
    return tuple(_tokenizer(stemmer).tokenize(text))


def rouge_rows(texts: Sequence[str], references: Sequence[Sequence[str]], kinds: Sequence[Kind] = ("rougeL",),
               stemmer: bool = False, device: torch.device | str = "cpu") -> Tensor:
    """[N] float64 F1 of N texts with the best of their problem's references, mean over kinds; `rouge` but batched.

    `references` has B entries of any number of texts; text n answers problem n // (N / B). Words are cut by
    rouge_score's own tokenizer (lower case, split at all but a-z and 0-9); references are cut once and kept.
    """
    ids: dict[str, int] = {}
    cut = _tokenizer(stemmer).tokenize
    answers, mask = pad([[ids.setdefault(one, len(ids)) for one in cut(text)] for text in texts])
    several = max(map(len, references), default=0)
    filled = [[*one, *[""] * (several - len(one))] for one in references]               # an empty reference earns 0
    known, known_mask = pad([[ids.setdefault(one, len(ids)) for one in _tokens(text, stemmer)]
                             for one in filled for text in one])
    shape = (len(references), several, known.shape[1])
    sides = [one.to(device) for one in (answers, mask, known.view(shape), known_mask.view(shape))]
    scores = [rouge_l_ids(*sides) if kind == "rougeL" else rouge_n_ids(*sides, int(kind[5:])) for kind in kinds]
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
