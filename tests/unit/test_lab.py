"""The laboratory: its short cuts against autograd and plain sums, its verdicts on estimators that are known."""

import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from rlseq import algos, exact
from rlseq.algos.reinforce import Reinforce
from rlseq.lab import __main__ as command
from rlseq.lab import course, figure, moments
from rlseq.lab.draws import all_sets
from rlseq.lab.estimators import Estimator, Grid, estimators, registry
from rlseq.lab.kl import pulls, values
from rlseq.lab.measure import Bench, Effort, measure
from rlseq.lab.problems import Problem, make_scene
from rlseq.lab.rows import Row, broken, make_row
from rlseq.lab.slopes import Slopes

EFFORT = Effort(draws=100, slow=10, warm=5, timed=1)
SCENES = {"pair": Problem("pair", 3, 3, True, 1), "rule": Problem("rule", 4, 4, True, 2)}


@pytest.fixture(scope="module")
def scenes():
    return {(name, shape): make_scene(problem, shape, 0)
            for name, problem in SCENES.items() for shape in ("transformer", "lstm")}


def bench(scene, **options):
    algorithm = algos.make({"kind": "reinforce", **options})
    torch.manual_seed(0)
    algorithm.prepare(scene.anchor)
    return Bench(scene, Slopes(scene.policy, scene.env), algorithm.double(), scene.policy)


@pytest.mark.parametrize("shape", ["transformer", "lstm"])
@pytest.mark.parametrize("options", [
    {"k": 2}, {"k": 2, "normalise": "sequence", "mle_weight": 0.3}, {"k": 1, "baseline": "greedy"}, {"k": 2, "entropy": 0.1},
    {"k": 2, "baseline": "learned"}])
def test_updates_from_slopes_are_those_of_autograd(scenes, options, shape):
    # float64, the same roll-out; slopes are found one edge at a time, autograd goes through whole answers
    own = bench(scenes["rule", shape], **options)
    rollout = own.collect(own.env(6))
    found, wanted = (own.updates(rollout, [0, 1], way) for way in ("slopes", "together"))
    assert wanted.abs().max() > 1e-3 and (found - wanted).abs().max() < 1e-10


def test_what_mixes_repetitions_is_not_taken_together(scenes):
    assert bench(scenes["rule", "lstm"], k=2, normalise="sum").way == "slopes"
    assert bench(scenes["rule", "lstm"], k=2, normalise="token").way == "together"
    assert bench(scenes["rule", "lstm"], k=2, signal={"scale": "batch"}).way == "alone"


def test_sets_stand_for_all_tuples():
    sets, count = all_sets(4, 3)
    tuples = [tuple(sorted(one)) for one in itertools.product(range(4), repeat=3)]
    assert [tuples.count(tuple(one)) for one in sets.tolist()] == count.tolist() and len(sets) == len(set(tuples))


@pytest.mark.parametrize("options", [{"k": 2}, {"k": 2, "baseline": "mean"}])
def test_the_exact_mean_is_the_sum_over_all_tuples(scenes, options):
    scene = scenes["pair", "lstm"]
    own = bench(scene, **options)
    wanted, env = 0.0, own.env(1)
    for actions, chance in exact.every_draw(scene.policy, env, options["k"]):
        with exact.dictated(scene.policy, env, actions):
            wanted = wanted + chance * own.plain(own.collect(env))
    found = own.exact()
    assert (found.mean - wanted).abs().max() < 1e-10
    assert found.bias(scene.slope) < 1e-7 and found.cosine(scene.slope) == pytest.approx(1, abs=1e-12)


def test_drawn_and_exact_moments_agree(scenes):
    # 4000 draws: the variance of REINFORCE to a tenth, its mean within four standard errors
    own = bench(scenes["pair", "transformer"], k=2, normalise="sequence")
    torch.manual_seed(0)
    drawn, whole = own.sampled(4000)[0], own.exact()
    assert drawn.variance == pytest.approx(whole.variance, rel=0.1) and drawn.aligned == pytest.approx(whole.aligned, abs=0.03)
    assert float((drawn.mean - whole.mean).norm()) < 4 * drawn.noise**0.5 and drawn.noise < whole.variance / 4000


@pytest.mark.parametrize("options", [{"baseline": "leave_one_out"}, {"baseline": "greedy"}, {"baseline": "none"}])
def test_controls_leave_nothing_of_reinforce_to_chance(scenes, options):
    # its update is a sum of the controls, whose expectations are known; what is left is float32's rounding of the weights
    own = bench(scenes["rule", "transformer"], k=3, **options)
    torch.manual_seed(0)
    found = own.sampled(50)[0]
    assert found.bias(own.scene.slope) < 1e-6 and found.error(own.scene.slope) < 1e-6 and found.variance > 0.1


def test_a_known_bias_is_found_and_none_is_not():
    generator = torch.Generator().manual_seed(0)
    slope, noise = torch.ones(50, dtype=torch.float64), torch.randn(4000, 50, generator=generator, dtype=torch.float64)
    noise[:, 0] *= 20                                                            # nearly all of it in one direction
    off = torch.zeros(50, dtype=torch.float64)
    off[1:5] = 0.2                                                               # |off| / |slope| = 0.4 / sqrt(50)
    none, some = (moments.over_repetitions(slope + noise + one, slope, []) for one in (0 * off, off))
    assert none.significance(slope) > 0.01 and none.directions < 3
    assert some.bias(slope) == pytest.approx(0.4 / 50**0.5, abs=0.02)
    assert moments.over_repetitions(slope + noise + 20 * off, slope, []).significance(slope) < 1e-6


def test_controls_leave_the_mean_and_lower_the_noise():
    generator = torch.Generator().manual_seed(0)
    control, rest = (torch.randn(2000, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    found = moments.over_repetitions(1 + 3 * control + 0.1 * rest, torch.ones(5, dtype=torch.float64), [control])
    assert found.noise == pytest.approx(5 * 0.01 / 2000, rel=0.1) and found.variance == pytest.approx(5 * 9.01, rel=0.1)
    assert (found.mean - 1).abs().max() < 0.02


class OwnBaseline(Reinforce):
    """REINFORCE whose baseline is the mean over all answers, the answer itself among them: a known bug, 1/k too small."""

    def collect(self, policy, env, progress):
        rollout = self.sampler.draw(policy, env, progress)
        reward = rollout.reward.sum(1)
        mean = rollout.grouped(reward).mean(1).repeat_interleave(self.k)
        return self.sampler.finished(rollout, (reward - mean).unsqueeze(1) * rollout.mask, env, progress)


@pytest.mark.parametrize("name", ["pair", "rule"])
def test_a_sample_inside_its_own_baseline_is_caught(scenes, name, monkeypatch):
    scene = scenes[name, "lstm"]
    rows = []
    for kind in (Reinforce, OwnBaseline):
        own = bench(scene, k=2)
        own.algorithm = kind(own.algorithm.sampler.options).double()
        found = measure(own, Effort(1000, 10, 5, 1), 0)
        rows.append(make_row(scene, Estimator(kind.__name__, {"kind": "reinforce", "k": 2}, "unbiased", ""), found))
    assert broken(rows[:1], []) == []
    [said] = broken(rows, [])
    assert "OwnBaseline" in said and rows[1].factor == pytest.approx(0.5, abs=0.05)


def test_the_command_fails_where_a_claim_does(monkeypatch, tmp_path, capsys):
    made = Estimator.make
    monkeypatch.setattr(Estimator, "make", lambda self: OwnBaseline(made(self).sampler.options) if self.options["k"] == 2
                        else made(self))
    part = course.Part(SCENES["pair"], Grid((2,), ("sum",), False, 3), EFFORT, ("lstm",))
    monkeypatch.setattr(course, "PLANS", {"smoke": (part,)})
    assert course.run("smoke", 0, {"reinforce": registry()["reinforce"]}, tmp_path, lambda said: None) == 1
    assert "claims to be unbiased" in capsys.readouterr().err and "Biased against" in (tmp_path / "lab.md").read_text()


def test_the_command_measures_what_it_is_asked(monkeypatch, tmp_path, capsys):
    part = course.Part(SCENES["pair"], Grid((2,), ("sum", "constant"), False, 3), EFFORT, ("lstm",))
    monkeypatch.setattr(course, "PLANS", {"smoke": (part,)})
    monkeypatch.setattr(sys, "argv", ["lab", "plan=smoke", "algo=reinforce,mle", f"results={tmp_path}"])
    assert command.main() == 0
    whole = json.loads((tmp_path / "lab.json").read_text())
    assert {one["algorithm"] for one in whole["rows"]} == {"reinforce", "mle"} and not whole["broken"]
    assert all(one["bias"] < 1e-6 and one["draws"] == 0 for one in whole["rows"] if one["claim"] == "unbiased")
    halves = [one for one in whole["rows"] if "constant" in one["estimator"]]
    assert halves and all(one["factor"] == pytest.approx(1 / 3) and one["cosine"] > 0.9999 for one in halves)
    said = capsys.readouterr().out
    assert all(one["estimator"] in said for one in whole["rows"])
    heads, *lines = (one for one in said.splitlines() if one.startswith(("estimator", "reinforce", "mle")))
    ends = [match.end() for match in re.finditer(r"(?<= )(bias|variance|ms|to signal)", heads)]
    assert len(ends) == 4 and all(one[end - 1] != " " and one[end] == " " for one in lines for end in ends), heads
    ElementTree.fromstring((tmp_path / "lab.svg").read_text())
    assert "claim to be unbiased, and are" in (tmp_path / "lab.md").read_text()


def test_every_algorithm_of_the_registry_is_measured():
    found = estimators(Grid((2,), ("sum",), False, 3), registry())
    kinds = {one.options["kind"] for one in found}
    assert kinds == {options["kind"] for options in registry().values()}
    claims = {one.name: one.claim for one in found}
    assert claims["mle"] == "another objective" and claims["reinforce"] == "unbiased"
    crossed = [one for one in estimators(Grid((1, 2), ("sum", "token"), False, 3), registry()) if one.name == "reinforce"]
    assert len({(one.options["baseline"], one.options["normalise"], one.options["k"]) for one in crossed
                if "normalise" in one.options}) == 5 * 2 * 2 - 2                 # leave-one-out needs two answers


def test_kl_estimators_are_what_they_are_said_to_be(scenes):
    scene = scenes["pair", "transformer"]
    said = {one.estimator: one for one in values(scene)}
    assert all(abs(said[name].bias) < 1e-9 for name in ("k1", "k3", "exact")) and abs(said["k2"].bias) > 1e-3
    assert said["exact"].deviation < said["k1"].deviation
    found = {(one.where, one.estimator): one for one in pulls(scene, Slopes(scene.policy, scene.env))}
    assert found["reward", "k1"].bias < 1e-6 and found["both", "exact"].bias < 1e-6
    assert "in expectation" in found["loss", "k1"].refused and found["loss", "k3"].bias > 1e-2


def test_a_figure_names_what_is_not_the_default():
    def row(label):
        return Row("pair", "lstm", label, label.split()[0], 2, "unbiased", "", "slopes", *[0.1] * 13)
    rows = [row(label) for label in ("grpo k=2", "grpo normalise=sum k=2", "reinforce k=2 baseline=greedy normalise=sum")]
    drawn = figure.figure(rows)
    assert ">default<" in drawn and ">normalise=sum<" in drawn and ">baseline=greedy<" in drawn
    assert figure.figure([]) == ""


@pytest.mark.parametrize(("words", "said"), [
    (["smoke"], "not of the form name=value"), (["plan=huge"], "one of smoke, default"), (["seed=one"], "whole number"),
    (["algos=mle"], "did you mean 'algo'"), (["algo=reinforc"], "did you mean 'reinforce'")])
def test_mistakes_are_one_line(words, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lab", *words])
    assert command.main() == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_help_needs_no_torch():
    code = ("import sys; sys.argv = ['lab', '--help']; from rlseq.lab.__main__ import main; main(); "
            "sys.exit('torch' in sys.modules)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0 and "plan" in found.stdout
