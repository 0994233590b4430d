"""REINFORCE (Williams 1992) on the reward of the whole sequence, with k answers a source.

    grad J = E[ sum_t (G_t - b) grad log pi(y_t | y_<t, x) ],    G_t the reward from t on

Baselines b, none of which an answer enters itself (each unbiased):
    none           0
    mean           moving mean of earlier batches
    greedy         the reward of the greedy answer (self-critical, Rennie et al. 2017)
    leave_one_out  the mean reward of the k - 1 siblings (Kool et al. 2019)
    learned        v(x), regressed on rewards from the encoder's summary (after Ranzato et al. 2016)
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from .. import dist
from ..decode import sample, sample_and_greedy
from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise, foreseen, weighted_nll, with_reference

Baseline = Literal["none", "mean", "greedy", "leave_one_out", "learned"]


def leave_one_out(reward: Tensor) -> Tensor:
    """Baseline of each answer: the mean reward of its siblings (Kool et al. 2019).

        b_i = (sum_j R_j - R_i) / (k - 1)            reward, result: [B, k], k >= 2
    """
    if reward.shape[1] < 2:
        raise ValueError(f"leave-one-out needs k >= 2 answers per problem, got k={reward.shape[1]}; set algo.k=2 or more")
    return (reward.sum(1, keepdim=True) - reward) / (reward.shape[1] - 1)


def to_go(reward: Tensor) -> Tensor:
    """Rewards [N, T] -> what is still to come, own step included [N, T]."""
    return reward.flip(1).cumsum(1).flip(1)


class Reinforce(Algorithm):
    """Answers drawn from the policy itself, each token weighed by how much better its answer did than the baseline.

    `mle_weight` adds the reference's log-likelihood, `entropy` rewards spread; `constant` is the length that
    normalise=constant divides by.
    """

    dropout = False
    momentum = 0.95                            # of the moving mean

    def __init__(self, k: int = 8, baseline: Baseline = "leave_one_out", mle_weight: float = 0.0,
                 entropy: float = 0.0, normalise: Normalise = "sum", constant: int = 1) -> None:
        super().__init__()
        if k < 1 or (k < 2 and baseline == "leave_one_out"):
            raise ValueError(f"baseline {baseline} needs k >= {2 if baseline == 'leave_one_out' else 1} answers per "
                             f"problem, got k={k}; set algo.k=2 or more, or another algo.baseline")
        if mle_weight < 0 or constant < 1:
            raise ValueError(f"algo.mle_weight={mle_weight} must be 0 or more, algo.constant={constant} 1 or more")
        self.k, self.baseline, self.mle_weight = k, baseline, mle_weight
        self.entropy, self.normalise, self.constant = entropy, normalise, constant
        self.register_buffer("mean", torch.zeros(2))                    # discounted sum of rewards, and of ones
        self.value: nn.Module | None = None

    def prepare(self, policy: Policy) -> None:
        if self.baseline == "learned":
            width = policy.source.width
            self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)).to(policy.first.device)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        greedy = self.baseline == "greedy"
        drawn, best = sample_and_greedy(policy, env, self.k) if greedy else (sample(policy, env, self.k), None)
        total = drawn.grouped(drawn.reward.sum(1))                                         # [B, k]
        if self.baseline == "learned":
            base = self._values(policy, drawn)
        else:
            base = {"none": lambda: 0.0, "greedy": lambda: best.reward.sum(1, keepdim=True),
                    "mean": lambda: self.mean[0] / self.mean[1].clamp(min=1e-8),
                    "leave_one_out": lambda: leave_one_out(total)}[self.baseline]()
        base = (torch.zeros_like(total) + base).view(-1, 1)                                # [N, 1]
        self.mean.mul_(self.momentum).add_(
            (1 - self.momentum) * torch.stack([dist.mean(total.mean()), torch.ones_like(total[0, 0])]))
        log = {"reward": total.mean(), "spread": total.std(1).mean() if self.k > 1 else total.std(correction=0),
               "flat": (total.amax(1) - total.amin(1) < 1e-6).float().mean(), "length": drawn.mask.sum(1).float().mean(),
               "sampled_tokens": drawn.mask.sum() + (best.mask.sum() if best else 0)}
        if best:
            log["greedy_reward"] = best.reward.sum(1).mean()
        rollout = replace(drawn, weight=(to_go(drawn.reward) - base) * drawn.mask, log=log)
        return with_reference(rollout, env, self.mle_weight * self.k) if self.mle_weight else rollout

    def _values(self, policy: Policy, rollout: Rollout) -> Tensor:
        """v(x) [B, 1]; the encoder is not trained by it."""
        with torch.no_grad():
            summary = policy.encode(rollout.batch).summary
        return self.value(summary.detach())

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        scores = policy.score(rollout, detail=self.entropy > 0, foreseen=foreseen(rollout, self.normalise))
        rows = len(rollout.batch) * self.k
        drawn = rollout.mask & (torch.arange(len(rollout.mask), device=rollout.mask.device) % rollout.k < self.k)[:, None]
        loss = weighted_nll(scores, rollout, self.normalise, rows, self.constant)
        with torch.no_grad():
            found = {"sampled_nll": -(scores.logp * drawn).sum() / drawn.sum(),
                     "off_policy": ((scores.logp - rollout.logp).abs() * drawn).sum() / drawn.sum()}
        if self.entropy:
            spread = (scores.entropy * drawn).sum() / dist.mean(drawn.sum().float())          # of all ranks
            loss, found["entropy"] = loss - self.entropy * spread, spread.detach()
        if self.value is not None:
            total = rollout.grouped(rollout.reward.sum(1))[:, :self.k]
            miss = (self._values(policy, rollout) - total).square().mean()
            loss, found["value_loss"] = loss + miss, miss.detach()
        return loss, found
