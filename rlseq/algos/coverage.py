"""Coverage loss (See et al. 2017): attention is not paid twice to the same place.

    loss = nll + weight * mean_n sum_t sum_s min(a_nts, c_nts) / T_n,     c_nts = sum over earlier steps of a_nts

Departs from the paper: coverage is penalised but not fed back into the attention, which keeps scoring parallel.
"""

from torch import Tensor

from ..env import SequenceEnv
from ..nn.policy import Policy
from ..types import Rollout
from .attention_reg import check_attention, penalised
from .base import Algorithm, Normalise, reference
from .mle import check_smoothing


def overlap(attention: Tensor, mask: Tensor, source_mask: Tensor) -> Tensor:
    """Attention [N, T, S], answers' mask [N, T], sources' mask (unused) -> [N] mean overlap with the attention so far."""
    attention = attention * mask.unsqueeze(2)
    before = attention.cumsum(1) - attention
    return attention.minimum(before).sum((1, 2)) / mask.sum(1)


class Coverage(Algorithm):
    """MLE with a penalty on attention that returns."""

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.0, normalise: Normalise = "token") -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        if weight < 0:
            raise ValueError(f"algo.weight={weight} must be 0 or more")
        self.weight, self.label_smoothing, self.normalise = weight, label_smoothing, normalise

    def prepare(self, policy: Policy) -> None:
        check_attention(policy)

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        return reference(env)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return penalised(policy, rollout, self.label_smoothing, self.normalise, self.weight, overlap)
