"""Building from options: names, types and what is said of a mistake."""

from dataclasses import dataclass
from typing import Literal

import pytest

from rlseq.build import build, names, nearest


@dataclass(frozen=True)
class Thing:
    size: int
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    path: str | None = None
    on: bool = False
    parts: tuple[int, ...] = ()


def test_options_that_fit_are_taken():
    assert build(Thing, {"size": 3, "rate": 1, "kind": "b", "path": "x", "on": True, "parts": [1, 2]}, "thing") == Thing(
        3, 1, "b", "x", True, [1, 2])
    assert build(Thing, {"size": 1, "path": None}, "thing").path is None


@pytest.mark.parametrize(("options", "said"), [
    ({"size": 1, "rtae": 2}, r"unknown option thing.rtae=2; did you mean 'rate'\?; thing takes: size, rate, kind"),
    ({"size": 1, "zzz": 2}, "unknown option thing.zzz=2; thing takes"),
    ({}, "thing.size must be given"),
    ({"size": 1.5}, "thing.size=1.5 is not int"),
    ({"size": True}, "thing.size=True is not int"),
    ({"size": 1, "rate": "fast"}, "thing.rate='fast' is not a finite number"),
    ({"size": 1, "rate": True}, "thing.rate=True is not a finite number"),
    ({"size": 1, "rate": float("nan")}, "thing.rate=nan is not a finite number"),
    ({"size": 1, "kind": "c"}, "thing.kind='c' is not one of a, b"),
    ({"size": 1, "path": 3}, "thing.path=3 is not str or null"),
    ({"size": 1, "on": 1}, "thing.on=1 is not bool"),
    ({"size": 1, "parts": 3}, "thing.parts=3 is not tuple")])
def test_a_mistake_is_one_line_that_names_it(options, said):
    with pytest.raises(ValueError, match=said) as error:
        build(Thing, options, "thing")
    assert "\n" not in str(error.value)


def test_functions_are_built_like_classes():
    def double(x: int) -> int:
        return 2 * x
    assert build(double, {"x": 4}, "f") == 8


def test_the_nearest_name_is_offered_only_when_near():
    assert nearest("baselin", ["baseline", "k"]) == "; did you mean 'baseline'?" and nearest("xyz", ["baseline"]) == ""


@dataclass(frozen=True)
class Whole:
    bare = "part"
    part: Thing = Thing(1)
    other: Thing | None = None


def test_options_within_options_are_built_alike():
    made = build(Whole, {"part": {"size": 3}, "other": {"size": 4, "kind": "b"}}, "whole")
    assert made == Whole(Thing(3), Thing(4, kind="b"))
    assert build(Whole, {"other": None}, "whole") == Whole()


@pytest.mark.parametrize(("options", "said"), [
    ({"part": 3}, "^whole.part=3 is a group of options, such as whole.part.NAME=VALUE$"),
    ({"part": {"rate": 1}}, "^whole.part.size must be given"), ({"part": None}, "^whole.part=None is a group of options"),
    ({"other": {"size": 1, "rtae": 2}}, "^unknown option whole.other.rtae=2; did you mean 'rate'")])
def test_a_mistake_within_options_names_the_whole_path(options, said):
    with pytest.raises(ValueError, match=said):
        build(Whole, options, "whole")


@dataclass(frozen=True)
class Shared:
    flat = True
    k: int = 8
    inner: Thing = Thing(1)

    def __post_init__(self):
        if self.k < 1:
            raise ValueError(f"k={self.k} must be 1 or more")


def user(shared: Shared = Shared(k=3), own: float = 0.0) -> tuple[Shared, float]:
    return shared, own


def test_flat_options_stand_beside_those_of_their_taker():
    assert names(user) == ["k", "inner", "own"]
    assert build(user, {}, "a") == (Shared(k=3), 0.0)
    assert build(user, {"own": 1, "inner": {"size": 2}}, "a") == (Shared(3, Thing(2)), 1), "its own defaults hold"
    for options, said in (({"k": 0}, "^a: k=0 must be 1 or more$"), ({"k": 1.5}, "^a.k=1.5 is not int$"),
                          ({"shared": {"k": 2}}, "^unknown option a.shared=.*; a takes: k, inner, own$")):
        with pytest.raises(ValueError, match=said):
            build(user, options, "a")
