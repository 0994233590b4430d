"""Proximal policy optimisation (Schulman et al. 2017): several gradient steps on the same answers, held near what drew them.

    loss = -sum_t min(ratio_t A_t, clamp(ratio_t, 1 - clip, 1 + clip) A_t) + weight * critic's squared error,
    ratio_t = pi(y_t | y_<t, x) / pi_drawn(y_t | y_<t, x)

A_t are generalised advantages from a token-level critic, of the values at collection. On the first step every ratio is 1
and the gradient that of the actor-critic; dropout is off, so that drawing and scoring agree. Departs from common code:
neither the critic's loss nor its values are clipped, and advantages are not standardised over the batch.
"""

from torch import Tensor

from ..env import SequenceEnv
from ..nn.critic import Critic
from ..nn.policy import Policy
from ..types import Rollout
from .actor_critic import Valuation, miss, valued
from .base import Algorithm, Normalise, check_constant, normalised
from .reuse import Reuse, clipped
from .sampled import Sampler, Sampling


class PPO(Algorithm):
    """The actor-critic, with clipped ratios and several passes over what was collected."""

    dropout = False
    bias = "ratios are clipped, and below trace 1 advantages rest on the critic's own values"

    def __init__(self, sampling: Sampling = Sampling(k=4), critic: Valuation = Valuation(), reuse: Reuse = Reuse(),
                 normalise: Normalise = "sum", constant: int = 1) -> None:
        super().__init__()
        check_constant(constant, normalise)
        self.sampler, self.k, self.critic, self.reuse = Sampler(sampling), sampling.k, critic, reuse
        self.normalise, self.constant, self.passes = normalise, constant, reuse.passes

    def prepare(self, policy: Policy) -> None:
        super().prepare(policy)
        self.value = Critic(policy.source.width, self.critic.shared).to(policy.first)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        return valued(policy, env, self.sampler, self.value, self.critic, progress)

    def part(self, rollout: Rollout, number: int) -> Rollout:
        return self.reuse.part(rollout, number)

    def enough(self, found: dict[str, float]) -> bool:
        return self.reuse.enough(found)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        scores, drawn = policy.score(rollout, detail=self.sampler.regular.detail), self.sampler.drawn(rollout)
        losses, found = clipped(scores, rollout, drawn, self.reuse.clip)
        loss = normalised(losses, rollout, self.normalise, len(rollout.batch) * self.k, self.constant)
        price, more = self.sampler.penalty(policy, scores, rollout, self.normalise, self.constant)
        error = miss(self.value, scores, rollout, drawn)
        return loss + price + self.critic.weight * error, found | more | {"value_loss": error.detach()}
