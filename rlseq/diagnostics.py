"""What fine-tuning does to a policy, seen at every look on a fixed probe of dev problems, and what its gradients are like.

The names say what is looked at: `gold_` the references, token by token; `sample_` k answers drawn to each problem, always
with the same random numbers; `decoded_` the greedy answer. All compare with the policy as it was handed over ("before").
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .algos.regular import own_steps
from .decode import sample_and_greedy
from .env import SequenceEnv
from .nn.policy import Policy
from .task import Task
from .types import STOP, Batch, Rollout

RANKS = {"1": (1, 1), "2_10": (2, 10), "11_100": (11, 100), "beyond_100": (101, 2**31)}      # after Choshen et al. 2020
CHUNK = 2**22          # most numbers of a block of log-probabilities [M, A]; at least one problem's answers
CYCLES = 4             # n-grams of this size that come twice in an answer are repetition (Welleck et al. 2020)
SEED = 20201           # of the probe's draws, the same at every look


@dataclass(frozen=True)
class Seen:
    """What a policy says of M tokens; small: nothing here has a column an action."""

    gold: Tensor           # [M] log-probability of the token
    rank: Tensor           # [M] of the token, 1 for the likeliest
    best: Tensor           # [M] the likeliest action
    top1: Tensor           # [M] its probability
    top10: Tensor          # [M] mass of the ten likeliest
    entropy: Tensor        # [M] nats
    kl: Tensor             # [M] KL(policy || the policy before), nats; 0 where none was given

    def means(self, prefix: str) -> dict[str, float]:
        return {f"{prefix}_{name}": float(getattr(self, name).mean()) for name in ("top1", "top10", "entropy")}


def seen(logp: Tensor, before: Tensor | None, actions: Tensor) -> Seen:
    """Log-probabilities [M, A] under the policy and the one before, and the tokens [M].

        KL = sum_a p(a) (log p(a) - log q(a)),   exact at each token's state, q the policy before
    """
    p, gold = logp.exp(), logp.gather(1, actions[:, None])
    ten, order = logp.topk(min(10, logp.shape[1]), dim=1)
    kl = p.new_zeros(len(p)) if before is None else (p * (logp - before)).sum(1)
    return Seen(gold.squeeze(1), 1 + (logp > gold).sum(1), order[:, 0], ten[:, 0].exp(), ten.exp().sum(1),
                -(p * logp).sum(1), kl)


def gold_change(before: Seen, now: Seen) -> dict[str, float]:
    """Mean change of a reference token's probability, by the rank that it had before (Choshen et al. 2020)."""
    moved = now.gold.exp() - before.gold.exp()
    found = {}
    for name, (first, last) in RANKS.items():
        inside = (before.rank >= first) & (before.rank <= last)
        if bool(inside.any()):
            found[f"gold_change_rank_{name}"] = float(moved[inside].mean())
    return found


def repetition(answers: Sequence[Sequence[int]]) -> float:
    """1 - distinct / all n-grams of an answer, n = 4, mean over the answers that have any (Welleck et al. 2020)."""
    shares = []
    for answer in answers:
        grams = list(zip(*(answer[i:] for i in range(CYCLES))))
        shares += [1 - len(set(grams)) / len(grams)] if grams else []
    return sum(shares) / len(shares) if shares else 0.0


def distinct(groups: Sequence[Sequence[Sequence[int]]]) -> dict[str, float]:
    """Distinct 1-grams, 2-grams and whole answers among the k to one problem, over all of them; means over problems.

    distinct-n is of Li et al. 2016, who count over a corpus: a pointer's positions mean nothing across problems.
    """
    found: dict[str, list[float]] = {"sample_distinct_1": [], "sample_distinct_2": [], "sample_distinct": []}
    for group in groups:
        parts = ([token for answer in group for token in answer], [two for answer in group for two in pairwise(answer)],
                 [tuple(answer) for answer in group])
        for values, part in zip(found.values(), parts, strict=True):
            values += [len(set(part)) / len(part)] if part else []
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def copied(batch: Batch, actions: Tensor, mask: Tensor, shared: bool) -> float | None:
    """Share of answer tokens (STOP left out) that stand in their source; None where the two share no symbols."""
    source = batch.extra.get("copy_ids", batch.source if shared else None)
    if source is None:
        return None
    source = torch.where(batch.source_mask, source, -1).repeat_interleave(len(actions) // len(batch), 0)
    real = mask & (actions != STOP)
    there = torch.stack([(column[:, None] == source).any(1) for column in actions.T], 1)
    return float((there & real).sum() / real.sum().clamp(min=1))


def of_answers(drawn: Rollout, decoded: Rollout, shared: bool) -> dict[str, float]:
    """What k answers drawn to each problem, and its greedy answer, look like and earn."""
    batch, reward = drawn.batch, drawn.grouped(drawn.reward.sum(1))                        # [B, k]
    stopped = ((drawn.actions == STOP) & drawn.mask).any(1)
    words = [[token for token, real in zip(*row) if real and token != STOP]
             for row in zip(drawn.actions.tolist(), drawn.mask.tolist())]
    groups = [words[start:start + drawn.k] for start in range(0, len(words), drawn.k)]
    tokens = batch.target_mask.sum()
    found = {
        "sample_reward": reward.mean(), "sample_best": reward.amax(1).mean(), "sample_spread": reward.std(1).mean(),
        "sample_flat": (reward.amax(1) - reward.amin(1) < 1e-6).float().mean(),
        "sample_length_ratio": drawn.mask.sum() / drawn.k / tokens, "sample_truncated": 1 - stopped.float().mean(),
        "decoded_reward": decoded.reward.sum(1).mean(), "decoded_length_ratio": decoded.mask.sum() / tokens,
        "sample_repetition": repetition(words), "sample_copied": copied(batch, drawn.actions, drawn.mask, shared)}
    return {name: float(value) for name, value in found.items() if value is not None} | distinct(groups)


class Probe:
    """A few dev problems, looked at with the same random numbers at every look; the generator is left as it was found.

    The policy that it is shown first is the one it compares with. Of that it keeps a copy of the weights, for the KL at the
    answers that are drawn later, and what `Seen` holds of the references' tokens.
    """

    def __init__(self, task: Task, device: torch.device, problems: int = 64, k: int = 4) -> None:
        if problems < 1 or k < 2:
            raise ValueError(f"a probe needs problems={problems} to be 1 or more and k={k} to be 2 or more")
        examples = task.examples("dev")
        chosen = [examples[i] for i in range(min(problems, len(examples)))]
        self.env, self.k = SequenceEnv(task, device), k
        self.batch = task.collate(sorted(chosen, key=task.length))
        self.shared = task.sizes.shared
        self.first: Policy | None = None
        self.begun: dict[str, float] = {}          # what was said of the first policy

    @torch.no_grad()
    def __call__(self, policy: Policy) -> dict[str, float]:
        """Everything about a policy in evaluation mode, as plain numbers."""
        self.env.load(self.batch)
        if self.first is None:
            self.first = copy.deepcopy(policy).requires_grad_(False)
            self.legal = self.env.legal_along(self.env.batch.target)
            self.before = self._seen(self.first, self._references(), compare=False)
        with torch.random.fork_rng([self.env.device] if self.env.device.type == "cuda" else []):
            torch.manual_seed(SEED)
            drawn, decoded = sample_and_greedy(policy, self.env, self.k)
        gold, said = self._seen(policy, self._references(), compare=False), self._seen(policy, drawn, compare=True)
        found = of_answers(drawn, decoded, self.shared) | gold.means("gold") | said.means("sample") | {
            "gold_nll": -float(gold.gold.mean()),
            "gold_argmax_changed": float((gold.best != self.before.best).float().mean()),
            "kl": float(said.kl.mean()), "kl_answer": float(said.kl.sum() / len(drawn.mask)),
            "draw_error": float((said.gold - drawn.logp[drawn.mask]).abs().mean()), **gold_change(self.before, gold)}
        self.begun = self.begun or found
        return found

    def _references(self) -> Rollout:
        batch = self.env.batch
        nothing = torch.zeros(batch.target.shape, device=self.env.device)
        return Rollout(batch, batch.target, batch.target_mask, nothing, nothing, nothing, self.legal)

    def _seen(self, policy: Policy, rollout: Rollout, compare: bool) -> Seen:
        """What a policy says of the real tokens of answers, a few problems at a time."""
        parts = []
        for part in _cut(rollout):
            def log_probs(one: Policy, part: Rollout = part) -> Tensor:
                return one.log_probs(one.encode(part.batch), part.actions, part.legal)[part.mask].float()       # [M, A]
            parts.append(seen(log_probs(policy), log_probs(self.first) if compare else None, part.actions[part.mask]))
        return Seen(*(torch.cat([getattr(part, name) for part in parts]) for name in Seen.__dataclass_fields__))


def _cut(rollout: Rollout) -> Iterator[Rollout]:
    """The roll-out in parts of a few problems, each as long as its longest answer."""
    k, lengths = rollout.k, rollout.mask.sum(1)
    size = max(1, CHUNK // (k * rollout.actions.shape[1] * rollout.batch.num_actions))
    for start in range(0, len(rollout.batch), size):
        rows, batch = slice(start * k, (start + size) * k), rollout.batch.rows(start, start + size)
        steps = int(lengths[rows].max())
        actions, mask, logp, reward, weight = (one[rows, :steps] for one in (
            rollout.actions, rollout.mask, rollout.logp, rollout.reward, rollout.weight))
        legal = None if rollout.legal is None else rollout.legal[rows, :steps]
        yield Rollout(batch, actions, mask, logp, reward, weight, legal, None, k)


def weighing(rollout: Rollout) -> dict[str, Tensor]:
    """How answers are weighed against each other, of algorithms that earn rewards: the mean square of their weights (at the
    first step that was drawn) and the variance of weights among the k to one problem, over problems; of one answer each, over
    the batch.

    A baseline that knew what a problem is worth would leave only that variance. What nobody drew is left out: beginnings that
    were given, and references mixed in (all their log p are 0).
    """
    if "reward" not in rollout.log:
        return {}
    own = own_steps(rollout) & (rollout.logp != 0).any(1, keepdim=True)                    # [N, T]
    first = own.int().argmax(1, keepdim=True)
    weight, drawn = rollout.grouped(rollout.weight.gather(1, first)[:, 0]), rollout.grouped(own.any(1)).float()    # [B, k]
    if rollout.k == 1:
        weight, drawn = weight.T, drawn.T
    count = drawn.sum(1, keepdim=True)
    mean = (weight * drawn).sum(1, keepdim=True) / count.clamp(min=1)
    variance = ((weight - mean).square() * drawn).sum(1) / (count - 1).clamp(min=1).squeeze(1)
    return {"weight_square": (weight.square() * drawn).sum() / drawn.sum().clamp(min=1), "weight_variance": variance.mean()}


def gradient_signal(optimiser: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> dict[str, float]:
    """Signal-to-noise ratio of the gradient, read from Adam's own moments: no pass more, no memory more.

    Were the last gradients draws g_i with mean G and covariance S, Adam's unbiased moments m = sum_i w_i g_i and v would have

        E |m|^2 = |G|^2 + q tr S,   E sum v = |G|^2 + tr S,   q = sum_i w_i^2 = (1 - b) / (1 + b) (1 + b^t) / (1 - b^t)

    with b = beta_1 after t steps: two equations for |G|^2 and tr S, each estimated without bias. The ratio is
    |G|^2 / tr S, 0 where noise hides the signal; the batch size divided by it is the gradient noise scale, from which on
    a larger batch hardly helps (McCandlish et al. 2018, B_simple, which they estimate from two batch sizes). These are the
    gradients that Adam saw, clipped, of about the last 20 (m) and 50 (v) steps; several steps on one roll-out see gradients
    that are alike, and then the noise looks smaller than it is.
    """
    mean, square, q = [], [], 1.0
    betas = optimiser.param_groups[0]["betas"]
    for state in (optimiser.state[one] for one in parameters if one in optimiser.state):
        (b, c), t = betas, float(state["step"])
        mean.append(state["exp_avg"].double().square().sum() / (1 - b**t)**2)
        square.append(state["exp_avg_sq"].double().sum() / (1 - c**t))
        q = (1 - b) / (1 + b) * (1 + b**t) / (1 - b**t)
    if q > 1 - 1e-9:                                       # no step yet, or one: nothing tells noise from signal
        return {}
    m, v = float(torch.stack(mean).sum()), float(torch.stack(square).sum())
    noise = max((v - m) / (1 - q), 0.0)
    return {"gradient_snr": max(m - q * noise, 0.0) / noise} if noise else {}
