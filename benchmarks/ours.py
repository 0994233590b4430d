"""rlseq on translation, W1 to W4, through its public pieces: `sample`, and the `Trainer` with an algorithm."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from rlseq.algos import Algorithm
from rlseq.algos.mle import MLE
from rlseq.algos.reinforce import Reinforce
from rlseq.algos.sampled import Sampling
from rlseq.batches import Batches
from rlseq.decode import sample
from rlseq.env import SequenceEnv
from rlseq.nn.policy import Policy, Shape, make_policy
from rlseq.train import Stage, Trainer, precision_context
from rlseq.types import NEVER, STOP

from .corpus import batches
from .job import ANSWERS, HEADS, INNER, LAYERS, LENGTH, WIDTH, WORDS, Job, Repetition, sources
from .task import Lines, Pair

FOREVER = 10**6          # updates: no evaluation, no checkpoint and no end within a benchmark


def transformer(dropout: float) -> Shape:
    """The model of W1 to W3."""
    return Shape(head="vocabulary", width=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, heads=HEADS, feedforward=INNER,
                 dropout=dropout)


def recurrent(dropout: float) -> Shape:
    """The model of W4."""
    return Shape(head="vocabulary", encoder="lstm", decoder="lstm", width=WIDTH, encoder_layers=1, decoder_layers=1,
                 attention="additive", dropout=dropout)


def endless(policy: Policy) -> Policy:
    """The same policy, which never stops of itself: answers are as long as the horizon."""
    with torch.no_grad():
        policy.head.bias[STOP] = NEVER
    return policy


def sampling(job: Job, pairs: list[Pair], k: int = 1, steps: int = LENGTH, words: int = WORDS, precision: str = "fp32",
             model: str = "transformer") -> Repetition:
    """k answers of so many tokens to each source, encoder included."""
    task = Lines(pairs, words, steps, judged=False)
    env = SequenceEnv(task, job.device)
    env.load(task.collate(task.pairs))
    shape = {"transformer": transformer, "lstm": recurrent}[model](0.0)
    policy = endless(make_policy(task.sizes, shape).to(job.device)).eval()

    def repetition() -> float:
        with precision_context(env.device, precision):
            drawn = sample(policy, env, k=k)
        assert drawn.actions.shape == (len(pairs) * k, steps), drawn.actions.shape
        return float(len(pairs) * k * steps)
    return repetition


def rollout(job: Job, precision: str = "fp32", model: str = "transformer") -> Repetition:
    """W1 and W4: 30 tokens to each of 64 sources."""
    return sampling(job, batches(job, 1)[0], precision=precision, model=model)


def trainer(job: Job, task: Lines, policy: Policy, algorithm: Algorithm, stage: Stage, precision: str) -> Trainer:
    """A trainer after its first update; `update` does the next ones."""
    folder = Path(tempfile.mkdtemp(prefix="rlseq-benchmark-"))
    made = Trainer(policy.to(job.device), algorithm, SequenceEnv(task, job.device), stage, "benchmark", job.seed,
                   judge=lambda policy: 0.0, folder=folder, precision=precision)
    made.run(resume=False, until=1)
    return made


def mle(job: Job, precision: str = "fp32", order: str = "file", model: str = "transformer") -> Repetition:
    """W2 and W4: one MLE update; order "file" takes the peers' batches, "bucketed" those of rlseq's own trainer."""
    shape = {"transformer": transformer, "lstm": recurrent}[model](0.1)
    cut = batches(job)
    task = Lines([pair for batch in cut for pair in batch], WORDS, LENGTH, judged=False)
    stage = Stage(FOREVER, lr=1e-4, batch=sources(job), clip=0.0, every=FOREVER)
    made = trainer(job, task, make_policy(task.sizes, shape), MLE(), stage, precision)
    drawn = Batches(task, sources(job), 0, job.seed) if order == "bucketed" else lambda step: cut[step % len(cut)]

    def repetition() -> float:
        before = made.cost.scored_tokens
        made.update(drawn)
        return float(made.cost.scored_tokens - before)
    return repetition


def reinforce(job: Job, precision: str = "fp32") -> Repetition:
    """W3: sample 5 answers to each of 64 sources, score by BLEU, leave-one-out, update."""
    batch = batches(job, 1)[0]
    task = Lines(batch, WORDS, LENGTH, judged=True)
    stage = Stage(FOREVER, lr=1e-4, batch=sources(job), clip=1.0, every=FOREVER)
    policy = endless(make_policy(task.sizes, transformer(0.0)))
    made = trainer(job, task, policy, Reinforce(Sampling(k=ANSWERS)), stage, precision)

    def repetition() -> float:
        made.update(lambda step: batch)
        return 1.0
    return repetition
