"""Minimum risk training (Shen et al. 2016): the expected risk under the policy, renormalised over a sample.

    risk = sum_{y in S} Q(y) (1 - R(y)),     Q(y) = p(y | x)^alpha / sum_{y' in S} p(y' | x)^alpha

S holds k answers drawn for the source and, as in the paper, its reference, each different answer once (`reference`,
`unique`). Q is the softmax of alpha log p(y): p(y) itself underflows, and a softmax of it would be nearly flat. The
gradient is of the order of alpha, so `mle_weight` weighs accordingly.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..decode import last_step
from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import NEVER, Rollout
from .base import Algorithm, with_reference
from .sampled import Sampler, Sampling, Signal


def repeated(rollout: Rollout) -> Tensor:
    """[N] bool, True for an answer that an earlier one of the same problem equals."""
    answers = rollout.grouped(rollout.actions.masked_fill(~rollout.mask, -1))                    # [B, k, T]
    same = (answers.unsqueeze(1) == answers.unsqueeze(2)).all(3)                                 # [B, k, k]
    return same.tril(-1).any(2).view(-1)


class MRT(Algorithm):
    """Raises the probability of what is less risky than the rest of its sample, and lowers that of the rest."""

    dropout = False
    weighs = False           # its weights say who is in the sample
    bias = "it descends the risk renormalised over the sample, not the expected risk"

    def __init__(self, sampling: Sampling = Sampling(), alpha: float = 0.005, reference: bool = True,
                 unique: bool = True) -> None:
        super().__init__()
        if sampling.k < 2 and not reference:
            raise ValueError(f"k={sampling.k} answer has nothing to be compared with; set algo.k=2 or more, or "
                             "algo.reference=true")
        if sampling.off_policy == "allow":
            raise ValueError("MRT renormalises over its sample and knows no importance weights; leave algo.off_policy out")
        if alpha <= 0:
            raise ValueError(f"algo.alpha={alpha} must be above 0; the paper takes 0.005")
        if reference and (sampling.signal != Signal(shaping=sampling.signal.shaping) or sampling.kl.where != "loss"
                          and not sampling.kl.weight.off):
            raise ValueError("beside the reference, drawn answers need plain rewards: take no algo.signal.scale or clip and "
                             "algo.kl.where=loss, or algo.reference=false")
        self.sampler, self.k = Sampler(sampling), sampling.k
        self.alpha, self.reference, self.unique = alpha, reference, unique

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        """Weights are 1 in the sample and 0 out of it; the reference, where there is one, is the last of its group."""
        drawn, mle = self.sampler.draw(policy, env, progress), self.sampler.options.mle_weight(progress)
        rollout = replace(drawn, weight=drawn.mask.float())
        if self.reference or mle:
            rollout = with_reference(rollout, env, float(self.reference))
            worth = env.worth(env.batch.target, env.batch.target_mask).repeat_interleave(rollout.k)
            last = torch.arange(len(worth), device=worth.device) % rollout.k == self.k
            paid = last_step(rollout.mask) * (worth * last).unsqueeze(1)
            rollout = replace(rollout, reward=rollout.reward + paid.to(rollout.reward.dtype))
        if self.unique:
            again = repeated(rollout)
            rollout = replace(rollout, weight=rollout.weight * ~again.unsqueeze(1), log=rollout.log | {
                "repeated": rollout.grouped(again)[:, :self.k].float().mean()})
        return replace(rollout, extra=rollout.extra | {"mle_weight": torch.tensor(mle)})

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        scores = policy.score(rollout, detail=self.sampler.regular.detail)
        logp = rollout.grouped((scores.logp * rollout.mask).sum(1))                              # [B, k or k + 1]
        held = rollout.grouped((rollout.weight * rollout.mask).sum(1)) > 0
        share = (self.alpha * logp).masked_fill(~held, NEVER).softmax(1)
        risk = (share * (1 - rollout.grouped((rollout.reward * rollout.mask).sum(1)))).sum(1).mean()
        price, found = self.sampler.penalty(policy, scores, rollout, "sum")
        loss = risk + price
        if mle := float(rollout.extra["mle_weight"]):
            loss = loss - mle * logp[:, self.k].mean()
        return loss, found | {"risk": risk.detach()}
