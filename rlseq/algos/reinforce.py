"""REINFORCE (Williams 1992) on the reward of the whole sequence, with k answers a source.

    grad J = E[ sum_t (G_t - b) grad log pi(y_t | y_<t, x) ],    G_t the reward from t on

Baselines b, none of which an answer enters itself (each unbiased):
    none           0
    mean           moving mean of earlier batches
    greedy         the reward of the greedy answer (self-critical, Rennie et al. 2017)
    leave_one_out  the mean reward of the k - 1 siblings (Kool et al. 2019)
    learned        v(x), regressed on rewards from the encoder's summary (after Ranzato et al. 2016)
"""

from typing import Literal

import torch
from torch import Tensor, nn

from .. import dist
from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise, check_constant
from .sampled import MOMENTUM, Sampler, Sampling, ahead, check_siblings, leave_one_out

Baseline = Literal["none", "mean", "greedy", "leave_one_out", "learned"]


class Reinforce(Algorithm):
    """Answers drawn from the policy itself, each token weighed by how much better its answer did than the baseline.

    Baselines are of the reward to go, which is the whole reward unless steps earn their own; a sibling that has ended
    goes on with what its last step earned. `constant` is the length that normalise=constant divides by.
    """

    dropout = False

    def __init__(self, sampling: Sampling = Sampling(), baseline: Baseline = "leave_one_out",
                 normalise: Normalise = "sum", constant: int = 1) -> None:
        super().__init__()
        if baseline == "leave_one_out":
            check_siblings(sampling.k)
        check_constant(constant, normalise)
        self.sampler, self.k = Sampler(sampling), sampling.k
        self.baseline, self.normalise, self.constant = baseline, normalise, constant
        self.register_buffer("mean", torch.zeros(2))                    # discounted sum of rewards, and of ones
        self.value: nn.Module | None = None

    def prepare(self, policy: Policy) -> None:
        super().prepare(policy)
        if self.baseline == "learned":
            width = policy.source.width
            self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)).to(policy.first.device)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        drawn = self.sampler.draw(policy, env, progress, beside=self.baseline == "greedy")
        goes = ahead(drawn.reward, drawn.mask)                                             # [N, T]
        base = {"none": lambda: 0.0, "greedy": lambda: drawn.extra["greedy"],
                "mean": lambda: self.mean[0] / self.mean[1].clamp(min=1e-8),
                "leave_one_out": lambda: leave_one_out(drawn.grouped(goes)).flatten(0, 1),
                "learned": lambda: self._values(policy, drawn).repeat_interleave(self.k, 0)}[self.baseline]()
        seen = self._worth(drawn).mean()
        self.mean.mul_(MOMENTUM).add_((1 - MOMENTUM) * torch.stack([dist.mean(seen), torch.ones_like(seen)]))
        return self.sampler.finished(drawn, goes - base, env, progress)

    def _worth(self, rollout: Rollout) -> Tensor:
        """The mean reward to go of each drawn answer [B, k]: its reward, where that comes last."""
        goes = (ahead(rollout.reward, rollout.mask) * rollout.mask).sum(1) / rollout.mask.sum(1)
        return rollout.grouped(goes)[:, :self.k]

    def _values(self, policy: Policy, rollout: Rollout) -> Tensor:
        """v(x) [B, 1]; the encoder is not trained by it."""
        with torch.no_grad():
            summary = policy.encode(rollout.batch).summary
        return self.value(summary.detach())

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        loss, found = self.sampler.surrogate(policy, rollout, self.normalise, self.constant)
        if self.value is not None:
            miss = (self._values(policy, rollout) - self._worth(rollout)).square().mean()
            loss, found["value_loss"] = loss + miss, miss.detach()
        return loss, found
