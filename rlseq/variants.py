"""What else is known of a trained policy: its other checkpoints, beams of several widths, samples beside MLE's.

All on the headline split, with statistics of every example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from . import controls
from .evaluate import Decoding, Evaluation
from .nn.policy import Policy
from .setup import Setup, decoded

BEAM_PROBLEMS = 200                    # of the headline split, tried with every beam width
State = Mapping[str, Tensor]


@dataclass
class Also:
    """What goes into a result beside before and after; `rows` are named as its .npz names them."""

    variants: dict[str, dict] = field(default_factory=dict)      # last, best, averaged, sampled, mle_sampled
    beams: dict[str, dict] = field(default_factory=dict)         # width -> {split: {metric: score}}
    matched: dict[str, float] = field(default_factory=dict)      # the temperature of mle_sampled, and entropies
    rows: dict[str, np.ndarray] = field(default_factory=dict)

    def variant(self, name: str, found: Evaluation, metrics: Sequence[str]) -> None:
        """Keep some scores of a decoded split under a name."""
        self.variants[name] = {found.split: {metric: found.scores[metric] for metric in metrics}}
        self.rows |= {f"{name}/{found.split}/{metric}": found.rows[metric] for metric in metrics}


def also(setup: Setup, policy: Policy, chosen: Evaluation, candidates: Mapping[str, State], mle: Policy | None) -> Also:
    """Everything about a policy that decodes again; `chosen` is its headline split, `mle` what its samples stand beside.

    `candidates` are last, best and averaged weights; leaves the policy with the weights it came with.
    """
    found, split = Also(), setup.tests[0]
    metrics = [next(iter(setup.task.metrics)), "reward"]
    own = {name: value.detach().clone() for name, value in policy.state_dict().items()}
    for name, state in candidates.items():
        if all(torch.equal(value.cpu(), state[key]) for key, value in own.items()):
            found.variant(name, chosen, metrics)
            continue
        policy.load_state_dict(state)
        found.variant(name, decoded(setup, policy, split, setup.decoding, metrics=metrics), metrics)
    policy.load_state_dict(own)
    if mle is not None:
        found.matched |= controls.matched(setup, policy, mle)
        for name, one, heat in (("sampled", policy, 1.0), ("mle_sampled", mle, found.matched["temperature"])):
            seen = decoded(setup, one, split, Decoding(temperature=heat))
            found.variant(name, seen, [*setup.task.metrics, "reward"])
    limit = min(BEAM_PROBLEMS, setup.test or BEAM_PROBLEMS)
    for width in setup.config["beams"] if setup.control == "own" else ():
        seen = decoded(setup, policy, split, Decoding(beam=width), limit=limit, metrics=metrics)
        found.beams[str(width)] = {split: {metric: seen.scores[metric] for metric in metrics}}
        found.rows |= {f"beam{width}/{split}/{metric}": seen.rows[metric] for metric in metrics}
    return found
