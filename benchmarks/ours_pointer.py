"""rlseq's recurrent pointer network, W5, through its `Trainer`."""

from __future__ import annotations

from rlseq.algos.mle import MLE
from rlseq.algos.reinforce import Reinforce
from rlseq.algos.sampled import Sampling
from rlseq.nn.policy import Shape, make_policy
from rlseq.train import Stage

from .job import POINTS, STEPS, WIDTH, Job, Repetition, instances
from .ours import FOREVER, trainer
from .points import Points


def network(glimpse: bool) -> Shape:
    """One layer each, additive pointing (Vinyals et al. 2015); a glimpse is a second attention at every step."""
    return Shape(head="pointer", encoder="lstm", decoder="lstm", width=WIDTH, encoder_layers=1, decoder_layers=1,
                 attention="additive" if glimpse else "none", pointing="additive", bidirectional=False, dropout=0.0)


def mle(job: Job) -> Repetition:
    """One update on references of 128 hulls."""
    task = Points(8 * instances(job), POINTS, POINTS + 1, "area")
    stage = Stage(FOREVER, lr=1e-4, batch=instances(job), clip=1.0, every=FOREVER)
    made = trainer(job, task, make_policy(task.sizes, network(False)), MLE(), stage, "fp32")

    def repetition() -> float:
        made.update(lambda step: task.ready[step % 8 * instances(job):][:instances(job)])
        return float(instances(job))
    return repetition


def reinforce(job: Job, worth: str = "area") -> Repetition:
    """One update: a sample and a greedy answer to each of 128 problems; 20 points of a hull, or a tour of all 50."""
    task = Points(instances(job), POINTS, STEPS if worth == "area" else POINTS, worth)
    stage = Stage(FOREVER, lr=1e-4, batch=instances(job), clip=1.0, every=FOREVER)
    policy = make_policy(task.sizes, network(glimpse=worth == "tour"))
    made = trainer(job, task, policy, Reinforce(Sampling(k=1), baseline="greedy"), stage, "fp32")

    def repetition() -> float:
        made.update(lambda step: task.ready)
        return float(instances(job))
    return repetition
