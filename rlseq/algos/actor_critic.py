"""Actor-critic with a token-level critic V(x, y_<t) and generalised advantages (Schulman et al. 2016, eq. 16).

    A_t = sum_l (discount trace)^l delta_{t+l},     delta_t = r_t + discount V_{t+1} - V_t,     V after the last action 0
    loss = -sum_t A_t log pi(y_t | y_<t, x) + weight * (V_t - (A_t + V_t as collected))^2

At trace = discount = 1, A_t = G_t - V_t: unbiased whatever the critic says, for V_t knows only what came before y_t. Below 1
less noise is bought with the critic's error. After Bahdanau et al. 2017, an actor-critic for sequence prediction, from
which it departs: their critic reads the reference and values every action (a Q of A outputs), with a target network
and a pretrained critic; this one values prefixes, from the actor's own decoder states, and starts at 0.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..env import SequenceEnv
from ..nn.critic import Critic
from ..nn.policy import Policy
from ..types import Rollout, Scores
from .base import Algorithm, Normalise, check_constant
from .sampled import Sampler, Sampling


@dataclass(frozen=True)
class Valuation:
    """What a critic learns and how it is used; the options of `algo.critic.*`."""

    discount: float = 1.0     # of a reward one step later
    trace: float = 0.95       # lambda: 1 trusts rewards alone, 0 the critic's next value
    weight: float = 0.5       # of its squared error in the loss
    shared: bool = False      # whether the critic's gradient reaches the policy's decoder
    warmup: float = 0.0       # share of the training in which the critic learns alone

    def __post_init__(self) -> None:
        for name in ("discount", "trace", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1]")
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} must be 0 or more")


def advantages(reward: Tensor, value: Tensor, mask: Tensor, discount: float, trace: float) -> Tensor:
    """Generalised advantages [N, T] of rewards, values before each action and mask, all [N, T]; 0 after STOP."""
    value, found = value * mask, torch.zeros_like(value)
    after = ahead = torch.zeros_like(value[:, 0])
    for t in reversed(range(value.shape[1])):
        ahead = reward[:, t] + discount * after - value[:, t] + discount * trace * ahead
        found[:, t] = ahead = ahead * mask[:, t]
        after = value[:, t]
    return found


@torch.no_grad()
def valued(policy: Policy, env: SequenceEnv, sampler: Sampler, critic: Critic, how: Valuation, progress: float) -> Rollout:
    """Drawn answers weighed by their advantages, 0 while the critic warms up; its targets [N, T] are extra["target"]."""
    rollout = sampler.draw(policy, env, progress)
    value = critic(policy.states(rollout)) * rollout.mask
    gain = advantages(rollout.reward, value, rollout.mask, how.discount, how.trace)
    target = gain + value
    seen, error = target[rollout.mask], gain[rollout.mask]
    log = {"value": value.sum() / rollout.mask.sum(),
           "explained": 1 - error.var(correction=0) / seen.var(correction=0).clamp(min=1e-8)}
    rollout = replace(rollout, extra=rollout.extra | {"target": target}, log=rollout.log | log)
    return sampler.finished(rollout, gain * (progress >= how.warmup), env, progress)


def miss(critic: Critic, scores: Scores, rollout: Rollout, drawn: Tensor) -> Tensor:
    """Mean squared error of the critic over the steps drawn [N, T]; carries gradient."""
    error = (critic(scores.states) - rollout.extra["target"]).masked_fill(~drawn, 0.0)
    return error.square().sum() / rollout.count("drawn", drawn).to(error.dtype)


class ActorCritic(Algorithm):
    """Answers drawn from the policy, each token weighed by its generalised advantage."""

    dropout = False

    def __init__(self, sampling: Sampling = Sampling(k=4), critic: Valuation = Valuation(), normalise: Normalise = "sum",
                 constant: int = 1) -> None:
        super().__init__()
        check_constant(constant, normalise)
        self.sampler, self.k, self.critic = Sampler(sampling), sampling.k, critic
        self.normalise, self.constant = normalise, constant
        if critic.trace < 1 or critic.discount < 1:
            self.bias = "advantages rest on the critic's own values where trace or discount is below 1"

    def prepare(self, policy: Policy) -> None:
        super().prepare(policy)
        self.value = Critic(policy.source.width, self.critic.shared).to(policy.first)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        return valued(policy, env, self.sampler, self.value, self.critic, progress)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        scores = self.sampler.score(policy, rollout, self.normalise)
        loss, found = self.sampler.surrogate(policy, rollout, self.normalise, self.constant, scores)
        error = miss(self.value, scores, rollout, self.sampler.drawn(rollout))
        return loss + self.critic.weight * error, found | {"value_loss": error.detach()}
