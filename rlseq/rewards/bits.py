"""What BLEU and ROUGE count, for many pairs of texts at once: equality of tokens as bits of 64-bit words.

    equal[t, w, n] has bit j set where token t of answer n is token 64 w + j of its reference

One step along the answers is a few operations on all pairs, each for 64 tokens of the reference at a time; nothing of
size [N, T, L] is made, and answers that have ended take no part. `plain.py` says the same in plain form.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

WORD = 64
BLOCK = 1 << 13        # words of equality made at once: 64 KiB, for a core's cache; larger ones wake torch's other threads


def longest_common(answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor) -> Tensor:
    """Length of the longest common subsequence of each answer and each of its references: [N, R].

    Bit-parallel dynamic programme (Crochemore et al. 2001): from all ones, V = (V + (V & M)) | (V & ~M) with each
    token's places M in the reference; a 0 is one token in common. A sum runs on from word to word of a reference: word
    w sees token t at step t + w, when the carry of word w - 1 is known, so that all words are worked on at once.
    answers: [N, T] ids >= 0; references: [B, R, L], N = B*k; masks: True where a token counts.
    """
    pairs = _Pairs(answers, mask, references, reference_mask)
    state = torch.full((4, pairs.words, pairs.count), -1, device=answers.device)
    state[1] = 0
    for block in pairs.equal(late=True):                                               # [steps, W, columns]
        still, carry, hit, total = state[..., :block.shape[2]]
        for places in block:
            torch.bitwise_and(still, places, out=hit)
            torch.add(still, hit, out=total)
            if pairs.words > 1:
                total += carry
                carry[1:] = ((hit | (still & ~total)) < 0)[:-1]
            still -= hit
            still |= total
    return pairs.unsorted(ones(~state[0]).sum(0).view(len(answers), pairs.several))


def common_ngrams(answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor, orders: int) -> Tensor:
    """N-grams of each answer that one of its references has too: [N, orders] for n = 1 .. orders.

    Each counts as often as the reference that has it most often: from the left, every n-gram of the answer takes a
    place of it in the reference that is still free. An n-gram is known by its last token: E_n[t] = E_1[t] &
    (E_n-1[t - 1] << 1), with the places in the reference as bits. Shapes as in `longest_common`; masks without gaps.
    """
    pairs = _Pairs(answers, mask, references, reference_mask)
    state = torch.full((4, orders, pairs.words, pairs.count), -1, device=answers.device)
    state[0, 1:] = 0                                                # before the first token only a 1-gram may follow
    count = torch.zeros(orders, len(answers), dtype=torch.long, device=answers.device)
    for block in pairs.equal(late=False):                                              # [steps, W, columns]
        follows, free, here, taken = state[..., :block.shape[2]]
        shorter, longer, counted = here[:-1], follows[1:], count[:, :block.shape[2] // pairs.several]
        for places in block:
            torch.bitwise_and(follows, places, out=here)
            torch.bitwise_left_shift(shorter, 1, out=longer)
            if pairs.words > 1:
                longer[:, 1:] |= shorter[:, :-1] < 0                                   # into the next word
            here &= free
            torch.neg(here, out=taken)
            taken &= here                                                              # the lowest bit
            if pairs.words > 1:
                taken *= (here != 0).cumsum(1) == 1                                    # of the first word that has any
            free ^= taken
            if pairs.several > 1:
                counted += (here != 0).any(1).unflatten(1, (-1, pairs.several)).any(2)
    if pairs.several == 1:
        count = ones(~state[1]).sum(1)
    return pairs.unsorted(count.t())


class _Pairs:
    """Answers [N, T] beside their references [B, R, L], the longest answer first; W = ceil(L / 64) words, N*R columns."""

    def __init__(self, answers: Tensor, mask: Tensor, references: Tensor, reference_mask: Tensor) -> None:
        (rows, steps), (problems, self.several, width) = answers.shape, references.shape
        self.words, self.count, self.lane = max(-(-width // WORD), 1), rows * self.several, _lane(answers, references)
        mask = mask.to(self.lane)
        place = torch.arange(1, steps + 1, dtype=self.lane, device=answers.device)
        length = (mask * place).amax(1) if steps else mask.sum(1)                      # through the last real token
        self.active = length.bincount(minlength=steps + 1).flip(0).cumsum(0).flip(0)[1:].tolist()
        self.order = length.argsort(descending=True)
        ours = answers.to(self.lane, copy=True).add_(1).mul_(mask)                     # 0 where masked
        self.ours = ours.index_select(0, self.order).t()[:, None].repeat_interleave(self.several, 2)        # [T, 1, N*R]
        theirs = references.to(self.lane, copy=True).add_(2).mul_(reference_mask.to(self.lane)).sub_(1)     # -1 where masked
        problem = self.order // max(rows // max(problems, 1), 1)
        self.theirs = pad(theirs.index_select(0, problem), (0, self.words * WORD - width), value=-1)

    def unsorted(self, values: Tensor) -> Tensor:
        """[N, ..] of the sorted answers -> in the order in which they came."""
        return torch.empty_like(values).index_copy_(0, self.order, values)

    def equal(self, late: bool) -> Iterator[Tensor]:
        """Words of equality [steps, W, columns] of the answers that go on, some steps at a time.

        With `late`, word w is w steps behind. A token of the answer stands in all lanes of a word beside as many of the
        reference: token 16 i + b of it in lane i when bit b is found, if ids take 16 bits (little-endian). A block is
        overwritten by the next one.
        """
        ours, active, bits = self.ours, self.active, torch.iinfo(self.lane).bits
        lanes = WORD // bits
        theirs = self.theirs.view(-1, self.words, lanes, bits).permute(3, 1, 0, 2).reshape(bits, self.words, -1).contiguous()
        if late and self.words > 1:
            ours = torch.cat([pad(ours, (0, 0, 0, 0, w, self.words - 1 - w)) for w in range(self.words)], 1)
            active = active[:1] * (self.words - 1) + active
        room = torch.empty(2, max(BLOCK, self.words * self.count) * lanes, dtype=self.lane, device=ours.device)
        everywhere, step = sum(1 << bits * lane for lane in range(lanes)), 0
        while step < len(active) and active[step] * self.several:
            columns = active[step] * self.several
            mine = ours[step:step + max(BLOCK // (self.words * columns), 1), :, :columns]
            mine, beside = (mine.long() * everywhere).view(self.lane), theirs[:, :, :columns * lanes]
            found, same = room[:, :len(mine) * self.words * columns * lanes].view(2, len(mine), self.words, -1)
            torch.eq(mine, beside[bits - 1], out=found)              # into the ids' own type: bools take 9 times as long
            for bit in reversed(range(bits - 1)):
                torch.eq(mine, beside[bit], out=same)
                torch.add(same, found, alpha=2, out=found)
            yield found.view(torch.int64)
            step += len(mine)


def _lane(*ids: Tensor) -> torch.dtype:
    """The narrowest integers that hold all ids, and two values more."""
    largest = max((int(one.max()) for one in ids if one.numel()), default=0) + 2
    return next(one for one in (torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(one).max)


def ones(words: Tensor) -> Tensor:
    """Bits set in each int64 word: sums of 1, 2, then 4 neighbouring bits, then of the bytes by a product."""
    words = words - (words >> 1 & 0x5555555555555555)
    words = (words & 0x3333333333333333) + (words >> 2 & 0x3333333333333333)
    words = words + (words >> 4) & 0x0F0F0F0F0F0F0F0F
    return words * 0x0101010101010101 >> 56
