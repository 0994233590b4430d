"""Sentence BLEU on ids, for all answers of a batch at once, on the device they are on."""

from __future__ import annotations

import torch
from torch import Tensor

from .bits import common_ngrams

ORDER = 4


def sentence_bleu_ids(answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor) -> Tensor:
    """Sentence BLEU [N] in [0, 1], float64, where every id is a word (Papineni et al. 2002).

        BLEU = min(1, exp(1 - r/c)) * exp(mean over n <= 4 of log p_n)

    As `sacrebleu.sentence_bleu` has it: a precision of 0 becomes 1 / (2^i total) for the i-th such order (Chen and
    Cherry 2014, method 3), orders longer than the answer do not count, r is the closest reference length (the shorter
    of two equally close), and no match at all gives 0; but an empty answer to an empty reference earns 1.
    answers, mask: [N, T]; references, reference_mask: [B, R, L], N = B*k, a reference without any token is padding
    unless it is the first. Masks leave STOP out and are True without gaps from the left.
    """
    matches = common_ngrams(answers, mask, references, reference_mask, ORDER)                             # [N, 4]
    length, lengths = mask.sum(1), reference_mask.sum(2)                                                  # [N], [B, R]
    lengths = lengths.repeat_interleave(len(answers) // max(len(references), 1), 0)                       # [N, R]
    reference_length = closest_length(length, lengths)
    orders = torch.arange(ORDER, device=answers.device)
    totals = (length[:, None] - orders).clamp(min=0)                                                      # [N, 4]
    missed = ((matches == 0) & (totals > 0)).cumsum(1)
    precision = torch.where(matches > 0, matches.double(), (-missed).double().exp2()) / totals.clamp(min=1)
    counted = totals > 0
    mean_log = (precision.log() * counted).sum(1) / counted.sum(1).clamp(min=1)
    brevity = (1 - reference_length.double() / length.clamp(min=1)).clamp(max=0)
    right = (length == 0) & (lengths[:, 0] == 0)
    return torch.where(matches.any(1), (brevity + mean_log).exp(), right.double())


def closest_length(length: Tensor, lengths: Tensor) -> Tensor:
    """[N] and [N, R] -> [N] length of the reference closest to the answer's; the shorter of two equally close."""
    real = lengths > 0
    real[:, 0] = True
    distance = (lengths - length[:, None]).abs() * 2 + (lengths > length[:, None])
    return lengths.gather(1, distance.masked_fill(~real, 2**40).argmin(1, keepdim=True)).squeeze(1)
