"""How a policy goes on after a prefix that went wrong, greedily, on the same problems for every policy.

Teacher forcing shows a policy nothing but right prefixes; whether it is lost after a wrong one is the exposure bias that
scheduled sampling (Bengio et al. 2015) and MIXER (Ranzato et al. 2016) want to lessen, and that He et al. (2021, "Exposure
Bias versus Self-Recovery") find small, for language models recover. To each problem with a reference of L actions and STOP:

    clean    the reference's first t = floor(place * L) actions are fed, the policy answers from there (t = 0: as ever)
    wrong    as before, but the next w actions are wrong, and legal; the policy answers from there
    alone    the clean answer with the same w actions swapped and nothing else changed (an action of its rest that they
             used up, of a pointer's, left out)

    loss = R(clean) - R(wrong),   beyond = R(alone) - R(wrong)

`beyond` is the part of the loss that is exposure bias: what the mistake did to the rest of the answer. It is 0 for a policy
that ignores its prefix, and below 0 where one makes up for a mistake. A wrong action is not the reference's, nor STOP, after
which there is nothing to recover; where none is legal the reference's stays (`unharmed` counts these). Where several answers
are right, such as a hull from any corner, it need be no mistake: place 0 of hull says less than the others. Kinds:

    random   drawn evenly from what is legal and wrong; the same for all policies
    shared   the likeliest wrong action of the policy that is measured first (its `own`); the same for all, and such as
             policies make
    own      the policy's own likeliest wrong action: what it will meet, but one policy's may weigh more than another's

Places are shares of a reference and no numbers of steps, so that all problems are in every place and differences between
places are no differences between short and long problems. For the same reason a problem is left out everywhere whose
reference is too short to leave an action after the mistake at some place, or too long for an answer.

`after` feeds the reference with the w actions wrong, and takes how many nats more its later actions cost than without:
whether a mistake is still felt 1, 2, 4, 8 actions later. Actions that the wrong ones made illegal do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from .build import Seed, Within
from .decode import greedy
from .env import SequenceEnv
from .nn.encoders import Memory
from .nn.linear import constant_weights
from .nn.policy import Policy
from .task import Task
from .types import NEVER, STOP, Rollout, pad
from .worth import Asked

Kind = Literal["random", "shared", "own"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DISTANCES = (1, 2, 4, 8)               # actions after the last wrong one
TOGETHER = 64                          # problems decoded at a time
Scoring = Callable[[int, Tensor, Tensor | None], Tensor]     # step, actions so far [N, T], legal [N, A] -> scores [N, A]
Found = dict[tuple[object, ...], np.ndarray]                 # what was measured, as `Trial.__call__` says -> [n, m]


@dataclass(frozen=True)
class Plan:
    """What is put to every policy alike."""

    split: str = "dev"
    problems: Annotated[int, Within(1, 10**6)] = 200       # the first of the split
    places: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    wrong: Annotated[int, Within(1, 1000)] = 1             # actions in a row
    kinds: tuple[Kind, ...] = KINDS
    seed: Seed = 0                                         # of random mistakes

    def __post_init__(self) -> None:
        if not self.places or not all(0 <= one < 1 for one in self.places) or len(set(self.places)) < len(self.places):
            raise ValueError(f"places={self.places} must be different shares of a reference from 0 to below 1, such as 0,1/2")
        if not self.kinds or not set(self.kinds) <= set(KINDS) or len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds={','.join(self.kinds)} must be some of: {', '.join(KINDS)}, each once")


def start(length: Tensor, place: float) -> Tensor:
    """Where mistakes begin in references of these lengths, STOP not counted [N] -> [N]."""
    return (place * length.double() + 1e-9).long()


class Trial:
    """The problems and the mistakes that all policies get. Call it with one policy after the other.

    Raises ValueError where no problem of the split is long enough.
    """

    def __init__(self, task: Task, plan: Plan, device: torch.device | str = "cpu") -> None:
        self.task, self.plan, self.env = task, plan, SequenceEnv(task, device)
        self.env.looks_late = False
        self.examples = task.examples(plan.split)
        self.asked = min(plan.problems, len(self.examples))
        self.metrics = list(dict.fromkeys([next(iter(task.metrics)), *(["exact"] if "exact" in task.metrics else [])]))
        self.numbers = sorted(filter(self._fits, range(self.asked)), key=lambda i: task.length(self.examples[i]))
        self.kept: dict[tuple[Kind, float, int], Tensor] = {}
        if not self.numbers:
            raise ValueError(f"no reference of the first {self.asked} problems of {plan.split} leaves an action after "
                             f"{plan.wrong} wrong at every place; take fewer (--wrong), earlier places, or more problems")

    def _fits(self, number: int) -> bool:
        batch = self.task.collate([self.examples[number]])
        length = batch.target_mask.sum(1) - 1
        last = max(int(start(length, place)) for place in self.plan.places)
        return last + self.plan.wrong < int(length) < self.task.horizon(batch)

    @property
    def batches(self) -> range:
        """Where batches begin among the problems."""
        return range(0, len(self.numbers), TOGETHER)

    @torch.no_grad()
    def __call__(self, policy: Policy, advance: Callable[[], object] = lambda: None) -> Found:
        """Statistics [n, m] of every problem, in the same order for all policies; `advance` is called after every batch.

            ("clean", place, metric), (kind, place, metric)    of the reward, of the primary metric, and of `exact`
            (f"{kind} alone", place, "reward")
            ("after", kind, distance)                          sum over places of nats more; places that have such an action
            ("unharmed", kind)                                 places without a wrong action
        """
        policy.eval()
        parts = []
        for first in self.batches:
            parts.append(self._answered(policy, first))
            advance()
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _answered(self, policy: Policy, first: int) -> Found:
        """The problems from `first` on, as many as are decoded together."""
        env, wrong = self.env, self.plan.wrong
        env.load(self.task.collate([self.examples[i] for i in self.numbers[first:first + TOGETHER]]))
        mask = env.batch.target_mask
        gold, length, memory, found = env.batch.target.masked_fill(~mask, STOP), mask.sum(1) - 1, policy.encode(env.batch), {}
        plain = self._nats(policy, memory, gold, gold)[0]
        for place in self.plan.places:
            begin = start(length, place)
            clean = greedy(policy, env, (gold, begin))
            found |= self._scored(("clean", place), clean)
            for kind in self.plan.kinds:
                fed = self._mistaken(kind, policy, gold, begin, place, first)
                found |= self._scored((kind, place), greedy(policy, env, (fed, begin + wrong)))
                found[f"{kind} alone", place, "reward"] = _counted(env.worth(*pasted(env, clean, fed, begin + wrong)))
                nats, possible = self._nats(policy, memory, gold, fed)
                for distance in DISTANCES:
                    key, step = ("after", kind, distance), begin + wrong - 1 + distance
                    found[key] = found.get(key, 0) + more(nats - plain, possible & (step <= length).unsqueeze(1), step)
                found["unharmed", kind] = found.get(("unharmed", kind), 0) + _counted((fed == gold).all(1))
        return found

    def _scored(self, key: tuple[str, float], answers: Rollout) -> Found:
        asked = Asked(self.task, self.env.batch, answers.actions, answers.mask)
        found = {(*key, name): asked.statistics(name, self.task.metrics[name]) for name in self.metrics}
        return found | {(*key, "reward"): _counted(answers.reward.sum(1))}

    def _nats(self, policy: Policy, memory: Memory, gold: Tensor, fed: Tensor) -> tuple[Tensor, Tensor]:
        """What each action of the references costs after what was fed [N, T], and whether it is there and legal [N, T]."""
        legal, real = self.env.legal_along(fed), self.env.batch.target_mask
        possible = real if legal is None else real & legal.gather(2, gold.unsqueeze(2)).squeeze(2)
        return -policy(memory, gold, real, legal, fed=fed).logp, possible

    def _mistaken(self, kind: Kind, policy: Policy, gold: Tensor, begin: Tensor, place: float, first: int) -> Tensor:
        """References [N, T] with the wrong actions in them; those that all policies share are found once."""
        key = (kind, place, first)
        if key in self.kept:
            return self.kept[key]
        numbers = self.numbers[first:first + len(gold)]
        scores = by_chance(numbers, begin, self.plan, place, self.env) if kind == "random" else by_policy(policy, self.env)
        fed = mistaken(self.env, gold, begin, self.plan.wrong, scores)
        if kind != "own":
            self.kept[key] = fed
        return fed


@constant_weights()
def mistaken(env: SequenceEnv, gold: Tensor, begin: Tensor, wrong: int, scores: Scoring) -> Tensor:
    """References [N, T] whose actions begin .. begin + wrong - 1 [N] are swapped one after the other: each for the legal
    action of highest score that is neither the reference's nor STOP, or for none where there is no such action."""
    fed = gold.clone()
    for step in range(int(begin.max()) + wrong):
        score = scores(step, fed, env.task.legal(env.batch, fed[:, :step])).scatter(1, gold[:, step:step + 1], NEVER)
        score[:, STOP] = NEVER
        best, action = score.max(1)
        swapped = (begin <= step) & (step < begin + wrong) & (best > NEVER / 2)
        fed[:, step] = torch.where(swapped, action, gold[:, step])
    return fed


def by_policy(policy: Policy, env: SequenceEnv) -> Scoring:
    """How likely the policy holds an action after the ones before; to be asked for step 0, 1, 2 ..."""
    state = policy.start(policy.encode(env.batch), 1)

    def scores(step: int, fed: Tensor, legal: Tensor | None) -> Tensor:
        nonlocal state
        logits, state = policy.logits(state, fed[:, step - 1] if step else None, legal)
        return logits
    return scores


def by_chance(numbers: Sequence[int], begin: Tensor, plan: Plan, place: float, env: SequenceEnv) -> Scoring:
    """Uniform numbers where a mistake is due; they follow from seed, problem, place, step and how many actions a batch has."""
    first = begin.tolist()

    def scores(step: int, fed: Tensor, legal: Tensor | None) -> Tensor:
        drawn = np.zeros((len(fed), env.batch.num_actions))
        for row, number in enumerate(numbers):
            if first[row] <= step < first[row] + plan.wrong:
                own = np.random.default_rng([plan.seed, number, round(place * 10**6), step - first[row]])
                drawn[row] = own.random(drawn.shape[1])
        found = torch.from_numpy(drawn).to(fed.device)
        return found if legal is None else found.masked_fill(~legal, NEVER)
    return scores


def pasted(env: SequenceEnv, clean: Rollout, fed: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Clean answers whose actions before `stop` [N] are those of `fed` [N, T]: actions and mask.

    What the wrong actions used up is left out of the rest; an answer that had ended before ends after them.
    """
    own = [row[real].tolist() for row, real in zip(clean.actions, clean.mask)]
    rows = [[*wrong[:end], *row[end:]] for row, wrong, end in zip(own, fed.tolist(), stop.tolist())]
    legal = env.legal_along(pad(rows)[0].to(env.device))
    if legal is not None:
        rows = [[action for place, action in enumerate(row) if place < end or action == STOP or legal[n, place, action]]
                for n, (row, end) in enumerate(zip(rows, stop.tolist()))]
    rows = [row if row[-1] == STOP or len(row) >= env.horizon else [*row, STOP] for row in rows]
    actions, mask = pad(rows)
    return actions.to(env.device), mask.to(env.device)


def more(nats: Tensor, there: Tensor, step: Tensor) -> np.ndarray:
    """Nats [N, T] at one step of each row [N], with 1 beside it; 0 twice where nothing is there [N, T]: [N, 2]."""
    step = step.clamp(max=nats.shape[1] - 1).unsqueeze(1)
    counts = there.gather(1, step)
    return torch.cat([nats.gather(1, step).double().masked_fill(~counts, 0.0), counts.double()], 1).cpu().numpy()


def _counted(values: Tensor) -> np.ndarray:
    """Values [N] as statistics of a mean [N, 2]."""
    found = values.double().cpu().numpy()
    return np.stack([found, np.ones_like(found)], 1)
