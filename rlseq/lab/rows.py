"""A line of the table, and the verdict: what claims to be unbiased and is measured biased is an error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..stats import holm
from .estimators import Estimator
from .kl import Pull
from .measure import Measured
from .moments import ROUNDING
from .problems import Scene

ALARM = 1e-3       # probability, after Holm over all that claim to be unbiased, below which a bias is believed


@dataclass(frozen=True)
class Row:
    """One estimator on one problem with one policy. Bias and error are shares of |grad J|."""

    problem: str
    policy: str
    estimator: str          # label
    algorithm: str          # YAML
    k: int | None
    claim: str
    reason: str
    way: str
    draws: int              # 0: exact
    bias: float             # |E update - grad J| / |grad J|
    error: float            # standard error of the mean update, as such a share
    p: float                # of a mean so far off, were there no bias
    z: float
    factor: float           # of grad J in the expected update
    cosine: float           # of the expected update and grad J
    aligned: float          # cosine of one update and grad J, on average
    variance: float         # trace of the covariance of one update
    spread: float           # the same over the squared length of the expected update
    sampled: float          # tokens of an update
    scored: float
    seconds: float

    @property
    def tokens(self) -> float:
        return self.sampled + self.scored

    @property
    def price(self) -> float:
        """Variance x tokens of an update."""
        return self.variance * self.tokens

    @property
    def effort(self) -> float:
        """Tokens until the noise of the mean update is as large as the update itself."""
        return self.spread * self.tokens

    def record(self) -> dict[str, object]:
        """For JSON: what is not finite becomes null."""
        found = {**asdict(self), "tokens": self.tokens, "variance_tokens": self.price, "tokens_to_signal": self.effort}
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in found.items()}


def make_row(scene: Scene, one: Estimator, found: Measured) -> Row:
    slope, moments, cost = scene.slope, found.moments, found.cost
    factor = float(moments.mean @ slope) / float(slope.square().sum())
    k = getattr(one.make(), "k", None)
    return Row(scene.problem.name, scene.shape, one.label, one.name, k, one.claim, one.reason, found.way, found.draws,
               moments.bias(slope), moments.error(slope), moments.significance(slope), moments.z(slope), factor,
               moments.cosine(slope), moments.aligned, moments.variance, moments.spread, cost.sampled, cost.scored,
               cost.seconds)


def broken(rows: Sequence[Row], pulls: Sequence[tuple[str, Pull]]) -> list[str]:
    """What claims to follow the gradient and does not: one line each."""
    claimed = [one for one in rows if one.claim == "unbiased"]
    found = [f"{one.estimator} ({one.problem}, {one.policy}): claims to be unbiased, but its bias is "
             f"{one.bias:.3g} +- {one.error:.2g} of |grad J|, " + (f"z {one.z:.1f}" if one.draws else "exactly")
             for one, p in zip(claimed, holm([one.p for one in claimed]), strict=True) if p < ALARM]
    return found + [f"KL by {one.estimator} in {one.where} ({where}): claims to follow grad KL, but is {one.bias:.3g} of it off"
                    for where, one in pulls if one.claimed and not one.refused and one.bias > ROUNDING]
