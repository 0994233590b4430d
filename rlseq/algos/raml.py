"""Reward augmented maximum likelihood (Norouzi et al. 2016): the likelihood of references perturbed as their payoff says.

    loss = sum_x KL(q(y | y*) || p(y | x)) + constant,     q(y | y*) = exp(r(y, y*) / tau) / Z

Payoff "hamming": r is minus the number of steps that differ from the reference. q is drawn exactly, step by step: the
reference's action with probability 1 - rate, else another legal one (a word of the vocabulary where all is legal); the
reference's length is kept. With n others at every step that is the formula, 1 / tau = log(n (1 - rate) / rate). Where
the prefix decides what is legal, a step whose reference action is illegal draws among the legal ones, STOP last of all,
and q is the product of its steps.

Payoff "reward" reweighs these draws by the task's own reward: q'(y) ~ q(y) exp(R(y) / tau), estimated by self-normalised
importance weights exp(R_i / tau) / sum_j exp(R_j / tau) over the k draws: biased for small k, exact in the limit.
Departs from the paper: no edit distance; what insertions and deletions are worth is left to the reward.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from .. import dist
from ..build import Within
from ..env import SequenceEnv
from ..nn.policy import Policy
from ..schedule import Schedule
from ..types import STOP, Rollout
from .base import Algorithm, Normalise, with_reference
from .mle import check_smoothing, smoothed_nll


def echo(wanted: Tensor, legal: Tensor | None, words: int, rate: float, uniform: Tensor) -> Tensor:
    """One step of the Hamming payoff: `wanted` with probability 1 - rate, else another legal action, each as likely.

    wanted [N] long, legal [N, A] bool (None: the actions below `words`), uniform [N] in [0, 1) -> [N]. A wanted STOP is
    kept if legal; STOP is no other action, and is taken only where nothing else is legal.
    """
    rows, ends = torch.arange(len(wanted), device=wanted.device), wanted == STOP
    if legal is None:
        count = (words - 1 - (wanted < words).long()).masked_fill(ends, 0)
        leave = torch.where(count > 0, rate, 0.0)
    else:
        others = legal.scatter(1, wanted.unsqueeze(1), False)
        others[:, STOP] = False
        count, held = others.sum(1), legal[rows, wanted]
        leave = torch.where(held, torch.where(ends | (count == 0), 0.0, rate), 1.0)
    leaves = uniform < leave
    place = torch.minimum((uniform / leave.clamp(min=1e-30) * count).long(), count - 1).clamp(min=0)     # 0 .. count - 1
    if legal is None:
        return torch.where(leaves, 1 + place + (1 + place >= wanted), wanted)
    left = torch.searchsorted(others.cumsum(1), (place + 1).unsqueeze(1)).squeeze(1)
    return torch.where(leaves, torch.where(count > 0, left, STOP), wanted)


def perturbed(env: SequenceEnv, k: int, rate: float) -> Rollout:
    """k draws from the Hamming payoff distribution around the reference of every loaded problem, each of weight 1."""
    env.begin(k)
    target = env.batch.target.masked_fill(~env.batch.target_mask, STOP).repeat_interleave(k, 0)          # [N, T]
    legals, kept, words = [], [], env.task.sizes.vocabulary or env.batch.num_actions
    while env.steps < env.horizon and not bool(env.done.all()):
        wanted = target[:, min(env.steps, target.shape[1] - 1)]                              # past its end: STOP, or more
        legals.append(env.legal())
        action = echo(wanted, legals[-1], words, rate, dist.uniform(env.num_envs, env.device))
        kept.append(action == wanted)
        env.advance(action)
    actions, mask = env.answers()
    nothing = torch.zeros(actions.shape, device=env.device)
    return Rollout(env.batch, actions, mask, nothing, nothing, mask.float(),
                   None if legals[0] is None else torch.stack(legals, 1), k=k,
                   log={"kept": (torch.stack(kept, 1) & mask).sum() / mask.sum()})


class RAML(Algorithm):
    """MLE on k perturbed references a problem; every one of them is legal. `mle_weight` adds the reference itself."""

    bias = "it descends KL(q || p) of the payoff distribution q, not the expected reward"

    def __init__(self, k: Annotated[int, Within(1, 2**16)] = 4, rate: Schedule = Schedule(0.1),
                 payoff: Literal["hamming", "reward"] = "hamming", tau: float = 0.1, label_smoothing: float = 0.0,
                 normalise: Normalise = "token", mle_weight: Schedule = Schedule(0.0)) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        if k < 1 or tau <= 0:
            raise ValueError(f"algo.k={k} must be 1 or more, algo.tau={tau} above 0")
        self.k, self.rate, self.payoff, self.tau = k, rate.within("algo.rate", 0, 1), payoff, tau
        self.label_smoothing, self.normalise = label_smoothing, normalise
        self.mle_weight = mle_weight.within("algo.mle_weight", 0)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        rollout, mle = perturbed(env, self.k, self.rate(progress)), self.mle_weight(progress)
        rollout = rollout if self.payoff == "hamming" else self._reweighed(rollout, env)
        return with_reference(rollout, env, mle * self.k) if mle else rollout

    def _reweighed(self, rollout: Rollout, env: SequenceEnv) -> Rollout:
        reward = env.worth(rollout.actions, rollout.mask)                                    # [N]
        share = (rollout.grouped(reward) / self.tau).softmax(1)                              # [B, k]
        log = rollout.log | {"reward": reward.mean(), "effective": (1 / share.square().sum(1)).mean()}
        return replace(rollout, weight=self.k * share.view(-1, 1) * rollout.mask, log=log)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return smoothed_nll(policy, rollout, self.label_smoothing, self.normalise)
