"""What `bits.py` counts, in plain form: these say what is computed, and a test holds the two equal."""

from __future__ import annotations

import torch
from torch import Tensor


def longest_common(answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor) -> Tensor:
    """Length of the longest common subsequence of each answer [N, T] and each of its references [B, R, L]: [N, R].

        c(t, j) = max(c(t - 1, j - 1) + [a_t = r_j], c(t - 1, j), c(t, j - 1))
    """
    k = len(answers) // max(len(references), 1)
    references, reference_mask = (one.repeat_interleave(k, 0) for one in (references, reference_mask))      # [N, R, L]
    best = references.new_zeros(*references.shape[:2], references.shape[2] + 1)                              # c(t, .)
    for token, real in zip(answers.unbind(1), mask.unbind(1), strict=True):
        same = (token[:, None, None] == references) & reference_mask & real[:, None, None]
        best[..., 1:] = torch.maximum(best[..., 1:], best[..., :-1] + same).cummax(2).values
    return best[..., -1]


def common_ngrams(answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor, orders: int) -> Tensor:
    """N-grams of each answer [N, T] that one of its references [B, R, L] has too: [N, orders] for n = 1 .. orders.

    Each counts as often as the reference that has it most often. Two n-grams are equal where an n-1-gram and the next
    token are, so equality runs along the diagonals of a token-by-token comparison.
    """
    k = len(answers) // max(len(references), 1)
    references, reference_mask = (one.repeat_interleave(k, 0) for one in (references, reference_mask))      # [N, R, L]
    tokens = _equal(answers[:, None], mask[:, None], references, reference_mask)                            # [N, R, T, L]
    own_tokens = _equal(answers, mask, answers, mask)                                                       # [N, T, T]
    same, own, counts = tokens, own_tokens, []
    for order in range(orders):
        if order:
            same, own = _longer(same, tokens, order), _longer(own, own_tokens, order)
        allowed = same.sum(-1).amax(1)                                                  # [N, t] most in one reference
        before = own.tril(diagonal=-1).sum(-1)                                          # [N, t] earlier in the answer
        counts.append((before < allowed).sum(1))
    return torch.stack(counts, 1)


def _equal(one: Tensor, one_mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
    return (one[..., :, None] == other[..., None, :]) & one_mask[..., :, None] & other_mask[..., None, :]


def _longer(ngrams: Tensor, tokens: Tensor, order: int) -> Tensor:
    """Equality of n-grams at [.., i, j] -> of n+1-grams: equal here, and the tokens `order` further on are equal."""
    return ngrams[..., :-1, :-1] & tokens[..., order:, order:]
