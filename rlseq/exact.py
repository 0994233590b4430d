"""Exact expectations on problems whose answers can be counted: J, KL, their gradients, and what an algorithm does on average.

    J = mean_x sum_y pi(y | x) R(x, y)        KL = mean_x sum_y pi(y | x) (log pi(y | x) - log pi_0(y | x))

Every answer is enumerated, so nothing here has sampling noise. Expectations over k answers a problem go through all
k-tuples: `dictated` makes the sampler draw a given one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import dist
from .env import SequenceEnv, through_stop
from .nn.policy import Policy
from .task import Task
from .types import STOP, Batch

LIMIT = 100_000        # most answers to a problem


def all_answers(task: Task, batch: Batch, limit: int = LIMIT) -> tuple[Tensor, Tensor]:
    """Every legal answer to the one problem of a batch: actions and mask [M, T].

    Raises ValueError where there are more than `limit`.
    """
    assert len(batch) == 1, len(batch)
    horizon, found = task.horizon(batch), []
    prefixes = torch.zeros(1, 0, dtype=torch.long, device=batch.device)
    for t in range(1, horizon + 1):
        legal = task.legal(batch, prefixes)
        if legal is None:
            legal = torch.ones(len(prefixes), batch.num_actions, dtype=torch.bool, device=batch.device)
        rows, actions = legal.nonzero().unbind(1)
        longer = torch.cat([prefixes[rows], actions.unsqueeze(1)], 1)
        ended = (actions == STOP) | (t == horizon)
        found.append(pad(longer[ended], (0, horizon - t), value=STOP))
        prefixes = longer[~ended]
        if sum(map(len, found)) + len(prefixes) > limit:
            raise ValueError(f"a problem of task {task.name} has more than {limit} answers; enumerate a smaller one")
        if not len(prefixes):
            break
    actions = torch.cat(found)[:, :t]
    return actions, through_stop(actions)


def one_by_one(env: SequenceEnv) -> Iterator[SequenceEnv]:
    """An environment for each of the loaded problems alone."""
    for row in range(len(env.batch)):
        alone = SequenceEnv(env.task, env.device)
        alone.load(env.batch.rows(row, row + 1))
        yield alone


def log_probability(policy: Policy, env: SequenceEnv, actions: Tensor, mask: Tensor) -> Tensor:
    """log pi of whole answers [N, T] to the loaded problems -> [N]; carries gradient."""
    scores = policy(policy.encode(env.batch), actions, mask, env.legal_along(actions))
    return (scores.logp * mask).sum(1)


def gradient(value: Tensor, policy: Policy) -> Tensor:
    """d value / d all parameters of the policy, in one long vector [P]."""
    parameters = list(policy.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return torch.cat([(torch.zeros_like(one) if part is None else part).flatten()
                      for one, part in zip(parameters, found, strict=True)])


def worth(policy: Policy, env: SequenceEnv) -> Tensor:
    """J over the loaded problems; carries gradient."""
    parts = []
    for alone in one_by_one(env):
        actions, mask = all_answers(alone.task, alone.batch)
        p = log_probability(policy, alone, actions, mask).exp()
        parts.append((p * alone.worth(actions, mask).to(p.dtype)).sum())
    return torch.stack(parts).mean()


def divergence(policy: Policy, anchor: Policy, env: SequenceEnv) -> Tensor:
    """KL(policy || anchor) of whole answers, in nats, over the loaded problems; carries the policy's gradient."""
    parts = []
    for alone in one_by_one(env):
        actions, mask = all_answers(alone.task, alone.batch)
        logp = log_probability(policy, alone, actions, mask)
        with torch.no_grad():
            other = log_probability(anchor, alone, actions, mask)
        parts.append((logp.exp() * (logp - other)).sum())
    return torch.stack(parts).mean()


@contextmanager
def dictated(policy: Policy, env: SequenceEnv, actions: Tensor) -> Iterator[None]:
    """Within, `decode.sample` draws these answers [N, T] to the loaded problems, N = B*k, whatever their probability.

    The sampler is given, at every step, a number from the middle of the wanted action's share of [0, 1); rows that it
    rolls out beside the drawn ones (a greedy one after each problem's k) get 1/2. An action rarer than 1e-13 may be
    missed.
    """
    with torch.no_grad():
        p = policy.log_probs(policy.encode(env.batch), actions, env.legal_along(actions)).exp()        # [N, T, A]
    chosen = actions.unsqueeze(2)
    middle = (p.cumsum(2).gather(2, chosen) - p.gather(2, chosen) / 2).squeeze(2) / p.sum(2)
    middle = pad(middle, (0, env.horizon - middle.shape[1]), value=0.5)
    step = itertools.count()

    def numbers(rows: int) -> Tensor:
        column = middle[:, next(step) % env.horizon]
        beside = rows - len(column)
        return pad(column.view(beside, -1), (0, 1), value=0.5).flatten() if beside else column
    with dist.dictated(numbers):
        yield


def every_draw(policy: Policy, env: SequenceEnv, k: int) -> Iterator[tuple[Tensor, float]]:
    """All B*k-tuples of answers to the loaded problems and their probabilities: yields [N, T] and a float."""
    rows = []
    for alone in one_by_one(env):
        actions, mask = all_answers(alone.task, alone.batch)
        with torch.no_grad():
            p = log_probability(policy, alone, actions, mask).exp().tolist()
        rows.append(list(zip(pad(actions, (0, env.horizon - actions.shape[1]), value=STOP), p, strict=True)))
    for drawn in itertools.product(*[row for row in rows for _ in range(k)]):
        probability = 1.0
        for _, one in drawn:
            probability *= one
        yield torch.stack([actions for actions, _ in drawn]), probability
