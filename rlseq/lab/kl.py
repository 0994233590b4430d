"""KL to the pretrained policy: what its estimators say of it, and what their gradients are, both exactly.

An answer's estimate is the sum over its steps. A gradient is the difference between the expected update with a price
on KL and without; right is minus grad KL, in the reward as in the loss (see `rlseq.algos.regular`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from .. import algos
from ..algos.regular import estimate
from ..exact import all_answers, divergence, gradient, one_by_one
from .measure import Bench
from .moments import over_sets
from .problems import Scene
from .slopes import Slopes

ESTIMATORS = ("k1", "k2", "k3", "exact")
PLACES = ("reward", "loss", "both")
RIGHT = {("reward", "k1"), ("both", "k1"), ("both", "k3"), ("both", "exact")}         # claim to follow grad KL of answers
PLAIN = {"kind": "reinforce", "k": 1, "baseline": "none"}


@dataclass(frozen=True)
class Value:
    """An estimator's mean over answers, as a share of KL too much, and the spread of one answer's estimate in nats."""

    estimator: str
    bias: float
    deviation: float


@dataclass(frozen=True)
class Pull:
    """What a price on KL adds to the update, against minus grad KL: relative bias and cosine of its mean, its deviation.

    `refused` says why it cannot be had.
    """

    estimator: str
    where: str
    bias: float = 0.0
    cosine: float = 0.0
    deviation: float = 0.0
    refused: str = ""

    @property
    def claimed(self) -> bool:
        return (self.where, self.estimator) in RIGHT


@torch.no_grad()
def values(scene: Scene) -> list[Value]:
    """Bias and standard deviation of the estimators, over all answers."""
    means, squares = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for alone in one_by_one(scene.env):
        actions, mask = all_answers(alone.task, alone.batch)
        legal, chosen = alone.legal_along(actions), actions.unsqueeze(2)
        own, other = (one.log_probs(one.encode(alone.batch), actions, legal) for one in (scene.policy, scene.anchor))
        taken, anchor = own.gather(2, chosen).squeeze(2), other.gather(2, chosen).squeeze(2)
        steps = [estimate(kind, taken, anchor) for kind in ESTIMATORS[:3]] + [(own.exp() * (own - other)).sum(2)]
        p, found = (taken * mask).sum(1).exp(), torch.stack([(one * mask).sum(1) for one in steps])         # [4, M]
        mean = found @ p
        means += mean / len(scene.env.batch)
        squares += (found.square() @ p - mean.square()) / len(scene.env.batch)
    exact = float(divergence(scene.policy, scene.anchor, scene.env))
    return [Value(name, float(mean) / exact - 1, max(0.0, float(square))**0.5)
            for name, mean, square in zip(ESTIMATORS, means, squares)]


def pulls(scene: Scene, slopes: Slopes) -> list[Pull]:
    """Every estimator at every place, by REINFORCE with one answer; for scenes of one source."""
    slope = -gradient(divergence(scene.policy, scene.anchor, scene.env), scene.policy)
    without, chance = _table(scene, slopes, PLAIN)
    found = []
    for where, name in itertools.product(PLACES, ESTIMATORS):
        try:
            with_price = _table(scene, slopes, {**PLAIN, "kl": {"weight": 1.0, "where": where, "estimator": name}})[0]
        except ValueError as error:
            found.append(Pull(name, where, refused=str(error)))
            continue
        added = over_sets(with_price - without, chance, slope)
        found.append(Pull(name, where, added.bias(slope), added.cosine(slope), added.variance**0.5 / float(slope.norm())))
    return found


def _table(scene: Scene, slopes: Slopes, options: dict[str, object]) -> tuple[torch.Tensor, torch.Tensor]:
    algorithm = algos.make(options)
    algorithm.prepare(scene.anchor)                      # it keeps a copy, which KL is taken to
    tables = Bench(scene, slopes, algorithm.double(), scene.policy).tables
    assert tables is not None and len(tables) == 1, options
    return tables[0]
