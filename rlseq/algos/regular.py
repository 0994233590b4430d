"""What keeps a policy near the one it came from, or wide: KL to the pretrained policy, and entropy.

With l_t = log pi(y_t | y_<t) - log pi0(y_t | y_<t) at the actions drawn, a step's KL is estimated by (Schulman 2020)

    k1  l          k2  l^2 / 2          k3  exp(-l) - 1 + l          exact  sum_a pi(a) (log pi(a) - log pi0(a))

What the expected gradient is of, on-policy and summed over steps, depends on where the estimate stands; "the steps" are
taken at the prefixes that were visited, as if those were given, "answers" follow how visiting changes as well:

    reward  k1 KL of answers, E log pi(y) / pi0(y)        k2, k3, exact: not of the KL
    loss    k2, exact KL of the steps        k3 KL of the steps the other way round, pi0 || pi        k1 nothing: refused
    both    k1, k3, exact KL of answers (exact with the least noise)        k2 E sum_t k2

Entropy likewise: in the loss, of the steps; in the reward, as -log pi(y_t), of answers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from .. import dist
from ..nn.policy import Policy
from ..schedule import Schedule
from ..types import Rollout, Scores
from .base import Normalise, normalised

Estimator = Literal["k1", "k2", "k3", "exact"]


@dataclass(frozen=True)
class Kl:
    """The price of a nat of KL to the pretrained policy; `exact` needs [N, T, A] twice.

    With a `target` (nats an answer) the weight is multiplied by a factor that moves KL there: `adapted`.
    """

    bare: ClassVar[str] = "weight"

    weight: Schedule = Schedule(0.0)
    where: Literal["reward", "loss", "both"] = "reward"
    estimator: Estimator = "k1"
    target: float = 0.0

    def __post_init__(self) -> None:
        check_weight(self.weight, self.target)
        if (self.where, self.estimator) == ("loss", "k1"):
            raise ValueError("the gradient of k1 in the loss is 0 in expectation; take estimator=k2, k3 or exact, or "
                             "where=reward")


@dataclass(frozen=True)
class Entropy:
    """The worth of a nat of entropy. With a `target` (nats a step) the weight is adapted to it: `adapted`."""

    bare: ClassVar[str] = "weight"

    weight: Schedule = Schedule(0.0)
    where: Literal["loss", "reward"] = "loss"
    target: float = 0.0

    def __post_init__(self) -> None:
        check_weight(self.weight, self.target)


def check_weight(weight: Schedule, target: float) -> None:
    """Raises ValueError for a negative weight or target, and for a target that a weight of 0 cannot reach."""
    weight.within("weight", 0)
    if target < 0:
        raise ValueError(f"target={target} must be 0 (off) or more")
    if target and min(weight.ends) <= 0:
        raise ValueError(f"target={target} multiplies the weight, which must be above 0; set weight=0.1, say")


def adapted(factor: Tensor, error: Tensor) -> Tensor:
    """The next factor of a weight, by 2% an update at most (Ziegler et al. 2019, section 2.2).

        factor * (1 + 0.1 clip(error, -0.2, 0.2)),        error = seen / target - 1 for a price
    """
    return factor * (1 + 0.1 * error.clamp(-0.2, 0.2))


def estimate(kind: Estimator, logp: Tensor, anchor: Tensor) -> Tensor:
    """k1, k2 or k3 [N, T] from the log-probabilities of the actions under pi and pi0 [N, T]; see the head of the file."""
    gap = logp - anchor
    return {"k1": lambda: gap, "k2": lambda: gap.square() / 2, "k3": lambda: (-gap).exp() - 1 + gap}[kind]()


def own_steps(rollout: Rollout) -> Tensor:
    """The real steps [N, T] that were not given."""
    return rollout.mask & (rollout.extra["given"] == 0) if "given" in rollout.extra else rollout.mask


class Regular(nn.Module):
    """Prices KL and entropy: `collect` those in the reward, `loss` those in the loss. Off by default, and then free."""

    def __init__(self, kl: Kl, entropy: Entropy) -> None:
        super().__init__()
        self.kl, self.entropy = kl, entropy
        self.anchor: Policy | None = None
        self.register_buffer("factors", torch.ones(2))                  # of the two weights

    @property
    def in_loss(self) -> bool:
        """Whether the gradient of the scores is more than that of their weighted sum."""
        return self.detail or (not self.kl.weight.off and self.kl.where != "reward")

    @property
    def detail(self) -> bool:
        """Whether scores must hold the entropy."""
        return not self.entropy.weight.off and self.entropy.where == "loss"

    def prepare(self, policy: Policy) -> None:
        """Keep the policy as it is now, if KL is on."""
        if not self.kl.weight.off:
            self.anchor = copy.deepcopy(policy).requires_grad_(False)

    @torch.no_grad()
    def collect(self, policy: Policy, rollout: Rollout, progress: float) -> Rollout:
        """A rollout with weights and the anchor's scores kept, and its rewards less the price of KL and entropy there."""
        reward, extra, log, own = rollout.reward, dict(rollout.extra), dict(rollout.log), own_steps(rollout)
        if self.anchor is not None:
            anchor = extra["anchor"] = self.anchor.eval().score(rollout).logp * rollout.mask
            weight = extra["kl_weight"] = self.kl.weight(progress) * self.factors[0]
            seen = dist.mean(((rollout.logp - anchor) * own).sum(1).mean())
            if self.kl.where != "loss":
                reward = reward - weight * self._kl(policy, replace(rollout, extra=extra), rollout.logp, own)
            if self.kl.target:
                self.factors[0] = adapted(self.factors[0], seen / self.kl.target - 1)
            log |= {"kl": seen, "kl_weight": weight}
        if not self.entropy.weight.off:
            weight = extra["entropy_weight"] = self.entropy.weight(progress) * self.factors[1]
            seen = dist.total(-(rollout.logp * own).sum()) / dist.total(own.sum().float()).clamp(min=1e-6)
            if self.entropy.where == "reward":
                reward = reward - weight * rollout.logp * own
            if self.entropy.target:                                     # worth more while less is seen
                self.factors[1] = adapted(self.factors[1], 1 - seen / self.entropy.target)
            log |= {"entropy": seen, "entropy_weight": weight}
        return replace(rollout, reward=reward, extra=extra, log=log)

    def loss(self, policy: Policy, scores: Scores, rollout: Rollout, drawn: Tensor, normalise: Normalise = "sum",
             rows: int | None = None, constant: int = 1) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What to add to the loss, over the steps `drawn` [N, T], normalised as the loss; and what to log."""
        price, found, steps = 0.0, {}, rollout.count("drawn", drawn).clamp(min=1e-6)
        if self.anchor is not None and self.kl.where != "reward":
            spread = self._kl(policy, rollout, scores.logp, drawn)
            price = rollout.extra["kl_weight"] * normalised(self._worth(spread, rollout), rollout, normalise, rows, constant)
            found["kl_step"] = spread.detach().sum() / steps
        if self.detail:
            spread = scores.entropy * drawn
            price = price - rollout.extra["entropy_weight"] * normalised(self._worth(spread, rollout), rollout, normalise,
                                                                         rows, constant)
            found["entropy"] = spread.detach().sum() / steps
        return price, found

    @staticmethod
    def _worth(losses: Tensor, rollout: Rollout) -> Tensor:
        return losses * rollout.extra["importance"] if "importance" in rollout.extra else losses

    def _kl(self, policy: Policy, rollout: Rollout, logp: Tensor, steps: Tensor) -> Tensor:
        """The estimator at the steps [N, T], 0 elsewhere; carries the gradient of `logp` or, if exact, of the policy."""
        if self.kl.estimator != "exact":                   # k3 of what nobody drew may be infinite, and 0 * inf is NaN
            return estimate(self.kl.estimator, *(one.masked_fill(~steps, 0.0) for one in (logp, rollout.extra["anchor"])))

        def everything(one: Policy) -> Tensor:
            return one.log_probs(one.encode(rollout.batch), rollout.actions, rollout.legal, rollout.temperature)
        with torch.no_grad():
            anchor = everything(self.anchor)
        own = everything(policy)                                                                   # [N, T, A]
        return (own.exp() * (own - anchor)).sum(2) * steps
