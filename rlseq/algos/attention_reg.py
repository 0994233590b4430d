"""Doubly stochastic attention (Xu et al. 2015): every source position gets about the same total attention.

    loss = nll + weight * mean_n sum_s (T_n / S_n - sum_t a_nts)^2 / S_n

Departs from the paper: the even share is T / S, which attention that sums to 1 at each of T steps can reach (the paper
asks for 1, with T about S), and the sum is divided by S, so that one weight fits all lengths.
"""

from torch import Tensor

from ..env import SequenceEnv
from ..nn.decoders import RecurrentDecoder
from ..nn.heads import Vocabulary
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise, reference
from .mle import check_smoothing, smoothed_nll


def unevenness(attention: Tensor, mask: Tensor, source_mask: Tensor) -> Tensor:
    """Attention [N, T, S], answers' mask [N, T], sources' mask [N, S] -> [N] mean squared distance from the even share."""
    total = (attention * mask.unsqueeze(2)).sum(1)                                     # [N, S]
    positions = source_mask.sum(1)
    even = mask.sum(1) / positions
    return ((total - even.unsqueeze(1)).square() * source_mask).sum(1) / positions


class AttentionReg(Algorithm):
    """MLE with a penalty on uneven attention."""

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
        return penalised(policy, rollout, self.label_smoothing, self.normalise, self.weight, unevenness)


def check_attention(policy: Policy) -> None:
    """Raises ValueError for a policy that neither attends nor points."""
    blind = isinstance(policy.decoder, RecurrentDecoder) and policy.decoder.attention is None
    if blind and isinstance(policy.head, Vocabulary):
        raise ValueError("this policy has no attention to regularise; take policy.attention other than none")


def penalised(policy: Policy, rollout: Rollout, smoothing: float, normalise: Normalise, weight: float,
              penalty) -> tuple[Tensor, dict[str, Tensor]]:
    """The MLE loss plus weight * mean_n penalty(attention, mask, source_mask)."""
    loss, found = smoothed_nll(policy, rollout, smoothing, normalise, attend=True)
    price = penalty(found.pop("attention"), rollout.mask, rollout.batch.source_mask).mean()
    return loss + weight * price, found | {"penalty": price.detach()}
