"""MIXER (Ranzato et al. 2016): the reference's beginning by cross-entropy, the rest drawn and learned by REINFORCE.

    loss = -sum_{t <= s} log pi(y*_t | y*_<t, x) - sum_{t > s} (G_t - b_t) log pi(y_t | y_<t, x)
    y_<=s = y*_<=s, what follows drawn from pi;   s falls in steps from the whole reference to nothing

The baseline b_t is linear in the decoder's state, regressed on rewards, and its gradient stays out of the policy.
At s = 0 it is REINFORCE. Departs from the paper: `delta`, the part that is drawn, is a share of each reference instead
of a number of tokens, so that it fits any lengths and budget; the reward may be of any task.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..env import SequenceEnv
from ..nn.policy import Policy
from ..schedule import Schedule
from ..types import Rollout
from .base import Algorithm, Normalise, check_constant
from .sampled import Sampler, Sampling, ahead, check_siblings, leave_one_out


class Mixer(Algorithm):
    """Annealed from cross-entropy to REINFORCE, from the end of the answer to its beginning."""

    dropout = False

    def __init__(self, sampling: Sampling = Sampling(k=1), delta: Schedule = Schedule(0.0, 1.0, "steps"),
                 baseline: Literal["linear", "leave_one_out"] = "linear", normalise: Normalise = "sum",
                 constant: int = 1) -> None:
        super().__init__()
        check_constant(constant, normalise)
        delta.within("algo.delta", 0, 1)
        if baseline == "leave_one_out":
            check_siblings(sampling.k)
        if sampling.top_k or sampling.top_p != 1.0 or sampling.beam:
            raise ValueError("algo.top_k, algo.top_p and algo.beam would leave out references, with which MIXER begins; leave "
                             "them out, or take algo=reinforce")
        self.sampler, self.k = Sampler(sampling), sampling.k
        self.delta, self.baseline, self.normalise, self.constant = delta, baseline, normalise, constant
        self.value: nn.Module | None = None

    def prepare(self, policy: Policy) -> None:
        super().prepare(policy)
        if self.baseline == "linear":
            self.value = nn.Linear(policy.source.width, 1).to(policy.first)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        drawn = self.sampler.draw(policy, env, progress, given=self._given(env, progress))
        goes, given = ahead(drawn.reward, drawn.mask), drawn.extra["given"].bool()
        base = self._values(policy.score(drawn).states) if self.value is not None else \
            leave_one_out(drawn.grouped(goes)).flatten(0, 1)
        rollout = self.sampler.finished(drawn, torch.where(given, 1.0, goes - base), env, progress)
        share = (given & drawn.mask).sum() / drawn.mask.sum()
        return replace(rollout, log=rollout.log | {"given": share})

    def _given(self, env: SequenceEnv, progress: float) -> tuple[Tensor, Tensor]:
        """The references beside each of their answers [N, T], and how much of each is given [N]."""
        length = env.batch.target_mask.sum(1)
        kept = length - (self.delta(progress) * length.double() - 1e-9).ceil().long()
        return env.batch.target.repeat_interleave(self.k, 0), kept.repeat_interleave(self.k)

    def _values(self, states: Tensor) -> Tensor:
        """b_t [N, T] from the decoder's states [N, T, H]."""
        return self.value(states.detach()).squeeze(2)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        scores = self.sampler.score(policy, rollout, self.normalise)
        loss, found = self.sampler.surrogate(policy, rollout, self.normalise, self.constant, scores)
        if self.value is not None:
            own = self.sampler.drawn(rollout)
            miss = (self._values(scores.states) - ahead(rollout.reward, rollout.mask)).square() * own
            miss = miss.sum() / rollout.count("drawn", own).to(miss.dtype).clamp(min=1e-6)
            loss, found["value_loss"] = loss + miss, miss.detach()
        return loss, found
