"""What all algorithms that draw answers share: how they are drawn, what they earn, what is added to their loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from .. import dist
from ..build import Within
from ..decode import beam, check_sampling, greedy, last_step, sample, sample_and_greedy
from ..env import SequenceEnv
from ..nn.policy import Policy
from ..schedule import Schedule
from ..task import Task
from ..types import NEVER, Rollout, Scores
from .base import Normalise, foreseen, weighted_nll, with_reference
from .regular import Entropy, Kl, Regular, own_steps

MOMENTUM = 0.95                                # of moving means over batches


@dataclass(frozen=True)
class Signal:
    """From the reward of an answer to the rewards of its steps.

    shaping  terminal: all of it at the last step; prefix: each step earns what it adds to the reward of the text so far
             (its sum is the answer's reward; potential-based, Ng et al. 1999, so the expected gradient stays)
    scale    divides by the standard deviation of rewards: of this batch, or a running one of earlier batches (1 at first).
             The batch's own holds the answer itself, which biases the gradient a little
    clip     above 0: steps earn within [-clip, clip], after scaling; another objective where it bites
    """

    shaping: Literal["terminal", "prefix"] = "terminal"
    scale: Literal["none", "batch", "running"] = "none"
    clip: float = 0.0

    def __post_init__(self) -> None:
        if self.clip < 0:
            raise ValueError(f"clip={self.clip} must be 0 (off) or more")


@dataclass(frozen=True)
class Sampling:
    """Options of every algorithm that draws answers; they stand beside its own, as `algo.k`, `algo.kl.weight`.

    By temperature, top_k and top_p another distribution than pi draws. Scored as it drew, it is the one that learns;
    off_policy=allow scores under pi, which learns by weights pi(y) / q(y) of whole answers, cut at `most_weight`
    (truncated importance sampling, Ionides 2008; what top_k and top_p cut off stays unseen). Answers of a beam are not
    drawn at all: they need it, with q(y) = 1 / k for the k best, and learn their own part of the expected reward. References
    that are mixed in are scored at the same temperature.
    """

    flat: ClassVar[bool] = True

    k: Annotated[int, Within(1, 2**16)] = 8  # answers to each source
    temperature: Schedule = Schedule(1.0)
    top_k: Annotated[int, Within(0, 2**31)] = 0
    top_p: float = 1.0
    beam: Annotated[int, Within(0, 4096)] = 0        # above 0: the k best answers of a beam of this width instead of draws
    off_policy: Literal["refuse", "allow"] = "refuse"
    most_weight: float = 10.0
    signal: Signal = Signal()
    kl: Kl = Kl()
    entropy: Entropy = Entropy()
    mle_weight: Schedule = Schedule(0.0)     # of the reference's log-likelihood, beside the mean over answers

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k={self.k} must be 1 or more")
        for one in self.temperature.ends:
            check_sampling(one, self.top_k, self.top_p)
        if self.beam:
            self._check_beam()
        self.mle_weight.within("mle_weight", 0)
        if self.most_weight <= 0:
            raise ValueError(f"most_weight={self.most_weight} must be above 0")

    def _check_beam(self) -> None:
        if self.off_policy == "refuse":
            raise ValueError(f"beam={self.beam} answers are not drawn, so their mean gradient is not that of the expected "
                             "reward; leave beam out, or set off_policy=allow, which weighs them by their probability")
        if self.beam < self.k or self.temperature.ends != (1, 1) or self.top_k or self.top_p != 1.0:
            raise ValueError(f"beam={self.beam} must be at least k={self.k}, with temperature, top_k and top_p left out")

    @property
    def plain(self) -> bool:
        """Whether pi itself draws."""
        return not self.beam and self.temperature.ends == (1, 1) and not self.top_k and self.top_p == 1.0


def to_go(reward: Tensor) -> Tensor:
    """Rewards [N, T] -> what is still to come, own step included [N, T]."""
    return reward.flip(1).cumsum(1).flip(1)


def ahead(reward: Tensor, mask: Tensor) -> Tensor:
    """`to_go` [N, T] with what the last step earned behind the end, so that answers can be compared step by step."""
    goes = to_go(reward * mask)
    return torch.where(mask, goes, goes.gather(1, mask.sum(1, keepdim=True) - 1))


def check_siblings(k: int) -> None:
    """Raises ValueError where an answer has no siblings."""
    if k < 2:
        raise ValueError(f"leave-one-out needs k >= 2 answers per problem, got k={k}; set algo.k=2 or more, or another "
                         "algo.baseline")


def leave_one_out(reward: Tensor) -> Tensor:
    """Baseline of each answer: the mean reward of its siblings (Kool et al. 2019).

        b_i = (sum_j R_j - R_i) / (k - 1)            reward, result: [B, k, ...], k >= 2
    """
    check_siblings(reward.shape[1])
    return (reward.sum(1, keepdim=True) - reward) / (reward.shape[1] - 1)


class Sampler(nn.Module):
    """Draws answers by their options and prices them; its buffers are part of the algorithm's state.

    An algorithm calls, in `collect`: `draw`, gives every step its weight, `finished`; in `loss`: `score`, then `surrogate`
    or, with a loss of its own, `penalty`.
    """

    def __init__(self, options: Sampling) -> None:
        super().__init__()
        self.options, self.regular = options, Regular(options.kl, options.entropy)
        self.register_buffer("moments", torch.zeros(3))           # moving sums of 1, R and R^2 over earlier batches

    def suits(self, task: Task) -> None:
        """Raises ValueError for shaping that the task cannot give."""
        if self.options.signal.shaping == "prefix" and not task.has_prefix_reward:
            raise ValueError(f"algo.signal.shaping=prefix needs rewards of unfinished answers, which task {task.name} with "
                             "these options does not give; take algo.signal.shaping=terminal")

    def prepare(self, policy: Policy) -> None:
        self.regular.prepare(policy)

    @torch.no_grad()
    def draw(self, policy: Policy, env: SequenceEnv, progress: float, beside: bool = False,
             given: tuple[Tensor, Tensor] | None = None) -> Rollout:
        """k answers to each loaded problem, rewards as the signal has them, less the prices of KL and entropy.

        With `beside`, extra["greedy"] is the greedy answer's reward to go beside every step [N, T]. Under off_policy=allow,
        extra["importance"] [N, T] is to be multiplied into weights (`finished` does). `given`: actions [N, T] and how many of
        each row [N] are taken instead of drawn; extra["given"] [N, T] is 1 there.
        """
        options, temperature = self.options, self.options.temperature(progress)
        if beside and options.plain:
            drawn, best = sample_and_greedy(policy, env, options.k)
        elif options.beam:
            drawn, best = _from_beam(policy, env, options), greedy(policy, env) if beside else None
        else:
            drawn = sample(policy, env, options.k, temperature, options.top_k, options.top_p, given)
            best = greedy(policy, env) if beside else None
        extra, log, scale = {}, _seen(drawn), self._scale(drawn.grouped(drawn.reward.sum(1)))
        if given is not None:
            place = torch.arange(drawn.mask.shape[1], device=drawn.mask.device)
            extra["given"] = (place < given[1].unsqueeze(1)) * drawn.mask.float()
        if best:
            log |= {"greedy_reward": best.reward.sum(1).mean(), "sampled_tokens": log["sampled_tokens"] + best.mask.sum()}
            extra["greedy"] = _beside(ahead(self._earned(best, env, scale), best.mask), drawn)
        drawn = replace(drawn, reward=self._earned(drawn, env, scale), log=log, extra=extra)
        if options.off_policy == "allow" and not options.plain:
            drawn = self._corrected(policy, env, drawn)
        return self.regular.collect(policy, drawn, progress)

    def _scale(self, total: Tensor) -> Tensor:
        """What rewards are divided by; takes the batch [B, k] into the moving moments, for later ones."""
        batch = dist.mean(torch.stack([torch.ones_like(total[0, 0]), total.mean(), total.square().mean()]))
        kind = self.options.signal.scale
        count, mean, square = batch if kind == "batch" else self.moments.clone()
        self.moments.mul_(MOMENTUM).add_((1 - MOMENTUM) * batch)
        spread = (square / count - (mean / count).square()).clamp(min=0).sqrt()                # NaN before the first batch
        return torch.where((spread > 1e-6) & (kind != "none"), spread, 1.0)

    def _earned(self, rollout: Rollout, env: SequenceEnv, scale: Tensor) -> Tensor:
        """Rewards of steps [N, T] by the signal."""
        signal, reward = self.options.signal, rollout.reward
        if signal.shaping == "prefix":
            worth = env.prefix_worth(rollout.actions, rollout.mask)
            reward = shaped(reward, worth.to(reward), rollout.mask)
        reward = reward / scale
        return reward.clamp(-signal.clip, signal.clip) if signal.clip else reward

    def _corrected(self, policy: Policy, env: SequenceEnv, drawn: Rollout) -> Rollout:
        """Answers of q as answers of pi: scored by pi, with the importance weight of the whole answer at every step."""
        plain = replace(drawn, temperature=1.0, legal=env.legal_along(drawn.actions))
        logp, own = policy.score(plain).logp * drawn.mask, own_steps(drawn)
        weight = ((logp - drawn.logp) * own).sum(1).exp()
        log = {"ess": effective((logp - drawn.logp) * own, drawn.mask.any(1)), "greatest_weight": weight.max()}
        weight = torch.where(own, weight.clamp(max=self.options.most_weight).unsqueeze(1), 1.0)
        return replace(plain, logp=logp, extra={**drawn.extra, "importance": weight}, log=drawn.log | log)

    def finished(self, rollout: Rollout, weight: Tensor, env: SequenceEnv, progress: float) -> Rollout:
        """With weights [N, T] of log pi, importance included, and the references mixed in by mle_weight."""
        weight = weight * rollout.extra.get("importance", rollout.mask) * rollout.mask
        rollout, mle = replace(rollout, weight=weight), self.options.mle_weight(progress)
        return with_reference(rollout, env, mle * self.options.k) if mle else rollout

    def drawn(self, rollout: Rollout) -> Tensor:
        """The real steps [N, T] of drawn answers: given ones and references that were mixed in are left out."""
        rows = torch.arange(len(rollout.mask), device=rollout.mask.device)
        return own_steps(rollout) & (rows % rollout.k < self.options.k).unsqueeze(1)

    def score(self, policy: Policy, rollout: Rollout, normalise: Normalise) -> Scores:
        """The scores with what the penalties need."""
        early = None if self.regular.in_loss else foreseen(rollout, normalise)
        return policy.score(rollout, detail=self.regular.detail, foreseen=early)

    def penalty(self, policy: Policy, scores: Scores, rollout: Rollout, normalise: Normalise,
                constant: int = 1) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What KL and entropy add to the loss, and what to log of the answers drawn."""
        drawn, rows = self.drawn(rollout), len(rollout.batch) * self.options.k
        with torch.no_grad():
            steps = rollout.count("drawn", drawn).clamp(min=1e-6)
            log = {"sampled_nll": -(scores.logp * drawn).sum() / steps,
                   "off_policy": ((scores.logp - rollout.logp).abs() * drawn).sum() / steps}
            if "importance" not in rollout.extra:            # else the draws themselves told it
                log["ess"] = effective((scores.logp - rollout.logp) * drawn, drawn.any(1))
        price, found = self.regular.loss(policy, scores, rollout, drawn, normalise, rows, constant)
        return price, log | found

    def surrogate(self, policy: Policy, rollout: Rollout, normalise: Normalise, constant: int = 1,
                  scores: Scores | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of an algorithm that is weights of log pi and nothing else: their sum and the penalties."""
        scores = scores or self.score(policy, rollout, normalise)
        loss = weighted_nll(scores, rollout, normalise, len(rollout.batch) * self.options.k, constant)
        price, found = self.penalty(policy, scores, rollout, normalise, constant)
        return loss + price, found


def effective(ratio: Tensor, drawn: Tensor) -> Tensor:
    """Effective sample size, as a share, of the answers [N] bool drawn (Kong 1992): 1 where all weigh alike.

        (sum_n w_n)^2 / (n sum_n w_n^2),        w_n = exp(sum_t log ratio_nt),        ratio: [N, T], log pi / pi_drawn
    """
    total = ratio.sum(1).masked_fill(~drawn, -torch.inf)
    weight = (total - total.amax().clamp(min=-1e30)).exp()                                 # a common factor changes nothing
    share = weight.sum().square() / (weight.square().sum() * drawn.sum()).clamp(min=1e-30)
    return torch.where(drawn.any(), share, torch.ones_like(share))


def shaped(reward: Tensor, potential: Tensor, mask: Tensor) -> Tensor:
    """Rewards [N, T] whose sum is the answer's worth, rewards of its prefixes [N, T] -> what every step adds [N, T].

        r_t = v_t - v_t-1,   v_0 = 0,   v of the last step = the answer's reward
    """
    value = torch.where(last_step(mask) > 0, reward.sum(1, keepdim=True), potential)
    return (value - torch.nn.functional.pad(value[:, :-1], (1, 0))) * mask


def _seen(drawn: Rollout) -> dict[str, Tensor]:
    """What to log of answers as they were drawn and paid."""
    total = drawn.grouped(drawn.reward.sum(1))                                             # [B, k]
    return {"reward": total.mean(), "spread": total.std(1).mean() if drawn.k > 1 else total.std(correction=0),
            "flat": (total.amax(1) - total.amin(1) < 1e-6).float().mean(), "length": drawn.mask.sum(1).float().mean(),
            "sampled_tokens": drawn.mask.sum()}


def _from_beam(policy: Policy, env: SequenceEnv, options: Sampling) -> Rollout:
    """The k best answers, each as if drawn with probability 1 / k; where there are fewer, the rest as if never drawn by pi."""
    found, score = beam(policy, env, options.beam, length_penalty=0.0, keep=options.k)
    chance = torch.where(score > NEVER / 2, -math.log(options.k), -NEVER)
    return replace(found, logp=last_step(found.mask) * chance.unsqueeze(1))


def _beside(goes: Tensor, drawn: Rollout) -> Tensor:
    """Of one answer a problem [B, T'] -> beside each of its k answers [N, T]; the last step goes on."""
    steps = torch.arange(drawn.mask.shape[1], device=goes.device).clamp(max=goes.shape[1] - 1)
    return goes[:, steps].repeat_interleave(drawn.k, 0)
