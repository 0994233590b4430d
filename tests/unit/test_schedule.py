"""The schedule: its kinds by hand, its ends exactly, what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rlseq.build import build
from rlseq.schedule import Schedule

KINDS = ("linear", "exponential", "inverse_sigmoid", "steps")


def test_the_kinds_are_the_written_ones():
    def s(p):
        return 1 / (1 + math.exp(10 * (p - 0.5)))
    assert Schedule(0.3)(0.7) == 0.3
    assert Schedule(1.0, 0.5, "linear")(0.5) == 0.75
    assert Schedule(1.0, 0.25, "exponential")(0.5) == 0.5
    assert Schedule(1.0, 0.0, "inverse_sigmoid")(0.3) == pytest.approx((s(0.3) - s(1)) / (s(0) - s(1)), abs=1e-12)
    found = [Schedule(0.0, 3.0, "steps", 4)(p) for p in (0.0, 0.24, 0.25, 0.5, 0.74, 0.75, 1.0)]
    assert found == [0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 3.0]


@given(kind=some.sampled_from(KINDS), start=some.floats(0.01, 100), end=some.floats(0.01, 100),
       p=some.floats(0, 1), q=some.floats(0, 1))
def test_a_schedule_goes_one_way_from_its_start_to_its_end(kind, start, end, p, q):
    one = Schedule(start, end, kind)
    first, second = one(min(p, q)), one(max(p, q))
    assert one(0.0) == start and one(1.0) == end
    rounding = 1e-12 * max(start, end)
    assert min(start, end) - rounding <= first <= max(start, end) + rounding
    assert (second - first) * (end - start) >= -rounding


def test_it_is_off_only_if_it_is_0_throughout():
    assert Schedule(0).off and not Schedule(0.0, 1.0, "linear").off and not Schedule(1.0, 0.0, "linear").off


def weigh(weight: Schedule = Schedule(0.5), name: str = "x") -> Schedule:
    return weight


@pytest.mark.parametrize(("given", "wanted"), [
    ({}, Schedule(0.5)), ({"weight": 2}, Schedule(2)), ({"weight": Schedule(7.0)}, Schedule(7.0)),
    ({"weight": {"kind": "steps", "start": 1, "end": 0.2, "levels": 3}}, Schedule(1, 0.2, "steps", 3))])
def test_an_option_takes_a_number_or_a_mapping(given, wanted):
    assert build(weigh, given, "algo") == wanted


@pytest.mark.parametrize(("given", "said"), [
    ("fast", "^algo.weight.start='fast' is not a finite number"),
    ({"end": 1.0, "kind": "linear"}, "^algo.weight.start must be given"),
    ({"start": 1.0, "kind": "linear"}, "^algo.weight: a schedule of kind linear needs its end$"),
    ({"start": 1.0, "end": 0.0}, "^algo.weight: a constant schedule has no end; give its kind"),
    ({"start": 0.0, "end": 1.0, "kind": "exponential"}, "^algo.weight: an exponential schedule from 0.0 to 1.0 never"),
    ({"start": 0.0, "end": 1.0, "kind": "cosine"}, "^algo.weight.kind='cosine' is not one of constant, linear"),
    ({"start": 0.0, "end": 1.0, "kind": "steps", "levels": 1}, "^algo.weight.levels=1 is not int from 2 to"),
    ({"start": 0.0, "stop": 1.0}, "^unknown option algo.weight.stop=1.0; "),
    (None, "^algo.weight.start=None is not a finite number"),
    (math.inf, "^algo.weight.start=inf is not a finite number")])
def test_a_mistake_is_one_line_that_names_the_option(given, said):
    with pytest.raises(ValueError, match=said) as error:
        build(weigh, {"weight": given}, "algo")
    assert "\n" not in str(error.value)


def test_values_outside_of_what_an_option_means_are_named():
    assert Schedule(0.0, 1.0, "linear").within("algo.gold", 0, 1)(0.5) == 0.5
    with pytest.raises(ValueError, match=r"^algo.gold: from 0.0 to 2.0 must lie in \[0, 1\]$"):
        Schedule(0.0, 2.0, "linear").within("algo.gold", 0, 1)
    with pytest.raises(ValueError, match="^algo.weight: -1 must be 0 or more$"):
        Schedule(-1).within("algo.weight", 0)
