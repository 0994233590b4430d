"""Bias, variance and cost of what an algorithm descends, measured with the algorithm's own `collect` and `loss`.

Three ways to the updates of many repetitions, the first that agrees with plain autograd on a few of them:

    slopes    one roll-out and one loss for all, times the gradients of log-probabilities (see `slopes`)
    together  one roll-out for all, a loss and a backward pass for each
    alone     everything for each: for algorithms that mix the answers of different repetitions

Where all sets of k answers can be counted, the expectation is taken over them, exactly; else over repetitions.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .. import dist
from ..algos import Algorithm
from ..decode import sample
from ..env import SequenceEnv
from ..exact import all_answers, dictated, gradient, log_probability, one_by_one
from ..nn.policy import Policy
from ..types import Rollout
from .draws import all_sets, drawn_as, unchanged
from .moments import Moments, over_repetitions, over_sets
from .problems import Scene
from .slopes import Slopes

CHECKED = 3               # repetitions on which a way must agree with autograd
SEEDS = 12                # tried until these repetitions differ
AGREE = 1e-6              # of the largest entry: weights are float32, and sums in another order differ by so much
SETS = {"slopes": 20_000, "together": 400, "alone": 0}         # most sets of answers that an expectation goes through
FEW = 200                 # repetitions that are enough to count tokens


@dataclass(frozen=True)
class Effort:
    """How much is spent on each estimator."""

    draws: int               # repetitions
    slow: int                # of the ways that need a backward pass for each
    warm: int                # updates of a critic before anything is measured; of a moving mean 20 at most
    timed: int               # updates whose median time counts


@dataclass(frozen=True)
class Cost:
    """Of one gradient step on the loaded problems."""

    sampled: float           # tokens
    scored: float            # tokens
    seconds: float

    @property
    def tokens(self) -> float:
        return self.sampled + self.scored


@dataclass(frozen=True)
class Measured:
    """What came out; `draws` is 0 where the expectation is exact, `way` as above."""

    moments: Moments
    cost: Cost
    way: str
    draws: int


@dataclass
class Bench:
    """A scene, and the algorithm that is measured on it. Answers are drawn by `drawer`, scored by the scene's policy."""

    scene: Scene
    slopes: Slopes
    algorithm: Algorithm
    drawer: Policy
    progress: float = 0.5

    def env(self, copies: int, held: list[int] | None = None) -> SequenceEnv:
        """The scene's problems (or those held), so many times over."""
        env, whole = SequenceEnv(self.scene.env.task), self.scene.env.batch
        env.load(whole.take(torch.tensor(held or list(range(len(whole)))).repeat(copies)))
        return env

    def collect(self, env: SequenceEnv) -> Rollout:
        with unchanged(self.algorithm), torch.no_grad():
            return self.algorithm.collect(self.drawer, env, self.progress)

    def plain(self, rollout: Rollout) -> Tensor:
        """Minus the gradient of the loss by autograd [P]."""
        return -gradient(self.algorithm.loss(self.scene.policy, rollout)[0], self.scene.policy)

    def updates(self, rollout: Rollout, held: list[int], way: str) -> Tensor:
        """Of every repetition of the problems held, rolled out together: [R, P]."""
        if way == "slopes":
            return self.slopes.updates(self.algorithm, rollout, held)
        return torch.stack([self.plain(rollout.take(torch.arange(start, start + len(held))))
                            for start in range(0, len(rollout.batch), len(held))])

    @cached_property
    def way(self) -> str:
        """The first way that agrees with autograd on the same random numbers."""
        joint, numbers = self._varied()
        wanted = []
        for index in range(CHECKED):
            shares = iter([one.view(CHECKED, -1)[index] if len(one) % CHECKED == 0 else one for one in numbers])

            def replay(rows: int, shares=shares) -> Tensor:
                share = next(shares, torch.zeros(0))
                return share if len(share) == rows else torch.rand(rows)
            with dist.dictated(replay):
                wanted.append(self.plain(self.collect(self.env(1))))
        wanted = torch.stack(wanted)
        held = list(range(len(self.scene.env.batch)))
        for way in ("slopes", "together"):
            found = self.updates(joint, held, way)
            if (found - wanted).abs().max() <= AGREE * wanted.abs().max():
                return way
        return "alone"

    def _varied(self) -> tuple[Rollout, list[Tensor]]:
        """Repetitions whose answers differ in length and in worth, if they ever do, and the random numbers that drew them."""
        numbers: list[Tensor] = []

        def record(rows: int) -> Tensor:
            numbers.append(torch.rand(rows))
            return numbers[-1]

        def unlike(values: Tensor) -> bool:
            return len(values.double().view(CHECKED, -1).sum(1).unique()) > 1
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            numbers.clear()
            with dist.dictated(record):
                joint = self.collect(self.env(CHECKED))
            if unlike(joint.mask) and unlike(joint.reward):
                break
        return joint, numbers

    def warm(self, steps: int) -> None:
        """Train what the algorithm learns beside the policy (a critic, a moving mean), so that nothing starts cold."""
        learned = [one for one in self.algorithm.parameters() if one.requires_grad]        # an anchor's are frozen
        if not learned and not list(self.algorithm.buffers()):
            return
        env, optimiser = self.env(4), torch.optim.Adam(learned, lr=0.02) if learned else None
        for _ in range(steps if learned else min(steps, 20)):
            with torch.no_grad():
                rollout = self.algorithm.collect(self.drawer, env, self.progress)
            if optimiser:
                loss = self.algorithm.loss(self.scene.policy, rollout)[0]
                for one, slope in zip(learned, torch.autograd.grad(loss, learned, allow_unused=True), strict=True):
                    one.grad = slope
                optimiser.step()

    @cached_property
    def draws_as_is(self) -> bool:
        """Whether the first k answers to every problem are drawn from the drawer itself, and scored as drawn."""
        if not getattr(self.algorithm, "k", 0):
            return False
        env = self.env(CHECKED)
        torch.manual_seed(1)
        wanted = sample(self.drawer, env, self.algorithm.k)
        with dictated(self.drawer, env, wanted.actions):
            found = self.collect(env)
        return drawn_as(found, wanted.actions, wanted.k) and bool((found.logp.view(-1, found.k, found.logp.shape[1])[
            :, :wanted.k].sum(2) - wanted.grouped(wanted.logp).sum(2)).abs().max() < AGREE)

    @cached_property
    def tables(self) -> list[tuple[Tensor, Tensor]] | None:
        """For each problem the updates by all sets of k answers [R, P] and their probabilities [R].

        None where they are too many, or not drawn from the policy as it is.
        """
        problems = len(self.scene.env.batch)
        if not self.draws_as_is or self.way == "alone" or (problems > 1 and self.way != "slopes"):
            return None
        parts = []
        for held, alone in enumerate(one_by_one(self.scene.env)):
            actions, mask = all_answers(alone.task, alone.batch)
            if math.comb(len(actions) + self.algorithm.k - 1, self.algorithm.k) > SETS[self.way]:
                return None
            with torch.no_grad():
                p = log_probability(self.drawer, alone, actions, mask).exp()
            sets, count = all_sets(len(actions), self.algorithm.k)
            found = self._dictated(actions[sets], held)
            few = slice(0, len(sets), len(sets) // 10 + 1)
            turned = self._dictated(actions[sets[few].flip(1)], held)        # a set stands for all its orders
            if found is None or (turned - found[few]).abs().max() > AGREE * found.abs().max():
                return None
            parts.append((found, count * p[sets].prod(1)))
        return parts

    def exact(self) -> Moments | None:
        """Over all sets of k answers to each problem, where there are tables of them."""
        if self.tables is None:
            return None
        return Moments.together([over_sets(*one, self.scene.slope) for one in self.tables])

    def _dictated(self, answers: Tensor, held: int) -> Tensor | None:
        """The updates by given answers [R, k, T] to one problem: [R, P]; None if others were drawn."""
        env, wanted = self.env(len(answers), [held]), answers.flatten(0, 1)
        with dictated(self.drawer, env, wanted):
            rollout = self.collect(env)
        return self.updates(rollout, [held], self.way) if drawn_as(rollout, wanted, answers.shape[1]) else None

    def controls(self, rollout: Rollout, held: list[int]) -> list[Tensor]:
        """What is 0 on average and goes along with the updates [R, P]: sums over the answers drawn to the problems of

            grad log pi, for each problem; the mean reward of an answer's siblings x grad log pi; R grad log pi - grad J
        """
        k = getattr(self.algorithm, "k", 0)
        if not self.draws_as_is or self.drawer is not self.scene.policy:
            return []
        drawn = rollout.grouped(rollout.mask)[:, :k].flatten(0, 1)
        actions = rollout.grouped(rollout.actions)[:, :k].flatten(0, 1)
        key = (k, actions.masked_fill(~drawn, -1).numpy().tobytes())
        if key not in self.slopes.kept:
            self.slopes.kept.clear() if len(self.slopes.kept) > 3 else None
            self.slopes.kept[key] = self._controls(replace(rollout, actions=actions, mask=drawn, k=k), held)
        return self.slopes.kept[key]

    def _controls(self, rollout: Rollout, held: list[int]) -> list[Tensor]:
        env = SequenceEnv(self.scene.env.task)
        env.load(rollout.batch)
        worth = rollout.grouped(env.worth(rollout.actions, rollout.mask).double())               # [B, k]
        siblings = (worth.sum(1, keepdim=True) - worth) / max(1, rollout.k - 1)
        each = [torch.arange(len(worth)) % len(held) == place for place in range(len(held))]
        values = [one.double().unsqueeze(1).expand_as(worth) for one in each] + [siblings] * (rollout.k > 1) + [worth]
        share = rollout.mask.double() / (len(held) * rollout.k)
        found = [self.slopes.weighted(rollout, share * one.reshape(-1, 1), held) for one in values]
        return [*found[:-1], found[-1] - self.scene.slope]

    def sampled(self, draws: int) -> tuple[Moments, list[Rollout]]:
        """Over repetitions; and their roll-outs, for their tokens to be counted."""
        held, slope = list(range(len(self.scene.env.batch))), self.scene.slope
        if self.way == "alone":
            rollouts = [self.collect(self.env(1)) for _ in range(draws)]
            return over_repetitions(torch.stack([self.plain(one) for one in rollouts]), slope, []), rollouts
        rollout = self.collect(self.env(draws))
        return over_repetitions(self.updates(rollout, held, self.way), slope, self.controls(rollout, held)), [rollout]

    def cost(self, timed: int, rollouts: list[Rollout]) -> Cost:
        """Mean tokens of a step on the scene's problems; its seconds, the median of several.

        What was collected is shared by all gradient steps that use it whole.
        """
        env, seconds, copies = self.env(1), [], sum(len(one.batch) for one in rollouts) // len(self.scene.env.batch)
        for _ in range(timed):
            start = time.perf_counter()
            self.plain(self.collect(env))
            seconds.append(time.perf_counter() - start)
        sampled = sum(float(one.log.get("sampled_tokens", 0.0)) for one in rollouts) / copies
        scored = sum(float(one.mask.sum()) for one in rollouts) / copies
        parts = [self.algorithm.part(rollouts[0], number).mask.sum() for number in range(self.algorithm.passes)]
        uses = float(sum(parts) / rollouts[0].mask.sum())
        return Cost(sampled / uses, scored, statistics.median(seconds))


def measure(bench: Bench, effort: Effort, seed: int) -> Measured:
    """The same seed draws the same answers for every estimator that draws alike."""
    torch.manual_seed(seed)
    bench.warm(effort.warm)
    way, exact = bench.way, bench.exact()
    torch.manual_seed(seed + 1)
    draws = effort.draws if way == "slopes" else effort.slow
    moments, rollouts = bench.sampled(draws if exact is None else min(draws, FEW))
    if exact is not None:
        moments = exact if not math.isnan(exact.aligned) else replace(exact, aligned=moments.aligned)
    return Measured(moments, bench.cost(effort.timed, rollouts), way, 0 if exact is not None else draws)
