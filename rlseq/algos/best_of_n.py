"""Best-of-n fine-tuning: of k answers drawn for a source, the one with the highest reward is imitated (RAFT, Dong et al. 2023).

    loss = -log p(argmax_i R(y_i) | x),     y_1 .. y_k drawn from p

Of several best the first is taken, so that equal rewards imitate an answer drawn at random, which teaches nothing on
average; `beat=greedy` learns only from an answer that earns more than the greedy one. Imitation asks for no importance
weights, also of answers drawn with another temperature (off_policy=allow). Departs from the paper: answers are drawn
anew for every batch, so that one of its iterations is an update here.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise
from .sampled import Sampler, Sampling


class BestOfN(Algorithm):
    """MLE on the best of one's own answers; the others weigh 0."""

    dropout = False
    bias = "it descends the expected -log p of the best of k, not the expected reward"

    def __init__(self, sampling: Sampling = Sampling(), beat: Literal["nothing", "greedy"] = "nothing",
                 normalise: Normalise = "token") -> None:
        super().__init__()
        if sampling.k < 2:
            raise ValueError(f"the best of k={sampling.k} is no choice; set algo.k=2 or more")
        self.sampler, self.k, self.beat, self.normalise = Sampler(sampling), sampling.k, beat, normalise

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        drawn = self.sampler.draw(policy, env, progress, beside=self.beat == "greedy")
        reward = drawn.grouped(drawn.reward.sum(1))                                              # [B, k]
        best = torch.zeros_like(reward).scatter(1, reward.argmax(1, keepdim=True), float(self.k))
        if self.beat == "greedy":
            best = best * (reward > drawn.grouped(drawn.extra["greedy"][:, 0]))
        log = drawn.log | {"best_reward": reward.amax(1).mean(), "imitated": (best > 0).any(1).float().mean()}
        extra = {name: one for name, one in drawn.extra.items() if name != "importance"}
        return self.sampler.finished(replace(drawn, extra=extra, log=log), best.view(-1, 1) * drawn.mask, env, progress)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return self.sampler.surrogate(policy, rollout, self.normalise)
