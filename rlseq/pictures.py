"""Pictures of answers, where one says more than text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from .env import SequenceEnv
from .evaluate import Decoding
from .files import write_whole
from .nn.policy import Policy
from .task import Task
from .types import Batch


def best_median_worst(task: Task, policy: Policy, env: SequenceEnv, decoding: Decoding, split: str, order: np.ndarray,
                      path: Path) -> Path:
    """One picture of three answers; `order` [n] lists the split's examples from best to worst."""
    examples = task.examples(split)
    chosen = [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
    env.load(task.collate([examples[i] for i in chosen]))
    policy.eval()
    return picture(task, env.batch, decoding(policy, env).actions, {0: "best: ", 1: "median: ", 2: "worst: "}, path)


def picture(task: Task, batch: Batch, actions: Tensor, rows: Mapping[int, str], path: Path) -> Path:
    """Answers [N, T] of these rows side by side, what leads their titles beside each; `path` ends in .png or .svg."""
    import matplotlib  # a slow starter

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(rows), figsize=(5 * len(rows), 5), layout="constrained", squeeze=False)
    for (row, lead), one in zip(rows.items(), axes[0]):
        task.plot(batch, actions, row, one)
        one.set_title(lead + one.get_title())
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=70, format=path.suffix[1:])
    plt.close(figure)
    write_whole(path, drawn.getvalue())
    return path
