"""Sums over all actions of a copy head's mixture, without the mixture."""

import torch
from torch import Tensor

from ..types import NEVER
from .attention import fold
from .encoders import Memory


def log_share(share: Tensor) -> Tensor:
    """The logarithm, NEVER of nothing."""
    return share.clamp(min=1e-37).log().masked_fill(share == 0, NEVER)


class SourceWords:
    """What the words of the source add to sums over all actions, with the vocabulary's own at hand:

        sum_w f(P(w)) = sum_w f(g P_vocabulary(w)) + sum_{w in the source} [f(P(w)) - f(g P_vocabulary(w))]

    words: [N, T, S] log-probability of writing the word at each source position; attention: [N, T, S]; copy: log (1 - g)
    [N, T]; size: words of the vocabulary.
    """

    def __init__(self, words: Tensor, size: int, attention: Tensor, copy: Tensor, memory: Memory) -> None:
        ids, self.size, self.shape = memory.batch.extra["copy_ids"], size, copy.shape
        same = (ids.unsqueeze(2) == ids.unsqueeze(1)) & memory.mask.unsqueeze(1)
        first = same.to(torch.uint8).argmax(2)                                             # [B, S]: where a word is first
        once = memory.mask & (first == torch.arange(ids.shape[1], device=ids.device))
        self.words = fold(words, len(ids))                                                 # [B, k*T, S] from here on
        whole = torch.zeros_like(self.words).scatter_add(2, first.unsqueeze(1).expand_as(self.words),
                                                         fold(attention, len(ids)))
        self.mixed = torch.logaddexp(self.words, log_share(whole) + fold(copy.unsqueeze(2), len(ids)))
        self.known = (once & (ids < size)).unsqueeze(1)
        self.copied = (once & (ids >= size)).unsqueeze(1) & (whole > 0)                    # not where nothing points at them

    def details(self, write: Tensor, entropy: Tensor, smooth: Tensor) -> tuple[Tensor, None, Tensor]:
        """Entropy and smoothing term [N, T] of the mixture, from log g and those of the vocabulary alone, [N, T]."""
        mixed, words = self.mixed * (self.known | self.copied), self.words * self.known

        def among(of_mixed: Tensor, of_words: Tensor) -> Tensor:
            return (of_mixed - of_words).sum(2).view(self.shape)

        total = self.size * (smooth + write) + among(mixed, words)
        entropy = write.exp() * (entropy - write) - among(mixed.exp() * mixed, words.exp() * words)
        return entropy, None, total / (self.size + self.copied.sum(2).view(self.shape))

    def power(self, written: Tensor, power: float) -> Tensor:
        """log sum_w P(w)^power [N, T], from log sum_w (g P_vocabulary(w))^power."""
        written = fold(written.unsqueeze(2), len(self.words))                              # [B, k*T, 1]
        mixed = (power * self.mixed).masked_fill(~(self.known | self.copied), NEVER)
        words = (power * self.words).masked_fill(~self.known, NEVER)
        most = torch.maximum(written, mixed.amax(2, keepdim=True)).detach()
        found = (written - most).exp() + ((mixed - most).exp() - (words - most).exp()).sum(2, keepdim=True)
        return (found.log() + most).view(self.shape)
