"""What a run says, before it fine-tunes, that its test problems can show."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from rlseq.experiment import least_gain


def said(rows: np.ndarray) -> str:
    metric = SimpleNamespace(score=lambda sums: sums[..., 0])
    setup = SimpleNamespace(tests=["test"], task=SimpleNamespace(metrics={"exact": metric}))
    pretrained = SimpleNamespace(before={"test": SimpleNamespace(rows={"exact": rows})})
    return least_gain(setup, pretrained, None)


def test_a_spread_gives_a_gain():
    assert "the least gain in exact on test that shows at 80 % power" in said(np.arange(32.0)[:, None] % 2)


def test_a_score_without_spread_gives_none():
    # it said "2e-16 by 1 seed": a policy that answers nothing right shows nothing about the spread of a better one
    for value in (0.0, 0.1):
        told = said(np.full((32, 1), value))
        assert "same exact" in told and "least gain" not in told
