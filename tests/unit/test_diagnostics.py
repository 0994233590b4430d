"""What is said of a policy at a look: by hand on small tensors, exact on tasks whose answers can be counted."""

import json
import math
from dataclasses import replace

import pytest
import torch

from rlseq import algos, diagnostics, journal
from rlseq.diagnostics import Probe, Seen, copied, distinct, gold_change, gradient_signal, repetition, seen, weighing
from rlseq.env import SequenceEnv
from rlseq.nn.policy import Shape, make_policy
from rlseq.train import Stage, Trainer
from rlseq.types import Batch, Rollout
from tests.toys import TINY, Table, all_answers, loaded, log_probability

CPU = torch.device("cpu")


def policy_for(task, seed=0, scale=1.0):
    torch.manual_seed(seed)
    policy = make_policy(task.sizes, Shape(head="vocabulary", **TINY)).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(scale)
    return policy


def test_mass_entropy_rank_and_kl_by_hand():
    p, q = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.125, 0.125, 0.25, 0.5]]), torch.full((2, 4), 0.25)
    found = seen(p.clamp(min=1e-30).log(), q.log(), torch.tensor([1, 3]))
    assert found.top1.tolist() == [0.5, 0.5] and found.rank.tolist() == [2, 1] and found.best.tolist() == [0, 3]
    assert found.top10.tolist() == pytest.approx([1, 1])
    # entropies: 1/2 ln 2 + 2 x 1/4 ln 4 = 3/2 ln 2; 2 x 1/8 ln 8 + 1/4 ln 4 + 1/2 ln 2 = 7/4 ln 2; KL: ln 4 - entropy
    ln2 = math.log(2)
    assert found.entropy.tolist() == pytest.approx([1.5 * ln2, 1.75 * ln2], abs=1e-6)
    assert found.kl.tolist() == pytest.approx([0.5 * ln2, 0.25 * ln2], abs=1e-6)


def test_top_10_is_the_mass_of_ten_and_no_more():
    assert seen(torch.full((1, 40), 1 / 40).log(), None, torch.tensor([0])).top10.tolist() == pytest.approx([0.25])


def test_an_illegal_action_adds_nothing():
    logp = torch.tensor([[math.log(0.5), math.log(0.5), -1e9]])
    found = seen(logp, logp - 0.0, torch.tensor([0]))
    assert found.entropy.tolist() == pytest.approx([math.log(2)]) and found.kl.tolist() == [0]


def test_a_gold_tokens_gain_is_told_by_its_first_rank():
    nothing = torch.zeros(5)
    ranks = torch.tensor([1, 2, 10, 11, 500])

    def said(p):
        return Seen(torch.tensor(p).log(), ranks, *[nothing] * 5)
    found = gold_change(said([0.5, 0.2, 0.1, 0.1, 0.01]), said([0.6, 0.1, 0.4, 0.1, 0.02]))
    assert found == pytest.approx({"gold_change_rank_1": 0.1, "gold_change_rank_2_10": (-0.1 + 0.3) / 2,
                                   "gold_change_rank_11_100": 0.0, "gold_change_rank_beyond_100": 0.01}, abs=1e-6)


def test_repetition_and_distinct_by_hand():
    # 1 2 1 2 1 2: 4-grams 1212 2121 1212, two of three distinct; 1 2 3 4: one of one; 1 2 3 has none and does not count
    assert repetition([[1, 2, 1, 2, 1, 2], [1, 2, 3, 4], [1, 2, 3]]) == pytest.approx((1 / 3 + 0) / 2)
    assert repetition([[1]]) == 0
    # first group: 1 2 and 1 2: tokens 2 of 4, pairs 1 of 2, answers 1 of 2; second: 1 3 and 4: 3 of 3, 1 of 1, 2 of 2
    found = distinct([[[1, 2], [1, 2]], [[1, 3], [4]]])
    assert found == {"sample_distinct_1": 0.75, "sample_distinct_2": 0.75, "sample_distinct": 0.75}


def test_copied_tokens_stand_in_their_own_source():
    source, mask = torch.tensor([[5, 6, 9], [7, 8, 8]]), torch.tensor([[True, True, False], [True, True, True]])
    batch = Batch(source, mask, source, mask, 10)
    actions = torch.tensor([[5, 6, 0], [9, 7, 0], [8, 8, 0], [5, 0, 0]])           # 9 is padding, 7 another's source
    counted = torch.tensor([[True, True, True], [True, True, True], [True, True, True], [True, True, False]])
    assert copied(batch, actions, counted, shared=True) == pytest.approx(4 / 7)     # 5 6 | . . | 8 8 | .
    assert copied(batch, actions, counted, shared=False) is None


def test_the_probe_agrees_with_all_answers_counted():
    # of one problem: expected reward and the KL between two policies over whole answers, by enumeration; the probe draws
    # 4000 answers, so its means lie within 4 standard errors
    task = Table(words=3, steps=3)
    first, now = policy_for(task, 0), policy_for(task, 1, scale=1.5)
    probe = Probe(task, CPU, problems=1, k=4000)
    probe(first)
    found, env = probe(now), loaded(task, [task.examples("dev")[0]])
    actions, mask = all_answers(task, env.batch)
    with torch.no_grad():
        logp, logq = (log_probability(one, env, actions, mask) for one in (now, first))
    reward = task.reward(env.batch, actions, mask)
    mean = (logp.exp() * reward).sum()
    spread = ((logp.exp() * (reward - mean)**2).sum()).sqrt()
    assert found["sample_reward"] == pytest.approx(float(mean), abs=float(4 * spread / 4000**0.5))
    assert found["sample_spread"] == pytest.approx(float(spread), abs=0.02)
    kl = (logp.exp() * (logp - logq)).sum()
    deviation = ((logp.exp() * (logp - logq - kl)**2).sum()).sqrt()           # the probe's per-token form varies less
    assert found["kl_answer"] == pytest.approx(float(kl), abs=float(4 * deviation / 4000**0.5))
    assert kl > 5 * deviation / 4000**0.5 and found["draw_error"] < 1e-5


def test_a_policy_that_did_not_move_is_seen_unmoved_and_bit_for_bit_again():
    task = Table(words=5, steps=4, rule=True)
    policy = policy_for(task)
    probe = Probe(task, CPU, problems=3, k=3)
    before = probe(policy)
    torch.rand(5)
    assert probe(policy) == before == probe.begun
    assert before["kl"] == before["gold_argmax_changed"] == 0
    assert all(before[name] == 0 for name in before if name.startswith("gold_change"))


def test_looking_in_blocks_changes_nothing(monkeypatch):
    task = Table(words=5, steps=4, rule=True)
    whole, parts = Probe(task, CPU, k=3), Probe(task, CPU, k=3)
    first, now = policy_for(task, 0), policy_for(task, 1)
    whole(first)
    found = whole(now)
    monkeypatch.setattr(diagnostics, "CHUNK", 1)
    parts(first)
    assert parts(now) == pytest.approx(found, abs=1e-6)


def test_the_probe_leaves_the_generator_as_it_was():
    task = Table()
    policy = policy_for(task)
    state = torch.get_rng_state()
    Probe(task, CPU)(policy)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gradients_signal_is_found_again_from_adams_moments():
    # gradients drawn with mean G and covariance s^2: |G|^2 / tr S = |G|^2 / (d s^2), here 0.5^2 d / (2^2 d) = 1/16
    torch.manual_seed(0)
    found, size = [], 2000
    weight = torch.nn.Parameter(torch.zeros(size))
    optimiser = torch.optim.AdamW([weight], lr=0.0, betas=(0.9, 0.98))
    for _ in range(200):
        weight.grad = 0.5 + 2 * torch.randn(size)
        optimiser.step()
        found.append(gradient_signal(optimiser, [weight]).get("gradient_snr"))
    assert found[0] is None                                 # one gradient cannot tell
    # |m|^2 has the variance 2 d (q s^2)^2 + 4 q s^2 |G|^2: after 6 steps (q = 0.17) 57^2, later (q = 0.053) 24^2, beside
    # |G|^2 = 500; as a share of 1/16 that is 0.007 and 0.003, of which four are allowed
    assert found[5] == pytest.approx(1 / 16, abs=0.028) and found[-1] == pytest.approx(1 / 16, abs=0.012)
    for _ in range(200):
        weight.grad = 2 * torch.randn(size)                 # no signal left
        optimiser.step()
    assert gradient_signal(optimiser, [weight])["gradient_snr"] < 0.005


def test_weights_are_compared_with_what_a_perfect_baseline_leaves():
    # two problems of two answers each, weights 3 1 and 5 5, and a reference each (log p 0) that nobody drew: mean square
    # (9 + 1 + 25 + 25) / 4 = 15; variances 2 and 0, mean 1
    weight = torch.tensor([3.0, 1.0, 9.0, 5.0, 5.0, 9.0])[:, None]
    logp = torch.tensor([-1.0, -1.0, 0.0, -1.0, -1.0, 0.0])[:, None]
    mask, batch = torch.ones(6, 1, dtype=torch.bool), Batch(weight[:2], weight[:2] > 0, weight[:2], weight[:2] > 0, 3)
    rollout = Rollout(batch, mask.long(), mask, logp, weight * 0, weight, k=3, log={"reward": torch.tensor(0.0)})
    assert {name: float(value) for name, value in weighing(rollout).items()} == {"weight_square": 15, "weight_variance": 1}
    # one answer each: all are one group, of -1 and 3: mean square 5, variance 8
    single = replace(rollout, k=1, weight=torch.tensor([[-1.0], [3.0]]), logp=logp[:2], mask=mask[:2])
    assert {name: float(value) for name, value in weighing(single).items()} == {"weight_square": 5, "weight_variance": 8}
    assert weighing(replace(rollout, log={})) == {}


def test_means_leave_out_what_runs_on():
    assert journal.means([{"reward": 1.0, "seconds": 5.0, "spread": 2.0}, {"reward": 2.0, "seconds": 6.0}]) == {
        "reward": 1.5, "spread": 2.0}


def trainer(folder, log, probe=True, algorithm=None, seed=0, **stage):
    task = Table(words=4, steps=4, rule=True)
    return Trainer(policy_for(task, seed), algos.make(algorithm or {"kind": "reinforce", "k": 3}), SequenceEnv(task),
                   Stage(**{"updates": 10, "batch": 6, "every": 5, "lr": 0.01, "warmup": 0, **stage}), "stage", 3,
                   lambda policy: 0.0, folder, log=lambda step, values: log.append((step, values)),
                   probe=Probe(task, CPU, 4, 3) if probe else None)


def test_a_probe_changes_nothing_of_training(tmp_path):
    weights = []
    for probe in (True, False):
        one = trainer(tmp_path / str(probe), [], probe)
        one.run()
        weights.append(one.learner.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def untimed(line):
    return {name: value for name, value in line.items() if name not in ("time", "seconds", "reward_share")}


def test_a_diary_tells_every_step_once_however_often_the_run_was_killed(tmp_path):
    log = []
    trainer(tmp_path / "whole", log).run()
    whole = journal.read(tmp_path / "whole" / "metrics.jsonl")
    trainer(tmp_path / "parts", []).run(until=8)                       # its checkpoint is of step 5
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "ti')                                  # killed while writing
    resumed = trainer(tmp_path / "parts", [])
    resumed.run()
    parts = journal.read(tmp_path / "parts" / "metrics.jsonl")
    assert [line["step"] for line in whole] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10]
    assert list(map(untimed, parts)) == list(map(untimed, whole)) == [{"step": step, **untimed(one)} for step, one in log]
    assert resumed.diagnostics["kl"]["before"] == 0 < resumed.diagnostics["kl"]["after"]


def test_a_curves_point_holds_means_of_updates_and_what_the_probe_saw(tmp_path):
    log = []
    one = trainer(tmp_path, log)
    one.run()
    spreads = [values["spread"] for step, values in log if "loss" in values and step <= 5]
    assert one.curve[0]["spread"] == pytest.approx(sum(spreads) / 5) and one.curve[0]["updates"] == 5
    assert one.curve[0]["kl"] > 0 and 0 < one.curve[0]["reward_share"] < 1 and one.curve[1]["gradient_snr"] >= 0
    assert all(isinstance(value, float | int) for name, value in one.curve[0].items() if name != "stage")
    plain = trainer(tmp_path / "mle", [], algorithm={"kind": "mle"})
    plain.run()
    assert plain.curve[0]["reward"] is None and plain.curve[0]["sample_reward"] > 0


def test_a_diary_that_is_broken_within_is_refused_in_one_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(ValueError, match="no such diary"):
        journal.read(path)
    journal.Journal(path, 0).add(1, {"a": math.nan})
    assert json.loads(path.read_text())["a"] is None
    path.write_text("oops\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1: not a line"):
        journal.read(path)


def test_a_probe_of_nothing_is_refused():
    with pytest.raises(ValueError, match="k=1 to be 2 or more"):
        Probe(Table(), CPU, k=1)
