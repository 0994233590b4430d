"""Fixtures of all tests: answers that are dictated to the sampler."""

import os
import sys

if "PYTEST_XDIST_WORKER" in os.environ:                           # side by side, threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from rlseq import decode, say


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Each test starts from the same generator state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def nothing_said_yet():
    """What one test was told is told to the next one, too."""
    say.said.clear()


@pytest.fixture
def dictate(monkeypatch):
    """`dictate(actions)` makes the following draws return the columns of actions [N, T], one after the other."""
    def use(actions):
        columns = iter(actions.T)

        def draw(p, uniform):
            column = next(columns)
            greedy = len(p) - len(column)                          # rows beside the drawn ones, one a problem, after its k
            return torch.nn.functional.pad(column.view(greedy, -1), (0, 1)).view(-1) if greedy else column.clone()
        for name, module in list(sys.modules.items()):
            if name.startswith("rlseq.") and hasattr(module, "draw"):
                monkeypatch.setattr(module, "draw", draw)
        monkeypatch.setattr(decode, "NARROW", 0.0)                    # a column is for all rows: none may leave
    return use
