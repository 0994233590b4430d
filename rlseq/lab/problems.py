"""What the laboratory measures on: problems with few enough answers to count, and policies that have learned something.

A problem's reference is one answer among all; another is worth its agreement with it in order, so most answers earn
something and few earn much. Worths are multiples of 1/64, so float32 adds them up exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..env import SequenceEnv
from ..exact import all_answers, divergence, gradient, log_probability, worth
from ..nn.policy import Policy, Shape, make_policy
from ..rewards.order import common
from ..task import Mean, Task, prefixes, problem_rows
from ..types import STOP, Batch, Sizes, pad

SHAPES = {"transformer": Shape("vocabulary", width=8, heads=2, feedforward=16, encoder_layers=1, decoder_layers=1, dropout=0.0),
          "lstm": Shape("vocabulary", "lstm", "lstm", width=8, encoder_layers=1, decoder_layers=1, dropout=0.0)}
LEARNED = 0.35         # mean probability of the references where pretraining ends
MOVED = 0.15           # KL in nats from the pretrained policy to the one that is measured
BEHIND = 0.02          # KL from that one to the policy that drew the answers of a second pass
IDS = 6                # of the sources


def none_twice_running(prefix: Tensor, actions: int) -> Tensor:
    """A rule for small problems: prefix [N, t] -> legal [N, A], where no word follows itself and STOP never comes first."""
    legal = torch.ones(len(prefix), actions, dtype=torch.bool)
    if prefix.shape[1]:
        legal = legal.scatter(1, prefix[:, -1:], False)
    legal[:, STOP] = bool(prefix.shape[1])
    return legal


@dataclass(frozen=True)
class Problem:
    """Sizes of a problem: actions (STOP among them), most steps, whether a rule holds, sources loaded together."""

    name: str
    actions: int
    steps: int
    rule: bool
    sources: int


class Words(Task):
    """A source of a few ids, its reference, and every other sequence of words.

    With a rule, STOP must not come first and no word may follow itself.
    """

    name, version, heads, reward_name = "lab", 0, ("vocabulary",), "agreement"
    head, tests = "vocabulary", ("test",)

    def __init__(self, problem: Problem) -> None:
        self.problem, self.actions, self.steps, self.rule = problem, problem.actions, problem.steps, problem.rule
        self.metrics = {"reward": Mean("agreement", self.reward)}

    sizes = property(lambda self: Sizes(source_ids=IDS, vocabulary=self.actions))
    fingerprint = property(lambda self: repr(self.problem))

    def examples(self, split: str) -> Sequence[int]:
        return {"train": range(12), "dev": range(12, 16), "test": range(16, 20)}[split]

    def collate(self, examples: Sequence[int]) -> Batch:
        source, source_mask = pad([[i % IDS, (i // 2) % IDS, (5 * i + 2) % IDS][:2 + i % 2] for i in examples])
        target, target_mask = pad([self.reference(i) for i in examples])
        return Batch(source, source_mask, target, target_mask, self.actions, {}, tuple(examples))

    def reference(self, example: int) -> list[int]:
        """Words in turn, none twice in a row, of several lengths; the last step is left for STOP."""
        words, count = self.actions - 1, max(1, self.steps - 1 - example % 2)
        return [*(1 + (example + t * (1 + example % 2)) % words for t in range(count)), STOP]

    def horizon(self, batch: Batch) -> int:
        return self.steps

    def legal(self, batch: Batch, prefix: Tensor) -> Tensor | None:
        return none_twice_running(prefix, self.actions) if self.rule else None

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        """3/4 F1 of the longest common subsequence with the reference (STOP counts), 1/4 where the first word is right."""
        rows = problem_rows(batch, len(actions))
        gold, gold_mask = batch.target[rows], batch.target_mask[rows]
        shared = common(actions.masked_fill(~mask, -1), gold.masked_fill(~gold_mask, -1))
        f1 = 2 * shared / (mask.sum(1) + gold_mask.sum(1))
        return torch.floor(64 * (0.75 * f1 + 0.25 * (actions[:, 0] == gold[:, 0])) + 1e-6) / 64

    has_prefix_reward = True

    def prefix_reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return prefixes(self.reward, batch, actions, mask)

    def parse(self, line: str) -> int:
        return int(line)

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        return " ".join(map(str, actions[row].tolist()))

    show = answer


@dataclass(frozen=True)
class Scene:
    """A problem with its policies in float64: the one measured, the pretrained copy, and one an update behind."""

    problem: Problem
    shape: str
    env: SequenceEnv
    policy: Policy
    anchor: Policy
    behind: Policy

    @cached_property
    def slope(self) -> Tensor:
        """grad J [P]."""
        return gradient(worth(self.policy, self.env), self.policy)

    @cached_property
    def facts(self) -> dict[str, float]:
        """J, |grad J|, KL to the pretrained copy, answers to a source, probability of the likeliest, entropy in nats."""
        first = SequenceEnv(self.env.task)
        first.load(self.env.batch.rows(0, 1))
        with torch.no_grad():
            logp = log_probability(self.policy, first, *all_answers(first.task, first.batch))
            j, kl = worth(self.policy, self.env), divergence(self.policy, self.anchor, self.env)
        return {"J": float(j), "slope": float(self.slope.norm()), "kl": float(kl), "answers": len(logp),
                "likeliest": float(logp.max().exp()), "entropy": -float((logp.exp() * logp).sum()),
                "parameters": len(self.slope)}


def make_scene(problem: Problem, shape: str, seed: int) -> Scene:
    """Pretrain on the references, then step towards more reward; both until a given measure, so no policy is near uniform."""
    task = Words(problem)
    env = SequenceEnv(task)
    anchor = pretrained(task, SHAPES[shape], seed)
    env.load(task.collate(hardest(anchor, task)[:problem.sources]))
    behind = moved(anchor, anchor, env, MOVED)
    policy = moved(behind, behind, env, BEHIND)
    return Scene(problem, shape, env, policy, anchor, behind)


def pretrained(task: Words, shape: Shape, seed: int) -> Policy:
    """MLE on the training problems until the references have a mean probability of LEARNED."""
    torch.manual_seed(seed)
    policy = make_policy(task.sizes, shape).double().eval()
    env = SequenceEnv(task)
    env.load(task.collate(list(task.examples("train"))))
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.02)
    for _ in range(400):
        logp = log_probability(policy, env, env.batch.target, env.batch.target_mask)
        if float(logp.detach().exp().mean()) > LEARNED:
            break
        optimiser.zero_grad()
        (-logp.mean()).backward()
        optimiser.step()
    return policy.requires_grad_(True)


def hardest(policy: Policy, task: Words) -> list[int]:
    """Training problems, the one whose reference is least likely first: there, something is left to gain."""
    env, examples = SequenceEnv(task), list(task.examples("train"))
    env.load(task.collate(examples))
    with torch.no_grad():
        logp = log_probability(policy, env, env.batch.target, env.batch.target_mask)
    return [examples[i] for i in logp.argsort().tolist()]


def moved(policy: Policy, origin: Policy, env: SequenceEnv, kl: float) -> Policy:
    """A copy of the policy, a step along grad J away, about so long that KL(copy || origin) is `kl`."""
    slope = gradient(worth(policy, env), policy)
    start, length = torch.nn.utils.parameters_to_vector(policy.parameters()).detach(), 0.1
    found = copy.deepcopy(policy)
    for _ in range(6):                                    # KL grows with the square of a short step
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(start + length * slope / slope.norm(), found.parameters())
            length *= (kl / max(float(divergence(found, origin, env)), 1e-12)) ** 0.5
    return found
