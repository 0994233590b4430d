"""The trainer: which weights are kept, averaging, what is counted and what is refused."""

import math

import pytest
import torch

from rlseq import algos, journal
from rlseq.env import SequenceEnv
from rlseq.nn.policy import Shape, make_policy
from rlseq.stopping import Stopped
from rlseq.train import Stage, Trainer, seed_step
from tests.toys import TINY, Table


def trainer(folder, judge=None, algorithm=None, log=None, dropout=0.0, **stage):
    task = Table(words=4, steps=4)
    torch.manual_seed(0)
    policy = make_policy(task.sizes, Shape(head="vocabulary", **{**TINY, "dropout": dropout}))
    heard = [] if log is None else log
    return Trainer(policy, algos.make(algorithm or {"kind": "mle"}), SequenceEnv(task), Stage(**{"batch": 6, **stage}), "stage",
                   seed=1, judge=judge or (lambda policy: 0.0), folder=folder,
                   log=lambda step, values: heard.append((step, values)))


def test_the_weights_that_did_best_on_dev_are_kept(tmp_path):
    scores, seen = iter([1.0, 5.0, 2.0, 4.0]), []

    def judge(policy):
        seen.append({name: value.clone() for name, value in policy.state_dict().items()})
        return next(scores)
    one = trainer(tmp_path, judge, updates=8, every=2, lr=0.01)
    one.run()
    assert [point["dev"] for point in one.curve] == [1.0, 5.0, 2.0, 4.0] and one.best[0] == 5.0
    assert all(torch.equal(value, seen[1][name]) for name, value in one.policy.state_dict().items())
    assert any(not torch.equal(seen[1][name], seen[3][name]) for name in seen[1])


@pytest.mark.parametrize(("last", "kept"), [(9.0, "mean"), (3.0, "best")])
def test_the_mean_of_the_last_weights_is_taken_only_if_better(tmp_path, last, kept):
    scores, seen = iter([1.0, 5.0, 2.0, last]), []

    def judge(policy):
        seen.append({name: value.clone() for name, value in policy.state_dict().items()})
        return next(scores)
    one = trainer(tmp_path, judge, updates=6, every=2, lr=0.01, average=2)
    one.run()
    mean = {name: (seen[1][name] + seen[2][name]) / 2 for name in seen[0]}
    wanted = mean if kept == "mean" else seen[1]
    assert one.best[0] == max(5.0, last)
    assert all(torch.allclose(value, wanted[name], atol=1e-7) for name, value in one.policy.state_dict().items())


def test_no_updates_leave_the_weights_alone(tmp_path):
    one = trainer(tmp_path, updates=0)
    before = {name: value.clone() for name, value in one.policy.state_dict().items()}
    one.run()
    assert all(torch.equal(value, before[name]) for name, value in one.policy.state_dict().items()) and not one.curve


def test_costs_are_counted(tmp_path):
    log = []
    one = trainer(tmp_path, algorithm={"kind": "reinforce", "k": 3}, log=log, updates=3, every=3)
    one.run()
    steps = [values for _, values in log if "loss" in values]
    tokens = [values["length"] * 6 * 3 for values in steps]                   # mean length of 18 answers
    assert one.cost.updates == 3 and one.cost.seconds > 0
    assert one.cost.sampled_tokens == one.cost.scored_tokens == round(sum(tokens))
    assert steps[-1]["sampled_tokens"] == one.cost.sampled_tokens
    other = trainer(tmp_path / "mle", updates=3, every=3)
    other.run()
    assert other.cost.sampled_tokens == 0 and other.cost.scored_tokens > 0


def test_clipping_bounds_the_gradient_and_0_turns_it_off(tmp_path, monkeypatch):
    norms = {}
    real = torch.optim.AdamW.step
    for clip in (0.0, 1e-3):
        def step(self, *given, clip=clip):
            norms[clip] = math.sqrt(sum(float(p.grad.square().sum()) for group in self.param_groups for p in group["params"]))
            return real(self, *given)
        monkeypatch.setattr(torch.optim.AdamW, "step", step)
        trainer(tmp_path / str(clip), updates=1, clip=clip).run()
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3) and norms[0.0] > 0.01


def test_weights_that_are_no_numbers_stop_the_run_in_words(tmp_path):
    one = trainer(tmp_path, updates=3)
    with torch.no_grad():
        one.policy.first.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="stage update 0: the weights policy.first are not finite .*lower the"):
        one.run()


def spoiled(one, monkeypatch, losses):
    """Make the loss of each update one of `losses` times what it is; the weights before each."""
    before, real = [], one.algorithm.loss

    def loss(policy, rollout):
        before.append(policy.first.detach().clone())
        found, said = real(policy, rollout)
        return found * losses[len(before) - 1], said
    monkeypatch.setattr(one.algorithm, "loss", loss)
    return before


def test_a_step_whose_gradient_is_no_number_is_left_out_and_counted(tmp_path, monkeypatch, capsys):
    one = trainer(tmp_path, log=(log := []), updates=6, every=3)
    before = spoiled(one, monkeypatch, [1, math.nan, 1, math.inf, math.nan, 1])
    one.run()
    moved = [not torch.equal(a, b) for a, b in zip(before, before[1:])]
    assert moved == [True, False, True, False, False] and one.cost.updates == 6 and one.cost.skipped == 3
    assert all(bool(torch.isfinite(value).all()) for value in one.learner.state_dict().values())
    assert [values["skipped"] for _, values in log if "loss" in values and "skipped" in values] == [1, 2, 3]
    assert [point["skipped"] for point in one.curve] == [1, 3]
    said = [line for line in capsys.readouterr().err.splitlines() if "is left out" in line]
    assert len(said) == 2, "once for each stretch of them"


def test_too_many_in_a_row_stop_the_run_with_the_cause(tmp_path, monkeypatch):
    one = trainer(tmp_path, updates=20)
    spoiled(one, monkeypatch, [1, 1, *[math.nan] * 18])
    with pytest.raises(FloatingPointError, match=r"update 6: the gradient of policy\.\S+ is not finite .loss nan.*, 5 updates"
                                                 " in a row; lower the learning rate"):
        one.run()


def test_mle_trains_as_without_dropout_where_it_is_told_to_leave_it_out(tmp_path):
    runs = {"out": ({"dropout": False}, 0.5), "none": ({}, 0.0), "in": ({}, 0.5)}
    found = {}
    for name, (options, dropout) in runs.items():
        one = trainer(tmp_path / name, algorithm={"kind": "mle", **options}, updates=3, dropout=dropout)
        one.run()
        found[name] = one.policy.state_dict()
    assert all(torch.equal(value, found["none"][key]) for key, value in found["out"].items())
    assert any(not torch.equal(value, found["none"][key]) for key, value in found["in"].items())


def test_dropout_is_on_in_the_loss_and_off_while_drawing(tmp_path, monkeypatch):
    modes = []
    one = trainer(tmp_path, algorithm={"kind": "scheduled_sampling"}, updates=2, dropout=0.5)
    real = {part: getattr(one.algorithm, part) for part in ("collect", "loss")}
    for part in real:
        def watched(policy, *given, part=part):
            modes.append(policy.training)
            return real[part](policy, *given)
        monkeypatch.setattr(one.algorithm, part, watched)
    one.run()
    assert modes == [False, True] * 2
    other = trainer(tmp_path / "rl", algorithm={"kind": "reinforce"}, log=(log := []), updates=2, dropout=0.5)
    other.run()
    # answers are scored as they were drawn: without dropout the two log-probabilities agree but for rounding in float32
    assert all(values["off_policy"] < 1e-5 for _, values in log if "off_policy" in values)


def test_progress_runs_from_0_towards_1(tmp_path, monkeypatch):
    one, seen = trainer(tmp_path, updates=4), []
    collect = one.algorithm.collect
    monkeypatch.setattr(one.algorithm, "collect", lambda policy, env, p: seen.append(p) or collect(policy, env, p))
    one.run()
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path, capsys):
    whole, resumed = trainer(tmp_path / "whole", updates=6, every=2), trainer(tmp_path / "other", updates=6, every=2)
    whole.run()
    trainer(tmp_path / "other", updates=6, every=2).run(until=4)
    path = tmp_path / "other" / "last-4.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    resumed.run()
    assert "last-4.safetensors is damaged" in capsys.readouterr().err
    assert all(torch.equal(value, whole.policy.state_dict()[name]) for name, value in resumed.policy.state_dict().items())


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(tmp_path):
    one, other = trainer(tmp_path, updates=4, every=2), trainer(tmp_path, updates=4, every=2)
    one.identity, other.identity = {"algo.k": 4, "rlseq": "0.1.0"}, {"algo.k": 5, "rlseq": "0.2.0"}
    one.run(until=2)
    with pytest.raises(ValueError, match="another run: algo.k=4 there, 5 here; rlseq=.0.1.0. there, .0.2.0. here; "):
        other.run()


@pytest.mark.parametrize("place", ["step", "look"])
def test_a_stop_in_a_step_or_a_look_is_continued_as_if_there_had_been_none(tmp_path, place):
    logs, looks = ([], []), []

    def judge(policy):                                         # the second look is cut short, then made again
        looks.append(len(looks))
        if place == "look" and len(looks) == 2:
            raise Stopped(15)
        return 0.0
    whole = trainer(tmp_path / "whole", algorithm={"kind": "reinforce"}, log=logs[0], updates=6, every=2)
    whole.run()
    one = trainer(tmp_path / "parts", judge, {"kind": "reinforce"}, logs[1], updates=6, every=2)
    if place == "step":
        step = one.update
        one.update = lambda batches: step(batches) if one.cost.updates < 3 else stopped()
    with pytest.raises(Stopped):
        one.run()
    assert one.cost.updates == (3 if place == "step" else 4)
    last = trainer(tmp_path / "parts", judge, {"kind": "reinforce"}, logs[1], updates=6, every=2)
    last.run()
    timed = {"seconds": 0, "reward_share": 0}
    found, wanted = ([(step, values | timed) for step, values in log] for log in logs[::-1])
    assert found == wanted
    assert [point | timed for point in last.curve] == [point | timed for point in whole.curve]


def test_a_look_after_a_stop_writes_over_no_checkpoint_and_is_told_once(tmp_path, monkeypatch):
    def judge(policy):
        if stops:
            raise Stopped(stops.pop())
        return 0.0

    def killed(*given):
        raise MemoryError
    stops = [15]
    with pytest.raises(Stopped):
        trainer(tmp_path, judge, updates=6, every=3).run()
    kept = (tmp_path / "last-3.json").read_bytes()             # there is no other: a write cut short must not cost it
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Trainer, "update", killed)
        trainer(tmp_path, judge, updates=6, every=3).run()
    assert (tmp_path / "last-3.json").read_bytes() == kept
    trainer(tmp_path, judge, updates=6, every=3).run()
    lines = journal.read(tmp_path / journal.NAME)
    assert [one["step"] for one in lines if "dev" in one] == [3, 6] and len(lines) == 6 + 2


def stopped():
    raise Stopped(15)


def test_bf16_runs_and_stays_finite(tmp_path):
    one = trainer(tmp_path, algorithm={"kind": "reinforce", "k": 2}, log=(log := []), updates=2)
    one.precision = "bf16"
    one.run()
    assert all(math.isfinite(values["loss"]) for _, values in log if "loss" in values)
    assert {value.dtype for value in one.policy.state_dict().values()} == {torch.float32}


def test_seeds_are_told_apart_by_all_their_parts():
    numbers = []
    for parts in ((1, "a", 2), (1, "a", 3), (2, "a", 2), (1, "b", 2), (1, "a", 2)):
        seed_step(*parts)
        numbers.append(float(torch.rand(1)))
    assert numbers[0] == numbers[-1] and len(set(numbers)) == 4


def test_last_best_and_averaged_weights_are_all_kept(tmp_path):
    scores = iter([1.0, 5.0, 2.0, 0.0])                                     # the average comes last and is no better
    one = trainer(tmp_path, lambda policy: next(scores), updates=6, every=2, lr=0.01, average=2)
    one.run()
    name = next(iter(one.candidates["last"]))
    second, third = (state[name] for state in one.recent)
    assert set(one.candidates) == {"last", "best", "averaged"} and one.best[0] == 5.0
    assert torch.equal(one.candidates["last"][name], third) and torch.equal(one.candidates["best"][name], second)
    assert torch.allclose(one.candidates["averaged"][name], (second + third) / 2)
    assert torch.equal(one.policy.state_dict()[name], second)


def watched(one, monkeypatch, **attributes):
    """What the algorithm is asked for: ("collect", progress) and ("part", number), in order."""
    asked, collect = [], one.algorithm.collect
    for name, value in attributes.items():
        monkeypatch.setattr(one.algorithm, name, value)
    monkeypatch.setattr(one.algorithm, "collect", lambda policy, env, p: asked.append(("collect", p))
                        or collect(policy, env, p))
    monkeypatch.setattr(one.algorithm, "part", lambda rollout, number: asked.append(("part", number)) or rollout)
    return asked


def test_several_gradient_steps_are_taken_on_what_one_collection_gave(tmp_path, monkeypatch):
    one = trainer(tmp_path, algorithm={"kind": "reinforce"}, log=(log := []), updates=8, every=4)
    asked = watched(one, monkeypatch, passes=3)
    one.run()
    assert asked == [("collect", 0.0), ("part", 0), ("part", 1), ("part", 2), ("collect", 3 / 8), ("part", 0), ("part", 1),
                     ("part", 2), ("collect", 6 / 8), ("part", 0), ("part", 1)], "the budget counts gradient steps"
    assert one.cost.updates == 8 and [point["updates"] for point in one.curve] == [6, 8], "looks wait for a collection's end"
    steps = [(step, values["sampled_tokens"]) for step, values in log if "loss" in values]
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert steps[0][1] == steps[2][1] < steps[3][1], "answers are counted once, when they are drawn"


def test_an_algorithm_that_has_had_enough_takes_no_more_steps_on_a_collection(tmp_path, monkeypatch):
    one, losses = trainer(tmp_path, updates=4), []                       # asked after the first step only: one is always taken
    asked = watched(one, monkeypatch, passes=3, enough=lambda found: losses.append(found["nll"]) or len(losses) == 1)
    one.run()
    assert asked == [("collect", 0.0), ("part", 0), ("part", 1), ("collect", 1 / 4), ("part", 0), ("part", 1), ("part", 2)]
    assert one.cost.updates == 4
