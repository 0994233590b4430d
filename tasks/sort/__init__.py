"""Sorting integers that are mostly not words of the output, so that they must be copied (See et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from rlseq.build import Seed, Within
from rlseq.rewards.order import is_sorted, items_f1, order_f1
from rlseq.task import Mean, problem_rows
from rlseq.task import Task as Base
from rlseq.types import STOP, Batch, Sizes

from .data import BUCKETS, ENDLESS, ITEMS, Example, Problems, feature_table

UNK, FIRST_WORD = 1, 2
NOTHING = -1                          # the value of an action that names none, and of padding
TEST_LENGTHS = (5, 10, 30, 100)       # items in a problem of the other test splits, exactly
Below, Items = Annotated[int, Within(2, 10**6)], Annotated[int, Within(1, 10_000)]
SPARE = 2                             # actions beyond all items and STOP, so that an invented item can be seen to cost


class Task(Base):
    """Only multiples of `every` are words (action 2 + v / every); any other value reads as the word UNK.

    copy: words, then V + j for the j-th different value of the source that is no word (equal values share an action).
    vocabulary: words alone; UNK earns nothing, so its best answer is worth less than 1 (`reference_is_best`).
    pointer: action i names position i-1; equal values are worth the same. Raises ValueError for unfit options.
    """

    name, version, heads = "sort", 0, ("copy", "pointer", "vocabulary")
    reward_name = "order-f1"

    def __init__(self, head: str, seed: Seed = 0, high: Below = 1000, every: Below = 10, min_length: Items = 1,
                 max_length: Items = 15, duplicates: float = 0.3) -> None:
        if head not in self.heads:
            raise ValueError(f"task sort needs a policy with the head {', '.join(self.heads)}, not {head!r}")
        if high < 100 or not 1 < every <= high:
            raise ValueError(f"task.high={high} must be 100 or more and task.every={every} within 2..{high}")
        if not 1 <= min_length <= max_length or not 0 <= duplicates < 1:
            raise ValueError(f"task.min_length={min_length} and task.max_length={max_length} must hold 1 <= min <= max "
                             f"and task.duplicates={duplicates} 0 <= duplicates < 1")
        self.head, self.seed, self.high, self.every = head, seed, high, every
        self.min_length, self.max_length, self.duplicates = min_length, max_length, duplicates
        self.reference_is_best = head != "vocabulary"
        values = np.arange(high)
        self.words = np.where(values % every == 0, FIRST_WORD + values // every, UNK)       # [high] action of a value
        self.vocabulary = int(self.words.max()) + 1
        self.table = feature_table(high)
        self.metrics = {
            "exact": Mean("exactly the sorted items", self._exact),
            "order": Mean("F1 of the longest common subsequence with the sorted items", self.reward),
            "items": Mean("F1 of the items as a multiset", self._items),
        }
        short = (min_length, max_length)
        exact = {f"test-{n}": (n, n) for n in TEST_LENGTHS if n != max_length}
        self.lengths = {"train": short, "dev": short, f"test-{max_length}": short, "test-seen": short, **exact}
        self.tests = tuple(self.lengths)[2:]
        self.splits: dict[str, Problems] = {}

    @property
    def sizes(self) -> Sizes:
        return Sizes(features=self.table.shape[1], vocabulary=0 if self.head == "pointer" else self.vocabulary, coordinates=1)

    @cached_property
    def fingerprint(self) -> str:
        shape = (self.name, self.version, self.seed, self.high, self.every, self.lengths["train"], self.duplicates)
        first = [self.examples(split)[i].values for split in self.lengths for i in range(2)]
        return sha256(repr((shape, first)).encode()).hexdigest()[:16]

    def examples(self, split: str) -> Sequence[Example]:
        if split not in self.lengths:
            raise KeyError(f"no split {split!r} in task sort; there are: {', '.join(self.lengths)}")
        if split not in self.splits:
            self.splits[split] = self._split(split)
        return self.splits[split]

    def _split(self, split: str) -> Problems:
        order, others = list(self.lengths).index(split), len(self.lengths) - 1      # dev and tests: a bucket each
        return Problems(split, self.seed, self.lengths[split], (self.high, self.every), self.duplicates,
                        unseen=split in self.tests and split != "test-seen",
                        buckets=range(others, BUCKETS) if split == "train" else range(order - 1, order),
                        count=ENDLESS if split == "train" else ITEMS)

    def collate(self, examples: Sequence[Example]) -> Batch:
        counts = np.array([len(one.values) for one in examples])
        mask = np.arange(counts.max()) < counts[:, None]
        values = np.full(mask.shape, NOTHING)
        values[mask] = np.concatenate([one.values for one in examples])
        actions = self._actions(values, mask)
        ranks = np.argsort(np.where(mask, values, self.high), axis=1, kind="stable")
        end = int(counts.max()) + 1
        target = np.full((len(examples), end), STOP)
        target[:, :-1] = np.take_along_axis(actions, ranks, 1)                   # padding is STOP already
        extra = {"values": torch.from_numpy(values)}
        if self.head == "copy":
            extra["copy_ids"] = torch.from_numpy(actions)
        return Batch(source=torch.from_numpy(self.table[values]), source_mask=torch.from_numpy(mask),
                     target=torch.from_numpy(target),
                     target_mask=torch.from_numpy(np.arange(end) <= counts[:, None]),
                     num_actions=end if self.head == "pointer" else max(self.vocabulary, int(actions.max()) + 1),
                     extra=extra, examples=tuple(examples))

    def _actions(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The action that names each source position [B, S]; 0 where padded."""
        if self.head == "pointer":
            return np.where(mask, np.arange(1, mask.shape[1] + 1), STOP)
        words = np.where(mask, self.words[values], STOP)
        if self.head == "vocabulary":
            return words
        first = (values[:, :, None] == values[:, None]).argmax(2)                # [B, S] where a value occurs first
        unknown = words == UNK
        rank = np.cumsum(unknown & (first == np.arange(mask.shape[1])), 1) - 1
        return np.where(unknown, self.vocabulary + np.take_along_axis(rank, first, 1), words)

    def length(self, example: Example) -> int:
        return 2 * len(example.values) + 1

    def horizon(self, batch: Batch) -> int:
        return batch.source.shape[1] + 1 + (0 if self.head == "pointer" else SPARE)

    def legal(self, batch: Batch, prefix: Tensor) -> Tensor | None:
        """pointer: no position twice. copy: no value that the source has not. STOP and words always."""
        if self.head == "vocabulary":
            return None
        owner = problem_rows(batch, len(prefix), prefix.device)
        if self.head == "copy":
            legal = torch.zeros(len(batch), batch.num_actions, dtype=torch.bool, device=batch.device)
            legal[:, :self.vocabulary] = True
            return legal.scatter_(1, batch.extra["copy_ids"], True)[owner]
        legal = torch.nn.functional.pad(batch.source_mask, (1, 0))[owner].scatter(1, prefix, False)
        legal[:, STOP] = True
        return legal

    def _meanings(self, batch: Batch) -> Tensor:
        """[B, A] the value that each action names, or NOTHING."""
        values = batch.extra["values"]
        if self.head == "pointer":
            return torch.nn.functional.pad(values, (1, 0), value=NOTHING)
        named = torch.full((len(batch), batch.num_actions), NOTHING, device=values.device)
        words = torch.arange(self.vocabulary - FIRST_WORD, device=values.device) * self.every
        named[:, FIRST_WORD:self.vocabulary] = words
        return named.scatter_(1, batch.extra["copy_ids"], values) if self.head == "copy" else named

    def _compared(self, batch: Batch, actions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the rewards compare: values named [N, T] and their mask; the items [N, S] and theirs."""
        owner = problem_rows(batch, len(actions), actions.device)
        return (self._meanings(batch)[owner[:, None], actions], mask & (actions != STOP),
                batch.extra["values"][owner], batch.source_mask[owner])

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return order_f1(*self._compared(batch, actions, mask)).float()

    def _exact(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return is_sorted(*self._compared(batch, actions, mask))

    def _items(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return items_f1(*self._compared(batch, actions, mask))

    def parse(self, line: str) -> Example:
        """Integers parted by blanks or commas; raises ValueError for anything but at least one within 0..high-1."""
        words = line.replace(",", " ").split()
        wrong = [word for word in words if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) < self.high)]
        if wrong or not words:
            said = f"{wrong[0]!r} is no such number" if wrong else "the line is empty"
            raise ValueError(f"{said}: give integers from 0 to {self.high - 1}, parted by blanks or commas")
        return Example(tuple(map(int, words)))

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        """The numbers in the order of the answer; <unk> for the word UNK."""
        owner = int(problem_rows(batch, len(actions))[row])
        chosen = actions[row].tolist()
        chosen = chosen[:chosen.index(STOP) if STOP in chosen else None]
        named = self._meanings(batch.rows(owner, owner + 1))[0].tolist()
        return " ".join(str(named[action]) if named[action] != NOTHING else "<unk>" for action in chosen)

    def answer_words(self, batch: Batch, actions: Tensor, row: int) -> list[str]:
        return self.answer(batch, actions, row).split()

    def source_words(self, batch: Batch, problem: int) -> list[str]:
        return [str(value) for value in batch.examples[problem].values]

    def show(self, batch: Batch, actions: Tensor, row: int) -> str:
        values = batch.examples[int(problem_rows(batch, len(actions))[row])].values
        return (f"{' '.join(map(str, values))} | sorted {' '.join(map(str, sorted(values)))} | "
                f"answer {self.answer(batch, actions, row)}")
