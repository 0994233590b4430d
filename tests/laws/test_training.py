"""Laws of training, for every YAML of conf/algo: resuming is exact, a step is its seed and number."""

import pytest
import torch

from rlseq import dist
from rlseq.env import SequenceEnv
from rlseq.evaluate import evaluate
from rlseq.nn.policy import Shape, make_policy
from rlseq.train import Stage, Trainer
from tests.toys import TINY, Table, algorithm_of, configured

NAMES = sorted(configured("algo"))
POLICIES = {"lstm": {"encoder": "lstm", "decoder": "lstm", "dropout": 0.3},
            "transformer": {"dropout": 0.3, "decoder_layers": 2}}
CHANGES = {"k": 4, "entropy": 0.05, "mle_weight": 0.1, "label_smoothing": 0.1,
           "reuse": {"epochs": 3, "minibatches": 1}}                    # so that no collection begins at step 5, one at 6
CARRIED = {**CHANGES, "kl": {"weight": 0.1, "where": "loss", "estimator": "k3", "target": 0.05},
           "entropy": {"weight": 0.05, "target": 0.7}}                  # an anchor, and weights that adapt
MOMENTS = {"signal": {"scale": "running"}}                              # of rewards; MRT beside the reference refuses it


def carried(name, **more):
    return {**CARRIED, **({} if name == "mrt" else MOMENTS), **more}


def trainer(name, folder, shape, log, seed=3, changes=None, precise=False, task=None, **stage):
    """A trainer of a small policy whose weights depend on `seed`, by default for a table of rewards."""
    task = task or Table(words=4, steps=4, rule=True)
    torch.manual_seed(seed)
    policy = make_policy(task.sizes, Shape(**{"head": "vocabulary", **TINY, **shape}))
    algorithm = algorithm_of(name, policy, CHANGES if changes is None else changes).float()
    if precise:
        policy, algorithm = policy.double(), algorithm.double()
    return Trainer(policy, algorithm, SequenceEnv(task), Stage(**{"updates": 10, "batch": 6, "every": 5, **stage}), name,
                   seed=7, judge=lambda policy: evaluate(policy, task, "dev", torch.device("cpu")).scores["reward"],
                   folder=folder, log=lambda step, values: log.append((step, values)))


def untimed(log):
    timed = ("seconds", "reward_share")
    return [(step, {name: value for name, value in values.items() if name not in timed}) for step, values in log]


def weights_of(one):
    return {**one.learner.state_dict(), **{f"best.{name}": value for name, value in one.best[1].items()}}


@pytest.mark.parametrize(("name", "shape"), [*((name, "lstm") for name in NAMES), ("reinforce", "transformer"),
                                             ("scheduled_sampling", "transformer")])
def test_ten_steps_equal_five_and_resume_and_five_bit_for_bit(name, shape, tmp_path):
    whole, parts = [], []
    straight = trainer(name, tmp_path / "whole", POLICIES[shape], whole, changes=carried(name))
    straight.run()
    trainer(name, tmp_path / "parts", POLICIES[shape], parts, changes=carried(name)).run(until=5)
    torch.rand(17)                                                  # a resumed run finds another generator state
    resumed = trainer(name, tmp_path / "parts", POLICIES[shape], parts, seed=99, changes=carried(name))  # other weights
    resumed.run()
    assert untimed(whole) == untimed(parts) and len(whole) == 12
    assert straight.best[0] == resumed.best[0] and len(resumed.curve) == 2
    one, other = weights_of(straight), weights_of(resumed)
    assert one.keys() == other.keys()
    for part in one:
        assert torch.equal(one[part], other[part]), part


def test_another_seed_draws_other_answers(tmp_path):
    logs = [[], []]
    for seed, log in enumerate(logs):
        one = trainer("reinforce", tmp_path / str(seed), POLICIES["lstm"], log)
        one.seed = seed
        one.run()
    assert untimed(logs[0]) != untimed(logs[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_randomness_of_a_step_follows_from_seed_and_number_alone(name, tmp_path):
    # the same weights at step 6, reached with and without the steps before, draw the same answers and dropout masks
    losses = []
    for spoil in (0, 31):
        log = []
        one = trainer(name, tmp_path / str(spoil), POLICIES["lstm"], log, every=100)
        one.stage = Stage(updates=10, batch=6, every=100, lr=0.0)       # weights stay
        one.run(until=1)
        one.cost.updates = 6 if spoil else one.cost.updates
        torch.rand(spoil)
        one.run(resume=False, until=7)
        losses.append(untimed(log)[-1][1])
    for name in ("sampled_tokens", "scored_tokens"):
        losses[0].pop(name), losses[1].pop(name)
    assert losses[0].keys() == losses[1].keys()
    moved = {"learning_rate"}
    assert all(losses[0][name] == losses[1][name] for name in losses[0] if name not in moved and "value" not in name)


def test_no_two_steps_draw_the_same_numbers(tmp_path, monkeypatch):
    drawn, real = [], dist.uniform
    monkeypatch.setattr(dist, "uniform", lambda *given: drawn.append(real(*given)) or drawn[-1])
    one = trainer("reinforce", tmp_path, POLICIES["lstm"], [])
    one.run(until=3)
    first = [float(numbers[0]) for numbers in drawn]
    assert len(first) >= 3 and len(set(first)) == len(first)
