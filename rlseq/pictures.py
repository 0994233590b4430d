"""Pictures of answers, where one says more than text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from .env import SequenceEnv
from .evaluate import Decoding
from .files import write_whole
from .nn.policy import Policy
from .task import Task


def best_median_worst(task: Task, policy: Policy, env: SequenceEnv, decoding: Decoding, split: str, order: np.ndarray,
                      path: Path) -> Path:
    """One picture of three answers; `order` [n] lists the split's examples from best to worst."""
    import matplotlib  # a slow starter

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    examples = task.examples(split)
    chosen = [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
    env.load(task.collate([examples[i] for i in chosen]))
    policy.eval()
    answers = decoding(policy, env)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    for row, name in enumerate(("best", "median", "worst")):
        task.plot(env.batch, answers.actions, row, axes[row])
        axes[row].set_title(f"{name}: {axes[row].get_title()}")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=70, format=path.suffix[1:])
    plt.close(figure)
    write_whole(path, drawn.getvalue())
    return path
