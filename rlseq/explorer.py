"""Sampled groups: a few problems, and what a policy answers to them before and after fine-tuning, token by token.

The first problems of a split, the same for every algorithm: nobody picked them. Where a task is not public, no word of it
is kept; rewards, log-probabilities and maps are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .algos.sampled import leave_one_out
from .decode import greedy, sample
from .env import SequenceEnv, through_stop
from .nn.heads import Pointer
from .nn.policy import Policy
from .task import Task
from .train import seed_step
from .types import STOP, Batch, Rollout
from .worth import Asked

LONGEST_ANSWER, LONGEST_SOURCE = 80, 400       # steps and source positions that are kept
FAINT, MOST = 0.02, 12                         # of a step's map: weights below FAINT are dropped, at most MOST are kept
BYTES = 200_000                                # of all groups as JSON; maps are dropped beyond


@dataclass(frozen=True)
class View:
    """How much is shown: problems, and answers drawn for each of them beside the greedy one."""

    problems: int = 3
    k: int = 4


def sampled_groups(task: Task, stages: Mapping[str, Policy], device: torch.device, seed: int,
                   view: View = View()) -> list[dict[str, object]]:
    """Groups of the headline split as JSON can hold them; `stages` names the policies, such as before and after.

    A group: split, index, head, size (source positions), source and reference (words), points [[x, y]] and positions of the
    reference where the task has them, and `stages`: name -> answers, the drawn ones first, the greedy one last. Each has
    reward, words, positions (of a pointer), logp (nats), worth (of every prefix, were it ended there), advantage (reward
    less its siblings' mean; None if greedy) and map: for every step [position, weight / 255, position, ...], where
    position -1 is the STOP of a pointer. All stages draw by the same random numbers.
    """
    split = task.tests[0]
    examples = task.examples(split)
    chosen = range(min(view.problems, len(examples)))
    env = SequenceEnv(task, device)
    env.load(task.collate([examples[i] for i in chosen]))
    batch = env.batch
    groups = [{"split": split, "index": i, **_problem(task, batch, i), "stages": {}} for i in chosen]
    for name, policy in stages.items():
        policy.eval()
        seed_step(seed, "explorer")
        drawn = sample(policy, env, view.k)
        total = drawn.grouped(drawn.reward.sum(1))                                         # [B, k]
        advantage = (total - leave_one_out(total)).tolist() if view.k > 1 else [[None]] * len(batch)
        answers, best = _answers(policy, env, drawn), _answers(policy, env, greedy(policy, env))
        for i, group in enumerate(groups):
            own = answers[i * view.k:(i + 1) * view.k]
            group["stages"][name] = [{**one, "advantage": None if worth is None else round(worth, 4)}
                                     for one, worth in zip(own, advantage[i])] + [{**best[i], "advantage": None}]
    return _light(groups)


def _problem(task: Task, batch: Batch, i: int) -> dict[str, object]:
    """What a group says of problem i itself."""
    size = int(batch.source_mask[i].sum())
    found: dict[str, object] = {"head": task.head, "size": min(size, LONGEST_SOURCE), "source": None, "reference": None}
    if task.public:
        found["source"] = task.source_words(batch, i)[:LONGEST_SOURCE]
        found["reference"] = task.answer_words(batch, batch.target, i)[:LONGEST_ANSWER]
        points = task.points(batch.examples[i])
        if points is not None and size <= LONGEST_SOURCE:
            found["points"] = [[round(float(x), 4), round(float(y), 4)] for x, y in points]
            found["positions"] = _positions(batch.target[i])
    return found


def _answers(policy: Policy, env: SequenceEnv, rollout: Rollout) -> list[dict[str, object]]:
    """The N answers of a roll-out; rows n // k belong to problem n // k."""
    task, batch, legal = env.task, env.batch, env.legal_along(rollout.actions)
    worths = prefix_worth(task, batch, rollout.actions)
    with torch.no_grad():
        memory = policy.encode(batch)
        if isinstance(policy.head, Pointer):
            weights = policy.log_probs(memory, rollout.actions, legal).exp()               # [N, T, S + 1], STOP first
            first = -1
        else:
            weights = policy(memory, rollout.actions, rollout.mask, legal, attend=True).attention
            first = 0
    found = []
    for n in range(len(rollout.actions)):
        steps = min(int(rollout.mask[n].sum()), LONGEST_ANSWER)
        one: dict[str, object] = {
            "reward": round(float(rollout.reward[n].sum()), 4), "words": None,
            "logp": [round(value, 2) for value in rollout.logp[n, :steps].tolist()],
            "worth": [round(value, 3) for value in worths[n, :steps].tolist()]}
        if task.public:
            one["words"] = task.answer_words(batch, rollout.actions, n)[:steps]
        if first == -1:
            one["positions"] = _positions(rollout.actions[n, :steps])
        if weights is not None:
            one["map"] = [_sparse(row, first) for row in weights[n, :steps].float().cpu()]
        found.append(one)
    return found


def prefix_worth(task: Task, batch: Batch, actions: Tensor) -> Tensor:
    """Actions [N, T] -> [N, T], entry t the reward of the first t + 1 actions, were the answer ended after them."""
    rows, steps = actions.shape
    kept = torch.ones(steps, steps, dtype=torch.bool, device=actions.device).tril()        # prefix t keeps actions 0..t
    prefixes = (actions.unsqueeze(1) * kept).flatten(0, 1)                                 # [N * T, T]; STOP is 0
    return Asked(task, batch, prefixes, through_stop(prefixes)).reward().view(rows, steps)


def _positions(actions: Tensor) -> list[int]:
    """Source positions that a pointer's actions [T] name, up to STOP."""
    row = actions.tolist()
    return [action - 1 for action in row[:row.index(STOP) if STOP in row else None]]


def _sparse(weights: Tensor, first: int) -> list[int]:
    """One step's weights over positions first, first + 1, ... -> [position, weight in 255ths, ...], strongest first."""
    top = weights.topk(min(MOST, len(weights)))
    found = []
    for value, place in zip(top.values.tolist(), top.indices.tolist()):
        if value >= FAINT and place + first < LONGEST_SOURCE:
            found += [place + first, round(255 * min(value, 1.0))]
    return found


def _light(groups: list[dict[str, object]]) -> list[dict[str, object]]:
    """Groups without their maps, from the last problem on, until they fit BYTES."""
    for group in reversed(groups):
        if len(json.dumps(groups)) <= BYTES:
            break
        for answers in group["stages"].values():
            for one in answers:
                one.pop("map", None)
    return groups
