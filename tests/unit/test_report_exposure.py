"""What is made of measured recoveries: losses and their differences by hand, pages that are whole and can be read."""

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from rlseq.recovery import DISTANCES, Plan
from rlseq.report_exposure import DRAWN, Findings, compared, lasting, markdown, picture, said_place, text, write
from rlseq.report_svg import WIDTH

PLAN = Plan(places=(0.0, 0.5), kinds=("random",))
SCORES = {"reward": lambda total: 100 * total[0] / total[1], "squares": lambda total: math.sqrt(total[0])}


def mean(values):
    return np.stack([np.array(values, float), np.ones(len(values))], 1)


def run(clean, wrong, alone, later=0.5):
    """What a trial of three problems finds: rewards at places 0 and 1/2, one list each."""
    found = {("unharmed", "random"): np.array([[0.0, 2]] * 3)}
    for place, *lists in zip(PLAN.places, clean, wrong, alone):
        for what, values in zip(("clean", "random", "random alone"), lists):
            found[what, place, "reward"] = mean(values)
            found[what, place, "squares"] = np.array(values)[:, None] * 4
    for distance in DISTANCES:
        found["after", "random", distance] = np.array([[later, 1], [2 * later, 2], [0, 0]]) * (distance < 8)
    return found


MLE = run([[1, 1, 1], [1, 0.5, 1]], [[0.5, 0.25, 0.75], [1, 0.5, 0]], [[0.75, 0.75, 0.75], [1, 0.5, 0.5]])
OTHER = run([[1, 1, 1], [1, 1, 1]], [[1, 0.25, 1], [1, 1, 1]], [[0.75, 0.75, 0.75], [1, 1, 1]], later=-0.25)
SYSTEMS = {"mle": {"0": MLE, "1": MLE}, "other": {"1": OTHER, "2": MLE}}


def row(rows, *key):
    return next(one for one in rows if (one.label, one.place, one.metric) == key)


def test_losses_and_what_lies_beyond_by_hand():
    rows = compared(SYSTEMS, "mle", PLAN, SCORES)
    assert len(rows) == 2 * 2 * 3 and {one.kind for one in rows} == {"random"}
    one = row(rows, "mle", 0.0, "reward")
    # clean 1, wrong (.5 + .25 + .75) / 3 = .5; alone .75
    assert (one.clean, one.wrong, one.loss.score, one.beyond.score) == pytest.approx((100, 50, 50, 25))
    assert one.loss_apart is one.beyond_apart is None, "it is not compared with itself"
    one = row(rows, "mle", None, "reward")                     # of both places: 5.5 / 6, 3 / 6, alone 4.25 / 6
    assert (one.clean, one.wrong, one.loss.score, one.beyond.score) == pytest.approx((550 / 6, 50, 250 / 6, 125 / 6))
    assert one.loss.low <= one.loss.score <= one.loss.high and one.loss.low < one.loss.high


def test_policies_are_compared_over_common_seeds_and_averaged_over_all():
    rows = compared(SYSTEMS, "mle", PLAN, SCORES)
    one = row(rows, "other", 0.0, "reward")
    assert one.loss.score == pytest.approx((25 + 50) / 2), "the mean over its two seeds"
    assert (one.loss_apart.difference, one.beyond_apart.difference) == pytest.approx((25 - 50, 0 - 25)), "of seed 1 alone"
    assert one.loss_apart.seeds == 1
    # alone - wrong is -.25, .5, -.25 of one and .25, .5, 0 of the other: apart by -.5, 0, -.25
    assert (one.beyond_apart.low, one.beyond_apart.high) == pytest.approx((-50, 0), abs=1e-9)
    lone = compared({"mle": {"0": MLE}, "other": {"1": OTHER}}, "mle", PLAN, SCORES)
    assert row(lone, "other", 0.0, "reward").loss_apart is None


def test_a_metric_that_is_no_mean_is_compared_as_a_whole():
    rows = compared(SYSTEMS, "mle", PLAN, SCORES)
    one = row(rows, "mle", None, "squares")
    # sqrt of sums over problems and places: 4 x 5.5 clean, 4 x 3 wrong
    assert (one.clean, one.wrong) == pytest.approx((math.sqrt(22), math.sqrt(12))) and one.beyond is None
    assert one.loss.score == pytest.approx(math.sqrt(22) - math.sqrt(12))


def test_nats_are_means_over_the_actions_that_are_there():
    later = {(one.label, one.distance): one.more for one in lasting(SYSTEMS, PLAN, DISTANCES)}
    assert later["mle", 1].score == pytest.approx(0.5), "1.5 nats over 3 actions"
    assert later["other", 1].score == pytest.approx((0.5 - 0.25) / 2)
    assert math.isnan(later["mle", 8].score), "no reference is that long"


@pytest.fixture
def findings():
    systems = {"mle": {"0": MLE}, "a <b> `c`": {"0": OTHER}}
    about = {"command": "python -m rlseq.exposure x", "commit": "abc"}
    return Findings("a title", "mle", tuple(SCORES), compared(systems, "mle", PLAN, SCORES), lasting(systems, PLAN, DISTANCES),
                    about, [{"checkpoint": "mle", "seed": "0"}], ["beware"])


def test_the_table_is_aligned_and_says_all(findings):
    said = text(findings)
    assert said.startswith("a title\n\nrandom: drawn at random") and said.endswith("\n\nbeware")
    block = said.split("\n\n")[2].splitlines()
    assert [line.split("  ")[0] for line in block] == [
        "reward x 100", "mle, at 0", "mle, at 1/2", "mle, all", *(f"a <b> `c`, {one}" for one in ("at 0", "at 1/2", "all")),
        "squares, at all places", "mle", "a <b> `c`"]
    assert len({len(line) for line in block if "squares" not in line}) == 1
    assert "loss - mle's" in block[0] and "-25.00 [" in block[4]
    assert [said_place(one) for one in (0.0, 1 / 3, 0.75, None)] == ["at 0", "at 1/3", "at 3/4", "all"]


def test_one_policy_alone_is_compared_with_nothing(findings):
    alone = replace(findings, rows=[one for one in findings.rows if one.label == "mle"], later=findings.later[:4])
    assert "loss - " not in text(alone) and picture(alone).count("<polyline") == 2


def test_files_are_whole_and_can_be_read(findings, tmp_path):
    write(findings, tmp_path / "exposure", "it")
    assert sorted(one.name for one in (tmp_path / "exposure").iterdir()) == ["it.json", "it.md", "it.svg"]
    strict = json.JSONDecoder(parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    data = strict.decode((tmp_path / "exposure/it.json").read_text())
    assert data["about"]["commit"] == "abc" and len(data["rows"]) == 12
    assert data["rows"][0]["loss"]["score"] == pytest.approx(50)
    assert data["later"][3]["more"]["score"] is None
    page = (tmp_path / "exposure/it.md").read_text()
    head = ["Made by `python -m rlseq.exposure x`", "| commit | abc |", "| mle | 0 |", "a title", "**clean**", "(it.svg)"]
    assert [page.index(one) for one in head] == sorted(page.index(one) for one in head)
    assert page == markdown(findings, "it")
    drawn = ElementTree.fromstring((tmp_path / "exposure/it.svg").read_text())
    inner = [one for one in drawn if one.tag.endswith("svg")]
    assert len(inner) == 2 and all({"x", "y", "width", "height"} <= set(one.attrib) for one in inner)
    width, height = map(float, drawn.attrib["viewBox"].split()[2:])
    assert all(float(one.attrib["x"]) + float(one.attrib["width"]) <= width
               and float(one.attrib["y"]) + float(one.attrib["height"]) <= height for one in inner)


def test_what_stands_above_a_chart_is_no_wider_than_it():
    assert all(7 * len(f"{kind}: {said}") <= WIDTH for kind, said in DRAWN.items())      # a sign of 14px takes 7 on average
