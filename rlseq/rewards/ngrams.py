"""Sentence BLEU on ids, for all answers of a batch at once, on the device they are on."""

from __future__ import annotations

import torch
from torch import Tensor

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
    k = answers.shape[0] // max(references.shape[0], 1)
    references, reference_mask = (one.repeat_interleave(k, 0) for one in (references, reference_mask))   # [N, R, L]
    matches = ngram_matches(answers, mask, references, reference_mask)                                    # [N, 4]
    length = mask.sum(1)                                                                                  # [N]
    reference_length = closest_length(length, reference_mask)
    orders = torch.arange(ORDER, device=answers.device)
    totals = (length[:, None] - orders).clamp(min=0)                                                      # [N, 4]
    missed = ((matches == 0) & (totals > 0)).cumsum(1)
    precision = torch.where(matches > 0, matches.double(), (-missed).double().exp2()) / totals.clamp(min=1)
    counted = totals > 0
    mean_log = (precision.log() * counted).sum(1) / counted.sum(1).clamp(min=1)
    brevity = (1 - reference_length.double() / length.clamp(min=1)).clamp(max=0)
    right = (length == 0) & ~reference_mask[:, 0].any(1)
    return torch.where(matches.any(1), (brevity + mean_log).exp(), right.double())


def ngram_matches(answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor) -> Tensor:
    """Clipped matches of 1-grams to 4-grams [N, 4]: an n-gram counts as often as the reference that has it most often.

    answers, mask: [N, T]; references, reference_mask: [N, R, L]. Exact, without hashing: two n-grams are equal where
    an n-1-gram and the next token are, so equality runs along the diagonals of a token-by-token comparison.
    """
    same = _equal(answers[:, None], mask[:, None], references, reference_mask)          # [N, R, T, L]
    own = _equal(answers, mask, answers, mask)                                          # [N, T, T]
    same_tokens, own_tokens, matches = same, own, []
    for order in range(ORDER):
        if order:
            same, own = _longer(same, same_tokens, order), _longer(own, own_tokens, order)
        allowed = same.sum(-1).amax(1)                                                  # [N, t] most in one reference
        before = own.tril(diagonal=-1).sum(-1)                                          # [N, t] earlier in the answer
        matches.append((before < allowed).sum(1))
    return torch.stack(matches, 1)


def closest_length(length: Tensor, reference_mask: Tensor) -> Tensor:
    """[N], [N, R, L] -> [N] length of the reference closest to the answer's; the shorter of two equally close."""
    lengths = reference_mask.sum(2)                                                     # [N, R]
    real = lengths > 0
    real[:, 0] = True
    distance = (lengths - length[:, None]).abs() * 2 + (lengths > length[:, None])
    return lengths.gather(1, distance.masked_fill(~real, 2**40).argmin(1, keepdim=True)).squeeze(1)


def _equal(one: Tensor, one_mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
    return (one[..., :, None] == other[..., None, :]) & one_mask[..., :, None] & other_mask[..., None, :]


def _longer(ngrams: Tensor, tokens: Tensor, order: int) -> Tensor:
    """Equality of n-grams at [.., i, j] -> of n+1-grams: equal here, and the tokens `order` further on are equal."""
    return ngrams[..., :-1, :-1] & tokens[..., order:, order:]
