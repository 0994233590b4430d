"""Group relative policy optimisation (Shao et al. 2024): PPO's clipped ratio, the group of k answers in place of a critic.

    A_i = (R_i - mean_j R_j) / (std_j R_j + 1e-4),     the same for every token of answer i

By default each answer's tokens are divided by its length, as in the paper. Dr. GRPO (Liu et al. 2025) leaves out both
divisions, `std=false normalise=constant`: then, at ratio 1, the expected gradient is (k - 1) / k times that of the
expected reward (over the constant), for R_i - mean_j R_j is (k - 1) / k times R_i minus the mean of the other answers.
"""

from torch import Tensor

from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise, check_constant, normalised
from .reuse import Reuse, clipped
from .sampled import Sampler, Sampling


def centred(reward: Tensor, std: bool) -> Tensor:
    """Rewards of groups [B, k] minus their mean and, with `std`, over their standard deviation (of k - 1) + 1e-4."""
    gain = reward - reward.mean(1, keepdim=True)
    return gain / (reward.std(1, keepdim=True) + 1e-4) if std else gain


class GRPO(Algorithm):
    """Answers compared with their siblings, held near what drew them."""

    dropout = False

    def __init__(self, sampling: Sampling = Sampling(), std: bool = True, reuse: Reuse = Reuse(epochs=1),
                 normalise: Normalise = "sequence", constant: int = 1) -> None:
        super().__init__()
        if sampling.k < 2:
            raise ValueError(f"a group needs k >= 2 answers per problem, got k={sampling.k}; set algo.k=2 or more")
        check_constant(constant, normalise)
        self.sampler, self.k, self.std, self.reuse = Sampler(sampling), sampling.k, std, reuse
        self.normalise, self.constant, self.passes = normalise, constant, reuse.passes
        self.bias = "(k - 1) / k of the gradient, and ratios are clipped" + (
            "; a group's std weighs its problem" if std else "") + (
            "; each answer is divided by its length" if normalise == "sequence" else "")

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        drawn = self.sampler.draw(policy, env, progress)
        gain = centred(drawn.grouped(drawn.reward.sum(1)), self.std)
        return self.sampler.finished(drawn, gain.view(-1, 1) * drawn.mask, env, progress)

    def part(self, rollout: Rollout, number: int) -> Rollout:
        return self.reuse.part(rollout, number)

    def enough(self, found: dict[str, float]) -> bool:
        return self.reuse.enough(found)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        scores = policy.score(rollout, detail=self.sampler.regular.detail)
        losses, found = clipped(scores, rollout, self.sampler.drawn(rollout), self.reuse.clip)
        loss = normalised(losses, rollout, self.normalise, len(rollout.batch) * self.k, self.constant)
        price, more = self.sampler.penalty(policy, scores, rollout, self.normalise, self.constant)
        return loss + price, found | more
