"""The data that flows: problems, answers, scores.

Legend of dimensions, used in every name, shape and comment:
B problems, k answers to each, N = B*k rows (row n answers problem n // k), S source positions, T actions,
A possible actions, F features, H width, E embedding width, V words of the output vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated

import torch
from torch import Tensor

from .build import Within

STOP = 0          # action 0 ends an answer in every task
NEVER = -1e9      # logit of an illegal action: finite, for 0 * -inf is NaN; exp(NEVER) is exactly 0
Count = Annotated[int, Within(0, 2**31 - 1)]


@dataclass(frozen=True)
class Sizes:
    """What a policy must know of a task. Ids when `source_ids` > 0, else float features.

    `vocabulary` counts the output words, STOP among them (0 for pure pointers); `shared` says that source ids and
    output words are one vocabulary, so that embeddings may be tied; `coordinates` features come
    first that place a position on a line (1) or in the plane (2).
    """

    source_ids: Count = 0
    features: Count = 0
    vocabulary: Count = 0
    shared: bool = False
    coordinates: int = 0


@dataclass(frozen=True)
class Batch:
    """B problems, padded. Actions of the target are those that the policy's head understands."""

    source: Tensor                                   # [B, S] long ids, or [B, S, F] float features
    source_mask: Tensor                              # [B, S] bool, True where real
    target: Tensor                                   # [B, T] long, one reference answer, each row through its STOP
    target_mask: Tensor                              # [B, T] bool
    num_actions: int                                 # A: vocabulary; S + 1 for pointers; vocabulary + copied words
    extra: dict[str, Tensor] = field(default_factory=dict)  # named [B, ...]: copy_ids [B, S], n-grams, parents
    examples: Sequence = ()                          # the B raw problems, for people and for rewards that need text

    def __len__(self) -> int:
        return self.source.shape[0]

    @property
    def device(self) -> torch.device:
        return self.source.device

    def to(self, device: torch.device | str) -> Batch:
        """The same problems on another device."""
        return _moved(self, device)

    def take(self, problems: Tensor) -> Batch:
        """The problems of these numbers [B'], with the same padding."""
        cut = {one.name: getattr(self, one.name).index_select(0, problems) for one in fields(self)
               if isinstance(getattr(self, one.name), Tensor)}
        extra = {name: value.index_select(0, problems) for name, value in self.extra.items()}
        examples = [self.examples[i] for i in problems.tolist()] if self.examples else ()
        return replace(self, **cut, extra=extra, examples=examples)

    def rows(self, start: int, stop: int) -> Batch:
        """Problems start..stop-1, with the same padding."""
        cut = {one.name: getattr(self, one.name)[start:stop] for one in fields(self)
               if isinstance(getattr(self, one.name), Tensor)}
        return replace(self, **cut, extra={name: value[start:stop] for name, value in self.extra.items()},
                       examples=self.examples[start:stop])


@dataclass(frozen=True)
class Rollout:
    """N answers and what the algorithm thinks of them; nothing here carries gradient."""

    batch: Batch                   # the B problems, not repeated
    actions: Tensor                # [N, T] long
    mask: Tensor                   # [N, T] bool, True through STOP
    logp: Tensor                   # [N, T] under the policy that drew them
    reward: Tensor                 # [N, T] as the algorithm takes it: shaped, scaled, less the price of KL
    weight: Tensor                 # [N, T] coefficient of log pi in the loss
    legal: Tensor | None = None    # [N, T, A] bool, what could be drawn; None when all could
    fed: Tensor | None = None      # [N, T] what the decoder is fed in place of `actions` (scheduled sampling)
    k: int = 1
    temperature: float = 1.0       # of the distribution that drew, and by which the answers are scored
    log: dict[str, Tensor] = field(default_factory=dict)   # scalars seen while collecting
    extra: dict[str, Tensor] = field(default_factory=dict)  # named [N, T], or scalars: what a loss needs besides
    counts: dict[str, Tensor] = field(default_factory=dict)  # of a slice: what its loss divides sums by, for `count`

    def grouped(self, rows: Tensor) -> Tensor:
        """[N, ...] -> [B, k, ...]."""
        return rows.view(-1, self.k, *rows.shape[1:])

    def take(self, problems: Tensor) -> Rollout:
        """All answers to the problems of these numbers [B'], with the same padding."""
        def taken(rows: Tensor) -> Tensor:
            return self.grouped(rows).index_select(0, problems).flatten(0, 1)
        cut = {one.name: taken(getattr(self, one.name)) for one in fields(self)
               if isinstance(getattr(self, one.name), Tensor)}
        return replace(self, batch=self.batch.take(problems), **cut,
                       extra={name: taken(value) if value.dim() else value for name, value in self.extra.items()})

    def slice(self, start: int, stop: int) -> Rollout:
        """All answers to problems start..stop-1, with the same padding; copies nothing."""
        rows = slice(start * self.k, stop * self.k)
        cut = {one.name: getattr(self, one.name)[rows] for one in fields(self) if isinstance(getattr(self, one.name), Tensor)}
        return replace(self, batch=self.batch.rows(start, stop), **cut,
                       extra={name: value[rows] if value.dim() else value for name, value in self.extra.items()})

    def count(self, name: str, steps: Tensor) -> Tensor:
        """How many `steps` [N, T] bool there are, for a sum over them to be divided by.

        Of a slice of a batch, as many as it would have if they were spread evenly over the problems of all slices and
        ranks: so slices, weighed by their problems, add up to the whole. `name` is one of `Algorithm.counts`.
        """
        return self.counts[name] if name in self.counts else steps.sum()


def joined(parts: Sequence[Rollout], batch: Batch) -> Rollout:
    """Roll-outs of the first problems of a batch, the next and so on, as one of the whole batch."""
    length = max(one.actions.shape[1] for one in parts)

    def whole(pieces: Sequence[Tensor], fill: bool) -> Tensor:
        padded = [torch.nn.functional.pad(one, (0, 0) * (one.dim() - 2) + (0, length - one.shape[1]), value=fill)
                  for one in pieces]
        return torch.cat(padded)
    return replace(parts[0], batch=batch, **{one.name: whole([getattr(part, one.name) for part in parts], one.name == "legal")
                                             for one in fields(Rollout) if isinstance(getattr(parts[0], one.name), Tensor)})


@dataclass(frozen=True)
class Scores:
    """What the parallel pass says of given actions; carries gradient."""

    logp: Tensor                        # [N, T] log-probability of the actions taken
    entropy: Tensor | None = None       # [N, T] of the distribution at each step, nats
    attention: Tensor | None = None     # [N, T, S] over source positions, rows sum to 1
    smooth: Tensor | None = None        # [N, T] mean log-probability over the legal actions (label smoothing)
    states: Tensor | None = None        # [N, T, H] of the decoder before each action, for a critic


@dataclass(frozen=True)
class Foreseen:
    """What the gradient of a roll-out's scores will be, up to one factor; knowing it saves a pass over the vocabulary.

    Of log p it is `weight`; where details are asked for, of log p 1 - `smoothing` times that, of the smoothing term
    `smoothing` times, of the entropy nothing.
    """

    weight: Tensor              # [N, T]
    smoothing: float = 0.0


def _moved(data, device):
    def move(value):
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        return {name: move(one) for name, one in value.items()} if isinstance(value, dict) else value
    return replace(data, **{one.name: move(getattr(data, one.name)) for one in fields(data)})


def pad(rows: Sequence[Sequence[int] | Tensor], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Ragged rows of ids -> padded [B, L] long and mask [B, L] bool."""
    length = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), length), fill, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, :len(row)] = torch.as_tensor(row, dtype=torch.long)
        mask[index, :len(row)] = True
    return ids, mask
