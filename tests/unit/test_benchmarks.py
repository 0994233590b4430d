"""The benchmark's own arithmetic and manners; nothing here says how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import copies, growth, passes, quality, workloads
from benchmarks.__main__ import main
from benchmarks.corpus import batches, padded, words
from benchmarks.job import Job
from benchmarks.lines import lines, table
from benchmarks.race import Result, Settings, race
from benchmarks.workloads import Competitor, Goal, Workload
from benchmarks.worth import area, tour

HERE = Path(workloads.__file__).parent
OURS, HALF = Competitor("rlseq", "ours", "x:y"), Competitor("rlseq-bf16", "ours", "x:y")
PEER, FAST, LIMIT = (Competitor("peer", "peer", "x:y"), Competitor("peer-bf16", "peer", "x:y"),
                     Competitor("limit", "limit", "x:y"))
GONE = Competitor("gone", "peer", "x:y")
TOY = Workload("W0", "A toy", "tokens/s", (OURS, HALF, PEER, FAST, GONE, LIMIT), goals=(
    Goal("rlseq", "peer", 2.0), Goal("rlseq", "peer", 0.5, "memory"), Goal("rlseq", "gone", 2.0)))


def result(competitor: Competitor, *values: float, peak: float = 100.0) -> Result:
    return Result(competitor, list(values), [0.01] * len(values), 50.0, peak)


@pytest.fixture
def measured() -> list[dict[str, object]]:
    return lines(TOY, [result(OURS, 30.0, 10.0, 20.0, peak=40.0), result(HALF, 40.0), result(PEER, 8.0), result(FAST, 16.0),
                       Result(GONE, problem={"missing": "No module named 'gone'"}), result(LIMIT, 50.0)])


def test_a_line_carries_the_median_and_its_ratios(measured):
    # median of 10, 20, 30 is 20; 20 / 8 = 2.5 times the fp32 peer, 20 / 50 = 0.4 of the limit
    ours = measured[0]
    assert (ours["workload"], ours["name"], ours["value"], ours["unit"]) == ("W0", "rlseq", 20.0, "tokens/s")
    assert (ours["ratio_to_best_peer"], ours["ratio_to_limit"], ours["repetitions"]) == (2.5, 0.4, 3)
    assert (ours["min"], ours["max"], ours["ratios"]) == (10.0, 30.0, {"peer": 2.5, "peer-bf16": 1.25})
    assert json.loads(json.dumps(ours)) == ours


def test_a_row_in_bf16_is_held_against_the_fastest_peer_of_either_precision(measured):
    assert measured[1]["ratio_to_best_peer"] == 2.5                       # 40 / 16


def test_a_missing_peer_has_a_line_that_says_why(measured):
    assert measured[4]["value"] is None and measured[4]["missing"] == "No module named 'gone'"
    assert "| gone | missing: No module named 'gone' |" in table(TOY, measured, full=True)


def test_ratios_of_seconds_are_above_one_for_the_faster():
    ours, peer = (Competitor(name, kind, "x:y", inverse=True) for name, kind in (("rlseq", "ours"), ("peer", "peer")))
    found = lines(Workload("W0", "", "s", (ours, peer)), [result(ours, 2.0), result(peer, 6.0)])
    assert found[0]["ratio_to_best_peer"] == 3.0 and found[1]["ratio_to_best_peer"] == 1.0


def test_a_size_is_held_against_the_limit_of_the_same_size():
    pairs = [(Competitor(f"{name} k={k}", kind, "x:y"), value) for k, (ours, most) in {1: (5.0, 10.0), 2: (9.0, 12.0)}.items()
             for name, kind, value in (("rlseq", "ours", ours), ("limit", "limit", most))]
    found = lines(Workload("growth-k", "", "tokens/s", tuple(one for one, _ in pairs)), [result(*one) for one in pairs])
    assert [one["ratio_to_limit"] for one in found] == [0.5, 1.0, 0.75, 1.0]


def test_the_table_shows_each_row_and_judges_each_goal(measured):
    shown = table(TOY, measured, full=True)
    assert "| rlseq | 20 (10 - 30) | 2.5 | 0.4 | 40 | 3 |" in shown
    assert "* rlseq / peer, at least 2: 2.50, reached" in shown
    assert "* peak memory of rlseq / peer, at most 0.5: 0.40, reached" in shown
    assert "* rlseq / gone, at least 2: not measured" in shown
    assert "reached" not in table(TOY, measured, full=False)


@pytest.mark.parametrize("words, said", [
    (["W9"], "no workload 'W9'; there are: W1, "), (["W1", "--only", "hf"], "no competitor 'hf' in W1; there are: "),
    (["--python", "hf=/usr/bin/python"], "is not PEER=PATH with a peer of: joeynmt, rl4co"),
    (["--python", "joeynmt"], "is not PEER=PATH"), (["--threads", "0"], "--threads 0 must be 1 or more"),
    (["--data", "/nowhere"], "lacks train.en.gz"), (["W1", "--growth"], "--growth takes no workloads, got W1"),
    (["--train"], "--train belongs to `quality` alone"), (["--quick", "--write"], "leave out --quick")])
def test_a_mistake_on_the_command_line_is_one_line(words, said, capsys):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_a_quick_run_prints_a_line_for_every_competitor_and_a_table(capsys):
    assert main(["W6-hull", "--quick", "--json", "--only", "scipy"]) == 0
    told = capsys.readouterr().out
    found = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [one["name"] for one in found] == [one.name for one in workloads.W6_HULL.competitors]
    assert [one["name"] for one in found if one["value"]] == ["scipy"]
    assert all("left_out" in one for one in found if not one["value"])
    assert "| scipy |" in told and "* left out: rlseq, shapely, shapely-vectorised" in told


def test_a_competitor_that_cannot_run_says_so():
    none = Competitor("none", "peer", "joey:rollout", ("transformer",), "joeynmt")
    lost = Competitor("lost", "peer", "worth:nothing")
    found = race(TOY, Settings(pythons={"joeynmt": "/nowhere/python"}), [none, lost])
    assert "interpreter /nowhere/python" in found[0].problem["missing"]
    assert "nothing" in found[1].problem["failed"] and not found[1].values


def test_every_competitor_names_a_function_that_is_there():
    for workload in [*workloads.WORKLOADS.values(), *growth.workloads(quick=False)]:
        assert len({one.name for one in workload.competitors}) == len(workload.competitors)
        for one in workload.competitors:
            module, function = one.make.split(":")
            assert f"\ndef {function}(job: Job" in (HERE / f"{module}.py").read_text(), one
        assert {goal.row for goal in workload.goals} <= {one.name for one in workload.competitors}


def test_lines_are_lower_cased_and_split_on_spaces_and_punctuation():
    assert words("Two men, in T-shirts.") == ["two", "men", ",", "in", "t", "-", "shirts", "."]


def test_batches_end_in_stop_and_pad_to_the_longest():
    batch, other = batches(Job(), 2)
    assert len(batch) == 64 and all(row[-1] == 0 and 0 not in row[:-1] for pair in batch for row in pair) and batch != other
    ids, mask = padded([[7, 8, 0], [9, 0]])
    assert ids.tolist() == [[7, 8, 0], [9, 0, 1]] and mask.tolist() == [[True] * 3, [True, True, False]]


def test_the_worth_of_points():
    square = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]])
    assert area(square).item() == 4.0 and tour(square).item() == -8.0


def test_quality_reads_the_newest_version_and_counts_pretraining(tmp_path):
    def run(path: str, score: float, seed: int) -> None:
        file = tmp_path / "results" / path / f"{seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({
            "plan": "default", "task": "hull", "task_version": 1, "commit": "abc", "hardware": "2 of 2 cores",
            "after": {"test-50": {"metrics": {"accuracy": {"score": score}}}}, "cost": {"seconds": 20.0},
            "pretrained": {"cost": {"seconds": 300.0}},
            "curve": [{"stage": "pretrain", "seconds": 200.0, "dev": 80.0}, {"stage": "mle", "seconds": 10.0, "dev": 91.0}]}))
    run("hull-v2/pointer_relative/mle", 50.0, 0)
    run("hull-v10/pointer_relative/mle", 90.0, 0)
    run("hull-v10/pointer_relative/mle", 92.0, 1)
    found, = quality.lines(tmp_path)
    assert (found["name"], found["value"], found["seconds"], found["seconds_to_90"]) == ("rlseq-mle", 91.0, 320.0, 310.0)
    assert "91.0 % in 320 s, reached" in table(quality.QUALITY, [found], full=True)
    missing, = quality.lines(tmp_path / "results")
    assert missing["value"] is None and "quality --train" in missing["missing"]


def test_the_benchmark_of_copies_times_two_ways_to_one_score(capsys):
    assert copies.main(["--repetitions", "1", "--words", "50", "--source", "5", "--sources", "2"]) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[4:]]
    assert [row[0].strip() for row in rows] == list(copies.KINDS) and all(float(row[4]) < 1e-5 for row in rows)


def test_the_benchmark_of_two_passes_times_ways_to_one_gradient(capsys):
    assert passes.main(["--repetitions", "1", "--words", "50", "--tokens", "40"]) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[4:]]
    assert [row[0].strip() for row in rows] == ["float32", "bfloat16"]
    assert float(rows[0][5]) < 1e-5 and float(rows[1][5]) < 0.05
