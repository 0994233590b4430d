"""Dropout (Srivastava et al. 2014) with cheap random numbers on a CPU, where torch's own spends its time drawing them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16                       # of a random number; so a share of 1/10 becomes 6554/65536


def kept(like: Tensor, share: float) -> Tensor:
    """A mask like a tensor: 0 for about the share that is dropped, for the others what keeps the mean as it was."""
    least = min(round(share * 2**BITS), 2**BITS - 1)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-2**63, None)      # four numbers to a word
    numbers = words.view(torch.int16)[:like.numel()].view(like.shape)
    return (numbers >= least - 2**(BITS - 1)).to(like.dtype).mul_(1 / (1 - least / 2**BITS))


def dropout(x: Tensor, share: float, on: bool) -> Tensor:
    """`F.dropout`, in distribution."""
    if not on or share in (0.0, 1.0) or x.device.type != "cpu":
        return F.dropout(x, share, on)
    return x * kept(x, share)


class Dropout(nn.Dropout):
    """`nn.Dropout` by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
