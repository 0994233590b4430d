"""Scheduled sampling (Bengio et al. 2015): the decoder is fed its own guesses with a rate that grows.

`gold` is the schedule of the share of inputs that are gold: the epsilon of the paper, with its three decays.

A recurrent decoder draws its guesses step by step, each after what was fed before it; a Transformer takes two passes
(Mihaylova and Martins 2019): the first, fed the reference, gives the guesses; the second is fed the mixture. No
gradient flows through the guesses. Departs from the papers: the decay is over progress, so that it fits any budget.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from .. import dist
from ..decode import draw
from ..env import SequenceEnv
from ..nn.decoders import RecurrentDecoder
from ..nn.linear import constant_weights
from ..nn.policy import Policy
from ..parts import cuts, parts
from ..schedule import Schedule
from ..types import Rollout
from .base import Algorithm, Normalise, reference
from .mle import check_smoothing, smoothed_nll


class ScheduledSampling(Algorithm):
    """References as targets, own guesses among the inputs."""

    def __init__(self, gold: Schedule = Schedule(1.0, 0.5, "inverse_sigmoid"), guess: Literal["sample", "argmax"] = "sample",
                 label_smoothing: float = 0.0, normalise: Normalise = "token") -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        if gold.within("algo.gold", 0, 1).ends == (1, 1):
            raise ValueError("algo.gold=1 feeds the references throughout, which is algo=mle; let it fall below 1")
        self.gold, self.guess = gold, guess
        self.label_smoothing, self.normalise = label_smoothing, normalise

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        rollout = reference(env)
        rate = 1 - self.gold(progress)
        if rate == 0:
            return replace(rollout, log={"rate": torch.tensor(0.0)})
        rows, steps = rollout.actions.shape
        own = dist.uniform(rows * steps, env.device).view(rows, steps) < rate
        uniform = dist.uniform(rows * steps, env.device).view(rows, steps)
        guessed = self._step_by_step if isinstance(policy.decoder, RecurrentDecoder) else self._two_passes
        fed = torch.cat([guessed(policy, rollout.slice(a, b), own[a:b], uniform[a:b]) for a, b in cuts(rows, parts())])
        heard = rollout.mask[:, 1:]                                      # input t is heard at step t + 1
        return replace(rollout, fed=fed, log={
            "rate": (own[:, :-1] & heard).sum() / heard.sum().clamp(min=1), "sampled_tokens": rollout.mask.sum(),
            "changed": ((fed != rollout.actions)[:, :-1] & heard).sum() / heard.sum().clamp(min=1)})

    def _guess(self, logp: Tensor, uniform: Tensor) -> Tensor:
        return logp.argmax(1) if self.guess == "argmax" else draw(logp.exp(), uniform)

    def _two_passes(self, policy: Policy, rollout: Rollout, own: Tensor, uniform: Tensor) -> Tensor:
        logp = policy.log_probs(policy.encode(rollout.batch), rollout.actions, rollout.legal)
        return torch.where(own, self._guess(logp.flatten(0, 1), uniform.flatten()).view(own.shape), rollout.actions)

    @constant_weights()
    def _step_by_step(self, policy: Policy, rollout: Rollout, own: Tensor, uniform: Tensor) -> Tensor:
        state, fed, last = policy.start(policy.encode(rollout.batch), 1), [], None
        for t in range(own.shape[1]):
            logp, state = policy.step(state, last, None if rollout.legal is None else rollout.legal[:, t])
            last = torch.where(own[:, t], self._guess(logp, uniform[:, t]), rollout.actions[:, t])
            fed.append(last)
        return torch.stack(fed, 1)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return smoothed_nll(policy, rollout, self.label_smoothing, self.normalise)
