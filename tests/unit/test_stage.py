"""A stage: its learning rate, and options that make no sense."""

import math

import pytest

from rlseq.stage import Stage


def test_warm_up_is_linear_and_the_cosine_falls_to_a_fiftieth():
    stage = Stage(updates=110, lr=1.0, warmup=10)
    assert stage.rate(0) == pytest.approx(0.1) and stage.rate(4) == pytest.approx(0.5) and stage.rate(10) == pytest.approx(1)
    assert stage.rate(60) == pytest.approx(0.02 + 0.98 / 2)                  # half way after warm-up
    assert stage.rate(110) == pytest.approx(0.02)
    rates = [stage.rate(step) for step in range(10, 110)]
    assert rates == sorted(rates, reverse=True)


def test_the_inverse_square_root_keeps_its_top_at_the_end_of_warm_up():
    stage = Stage(updates=1000, lr=0.5, warmup=100, schedule="inverse_sqrt")
    assert stage.rate(99) == pytest.approx(0.5) and stage.rate(49) == pytest.approx(0.25)
    assert stage.rate(399) == pytest.approx(0.25)                            # sqrt(100 / 400) = 1/2
    assert Stage(updates=9, lr=0.5, warmup=0, schedule="inverse_sqrt").rate(3) == pytest.approx(0.5 / math.sqrt(4))


def test_a_constant_rate_is_constant_after_warm_up():
    stage = Stage(updates=10, lr=0.5, warmup=0, schedule="constant")
    assert {stage.rate(step) for step in range(10)} == {0.5}


@pytest.mark.parametrize("options", [{"updates": -1}, {"lr": -1.0}, {"batch": 0}, {"every": 0}, {"average": 0}, {"clip": -1.0}])
def test_a_stage_that_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* must be"):
        Stage(**{"updates": 10, **options})
