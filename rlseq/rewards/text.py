"""BLEU, chrF, TER and exact match of text, by sacrebleu's own code: sentence scores as rewards, statistics as metrics.

The only file that imports sacrebleu. Texts are detokenised; BLEU cuts them itself (13a, or by character where a
language writes no spaces). `sentence_*` are in [0, 1]; `*_from_statistics` are on the 0-100 scale people expect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER
from torch import Tensor

from ..types import STOP, Batch
from .ngrams import ORDER

LEAST = -9999999999                                 # sacrebleu's logarithm of 0
Decode = Callable[[Batch, Tensor], list[str]]       # actions [N, T] -> N texts


def bleu_tokenizer(language: str) -> str:
    """Name of sacrebleu's tokenizer for a target language: 13a, zh, or char where words have no spaces between them."""
    code = language.replace("-", "_").split("_")[0]
    return "zh" if code == "zh" else "char" if code in ("ja", "th", "lo", "km", "my", "yue") else "13a"


@lru_cache(maxsize=8)
def _sentence_scorer(tokenizer: str, lowercase: bool = False) -> BLEU:
    return BLEU(tokenize=tokenizer, lowercase=lowercase, effective_order=True)


_chrf = CHRF()
_ter = TER()


@lru_cache(maxsize=2**16)                           # k answers to a source and those of the last epoch repeat
def sentence_bleu(text: str, references: tuple[str, ...], tokenizer: str = "13a") -> float:
    """`sacrebleu.sentence_bleu / 100`: smoothing "exp", effective order, cased; 1 for an empty text that should be."""
    if not text:
        return float("" in references)
    return min(_sentence_scorer(tokenizer).sentence_score(text, references).score / 100, 1.0)


@lru_cache(maxsize=2**16)
def sentence_chrf(text: str, references: tuple[str, ...]) -> float:
    """`sacrebleu.sentence_chrf / 100` (Popović 2015: characters up to 6-grams, beta 2)."""
    if not text:
        return float("" in references)
    return min(_chrf.sentence_score(text, references).score / 100, 1.0)


@lru_cache(maxsize=2**16)
def sentence_ter(text: str, references: tuple[str, ...]) -> float:
    """max(0, 1 - TER): the share of the reference that needs no edit (Snover et al. 2006), by `sacrebleu.sentence_ter`."""
    if not text:
        return float("" in references)
    return max(0.0, 1 - _ter.sentence_score(text, references).score / 100)


def exact(text: str, references: tuple[str, ...]) -> float:
    """1 when the text is one of the references, letter by letter, else 0."""
    return float(text in references)


def sentence_worth(kind: Literal["bleu", "chrf", "ter", "exact"],
                   tokenizer: str = "13a") -> Callable[[str, tuple[str, ...]], float]:
    """The reward of this name: (text, references) -> [0, 1]; `tokenizer` is BLEU's."""
    return {"bleu": lambda text, references: sentence_bleu(text, references, tokenizer), "chrf": sentence_chrf,
            "ter": sentence_ter, "exact": exact}[kind]


def bleu_statistics(texts: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str = "13a",
                    lowercase: bool = False) -> np.ndarray:
    """[N, 10] lengths of the text and its closest reference, then matches and totals of 1- to 4-grams; they add up."""
    scorer = _sentence_scorer(tokenizer, lowercase)
    scores = [scorer.sentence_score(text, list(own)) for text, own in zip(texts, references)]
    rows = [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in scores]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 2 + 2 * ORDER)


def bleu_from_statistics(total: np.ndarray) -> float:
    """Corpus BLEU, 0-100, of summed statistics [10]; equals `sacrebleu.corpus_bleu` on the same texts."""
    length, reference_length, *counts = (int(one) for one in total)
    return BLEU.compute_bleu(counts[:ORDER], counts[ORDER:], length, reference_length, smooth_method="exp").score


def bleus(totals: np.ndarray) -> np.ndarray:
    """`bleu_from_statistics` of many sums at once: [..., 10] -> [...]; a bootstrap asks for thousands."""
    totals = np.trunc(totals)
    length, reference_length, counts = totals[..., 0], totals[..., 1], totals[..., 2:]
    right, total = counts[..., :ORDER], counts[..., ORDER:]
    guessed = np.minimum.accumulate(total > 0, -1)         # shorter than an order: neither it nor a higher one counts
    missed = guessed & (right == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(missed, 0.5 ** missed.cumsum(-1), right) / total       # "exp": half as much for each order missed
        logs = np.where(guessed, np.log(100 * share), LEAST)
        brief = np.where(length < reference_length, np.exp(1 - reference_length / length), 1.0)
    return np.where(right.any(-1), brief * np.exp(logs.mean(-1)), 0.0)


def chrf_statistics(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """[N, 18] for each of 1- to 6-grams: how many in the text, in its best reference, and in both; they add up."""
    rows = []
    for text, own in zip(texts, references):      # sacrebleu has no public way to these; a test holds it to its scores
        rows += _chrf._extract_corpus_statistics([text], [[one] for one in own])
    return np.asarray(rows, dtype=np.float64).reshape(-1, 3 * CHRF.CHAR_ORDER)


def chrf_from_statistics(total: np.ndarray) -> float:
    """Corpus chrF, 0-100, of summed statistics [18]; equals `sacrebleu.corpus_chrf` on the same texts."""
    return _chrf._compute_score_from_stats([int(one) for one in total]).score


def chrfs(totals: np.ndarray) -> np.ndarray:
    """`chrf_from_statistics` of many sums at once: [..., 18] -> [...]."""
    totals = np.trunc(totals).reshape(*totals.shape[:-1], CHRF.CHAR_ORDER, 3)
    text, reference, both = np.moveaxis(totals, -1, 0)
    counts = (text > 0) & (reference > 0)                  # orders that are longer than the text do not count
    precision, recall = (np.divide(both, one, out=np.zeros_like(both), where=counts).sum(-1) / np.maximum(counts.sum(-1), 1)
                         for one in (text, reference))
    weighted = np.maximum(CHRF.BETA ** 2 * precision + recall, np.finfo(float).tiny)
    return 100 * (1 + CHRF.BETA ** 2) * precision * recall / weighted


def ter_statistics(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """[N, 2] edits to the closest reference, shifts among them, and mean words of the references; they add up."""
    rows = []
    for text, own in zip(texts, references):      # sacrebleu has no public way to these; a test holds it to its scores
        rows += _ter._extract_corpus_statistics([text], [[one] for one in own])
    return np.asarray(rows, dtype=np.float64).reshape(-1, 2)


def _signature(scorer: BLEU | CHRF | TER, name: str) -> str:
    scorer.num_refs = -1                            # "var": each problem may have its own number of references
    return f"{name}|{scorer.get_signature()}"


class Bleu:
    """Corpus BLEU of detokenised text, 0-100, with sacrebleu's signature; cased, or of both sides in lower case."""

    def __init__(self, decode: Decode, tokenizer: str = "13a", lowercase: bool = False) -> None:
        self.decode, self.tokenizer, self.lowercase = decode, tokenizer, lowercase
        self.signature = _signature(BLEU(tokenize=tokenizer, lowercase=lowercase), "BLEU")

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        return bleu_statistics(texts, references_of(batch, len(actions)), self.tokenizer, self.lowercase)

    def score(self, total: np.ndarray) -> float:
        return bleu_from_statistics(total)


class Chrf:
    """Corpus chrF of detokenised text, 0-100, with sacrebleu's signature."""

    def __init__(self, decode: Decode) -> None:
        self.decode, self.signature = decode, _signature(CHRF(), "chrF2")

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        return chrf_statistics(texts, references_of(batch, len(actions)))

    def score(self, total: np.ndarray) -> float:
        return chrf_from_statistics(total)


class Ter:
    """Corpus TER of detokenised text in percent, 0 best and above 100 possible, with sacrebleu's signature."""

    lower = True

    def __init__(self, decode: Decode) -> None:
        self.decode, self.signature = decode, _signature(TER(), "TER")

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        return ter_statistics(texts, references_of(batch, len(actions)))

    def score(self, total: np.ndarray) -> float:
        return 100 * float(total[0] / total[1]) if total[1] else float("nan")


class Exact:
    """Share of answers that are a reference letter by letter, in percent."""

    signature = "exact|case:mixed|tok:none"

    def __init__(self, decode: Decode) -> None:
        self.decode = decode

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        pairs = zip(texts, references_of(batch, len(actions)))
        return np.asarray([[exact(text, own), 1.0] for text, own in pairs]).reshape(-1, 2)

    def score(self, total: np.ndarray) -> float:
        return 100 * float(total[0] / total[1]) if total[1] else float("nan")


def references_of(batch: Batch, rows: int) -> list[tuple[str, ...]]:
    """References of the problem that each of N rows answers; every example has `references: tuple[str, ...]`."""
    k = max(rows // max(len(batch), 1), 1)
    return [one.references for one in batch.examples for _ in range(k)]
