"""One gradient step: the gradient of a whole batch, from slices of it and from all ranks; taken only if it is finite.

The loss of a slice is a mean over its problems, so slices are weighed by their problems; what losses divide by besides, such
as tokens, every slice is told as if it were spread evenly (`Rollout.count`). So neither slices nor ranks change a gradient
but by rounding, and by the draws of dropout, which each of them makes for itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from . import dist
from .algos import Algorithm
from .nn.policy import Policy
from .parts import cuts, fitted, unfitted
from .types import Rollout

ENOUGH = 5           # updates in a row without a finite gradient: the next will not have one either


class Learner(nn.Module):
    """The loss as a module: what an optimiser trains."""

    def __init__(self, policy: Policy, algorithm: Algorithm) -> None:
        super().__init__()
        self.policy, self.algorithm = policy, algorithm

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return self.algorithm.loss(self.policy, rollout)


@dataclass(frozen=True)
class Counts:
    """Of all ranks together: how many problems there are, and the `Algorithm.counts`."""

    problems: Tensor
    others: dict[str, Tensor]

    def told(self, rollout: Rollout, share: Tensor) -> Rollout:
        """A slice, told what it would count if everything were spread evenly; `share` is its part of the problems."""
        return replace(rollout, counts={name: value * share for name, value in self.others.items()})


def counted(algorithm: Algorithm, rollout: Rollout, real: bool) -> Counts:
    """What all ranks hold; a rank whose roll-out is not `real` holds nothing."""
    found = algorithm.counts(rollout)
    every = torch.stack([found["tokens"].new_full((), len(rollout.batch)), *found.values()]).double()
    problems, *others = dist.total(every if real else torch.zeros_like(every)).unbind()
    return Counts(problems, dict(zip(found, others, strict=True)))


@dataclass
class Descent:
    """Takes gradient steps. `slices` of a rank's problems are scored one after the other, more from when memory runs out on;
    `row` updates in a row were left out. Of a `sharded` learner all ranks score as many slices, and none alone cuts finer."""

    learner: Learner
    optimiser: torch.optim.Optimizer
    context: Callable[[], AbstractContextManager[object]]       # of the loss: autocast
    clip: float                                                 # of the gradient's norm; 0 for none
    slices: int = 1
    row: int = 0
    sharded: bool = False

    def gradient(self, rollout: Rollout, real: bool, seed: Callable[[], None], what: str) -> dict[str, float]:
        """Leaves the gradient in the parameters; means over the whole batch of what the loss found, `loss` among them, and
        the `tokens` that all ranks scored. A roll-out that is not `real` counts for nothing."""
        counts, alone, problems = counted(self.learner.algorithm, rollout, real), dist.world() == 1, len(rollout.batch)
        scale = dist.world() if self.sharded else 1                      # FSDP takes the mean over ranks

        def attempt(number: int) -> dict[str, Tensor]:
            seed()
            self.learner.zero_grad(set_to_none=True)
            found: dict[str, Tensor] = {}
            nothing = [(0, 0)] * max(0, number - problems) if self.sharded else []
            for start, stop in [*cuts(problems, number), *nothing]:
                held = max(stop, start + 1)
                one = rollout.slice(start, held)
                one = rollout if alone and number == 1 else counts.told(one, (held - start) / counts.problems)
                with self.context():
                    loss, said = self.learner(one)
                share = ((stop - start) * real / counts.problems).to(loss)
                (loss * share * scale).backward()
                for name, value in {"loss": loss, **said}.items():
                    found[name] = found.get(name, 0.0) + value.detach() * share
            return found
        if self.sharded:
            with dist.together():
                found = unfitted(attempt, self.slices, f"{what}, scoring")
        else:
            found, self.slices = fitted(attempt, self.slices, problems, f"{what}, scoring")
            dist.add_up([one.grad for one in self.learner.parameters() if one.grad is not None])
        every = torch.stack([value.double() for value in found.values()])
        dist.add_up([every])
        tokens = counts.others["tokens"].view(1)
        return dict(zip([*found, "tokens"], torch.cat([every, tokens]).tolist(), strict=True))

    def step(self, loss: float, rate: float, what: str) -> float | None:
        """Take a step of this learning rate; the norm of its gradient before clipping. None where loss or gradient is not
        finite: then none is taken. Raises FloatingPointError where no other will be."""
        norm = float(full(nn.utils.clip_grad_norm_(self.learner.parameters(), self.clip or math.inf)))
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._leave_out(f"loss {loss:g}, gradient norm {norm:g}", what)
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.row = 0
        return norm

    def _leave_out(self, numbers: str, what: str) -> None:
        self.row += 1
        cause, hopeless = not_finite(self.learner)
        if hopeless or self.row >= ENOUGH:
            often = "" if hopeless else f", {self.row} updates in a row"
            raise FloatingPointError(f"{what}: {cause} ({numbers}){often}; lower the learning rate (plan.*.lr) or the clipping "
                                     "norm (plan.*.clip), and begin anew")
        if self.row == 1 and dist.rank() == 0:
            print(f"rlseq: {what}: {cause} ({numbers}); the step is left out, and counted as skipped", file=sys.stderr)


def full(value: Tensor) -> Tensor:
    """A tensor, whole; where it is shared out among ranks, all of them must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def not_finite(learner: nn.Module) -> tuple[str, bool]:
    """Where a number that is not finite stands, for people, and whether it stays there: it is one of the weights."""
    for name, value in learner.named_parameters():
        if not bool(torch.isfinite(full(value)).all()):
            return f"the weights {name} are not finite", True
    for name, value in learner.named_parameters():
        if value.grad is not None and not bool(torch.isfinite(full(value.grad)).all()):
            return f"the gradient of {name} is not finite", False
    return "the loss is not finite", False


def averaged(found: dict[str, Tensor], device: torch.device) -> dict[str, float]:
    """Scalars as numbers, each the mean over the ranks' problems, but for the sum of `sampled_tokens`."""
    if not found:
        return {}
    every = torch.stack([value.detach().to(device).double() for value in found.values()])
    if dist.world() > 1:
        means, sums = dist.mean(every), dist.total(every)
        every = torch.stack([sums[i] if name == "sampled_tokens" else means[i] for i, name in enumerate(found)])
    return dict(zip(found, every.tolist(), strict=True))
