"""Maximum likelihood: the log-probability of the reference, with label smoothing (Szegedy et al. 2016).

    loss = -sum_t [(1 - e) log p(y_t | y_<t, x) + e mean_a log p(a | y_<t, x)]

With a `consistency` (R-Drop, Liang et al. 2021) the references are scored twice, each time with dropout of its own, and what
the two passes disagree on has a price beside the mean of their losses:

    loss = (loss_1 + loss_2) / 2 + consistency / 4 sum_t [KL(p_1 || p_2) + KL(p_2 || p_1)]
"""

import torch
from torch import Tensor

from ..env import SequenceEnv
from ..nn.heads import Vocabulary, judged
from ..nn.policy import Policy
from ..types import Rollout
from .base import Algorithm, Normalise, foreseen, normalised, reference, weighted_nll


class MLE(Algorithm):
    """Cross-entropy of references, fed the references themselves.

    `dropout` false leaves the policy's out: what draws answers has none, in the references that it mixes in neither, and a
    comparison should not be one of dropouts. `consistency` is the authors' alpha, 5 for translation in their paper, in half of
    their loss. It doubles the work of a vocabulary without legality; all else takes several [N, T, A], and a copy head some
    ten times as long. A token counts once as scored.
    """

    def __init__(self, label_smoothing: float = 0.0, normalise: Normalise = "token", dropout: bool = True,
                 consistency: float = 0.0) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        check_consistency(consistency, dropout)
        self.label_smoothing, self.normalise, self.dropout = label_smoothing, normalise, dropout
        self.consistency = consistency

    def collect(self, policy: Policy, env: SequenceEnv, progress: float) -> Rollout:
        return reference(env)

    def loss(self, policy: Policy, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        if self.consistency:
            return consistent_nll(policy, rollout, self.label_smoothing, self.normalise, self.consistency)
        return smoothed_nll(policy, rollout, self.label_smoothing, self.normalise)


def check_smoothing(label_smoothing: float) -> None:
    """Raises ValueError unless it is a share of probability."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"algo.label_smoothing={label_smoothing} must lie in [0, 1)")


def check_consistency(consistency: float, dropout: bool) -> None:
    """Raises ValueError for a negative price, and for one of what cannot differ."""
    if not 0 <= consistency <= 1000:
        raise ValueError(f"algo.consistency={consistency} must lie in [0, 1000]; the paper's is 5")
    if consistency and not dropout:
        raise ValueError(f"algo.consistency={consistency} is the price of what two draws of dropout differ in, and "
                         "algo.dropout=false draws none; leave one of them out")


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


def consistent_nll(policy: Policy, rollout: Rollout, smoothing: float, normalise: Normalise,
                   price: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of MLE with a price on what two passes disagree on; "disagreement" is the sum of both KLs a token, in nats."""
    if isinstance(policy.head, Vocabulary) and rollout.legal is None:
        logp, gap, loss = policy.head.agreement((policy.states(rollout), policy.states(rollout)), rollout.actions, rollout.mask,
                                                foreseen(rollout, normalise, smoothing), price)
        loss = loss / (rollout.count("tokens", rollout.mask).to(loss.dtype) if normalise == "token" else len(rollout.mask))
    else:
        one, other = (policy.log_probs(policy.encode(rollout.batch), rollout.actions, rollout.legal) for _ in range(2))
        gap = ((one.exp() - other.exp()) * (one - other)).sum(2)
        logp = sum(each.gather(2, rollout.actions.unsqueeze(2)).squeeze(2) for each in (one, other)) / 2
        losses = price / 4 * gap - (1 - smoothing) * logp
        if smoothing:
            losses = losses - smoothing / 2 * sum(judged(each, rollout.actions, rollout.legal)[2] for each in (one, other))
        loss = normalised((losses * rollout.weight).masked_fill(~rollout.mask, 0.0), rollout, normalise)
    with torch.no_grad():
        tokens = rollout.count("tokens", rollout.mask)
        return loss, {"nll": -(logp * rollout.mask).sum() / tokens, "disagreement": (gap * rollout.mask).sum() / tokens}
