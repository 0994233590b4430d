"""Multi30k as a task of rlseq over word ids, so that its own trainer runs the same work as the peers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlseq.env import through_stop
from rlseq.rewards.ngrams import sentence_bleu_ids
from rlseq.task import Mean
from rlseq.task import Task as Base
from rlseq.types import STOP, Batch, Sizes, pad

Pair = tuple[list[int], list[int]]


class Lines(Base):
    """Pairs of rows of ids that end in STOP. Worth: sentence BLEU on ids, or 0 where the workload has no reward."""

    name, version, heads, reward_name, tests = "lines", 0, ("vocabulary",), "bleu", ("test",)
    fingerprint, head = "benchmark", "vocabulary"

    def __init__(self, pairs: Sequence[Pair], words: int, steps: int, judged: bool) -> None:
        self.pairs, self.words, self.steps, self.judged = pairs, words, steps, judged
        self.metrics = {"bleu": Mean("sentence BLEU on ids", self.reward)}

    sizes = property(lambda self: Sizes(source_ids=self.words, vocabulary=self.words, shared=True))

    def examples(self, split: str) -> Sequence[Pair]:
        return self.pairs

    def collate(self, examples: Sequence[Pair]) -> Batch:
        source, target = (pad([one[side] for one in examples]) for side in (0, 1))
        return Batch(*source, *target, self.words, examples=tuple(examples))

    def length(self, example: Pair) -> int:
        return len(example[0]) + len(example[1])

    def horizon(self, batch: Batch) -> int:
        return self.steps

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        if not self.judged:
            return torch.zeros(len(actions), device=actions.device)
        known = batch.target_mask & (batch.target != STOP)
        return sentence_bleu_ids(actions, mask & (actions != STOP), batch.target[:, None], known[:, None]).float()

    def parse(self, line: str) -> Pair:
        return [int(word) for word in line.split()], [STOP]

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        one = actions[row:row + 1]
        return " ".join(map(str, one[through_stop(one)].tolist()))

    show = answer
