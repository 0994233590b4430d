"""Mean and spread of many updates, and how sure it is that their mean is not grad J."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import chi2, norm
from torch import Tensor

GRAM = 1000               # repetitions that the effective number of dimensions is estimated from
ROUNDING = 1e-6           # a bias below this share of |grad J| without noise is rounding: weights of tokens are float32


@dataclass(frozen=True)
class Moments:
    """Of updates: their mean [P], the trace of their covariance, and the expected squared error of the mean (0: exact).

    `directions` is the number of equal, independent directions whose noise would be as variable as the mean's,
    (tr C)^2 / tr C^2 (Satterthwaite 1946); `aligned` is the mean cosine between a single update and grad J.
    """

    mean: Tensor
    variance: float
    noise: float
    directions: float
    aligned: float

    @staticmethod
    def together(parts: list[Moments]) -> Moments:
        """Of the mean over problems whose answers are drawn independently; exact parts. `aligned` is lost with several."""
        if len(parts) == 1:
            return parts[0]
        mean = torch.stack([one.mean for one in parts]).mean(0)
        return Moments(mean, sum(one.variance for one in parts) / len(parts)**2, 0.0, 1.0, math.nan)

    @property
    def length(self) -> float:
        """Of the mean, with what chance adds to it taken off."""
        return math.sqrt(max(0.0, float(self.mean.square().sum()) - self.noise))

    def bias(self, slope: Tensor) -> float:
        """|E update - slope| / |slope|, with what chance adds to it taken off; 0 where that is all there is."""
        squared = float((self.mean - slope).square().sum()) - self.noise
        return math.sqrt(max(0.0, squared)) / float(slope.norm())

    def error(self, slope: Tensor) -> float:
        """Standard error of the mean's distance from the slope, as a share of the slope."""
        return math.sqrt(self.noise) / float(slope.norm())

    def significance(self, slope: Tensor) -> float:
        """The probability of a mean so far from the slope, were there no bias; 1 or 0 where nothing is left to chance.

        |mean - slope|^2 is a sum of squares with `directions` degrees of freedom.
        """
        squared = float((self.mean - slope).square().sum())
        if squared < float(slope.square().sum()) * ROUNDING**2 or not self.noise:
            return 1.0 if squared < float(slope.square().sum()) * ROUNDING**2 else 0.0
        return float(chi2.sf(squared / self.noise * self.directions, self.directions))

    def z(self, slope: Tensor) -> float:
        """The same as a normal deviate; above 3 is rare by chance."""
        return float(min(99.0, max(-9.0, norm.isf(self.significance(slope)))))

    def cosine(self, slope: Tensor) -> float:
        """Between the mean and the slope; the mean's own noise is taken off its length."""
        length = self.length * float(slope.norm())
        return max(-1.0, min(1.0, float(self.mean @ slope) / length)) if length > 1e-12 else 0.0

    @property
    def spread(self) -> float:
        """Variance as a multiple of the mean's squared length: the updates to average for a signal as large as the noise."""
        return self.variance / self.length**2 if self.length else math.inf


def over_sets(updates: Tensor, chance: Tensor, slope: Tensor) -> Moments:
    """All updates that can happen [R, P], with their probabilities [R]; the slope is grad J [P]."""
    mean = chance @ updates
    variance = float(chance @ updates.square().sum(1)) - float(mean.square().sum())
    return Moments(mean, max(0.0, variance), 0.0, 1.0, float(chance @ _cosines(updates, slope)))


def over_repetitions(updates: Tensor, slope: Tensor, controls: list[Tensor]) -> Moments:
    """Updates drawn independently [R, P], R >= 3; the slope is grad J [P].

    Controls [R, P] belong to the same draws and have mean 0; what of the updates goes along with them is taken off
    before the mean is taken, which leaves its expectation and lowers its noise (control variates, regressed). tr C^2 by
    its unbiased estimate for normal data, from the Gram matrix of some of them.
    """
    count = len(updates)
    variance = float((updates - updates.mean(0)).square().sum()) / (count - 1)
    rest = _controlled(updates, controls)
    mean, apart = rest.mean(0), rest - rest.mean(0)
    trace = float(apart.square().sum()) / (count - 1)
    some = apart[:GRAM] - apart[:GRAM].mean(0)
    n, gram = len(some), (some @ some.T) / (len(some) - 1)
    own = float(gram.diagonal().sum())
    squared = (n - 1)**2 / ((n + 1) * (n - 2)) * (float(gram.square().sum()) - own**2 / (n - 1))
    directions = own**2 / max(squared, own**2 / updates.shape[1]) if own else 1.0
    least = 1e-20 * float(updates.square().sum()) / count                      # of rounding
    variance, trace = (one if one > least else 0.0 for one in (variance, trace))
    return Moments(mean, variance, trace / count, max(1.0, directions), float(_cosines(updates, slope).mean()))


def _controlled(updates: Tensor, controls: list[Tensor]) -> Tensor:
    """The updates less the best multiples of the controls."""
    apart = updates - updates.mean(0)
    centred = [one - one.mean(0) for one in controls]
    if not any(float(one.abs().max()) > 0 for one in centred):
        return updates
    products = torch.stack([torch.stack([(one * other).sum() for other in centred]) for one in centred])
    factors = torch.linalg.pinv(products, hermitian=True) @ torch.stack([(one * apart).sum() for one in centred])
    return updates - sum(factor * one for factor, one in zip(factors, controls))


def _cosines(updates: Tensor, slope: Tensor) -> Tensor:
    """Of every update [R, P] with the slope; an update of 0 counts as 0."""
    return (updates @ slope) / (updates.norm(dim=1) * slope.norm()).clamp(min=1e-300)
