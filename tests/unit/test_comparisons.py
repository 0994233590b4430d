"""Gains over controls, checkpoints, beams, costs and cross-tables: by hand on made-up runs of 200 problems."""

import re
from dataclasses import replace

import numpy as np
import pytest

from rlseq.comparisons import across_tasks, by_beam, checkpoints, cross_tables, front, pareto, signal_gain
from rlseq.report_groups import Judge, groups
from rlseq.report_text import leaderboard, main_table
from tests.unit.test_report import N, run


def hits(count):
    return np.stack([np.arange(N) < count, np.ones(N)], 1)


def control(kind, right, **more):
    """A run of the algorithm `reinforce` with another reward."""
    one = run("reinforce", right=right, **more)
    return replace(one, algo=f"reinforce+{kind}", control=kind)


def judged(*results):
    [group] = groups(results)
    judge = Judge(group)
    return judge, {one.label: one for one in group.entries}


def gain(*results):
    judge, entries = judged(*results)
    return signal_gain(judge, entries["reinforce"])


def test_the_signal_gain_is_over_the_strongest_control():
    found = gain(run("reinforce", right=150), run("mle", right=120), control("constant", 140), control("shuffled", 100))
    # of 200 problems: 150 - 140 = 10 are 5 points; 150 - 120 are 15 and 150 - 100 are 25
    assert found.over == "constant" and found.gain.gain == pytest.approx(5.0)
    assert {name: one.gain for name, one in found.each.items()} == pytest.approx(
        {"mle": 15.0, "constant": 5.0, "shuffled": 25.0})
    # ten of 200 won and none lost: standard error 100 sqrt(.05 * .95 / 200) = 1.54
    shown = groups([run("reinforce", right=150), run("mle", right=120), control("constant", 140)])
    said = leaderboard([Judge(one) for one in shown])
    assert re.search(r"\| \+5\.00 \[\+2\.\d\d, \+\d\.\d\d\] over .*constant", said)
    assert found.gain.separates and found.gain.low == pytest.approx(5 - 1.96 * 1.54, abs=0.6)


def test_a_signal_gain_over_some_controls_says_which_are_missing():
    judge, _ = judged(run("reinforce", right=150), run("mle", right=120), control("constant", 140))
    said = leaderboard([judge])
    assert re.search(r"reinforce .pointer.: its signal gain knows nothing of shuffled rewards and MLE", said)


def test_a_run_ends_with_its_scores_and_then_its_gains_over_each_control():
    said = main_table([run("reinforce", right=150), run("mle", right=120), control("constant", 140)])
    assert said.count("[ends of 95 %]") == 1, "controls have no table of their own"
    scores, gains = said.split("gain in accuracy over")
    assert re.search(r"^test accuracy +50\.0 .*60\.0 .*75\.0 ", scores, re.MULTILINE)
    assert re.search(r"^mle +\+15\.00 .*\n^constant +\+5\.00 ", gains, re.MULTILINE)
    assert re.search(r"^signal gain: \+5\.00 .* over constant, the strongest control$", gains, re.MULTILINE)


def test_samples_are_compared_with_samples_at_the_matching_temperature():
    own = run("reinforce", right=150)
    own = replace(own, rows={**own.rows, "sampled/test/accuracy": hits(90), "mle_sampled/test/accuracy": hits(88)})
    found = gain(own, run("mle", right=120))
    assert found.over == "temperature" and found.gain.gain == pytest.approx(1.0) and not found.gain.separates


def elsewhere(one, right):
    """The same run, also scored on a split `far`, where so many of the problems are right."""
    accuracy = {**one.headline["metrics"]["accuracy"], "score": 100 * right / N}
    return replace(one, tests=[*one.tests, "far"], before={**one.before, "far": one.before["test"]},
                   after={**one.after, "far": {**one.after["test"], "metrics": {"accuracy": accuracy}}},
                   rows={**one.rows, "before/far/accuracy": one.rows["before/test/accuracy"],
                         "after/far/accuracy": hits(right)})


def test_each_split_has_a_signal_gain_of_its_own():
    judge, entries = judged(elsewhere(run("reinforce", right=150), 90), elsewhere(run("mle", right=120), 60),
                            elsewhere(control("constant", 140), 50))
    # 90 - 60 of 200 are 15 points over MLE, which is the stronger there; 150 - 140 are 5 over the constant on the headline
    far = signal_gain(judge, entries["reinforce"], split="far")
    assert (far.over, far.gain.gain) == ("mle", pytest.approx(15.0))
    assert signal_gain(judge, entries["reinforce"]).over == "constant"
    said = leaderboard([judge]).split("signal gain elsewhere")[1]
    assert re.search(r"^ \| policy \| accuracy \(far\) \|\n.*\n\| reinforce \| pointer \| \+15\.00 .* over MLE", said)


def test_a_seed_that_is_older_than_a_metric_is_left_out_of_its_gain():
    def newer(one):
        after = {"test": {**one.headline, "metrics": one.headline["metrics"] | {"recall": one.headline["metrics"]["accuracy"]}}}
        return replace(one, after=after, rows=one.rows | {"after/test/recall": one.rows["after/test/accuracy"]})
    judge, entries = judged(run("reinforce", seed=0, right=150), newer(run("reinforce", seed=1, right=150)),
                            *(newer(one(right, seed=seed)) for seed in (0, 1) for one, right in (
                                (lambda right, seed: control("constant", right, seed=seed), 140),
                                (lambda right, seed: run("mle", seed=seed, right=right), 120))))
    assert signal_gain(judge, entries["reinforce"], "recall").gain.seeds == 1
    assert signal_gain(judge, entries["reinforce"]).gain.seeds == 2


def falling(one):
    """The same run, of a metric where less is better."""
    after = {"test": {**one.after["test"], "metrics": {"accuracy": {**one.headline["metrics"]["accuracy"], "lower": True}}}}
    return replace(one, after=after)


def test_an_error_rate_gains_by_falling():
    found = gain(*map(falling, (run("reinforce", right=100), run("mle", right=110), control("constant", 140))))
    assert found.over == "mle" and found.gain.gain == pytest.approx(5.0)


def test_the_lowest_error_rate_wins_and_only_if_it_separates():
    def winners(*results):
        judge, entries = judged(*map(falling, results))
        return [one.label for one, cell in zip(judge.group.entries, judge.cells("test", "accuracy")) if cell.wins]
    assert winners(run("reinforce", right=60), run("mle", right=110)) == ["reinforce"]
    assert winners(run("reinforce", right=109, before=110), run("mle", right=110, before=110)) == []


def test_a_control_of_another_configuration_or_checkpoint_is_no_control():
    others = [run("mle", right=120), control("constant", 150, options={"k": 3}), control("constant", 150, start="elsewhere")]
    assert gain(run("reinforce", right=150), *others) is None, "MLE alone is left"
    assert set(gain(run("reinforce", right=150), *others, control("shuffled", 140)).each) == {"mle", "shuffled"}


def test_two_sizes_of_a_policy_have_their_own_controls():
    def sized(width, one):
        config, start = {**one.config, "policy": {"width": width}}, {**one.pretrained, "hash": f"w{width}"}
        return replace(one, config=config, pretrained=start)
    judge, entries = judged(*(sized(width, one) for width in (64, 128) for one in (
        run("reinforce", right=150), run("mle", right=120), control("constant", 140))))
    for name in ("reinforce policy.width=64", "reinforce policy.width=128"):
        assert set(signal_gain(judge, entries[name]).each) == {"mle", "constant"}


def test_neither_mle_nor_a_control_nor_a_lonely_run_has_a_signal_gain():
    judge, entries = judged(run("reinforce"), run("mle"), control("constant", 140))
    assert {name for name, one in entries.items() if signal_gain(judge, one)} == {"reinforce"}
    assert gain(run("reinforce")) is None


def test_checkpoints_and_beams_have_intervals_over_their_own_statistics():
    rows = {"last/test/accuracy": hits(150), "best/test/accuracy": hits(160),
            "beam1/test/accuracy": hits(100)[:50], "beam4/test/accuracy": np.stack([np.arange(50) < 20, np.ones(50)], 1)}
    own = run("reinforce", right=160)
    judge, entries = judged(replace(own, rows={**own.rows, **rows}, beams={"1": {}, "4": {}}))
    found = checkpoints(judge, entries["reinforce"])
    assert {name: one.score for name, one in found.items()} == {"last": 75.0, "best": 80.0}
    assert found["last"].low < 75 < found["last"].high
    assert {width: one.score for width, one in by_beam(judge, entries["reinforce"]).items()} == {1: 100.0, 4: 40.0}
    said = leaderboard([judge]).split("beam width")[1]
    assert re.search(r"^ \| policy \| 1 \| 4 \|\n.*\n\| reinforce \| pointer \| 100\.0 \[.*\] \| 40\.0 \[.*\] \|", said)


def test_the_front_holds_what_nothing_beats_in_cost_and_quality():
    points = [(1, 50), (2, 60), (2, 55), (3, 60), (4, 70), (5, 40)]
    assert pareto(points) == [0, 1, 4]
    assert pareto([(1, 5.0), (2, 6.0), (3, 4.0)], sign=-1) == [0, 2]
    judge, entries = judged(run("reinforce", right=150), run("mle", right=90, before=100))
    assert [(one.label, point, best) for one, point, best in front(judge)] == [
        ("mle pretrained", (0.0, 50.0), True), ("mle continued", (84.0, 45.0), False), ("reinforce", (84.0, 75.0), True)]


def test_models_trained_on_one_metric_are_scored_on_all():
    def trained(reward, algo, bleu, ter):
        one = run(algo, right=bleu)
        metrics = {"accuracy": {"score": bleu / 2, "signature": "exact"},
                   "ter": {"score": ter / 2, "signature": "t", "lower": True}}
        said = {stage: {"test": {**getattr(one, stage)["test"], "metrics": metrics,
                                 "signature": f"reward:{reward}|{getattr(one, stage)['test']['signature']}"}}
                for stage in ("before", "after")}
        rows = {f"{stage}/test/{name}": hits(count) for stage in said for name, count in (("accuracy", bleu), ("ter", ter))}
        return replace(one, reward=reward, rows=rows, **said)
    runs = [trained(*one) for one in (("bleu", "reinforce", 150, 60), ("ter", "reinforce", 140, 40),
                                      ("bleu", "mle", 130, 62), ("ter", "mle", 130, 62))]
    [table] = cross_tables([Judge(one) for one in groups(runs)])
    assert table.metrics == ("accuracy", "ter") and table.lower == {"ter"} and "reward" not in table.signature
    scores = {(reward, label): {name: one.score for name, one in found.items()} for reward, label, found in table.rows}
    assert scores[("bleu", "reinforce (pointer)")] == {"accuracy": 75.0, "ter": 30.0}
    assert scores[("ter", "reinforce (pointer)")] == {"accuracy": 70.0, "ter": 20.0}
    assert [reward for reward, _, _ in table.rows] == ["-", "-", "bleu", "ter"]
    assert cross_tables([Judge(groups(runs[:1])[0])]) == [], "one reward makes no table"
    said = leaderboard([Judge(one) for one in groups(runs)])
    assert "| trained on | system | accuracy | ter (less is better) |" in said and "| ter | reinforce (pointer) | 70.0" in said


def test_two_policies_on_one_task_are_not_two_tasks():
    runs = [run("reinforce", right=150, policy=policy) for policy in ("pointer", "lstm")]
    assert across_tasks([Judge(one) for one in groups(runs)]) == []
    [found] = across_tasks([Judge(one) for one in groups([*runs, run("reinforce", right=140, data="cd34")])])
    assert (found.tasks, found.runs) == (2, 3)


def test_algorithms_are_summed_up_over_tasks_by_what_pretraining_left_undone():
    def on(task, algo, seed, right, before=100):
        one = replace(run(algo, seed=seed, right=right, before=before), task=task)
        said = {stage: {"test": {**evaluated["test"], "signature": f"t:{task}|{evaluated['test']['signature']}"}}
                for stage, evaluated in (("before", one.before), ("after", one.after))}
        return replace(one, **said)
    # of 200: 100 right before, so 150, 140, 120 and 110 right are 50, 40, 20 and 10 % of what was left; the middle two: 30
    runs = [on("a", "reinforce", 0, 150), on("a", "reinforce", 1, 140), on("b", "reinforce", 0, 120),
            on("b", "reinforce", 1, 110), on("a", "mle", 0, 130)]
    [found] = across_tasks([Judge(one) for one in groups(runs)])
    assert (found.label, found.tasks, found.runs) == ("reinforce", 2, 4)
    assert "| reinforce | 30.0 [" in leaderboard([Judge(one) for one in groups(runs)])
    assert found.interval.score == pytest.approx(30.0) and 10 < found.interval.low < 30 < found.interval.high < 50
    later = replace(on("b", "reinforce", 0, 180), finished="2025-01-02T00:00:00+00:00")      # 80 %, by another recipe
    later = replace(later, config=later.config | {"plan": "longer"})
    old = [replace(one, config=one.config | {"plan": "short"}) for one in runs]
    [found] = across_tasks([Judge(one) for one in groups([*old, later])])
    assert (found.tasks, found.runs) == (2, 3) and found.interval.score == pytest.approx((50 + 40 + 80) / 3)
