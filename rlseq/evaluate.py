"""Decoding a split and scoring it: statistics per example, so that intervals need no rescoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch

from . import dist
from .algos.base import reference
from .build import Within
from .decode import beam, check_sampling, generator, greedy, sample, set_generator
from .env import SequenceEnv
from .nn.policy import Policy
from .parts import fitted, in_parts
from .printable import printable
from .task import Mean, Metric, Task
from .types import Rollout, Scores
from .worth import Asked

WIDEST = 4096                      # beam that makes sense at all
ROWS = 1024                        # of beams, decoded together


@dataclass(frozen=True)
class Decoding:
    """How answers are found; the options of `decode.*` on the command line."""

    beam: Annotated[int, Within(0, WIDEST)] = 0      # width; 0 or 1 decode greedily
    length_penalty: Annotated[float, Within(-10, 10)] = 1.0
    no_repeat: Annotated[int, Within(0, 1000)] = 0   # n-grams of this size are not repeated (beam only)
    temperature: float = 0.0       # above 0: sample instead
    top_k: Annotated[int, Within(0, 2**31)] = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.beam < 0 or self.no_repeat < 0 or self.temperature < 0:
            raise ValueError(f"decode.beam={self.beam}, decode.no_repeat={self.no_repeat} and "
                             f"decode.temperature={self.temperature} must be 0 or more")
        if self.temperature:
            check_sampling(self.temperature, self.top_k, self.top_p)
        elif self.top_k or self.top_p != 1.0:
            raise ValueError("decode.top_k and decode.top_p cut a distribution that is sampled; set decode.temperature=1 too")
        if self.temperature and (self.beam > 1 or self.no_repeat):
            raise ValueError("decode.temperature samples, decode.beam and decode.no_repeat search; set one of them to 0")
        if self.length_penalty != 1.0 and self.beam <= 1 and not self.no_repeat:
            raise ValueError(f"decode.length_penalty={self.length_penalty} ranks the answers of a beam, and there is none; set "
                             "decode.beam=5, say")

    def __str__(self) -> str:
        if self.temperature:
            return f"sample,t={self.temperature:g},k={self.top_k},p={self.top_p:g}"
        return "greedy" if self.beam <= 1 and not self.no_repeat else \
            f"beam{max(self.beam, 1)},lp={self.length_penalty:g}" + (f",nr={self.no_repeat}" if self.no_repeat else "")

    def __call__(self, policy: Policy, env: SequenceEnv):
        """The answers to the loaded problems (a Rollout with k = 1)."""
        if self.temperature:
            return sample(policy, env, 1, self.temperature, self.top_k, self.top_p)
        if self.beam > 1 or self.no_repeat:
            return beam(policy, env, max(self.beam, 1), self.length_penalty, self.no_repeat)[0]
        return greedy(policy, env)


@dataclass(frozen=True)
class Evaluation:
    """A decoded split."""

    split: str
    rows: dict[str, np.ndarray]        # metric -> statistics [n, m]; "reward" is always among them
    scores: dict[str, float]           # metric -> corpus score
    shown: list[dict[str, object]]     # some answers for people: {"text", "reward"}

    @property
    def n(self) -> int:
        return len(next(iter(self.rows.values())))


def evaluate(policy: Policy, task: Task, split: str, device: torch.device, decoding: Decoding | None = None,
             size: int = 128, limit: int = 0, show: int = 0, metrics: Sequence[str] | None = None) -> Evaluation:
    """Decode a split (its first `limit` examples if given) in batches of `size` and score it: with all the task's metrics,
    or those named, and with the reward. Ranks share the batches, unless answers are sampled; so all of them must call."""
    policy.eval()
    env, decoding = SequenceEnv(task, device), decoding or Decoding()
    env.looks_late = False                                               # its numbers are fetched at once, the last ones too
    size = max(1, min(size, ROWS // max(1, decoding.beam)))              # wide beams share the memory among fewer problems
    examples, order = _ordered(task, split, limit)
    wanted = {name: one for name, one in task.metrics.items() if metrics is None or name in metrics}
    parts = 1

    def answered(start: int) -> tuple[dict[str, np.ndarray], list[tuple[int, dict[str, object]]]]:
        """Statistics of one batch, and the answers of it that are shown, numbered."""
        nonlocal parts
        part = {i: examples[i] for i in order[start:start + size]}
        env.whence = partial(_standing, split, part)
        env.load(task.collate(list(part.values())))
        begun = generator(env) if decoding.temperature else None

        def attempt(number: int) -> Rollout:
            if begun is not None:
                set_generator(env, begun)                                # what ran out of memory drew already
            with in_parts(number):
                return decoding(policy, env)
        rollout, parts = fitted(attempt, parts, len(part), f"{split}, answering")
        asked = Asked(task, env.batch, rollout.actions, rollout.mask, env.whence)
        found = {name: asked.statistics(name, metric) for name, metric in wanted.items()}
        reward = rollout.reward.sum(1).double().cpu().numpy()
        found["reward"] = np.stack([reward, np.ones_like(reward)], 1)
        return found, [(i, {"text": task.show(env.batch, rollout.actions, row), "reward": round(float(reward[row]), 4)})
                       for row, i in enumerate(order[start:start + size]) if i < show]
    starts = range(0, len(order), size)
    done = [answered(start) for start in starts] if decoding.temperature else dist.each(starts, answered)
    back = np.argsort(np.array(order))                                                 # into the split's own order
    rows = {name: np.concatenate([found[name] for found, _ in done])[back] for name in [*wanted, "reward"]}
    scores = {name: measure(task, name).score(one.sum(0)) for name, one in rows.items()}
    shown = sorted((one for _, some in done for one in some), key=lambda pair: pair[0])
    return Evaluation(split, rows, scores, [one for _, one in shown])


def _standing(split: str, part: Mapping[int, object], example: object) -> str:
    """Where an example stands, by its number in the split, if it is of this part of it."""
    return next((f"{split} example {i}" for i, one in part.items() if one is example), f"an example of {split}")


def _ordered(task: Task, split: str, limit: int) -> tuple[Sequence, list[int]]:
    """The examples of a split, and the numbers of its first `limit` (0: of all) from short to long: less padding."""
    examples = task.examples(split)
    count = min(len(examples), limit or len(examples))
    return examples, sorted(range(count), key=lambda i: task.length(examples[i]))


@torch.no_grad()
def reference_nll(policy: Policy, task: Task, split: str, device: torch.device, size: int = 128, limit: int = 0) -> np.ndarray:
    """What the policy says of each reference when fed it: [n, 2] negative log-likelihood in nats, and actions. Ranks share the
    batches, so all of them must call."""
    policy.eval()
    env = SequenceEnv(task, device)
    examples, order = _ordered(task, split, limit)
    parts = 1

    def scored(start: int) -> np.ndarray:
        nonlocal parts
        env.load(task.collate([examples[i] for i in order[start:start + size]]))
        gold = reference(env)

        def attempt(number: int) -> Scores:
            with in_parts(number):
                return policy.score(gold)
        scores, parts = fitted(attempt, parts, len(gold.batch), f"{split}, scoring references")
        return torch.stack([-(scores.logp * gold.mask).sum(1).double(), gold.mask.sum(1).double()], 1).cpu().numpy()
    return np.concatenate(dist.each(range(0, len(order), size), scored))[np.argsort(np.array(order))]


class NegativeLogLikelihood:
    """Mean over all reference actions of -log p, in nats; statistics are those of `reference_nll`."""

    signature, lower = "nats an action of the reference|fed:reference", True

    def score(self, total: np.ndarray) -> float:
        return float(total[0] / total[1]) if total[1] else float("nan")


REWARD = Mean("mean reward x 100", lambda batch, actions, mask: torch.zeros(len(actions)))
NLL = NegativeLogLikelihood()


def measure(task: Task, name: str) -> Metric | NegativeLogLikelihood:
    """The metric of this name: one of the task's, or `reward` or `nll`, which every task has."""
    return task.metrics[name] if name in task.metrics else {"reward": REWARD, "nll": NLL}[name]


def lower_is_better(task: Task, name: str) -> bool:
    """Whether a smaller score of this metric is a better one (error rates, nll)."""
    return getattr(measure(task, name), "lower", False)


def splits(task: Task, wanted: Sequence[str] = ()) -> list[str]:
    """The test splits asked for, by default all; "headline" is the first. Raises KeyError for an unknown one."""
    wanted = [task.tests[0] if name == "headline" else name for name in wanted]
    for name in wanted:
        if name not in task.tests:
            raise KeyError(f"no test split {printable(repr(name))} in task {task.name}; there are: {', '.join(task.tests)}")
    return list(dict.fromkeys(wanted)) or list(task.tests)
