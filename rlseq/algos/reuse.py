"""Several gradient steps on the same answers: minibatches, the clipped ratio, and when to stop (Schulman et al. 2017)."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from .. import dist
from ..build import Within
from ..types import Rollout, Scores


@dataclass(frozen=True)
class Reuse:
    """How often answers are learnt from, and how far from what drew them; the options of `algo.reuse.*`."""

    epochs: Annotated[int, Within(1, 1000)] = 2       # over the collected answers
    minibatches: Annotated[int, Within(1, 1000)] = 2  # gradient steps an epoch, each on a share of the problems
    clip: float = 0.2         # the ratio counts up to 1 + clip and down to 1 - clip
    stop: float = 0.0         # estimated KL, nats a token, above which the rest of the steps is left out; 0: never

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.minibatches < 1:
            raise ValueError(f"epochs={self.epochs} and minibatches={self.minibatches} must be 1 or more")
        if not 0 < self.clip < 1 or self.stop < 0:
            raise ValueError(f"clip={self.clip} must lie between 0 and 1, stop={self.stop} be 0 (never) or more")

    @property
    def passes(self) -> int:
        return self.epochs * self.minibatches

    def part(self, rollout: Rollout, number: int) -> Rollout:
        """The minibatch of gradient step `number`: every so manieth problem of the whole batch, the same stripes each
        epoch. Of a rank's share it may hold none."""
        share = dist.own(len(rollout.batch))
        stripes = min(self.minibatches, share.total)
        if stripes == 1:
            return rollout
        first = (number - share.held.start) % stripes
        return rollout.take(torch.arange(first, len(rollout.batch), stripes, device=rollout.mask.device))

    def enough(self, found: dict[str, float]) -> bool:
        """Whether the policy has moved past `stop` on these answers."""
        return self.stop > 0 and found["update_kl"] > self.stop


def clipped(scores: Scores, rollout: Rollout, drawn: Tensor, clip: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate of every step drawn [N, T] (Schulman et al. 2017, eq. 7) as losses [N, T], and what to log.

        -min(ratio w, clamp(ratio, 1 - clip, 1 + clip) w),     ratio = pi(y_t) / pi_drawn(y_t)

    Steps of references mixed in lose -w log pi. `update_kl` estimates KL(pi_drawn || pi), nats a step, by
    ratio - 1 - log ratio, which is never negative (Schulman 2020, k3).
    """
    moved = (scores.logp - rollout.logp).masked_fill(~drawn, 0.0)                                # log ratio [N, T]
    ratio, weight = moved.exp(), rollout.weight * rollout.mask
    bounded = ratio.clamp(1 - clip, 1 + clip)
    with torch.no_grad():
        steps = rollout.count("drawn", drawn)
        found = {"update_kl": (ratio - 1 - moved).sum() / steps,
                 "clipped": ((bounded * weight < ratio * weight) & drawn).sum() / steps}
    return torch.where(drawn, -torch.minimum(ratio * weight, bounded * weight), -(scores.logp * weight)), found
