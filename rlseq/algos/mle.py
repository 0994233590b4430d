"""Maximum likelihood: the log-probability of the reference, with label smoothing (Szegedy et al. 2016).

    loss = -sum_t [(1 - e) log p(y_t | y_<t, x) + e mean_a log p(a | y_<t, x)]
"""

import torch
from torch import Tensor

from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise, foreseen, reference, weighted_nll


class MLE(Algorithm):
    """Cross-entropy of references, fed the references themselves.

    `dropout` false leaves the policy's out: what draws answers has none, in the references that it mixes in neither, and a
    comparison should not be one of dropouts.
    """

    def __init__(self, label_smoothing: float = 0.0, normalise: Normalise = "token", dropout: bool = True) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        self.label_smoothing, self.normalise, self.dropout = label_smoothing, normalise, dropout

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        return reference(env)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return smoothed_nll(policy, rollout, self.label_smoothing, self.normalise)


def check_smoothing(label_smoothing: float) -> None:
    """Raises ValueError unless it is a share of probability."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"algo.label_smoothing={label_smoothing} must lie in [0, 1)")


def smoothed_nll(policy: Policy, rollout: Rollout, smoothing: float, normalise: Normalise,
                 attend: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of MLE and of everything that feeds references or penalises attention; `attend` leaves the attention
    [N, T, S] in the second result under "attention"."""
    scores = policy.score(rollout, detail=smoothing > 0, attend=attend, foreseen=foreseen(rollout, normalise, smoothing))
    loss = nll = weighted_nll(scores, rollout, normalise)
    if smoothing:
        even = weighted_nll(type(scores)(scores.smooth), rollout, normalise)
        loss = (1 - smoothing) * nll + smoothing * even
    with torch.no_grad():
        found = {"nll": -(scores.logp * rollout.mask).sum() / rollout.count("tokens", rollout.mask)}
    return loss, found | ({"attention": scores.attention} if attend else {})
