"""ROUGE as papers on dialogue summaries print it, by py-rouge 1.1 (github.com/Diego999/py-rouge): to compare with them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..types import STOP, Batch
from .rouge import Kind, counts, sides, stems

WEIGHT = 1.2         # weight_factor of the example in py-rouge's documentation, which papers follow


def paper_rouge(texts: Sequence[str], references: Sequence[Sequence[str]], kind: Kind) -> Tensor:
    """[N] float64 F1 of stemmed words, the mean over each reference of the text's problem; 0 without one.

        P = (c / |h|)^e,  R = (c / |r|)^e,  F1 = 2 P R / (P + R)         c: in common, of n-grams or the subsequence

    e is 1 for n-grams. For the longest common subsequence it is 1 / 1.2, a quirk of the program: the weight of ROUGE-W
    (Lin 2004, section 4) is applied to plain ROUGE-L too, which makes 38.7 into 45.3. `references` has B entries, text n
    answers problem n // (N / B). Departs from py-rouge, which knows irregular forms besides (0.02 to 0.05 points lower on
    DialogSum's summaries), and which cuts texts after 665 bytes or as it is told, here longer than any.
    """
    common, ours, theirs = counts(kind, *sides(texts, references, stems, stems))
    k = len(texts) // max(len(references), 1)
    number = torch.tensor([len(one) for one in references]).repeat_interleave(k)         # [N] references that there are
    power = 1 / WEIGHT if kind == "rougeL" else 1.0
    precision, recall = ((common / size.clamp(min=1).double()) ** power
                         for size in (ours[:, None], theirs.repeat_interleave(k, 0)))    # [N, G]
    f1 = 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(torch.float64).tiny)
    return f1.sum(1) / number.clamp(min=1)


class PaperRouge:
    """A `rlseq.task.Metric`: mean of `paper_rouge`, 0 to 100; statistics are [F1, 1]. Arguments as of `rouge.Rouge`."""

    def __init__(self, kind: Kind, decode: Callable[[Batch, Tensor], list[str]]) -> None:
        self.kind, self.decode = kind, decode
        power = f"p,r:^1/{WEIGHT}|" if kind == "rougeL" else ""
        self.signature = (f"{kind}|f1|{power}case:lower|tok:a-z0-9|stemmer:porter|refs:mean|like:py-rouge|"
                          f"rouge_score:{importlib.metadata.version('rouge-score')}")

    def rows(self, batch: Batch, actions: Tensor, mask: Tensor) -> np.ndarray:
        texts = self.decode(batch, actions.masked_fill(~mask, STOP))
        score = paper_rouge(texts, [one.references for one in batch.examples], self.kind).numpy()
        return np.stack([score, np.ones_like(score)], axis=1)

    def score(self, total: np.ndarray) -> float:
        return float(100 * total[0] / total[1]) if total[1] else float("nan")
