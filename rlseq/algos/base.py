"""What an algorithm is: `collect` draws answers and weighs their tokens, `loss` scores them again with gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..env import SequenceEnv
from ..nn.policy import Policy
from ..task import Task
from ..types import Foreseen, Rollout, Scores

Normalise = Literal["token", "sequence", "sum", "constant"]
LONGEST = 10**6          # length that anything is divided by


class Algorithm(nn.Module):
    """Its parameters (a critic) and buffers (a running mean) are its whole state.

    One that draws answers holds a `Sampler` as `sampler`, which is asked and prepared with it.
    """

    dropout: bool = True     # whether the scoring pass drops out; off where answers must be scored as they were drawn
    passes: int = 1          # gradient steps on what one `collect` gave
    weighs: bool = True      # whether the weights of its roll-outs are, but for one factor, what log pi is multiplied by
    bias: str = ""           # why its expected gradient is not that of the expected reward, where that is by design

    def suits(self, task: Task) -> None:
        """Raises ValueError where the task lacks what the algorithm asks for; called before any work."""
        if sampler := getattr(self, "sampler", None):
            sampler.suits(task)

    def prepare(self, policy: Policy) -> None:
        """Build what depends on the policy's width; called once, before the optimiser is made."""
        if sampler := getattr(self, "sampler", None):
            sampler.prepare(policy)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        """Answers to the loaded problems and the weight of every token; no gradient; progress in [0, 1]."""
        raise TypeError(f"{type(self).__name__} must define collect()")

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        """A scalar with gradient, and scalars to log. A pure function of policy and rollout.

        Both are means over the rollout's problems: of a batch in slices, and of ranks, the mean weighed by problems is
        taken. What is divided by anything else is divided by `rollout.count`.
        """
        raise TypeError(f"{type(self).__name__} must define loss()")

    def part(self, rollout: Rollout, number: int) -> Rollout:
        """What gradient step 0 .. passes - 1 on a collected roll-out scores; all of it unless an algorithm cuts."""
        return rollout

    def counts(self, rollout: Rollout) -> dict[str, Tensor]:
        """What the loss divides sums by, where that is not the number of problems: what `Rollout.count` knows of slices."""
        found = {"tokens": rollout.mask.sum()}
        if sampler := getattr(self, "sampler", None):
            found["drawn"] = sampler.drawn(rollout).sum()
        return found

    def enough(self, found: dict[str, float]) -> bool:
        """Whether to leave the rest of the collected roll-out alone, by what `loss` just found; the step is not taken."""
        return False


def check_constant(constant: int, normalise: Normalise) -> None:
    """Raises ValueError for a length that nothing can be divided by, or nothing is."""
    if not 1 <= constant <= LONGEST:
        raise ValueError(f"algo.constant={constant} must lie in [1, {LONGEST}]")
    if constant > 1 and normalise != "constant":
        raise ValueError(f"algo.constant={constant} has no effect with algo.normalise={normalise}; set algo.normalise=constant")


def reference(env: SequenceEnv) -> Rollout:
    """The references of the loaded problems as answers of weight 1."""
    batch = env.batch
    nothing = torch.zeros(batch.target.shape, device=env.device)
    return Rollout(batch, batch.target, batch.target_mask, nothing, nothing, nothing + 1.0, env.legal_along(batch.target))


def with_reference(rollout: Rollout, env: SequenceEnv, weight: float) -> Rollout:
    """k answers a source -> k + 1, the last of them its reference, whose tokens weigh `weight`."""
    gold = reference(env)
    length = max(rollout.actions.shape[1], gold.actions.shape[1])

    def join(drawn: Tensor, given: Tensor, fill: float | bool) -> Tensor:
        drawn, given = (pad(one, (0, 0) * (one.dim() - 2) + (0, length - one.shape[1]), value=fill)
                        for one in (drawn, given))
        return torch.cat([rollout.grouped(drawn), given.unsqueeze(1)], 1).flatten(0, 1)

    kept = {name: join(one, torch.zeros_like(gold.logp), 0.0) if one.dim() > 1 else one
            for name, one in rollout.extra.items()}
    legal = gold.legal
    if legal is None and rollout.legal is not None:                                  # what was cut off when drawing
        legal = torch.ones(*gold.actions.shape, rollout.legal.shape[2], dtype=torch.bool, device=gold.mask.device)
    return replace(
        rollout, actions=join(rollout.actions, gold.actions, 0), mask=join(rollout.mask, gold.mask, False),
        logp=join(rollout.logp, gold.logp, 0.0), reward=join(rollout.reward, gold.reward, 0.0),
        weight=join(rollout.weight, gold.weight * weight, 0.0), k=rollout.k + 1,
        fed=None if rollout.fed is None else join(rollout.fed, gold.actions, 0),
        legal=None if rollout.legal is None else join(rollout.legal, legal, True), extra=kept)


def foreseen(rollout: Rollout, normalise: Normalise, smoothing: float = 0.0) -> Foreseen:
    """What `weighted_nll` makes the gradient of log pi [N, T] up to a factor, and of the smoothing term by its share."""
    weight = rollout.weight * rollout.mask
    return Foreseen(weight / rollout.mask.sum(1, keepdim=True) if normalise == "sequence" else weight, smoothing)


def weighted_nll(scores: Scores, rollout: Rollout, normalise: Normalise, rows: int | None = None,
                 constant: int = 1) -> Tensor:
    """sum_n sum_t w_nt (-log pi_nt), divided as in `normalised`."""
    return normalised(-(scores.logp * rollout.weight * rollout.mask), rollout, normalise, rows, constant)


def normalised(losses: Tensor, rollout: Rollout, normalise: Normalise, rows: int | None = None, constant: int = 1) -> Tensor:
    """The sum of losses [N, T], 0 outside of the rollout's mask, divided by normalise:

        sum        the rows: the mean over answers of the sum over tokens (the unbiased policy gradient)
        constant   the rows times a constant length, the same for short and long answers (Liu et al. 2025)
        sequence   the rows, each token by its answer's length first
        token      all real tokens (the usual cross-entropy)
    """
    rows = rows or len(losses)
    if normalise == "token":
        return losses.sum() / rollout.count("tokens", rollout.mask).to(losses.dtype)
    if normalise == "sequence":
        return (losses.sum(1) / rollout.mask.sum(1)).sum() / rows
    return losses.sum() / (rows * (constant if normalise == "constant" else 1))
