"""The doctor: each verdict is made to happen, by a small run made sick on purpose where one can; a healthy run gets none."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from rlseq import algos, doctor, journal, server, tasks, verdicts
from rlseq.diagnostics import Probe
from rlseq.env import SequenceEnv
from rlseq.nn.policy import Shape, make_policy
from rlseq.train import Stage, Trainer
from rlseq.verdicts import Course
from tests.toys import TINY, Table

CPU = torch.device("cpu")
SMALL = {**TINY, "width": 16, "heads": 2, "positions": "none"}
REINFORCE = {"kind": "reinforce", "k": 4}


def train(folder, task, policy, algorithm, name="rl", reward="own", **stage):
    made = algorithm if isinstance(algorithm, algos.Algorithm) else algos.make(algorithm)
    one = Trainer(policy, made, SequenceEnv(task, reward=reward),
                  Stage(**{"updates": 24, "batch": 16, "every": 8, "lr": 1e-3, "warmup": 0, **stage}), name, 0,
                  lambda policy: 0.0, folder, probe=None if name == "pretrain" else Probe(task, CPU, 48, 4))
    one.run()
    return one


def judged(folder):
    """Names of the verdicts on the run of a folder, and all of them."""
    found = verdicts.verdicts(doctor.read(str(folder)))
    return {one.name for one in found if one.sick}, {one.name: one for one in found}


@pytest.fixture(scope="module")
def sort(tmp_path_factory):
    """A small task and a policy that half knows it: (task, a fresh copy of the policy)."""
    task = tasks.make("sort", {"head": "pointer", "min_length": 3, "max_length": 7})

    def blank():
        torch.manual_seed(0)
        return make_policy(task.sizes, Shape(head="pointer", **SMALL))
    policy = blank()
    train(tmp_path_factory.mktemp("pretrained"), task, policy, {"kind": "mle"}, "pretrain", updates=40, batch=32, every=99,
          lr=5e-3)
    state = {name: value.clone() for name, value in policy.state_dict().items()}

    def again():
        policy = blank()
        policy.load_state_dict(state)
        return policy
    return task, again


def table(task):
    """A policy that knows nothing of a table."""
    torch.manual_seed(0)
    return make_policy(task.sizes, Shape(head="vocabulary", **TINY))


def test_a_healthy_run_gets_no_verdict(sort, tmp_path):
    task, policy = sort
    train(tmp_path, task, policy(), REINFORCE, updates=30, every=10, lr=2e-3)
    sick, found = judged(tmp_path)
    assert not sick, [found[name].says for name in sick]
    assert len(found) == len(verdicts.RULES), "every rule had its numbers"
    assert found["collapse"].numbers["gain"] > verdicts.GAIN, "its samples did grow better"


def test_constant_rewards_have_no_spread(sort, tmp_path):
    task, policy = sort
    train(tmp_path, task, policy(), REINFORCE, reward="constant", updates=8)
    sick, found = judged(tmp_path)
    assert "no spread in rewards" in sick and found["no spread in rewards"].numbers == {"flat": 1.0, "spread": 0.0}


def test_one_answer_a_source_is_no_lack_of_spread(sort, tmp_path):
    task, policy = sort
    train(tmp_path, task, policy(), {**REINFORCE, "k": 1, "baseline": "mean"}, updates=8)
    assert "no spread in rewards" not in judged(tmp_path)[0]
    assert not verdicts.no_spread(course(flat=1.0, spread=0.03)).sick
    assert verdicts.no_spread(course(flat=0.95, spread=0.03)).sick


def test_a_policy_that_is_right_only_when_greedy_samples_far_below_it(sort, tmp_path):
    task, one = copy.copy(sort[0]), sort[1]()
    task.reward = task.metrics["exact"].function            # all or nothing
    with torch.no_grad():
        for parameter in one.head.point.parameters():
            parameter.mul_(0.1)                             # the same order of actions, nearly uniform probabilities
    train(tmp_path, task, one, REINFORCE, updates=8, lr=0.0)
    assert "samples far below greedy" in judged(tmp_path)[0]


def sharpener():
    """Pays every token for nothing but having been likely, as a reward without news does."""
    made = algos.make(REINFORCE)
    collect = made.collect

    def likely(policy, env, progress):
        rollout = collect(policy, env, progress)
        return replace(rollout, weight=(rollout.logp.exp() - 0.5) * rollout.mask)
    made.collect = likely
    return made


def test_growing_sure_without_growing_better_is_peaking(tmp_path):
    task = Table(words=5, steps=4, same=0.5)
    train(tmp_path, task, table(task), sharpener(), lr=0.006)
    sick, found = judged(tmp_path)
    assert "peaking" in sick, found["peaking"].says


def test_entropy_that_goes_with_reward_is_a_collapse(tmp_path):
    task = Table(words=5, steps=4, same=0.5)
    train(tmp_path, task, table(task), sharpener(), lr=0.1)
    sick, found = judged(tmp_path)
    assert "collapse" in sick, found["collapse"].says


class Longer(Table):
    """Pays for length."""

    def reward(self, batch, actions, mask):
        return mask.sum(1) / self.steps


def test_a_reward_for_length_makes_lengths_drift(tmp_path):
    task = Longer(words=3, steps=8)
    train(tmp_path, task, table(task), REINFORCE, lr=0.02)
    sick, found = judged(tmp_path)
    assert "length drift" in sick, found["length drift"].says


def test_too_high_a_rate_is_told_with_its_kl_alarm(sort, tmp_path):
    task, policy = sort
    train(tmp_path, task, policy(), REINFORCE, lr=1.0)
    sick, found = judged(tmp_path)
    assert {"learning rate too high", "KL alarm"} <= sick, found["learning rate too high"].says


def test_scoring_by_another_policy_than_the_one_that_drew_is_off_policy(tmp_path):
    task = Table(words=4, steps=4)
    torch.manual_seed(0)
    policy = make_policy(task.sizes, Shape(head="vocabulary", **{**TINY, "dropout": 0.5}))
    algorithm = algos.make(REINFORCE)
    algorithm.dropout = True                                # the scoring pass drops out, the drawing one did not
    train(tmp_path, task, policy, algorithm, updates=8)
    assert "off-policy drift" in judged(tmp_path)[0]


def test_a_rate_of_0_moves_nothing(sort, tmp_path):
    task, policy = sort
    train(tmp_path, task, policy(), REINFORCE, updates=8, lr=0.0)
    assert judged(tmp_path)[0] == {"policy did not move"}


def test_no_baseline_is_too_weak_a_baseline(sort, tmp_path):
    task, policy = sort
    train(tmp_path, task, policy(), {**REINFORCE, "baseline": "none"}, updates=8)
    sick, found = judged(tmp_path)
    assert "baseline too weak" in sick, found["baseline too weak"].says
    train(tmp_path / "own", task, policy(), REINFORCE, updates=8)
    # leave-one-out weights have the mean 0 in a group of k, so their mean square is (k - 1) / k of their variance, 3/4
    assert judged(tmp_path / "own")[1]["baseline too weak"].numbers["times"] == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("given", [{"kind": "mixer", "k": 4, "baseline": "leave_one_out"}, {"kind": "mrt", "reference": False}])
def test_weights_that_no_reward_gave_say_nothing_of_the_baseline(given, sort, tmp_path):
    task, policy = sort                        # given beginnings weigh 1, and so does what is in a sample for MRT
    train(tmp_path, task, policy(), given, updates=8, every=4)
    found = judged(tmp_path)[1].get("baseline too weak")
    assert found is None if given["kind"] == "mrt" else found.numbers["times"] == pytest.approx(0.75, abs=1e-3)


def test_where_every_answer_is_worth_all_there_is_nothing_to_gain(tmp_path):
    task = Table(same=1.0)
    train(tmp_path, task, table(task), REINFORCE, updates=8)
    assert "nothing to gain" in judged(tmp_path)[0]


def course(before=None, **last):
    start = {"decoded_reward": 0.5, "sample_reward": 0.4, "sample_best": 0.6, "sample_spread": 0.1, "sample_entropy": 1.0,
             "sample_repetition": 0.0, "sample_length_ratio": 1.0, "sample_truncated": 0.0, "gold_top1": 0.6}
    look = {**start, "updates": 9, "reward": 0.4, "flat": 0.2, "spread": 0.1, "kl": 0.01, "draw_error": 1e-7, "ess": 1.0,
            "gold_argmax_changed": 0.01, "off_policy": 1e-7}
    return Course("made up", {**start, **(before or {})}, [{**look, **last}])


@pytest.mark.parametrize(("name", "before", "last"), [
    ("collapse", {}, {"sample_repetition": 0.5}), ("off-policy drift", {}, {"ess": 0.2}),
    ("off-policy drift", {}, {"draw_error": 0.1}), ("length drift", {}, {"sample_truncated": 0.4}),
    ("length drift", {}, {"sample_length_ratio": 0.7}),
    ("nothing to gain", {"sample_best": 0.505, "sample_spread": 0.01}, {})])
def test_verdicts_that_rest_on_other_numbers(name, before, last):
    assert [one.name for one in verdicts.verdicts(course(before, **last)) if one.sick] == [name]
    assert not [one.name for one in verdicts.verdicts(course()) if one.sick]


def test_lengths_that_come_nearer_to_the_references_do_not_drift():
    assert not verdicts.length_drift(course({"sample_length_ratio": 0.3}, sample_length_ratio=0.9)).sick
    assert verdicts.length_drift(course({"sample_length_ratio": 0.9}, sample_length_ratio=1.5)).sick


def test_every_verdict_quotes_its_numbers_and_its_limits():
    run = course()
    run.looks[0].update(weight_square=0.1, weight_variance=0.1)
    found = verdicts.verdicts(run)
    assert [one.name for one in found] == [
        "no spread in rewards", "samples far below greedy", "peaking", "collapse", "length drift", "KL alarm",
        "off-policy drift", "learning rate too high", "policy did not move", "baseline too weak", "nothing to gain"]
    for one in found:
        assert "limit" in one.says and one.numbers and one.limits and one.change.endswith("."), one


def written(tmp_path, run):
    """A result file of a run: no more of it than the doctor reads."""
    path = tmp_path / "0.json"
    diagnostics = {name: {"before": value, "after": value} for name, value in run.before.items()}
    path.write_text(json.dumps({"task": "sort", "policy": "pointer", "algo": "reinforce", "seed": 0, "diagnostics": diagnostics,
                                "curve": [{"stage": "pretrain", "kl": 9.0}, {"stage": "reinforce", **run.looks[0]}]}))
    return path


def test_the_command_says_it_in_words_and_in_json(tmp_path, capsys):
    path = written(tmp_path, course(kl=0.5))
    assert doctor.main([str(path)]) == 0
    said = capsys.readouterr().out
    assert "ALARM  KL alarm: KL to the pretrained policy 0.5 nats a token (limit 0.25)" in said
    assert said.startswith("sort/pointer/reinforce/0, 9 updates, 1 looks") and said.count("ALARM") == 1
    assert "right  rewards spread by 0.100, in 80% of groups; samples earn 0.400" in said
    assert max(map(len, said.splitlines())) <= doctor.WIDTH
    assert doctor.main([str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["healthy"] and [one["name"] for one in found["verdicts"] if one["sick"]] == ["KL alarm"]


def test_folder_result_and_mlflow_give_the_same_verdicts(sort, tmp_path, monkeypatch):
    task, policy = sort
    one = train(tmp_path, task, policy(), REINFORCE, updates=8, every=4)
    told = {}
    monkeypatch.setattr(server, "history", lambda uri, run_id: told.update({uri: run_id}) or (
        "sort/pointer/reinforce/0", journal.read(tmp_path / journal.NAME)))              # as it reads MLflow: its own test
    folder, mlflow = doctor.read(str(tmp_path)), doctor.read("5" * 32, "sqlite:///x")
    assert mlflow.name == "sort/pointer/reinforce/0" and told == {"sqlite:///x": "5" * 32}
    for other in (mlflow, verdicts.course("result", one.curve, one.diagnostics)):
        for mine, theirs in zip(verdicts.verdicts(folder), verdicts.verdicts(other), strict=True):
            assert mine.numbers == pytest.approx(theirs.numbers, abs=1e-9) and mine.sick == theirs.sick


@pytest.mark.parametrize(("make", "part"), [
    (lambda folder: folder / "nowhere", "no run"), (lambda folder: folder, "holds no metrics.jsonl"),
    (lambda folder: _file(folder / "a.json", "{}"), "not a result"),
    (lambda folder: _file(folder / "b.json", "["), "not a result"),
    (lambda folder: _diary(folder, []), "no diagnostics"),
    (lambda folder: _diary(folder, [{"decoded_reward": 0.5}]), "not a single look")])
def test_a_bad_run_is_one_line_and_exit_code_2(tmp_path, capsys, make, part):
    assert doctor.main([str(make(tmp_path))]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1 and said.startswith("rlseq.doctor: ") and part in said, said


def test_an_id_that_mlflow_does_not_know_is_told_with_where_to_look(monkeypatch, capsys):
    def missing(uri, run_id):
        raise ValueError(f"MLflow at {uri} fails (not found)")
    monkeypatch.setattr(server, "history", missing)
    assert doctor.main(["5" * 32, "--tracking-uri", "sqlite:///x"]) == 2
    assert capsys.readouterr().err == (f"rlseq.doctor: no run {'5' * 32}: MLflow at sqlite:///x fails (not found); another "
                                       "MLflow is named by --tracking-uri URI\n")


def _file(path, text):
    path.write_text(text)
    return path


def _diary(folder, lines):
    diary = journal.Journal(folder / journal.NAME, 0)
    (folder / journal.NAME).touch()
    for line in lines:
        diary.add(0, line)
    return folder


def test_results_of_earlier_versions_are_refused_kindly(tmp_path, capsys):
    path = _file(tmp_path / "0.json", json.dumps({"task": "t", "policy": "p", "algo": "a", "seed": 0, "curve": []}))
    assert doctor.main([str(path)]) == 2 and "earlier rlseq" in capsys.readouterr().err
