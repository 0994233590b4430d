"""Gradients of many updates at once: an update is a weighted sum of grad log pi(a | prefix), and those are few.

An algorithm's loss sees the policy through log-probabilities (and entropies) of given answers. So its derivative by
these numbers is taken once for all repetitions, and multiplied by grad log pi of every edge of the tree of answers:

    grad loss = sum_e (d loss / d log pi_e) grad log pi_e,    d H = -sum_a p_a log p_a d log p_a   (for sum_a p_a d log p_a = 0)

`measure` checks that this equals autograd through the whole network before it is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..algos import Algorithm
from ..env import SequenceEnv
from ..exact import gradient, one_by_one
from ..nn.policy import Policy
from ..types import Rollout, Scores


@dataclass(frozen=True)
class Edges:
    """Steps of answers: which roll-out row and step, which edge of the tree, and its number's derivative."""

    row: Tensor            # [n]
    code: Tensor           # [n]
    value: Tensor          # [n]


class Slopes:
    """grad log pi of every edge (problem, prefix, action) that was asked for, each computed once.

    An edge's code is its digits in base A + 1: the problem + 1, then every action + 1.
    """

    def __init__(self, policy: Policy, env: SequenceEnv) -> None:
        self.policy, self.base = policy, env.batch.num_actions + 1
        self.alone = list(one_by_one(env))
        self.codes = torch.zeros(0, dtype=torch.long)                # sorted
        self.kept: dict[object, list[Tensor]] = {}                   # what `measure` need not compute again
        self.slopes = torch.zeros(0, sum(one.numel() for one in policy.parameters()), dtype=torch.float64)

    def code(self, problem: Tensor, actions: Tensor) -> Tensor:
        """Problems [N] and what was done [N, T] -> the code of every step's edge [N, T]."""
        codes, last = [], problem + 1
        for column in actions.T:
            last = last * self.base + column + 1
            codes.append(last)
        return torch.stack(codes, 1)

    def _digits(self, code: int) -> tuple[int, list[int]]:
        digits = []
        while code:
            code, digit = divmod(code, self.base)
            digits.append(digit - 1)
        return digits.pop(), digits[::-1]

    def at(self, codes: Tensor) -> Tensor:
        """Where these edges [n] stand in `slopes`; computes what is missing, a row of the tree at a time."""
        missing = codes[~torch.isin(codes, self.codes)].unique()
        if len(missing):
            parents = missing.div(self.base, rounding_mode="floor")
            found = []
            for parent in parents.unique_consecutive().tolist():
                logp = self._after(parent)
                found += [gradient(logp[code % self.base - 1], self.policy) for code in missing[parents == parent].tolist()]
            codes_, order = torch.cat([self.codes, missing]).sort()
            self.codes, self.slopes = codes_, torch.cat([self.slopes, torch.stack(found)])[order]
        return torch.searchsorted(self.codes, codes)

    def _after(self, parent: int) -> Tensor:
        """log pi of every action after a prefix [A]; carries gradient."""
        problem, prefix = self._digits(parent)
        env = self.alone[problem]
        actions = torch.tensor([[*prefix, 0]])
        logp = self.policy.log_probs(self.policy.encode(env.batch), actions, env.legal_along(actions))
        return logp[0, -1]

    def entropy(self, row: Tensor, code: Tensor, value: Tensor) -> Edges:
        """Derivatives [n] by entropies before the steps of these edges, as derivatives by log-probabilities."""
        parents = code.div(self.base, rounding_mode="floor")
        rows, codes, values = [], [], []
        for parent in parents.unique().tolist():
            with torch.no_grad():
                logp = self._after(parent)
            here, open_ = parents == parent, (logp > -1e8).nonzero().squeeze(1)
            share = -(logp.exp() * logp)[open_]
            rows.append(row[here].repeat_interleave(len(open_)))
            codes.append((parent * self.base + open_ + 1).repeat(int(here.sum())))
            values.append((value[here, None] * share).flatten())
        return Edges(torch.cat(rows), torch.cat(codes), torch.cat(values))

    def updates(self, algorithm: Algorithm, rollout: Rollout, held: Sequence[int]) -> Tensor:
        """Minus the gradient of the loss on each of R repetitions of the problems `held`, rolled out as one batch: [R, P].

        Right if the loss is a mean over problems and sees the policy through its scores; autograd must confirm it.
        """
        copies = len(rollout.batch) // len(held)
        seen: list[tuple[tuple, Scores]] = []

        def watch(module, given: tuple, scores: Scores) -> Scores:
            leaves = {name: getattr(scores, name).detach().requires_grad_() for name in ("logp", "entropy")
                      if getattr(scores, name) is not None}
            seen.append((given, replace(scores, **leaves)))
            return seen[-1][1]
        wanted = [one.requires_grad for one in self.policy.parameters()]
        hook = self.policy.register_forward_hook(watch)
        try:
            self.policy.requires_grad_(False)
            loss = algorithm.loss(self.policy, rollout)[0]
        finally:
            hook.remove()
            for one, was in zip(self.policy.parameters(), wanted, strict=True):
                one.requires_grad_(was)
        parts = [part for given, scores in seen for part in self._parts(loss, given, scores, torch.tensor(held))]
        return -copies * self._summed(parts, copies, len(held))

    def weighted(self, rollout: Rollout, value: Tensor, held: Sequence[int]) -> Tensor:
        """sum of value [N, T] x grad log pi over the steps of each repetition: [R, P]."""
        row = torch.arange(len(value)).div(rollout.k, rounding_mode="floor").unsqueeze(1).expand_as(value)
        code = self.code(torch.tensor(held)[row[:, 0] % len(held)], rollout.actions)
        real = rollout.mask & (value != 0)
        return self._summed([Edges(row[real], code[real], value[real])], len(rollout.batch) // len(held), len(held))

    def _parts(self, loss: Tensor, given: tuple, scores: Scores, held: Tensor) -> list[Edges]:
        """What the loss takes from one scoring pass of (memory, actions, mask, ...)."""
        memory, actions, mask, *_ = given
        rows = torch.arange(len(actions))
        problem = rows.div(len(actions) // len(memory.batch), rounding_mode="floor")
        code = self.code(held[problem % len(held)], actions)[mask]
        row, found = problem.unsqueeze(1).expand_as(mask)[mask], []
        for leaf, spread in ((scores.logp, None), (scores.entropy, self.entropy)):
            slope = None if leaf is None or not loss.requires_grad else torch.autograd.grad(
                loss, leaf, retain_graph=True, allow_unused=True)[0]
            if slope is not None and (real := slope[mask].nonzero().squeeze(1)).numel():
                value = slope[mask][real].double()
                found.append(Edges(row[real], code[real], value) if spread is None else spread(row[real], code[real], value))
        return found

    def _summed(self, parts: list[Edges], copies: int, problems: int) -> Tensor:
        if not parts:
            return torch.zeros(copies, self.slopes.shape[1], dtype=torch.float64)
        row, code, value = (torch.cat([getattr(one, name) for one in parts]) for name in ("row", "code", "value"))
        distinct, which = code.unique(return_inverse=True)
        place = self.at(distinct)
        weights = torch.sparse_coo_tensor(torch.stack([row.div(problems, rounding_mode="floor"), which]), value,
                                          (copies, len(distinct)), check_invariants=False)
        return torch.sparse.mm(weights, self.slopes[place])
