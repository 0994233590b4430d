"""Controls: who gets them, what they are paid, and samples as spread as those they stand beside."""

import math
from dataclasses import replace

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from rlseq import algos, controls, experiment
from rlseq.evaluate import Decoding
from rlseq.nn.policy import Shape
from rlseq.paths import CONF
from rlseq.run import checked
from rlseq.setup import Setup, fresh
from rlseq.train import Stage
from tests.toys import TINY, Table, configured, loaded, tiny_policy, tiny_shape

REWARDLESS = {"mle", "scheduled_sampling", "attention_reg", "coverage", "dagger", "raml"}     # RAML: by its Hamming payoff


def small(name="reinforce", options=None, **config):
    shape = Shape(head="vocabulary", **TINY)
    options = configured("algo")[name] | (options or {})
    given = {"seed": 0, "precision": "fp32", "algo": options, "controls": "auto", "compare": "mle", "beams": [], **config}
    return Setup(given, {"algo": name}, Table(words=4, steps=4), shape, algos.make(options), Stage(updates=1),
                 Stage(updates=1), Decoding(), ["test"], torch.device("cpu"), 0)


@pytest.mark.parametrize("algo", configured("algo"))
def test_an_algorithm_has_controls_where_rewards_change_what_it_learns(algo):
    kinds = controls.wanted(small(algo))
    assert kinds == (() if algo in REWARDLESS else controls.ALL)


def test_raml_has_controls_where_its_payoff_is_the_reward():
    assert controls.wanted(small("raml", {"payoff": "reward"})) == controls.ALL


@pytest.mark.parametrize(("config", "kinds"), [
    ({"controls": "auto", "compare": None}, ()), ({"controls": True, "compare": None}, controls.ALL),
    ({"controls": False}, ()), ({"controls": []}, ()), ({"controls": ["temperature", "mle"]}, ("mle", "temperature")),
    ({"controls": "constant"}, ("constant",)),
])
def test_controls_can_be_chosen_and_come_with_every_comparison(config, kinds):
    assert controls.wanted(small(**config)) == kinds


def test_controls_that_are_asked_for_in_vain_are_not_passed_over_in_silence():
    assert experiment.announced("mle", ()) == "controls of mle: none, for no reward reaches it"
    assert experiment.announced("rloo", ("mle", "constant")).startswith("controls of rloo: mle, constant (")


def test_an_unknown_control_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="no control 'shufled'; did you mean 'shuffled'"):
        controls.wanted(small(controls=["shufled"]))
    with pytest.raises(ValueError, match="must be auto, true, false or a list"):
        controls.wanted(small(controls=3))


@pytest.mark.parametrize("reward", ["constant", "shuffled"])
def test_prefixes_tell_a_control_nothing_of_the_tasks_own_reward(reward):
    env, policy = loaded(Table(), list(range(6))), tiny_policy(tiny_shape({"head": "vocabulary"}), Table().sizes)
    algorithm = algos.make({"kind": "reinforce", "k": 3, "signal": {"shaping": "prefix"}})
    algorithm.prepare(policy)
    env.reward = reward
    torch.manual_seed(7)
    rollout = algorithm.collect(policy, env, 0.0)
    assert torch.allclose(rollout.reward.sum(1), env.worth(rollout.actions, rollout.mask).to(rollout.reward))
    own = env.task.prefix_reward(env.batch, rollout.actions, rollout.mask)
    first = own[torch.arange(len(own)), 0]
    if reward == "constant":
        assert not rollout.weight.any(), "all alike, so leave-one-out finds nothing to learn"
    else:
        longer = rollout.mask.sum(1) > 1
        assert torch.equal(rollout.reward[longer, 0], env.dealt(first)[longer].to(rollout.reward)), "of the same other answer"


def always(setup, *logits):
    """A policy that gives its four actions these logits, whatever it has seen."""
    policy = fresh(setup)
    with torch.no_grad():
        policy.head.words.weight.zero_()
        policy.head.bias.copy_(torch.tensor(logits))
    return policy


def test_spread_is_the_mean_entropy_of_an_action():
    setup = small()
    assert controls.spread(setup, always(setup, 0.0, 0.0, 0.0, 0.0)) == pytest.approx(math.log(4), abs=1e-5)


def test_mle_is_sampled_as_evenly_as_the_policy_samples():
    setup = small()
    mle, policy = always(setup, 0.0, 1.0, -1.0, 0.5), always(setup, 0.0, 2.0, -2.0, 1.0)     # MLE's at temperature 1/2
    found = controls.matched(setup, policy, mle)
    assert found["mle_entropy"] == pytest.approx(found["entropy"], rel=0.005)
    # equal random numbers and, at 1/2, equal distributions: what is left is the half per cent at which bisection stops
    assert found["temperature"] == pytest.approx(0.5, rel=0.02)
    assert controls.matched(setup, mle, mle)["temperature"] == 1.0


def smoke(*words):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        def composed(*more):
            plain = hydra.compose("config", overrides=checked(["plan=smoke", "tracking=none", *words, *more]))
            return OmegaConf.to_container(plain, resolve=True)
        return composed(), {"mle": composed("algo=mle")}


def test_a_run_with_controls_writes_them_all_from_one_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, baselines = smoke("task=sort", "algo=rloo", "experiment=controls", "beams=[1,3]", "policy.width=32")
    names = {"task": "sort", "policy": "copy", "algo": "rloo", "plan": "smoke"}
    found = {one.algo: one for one in experiment.run(config, names, baselines)}
    assert list(found) == ["mle", "rloo+constant", "rloo+shuffled", "rloo"]
    assert {one.pretrained["hash"] for one in found.values()} == {found["mle"].pretrained["hash"]}
    assert {one.cost["updates"] for one in found.values()} == {4}
    assert [one.control for one in found.values()] == ["", "constant", "shuffled", ""]
    own, constant = found["rloo"], found["rloo+constant"]
    for metric in ("exact", "nll"):                                 # paid alike, an answer is worth its siblings: no gradient
        assert constant.after["test-15"]["metrics"][metric]["score"] == constant.before["test-15"]["metrics"][metric]["score"]
    assert own.matched["temperature"] > 0 and set(own.variants) == {"last", "best", "sampled", "mle_sampled"}
    assert set(own.beams) == {"1", "3"} and own.rows["beam3/test-15/exact"].shape == (32, 2)
    assert constant.beams == {} and own.rows["mle_sampled/test-15/exact"].shape == (32, 2)
    best = own.after["test-15"]["metrics"]["exact"]["score"]
    assert own.variants["best"]["test-15"]["exact"] == best == own.beams["1"]["test-15"]["exact"]
    said = capsys.readouterr().out
    assert said.index("what gain it shows is not known yet") < said.index("signal gain: "), "before it fine-tunes, and after"
    assert "ALARM" not in said and "its numbers mean nothing" in said, "four updates sicken any policy"
    again = {one.algo: one for one in experiment.run(config, names, baselines)}
    said = capsys.readouterr().out
    assert said.count("taken from") == 3 and "rloo: already trained" in said
    assert replace(again["rloo"], started="", finished="") == replace(own, started="", finished="")
