"""Data as demonstrator (Venkatraman et al. 2015), the DAgger (Ross et al. 2011) of sequences: corrections of own roll-outs.

    loss = (1 - rate) nll(reference fed the reference) + rate sum_t -log p(y*_t | own y_<t, x)

The policy answers freely; at every step of its own answer the demonstrator's action is the reference's at the same
position, and STOP after the reference's end. A step where that action is illegal after the own prefix teaches nothing;
nor does what follows the own STOP. Gold-fed and own-fed data are aggregated at a `rate` (the share of the own), half and
half by default as after the paper's first iteration. Departs from the papers: earlier roll-outs are not kept, every update
aggregates fresh ones (DAgger's reduction holds for any no-regret learner); no gradient flows through the own actions.
Where `scheduled_sampling` mixes fed tokens within an answer, here each answer is fed entirely its own.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..decode import greedy, sample
from ..env import SequenceEnv
from ..nn.policy import Policy
from ..schedule import Schedule
from ..types import STOP, Rollout
from .base import Algorithm, Normalise, reference, with_reference
from .mle import check_smoothing, smoothed_nll


def corrected(own: Rollout) -> Rollout:
    """Own answers [N, T] -> the demonstrator's actions at their steps, fed the own answers; 0 weighs where it has none."""
    batch, steps = own.batch, own.actions.shape[1]
    gold = batch.target.masked_fill(~batch.target_mask, STOP)
    wanted = pad(gold, (0, max(0, steps - gold.shape[1])), value=STOP)[:, :steps]                # [N, T]
    possible = own.mask
    if own.legal is not None:
        possible = possible & own.legal.gather(2, wanted.unsqueeze(2)).squeeze(2)
    return replace(own, actions=torch.where(possible, wanted, own.actions), fed=own.actions, weight=possible.float(),
                   log={"corrected": ((wanted != own.actions) & possible).sum() / own.mask.sum(),
                        "illegal": (own.mask & ~possible).sum() / own.mask.sum(), "sampled_tokens": own.mask.sum(),
                        "reward": own.reward.sum(1).mean()})


class DAgger(Algorithm):
    """References as targets, whole own answers as inputs."""

    bias = "it imitates the reference along own answers, whatever they earn"

    def __init__(self, rate: Schedule = Schedule(0.5), guess: Literal["sample", "argmax"] = "sample",
                 label_smoothing: float = 0.0, normalise: Normalise = "token") -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        self.rate, self.guess = rate.within("algo.rate", 0, 1), guess
        self.label_smoothing, self.normalise = label_smoothing, normalise

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        rate = self.rate(progress)
        if rate == 0:
            return reference(env)
        own = corrected(sample(policy, env) if self.guess == "sample" else greedy(policy, env))
        if rate == 1:
            return own
        return with_reference(replace(own, weight=2 * rate * own.weight), env, 2 * (1 - rate))

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return smoothed_nll(policy, rollout, self.label_smoothing, self.normalise)
