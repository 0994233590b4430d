"""Gates: a run that is killed at any moment and continued ends as if nobody had killed it, bit for bit."""

import os
import random
import shlex
import shutil
import signal

import pytest

from tests.killing import Forge, left_by

SMALL = ["task=sort", "policy=pointer", "plan=smoke", "tracking=none", "policy.width=16", "policy.heads=2",
         "policy.feedforward=16", "policy.encoder_layers=1", "policy.dropout=0.1", "beams=[2]", "controls=false",
         "plan.pretrain.updates=6", "plan.pretrain.every=3", "plan.finetune.updates=8", "plan.finetune.every=3",
         "plan.finetune.average=2", "task.max_length=4", "plan.pretrain.dev=8", "plan.finetune.dev=8", "plan.test=8"]
STATE = ["algo.k=2", "algo.kl.weight=0.1", "algo.kl.where=loss", "algo.kl.estimator=k3", "algo.kl.target=0.05",
         "algo.signal.scale=running"]
ALGORITHMS = {"mle": [], "reinforce": [*STATE, "algo.baseline=mean"], "ppo": STATE}
MOMENTS = 20 if os.environ.get("RLSEQ_LOAD") else 7          # of each algorithm; 20 take ten minutes
SEED = 20                                                    # of the moments


@pytest.fixture(scope="module")
def forge():
    one = Forge()
    yield one
    one.close()


@pytest.fixture(scope="module")
def straight(forge, tmp_path_factory):
    """algo -> what an uninterrupted run leaves, its events and its seconds; made once."""
    made = {}

    def of(algo):
        if algo not in made:
            folder = tmp_path_factory.mktemp(algo) / "straight"
            found = forge.run(folder, words(algo))
            assert found["code"] == 0, found["said"]
            made[algo] = left_by(folder), found["events"], found["seconds"]
        return made[algo]
    return of


def words(algo):
    return [*SMALL, f"algo={algo}", *ALGORITHMS[algo]]


def moments(events, seconds, count=MOMENTS):
    """Random moments: two in five at what is written, one each while training, while looking or testing, and by the clock."""
    dice, found = random.Random(SEED), []
    for i in range(count):
        kind = ("write", "write", "step", "load", "clock")[i % 5]
        when = {"at": kind, "number": dice.randint(1, events.get(kind, 1))}
        when = {"after": dice.uniform(0, seconds)} if kind == "clock" else when
        found.append(when | {"signal": int(signal.SIGKILL)})
    return found


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_killed_at_random_moments_and_continued_a_run_ends_as_if_uninterrupted(forge, straight, algo, tmp_path):
    wanted, events, seconds = straight(algo)
    killed = 0
    for i, strike in enumerate(moments(events, seconds)):
        folder = tmp_path / str(i)
        first = forge.run(folder, words(algo), strike=strike)
        killed += first["code"] == -signal.SIGKILL
        assert first["code"] in (0, -signal.SIGKILL), first["said"]
        second = forge.run(folder, words(algo))
        assert second["code"] == 0, (strike, second["said"])
        assert left_by(folder) == wanted, strike
        shutil.rmtree(folder)
    print(f"{algo}: seed {SEED}, {killed} of {MOMENTS} runs killed, {events}")
    assert killed >= 0.7 * MOMENTS, "the clock may come too late, events do not"


def test_a_run_that_is_killed_again_and_again_ends_as_if_uninterrupted(forge, straight, tmp_path):
    wanted, events, _ = straight("ppo")
    dice, killed = random.Random(SEED), 0
    for _ in range(12):
        strike = {"at": "write", "number": dice.randint(2, events["write"] // 3), "signal": int(signal.SIGKILL)}
        killed += forge.run(tmp_path, words("ppo"), strike=strike)["code"] == -signal.SIGKILL
    assert killed >= 3
    assert forge.run(tmp_path, words("ppo"))["code"] == 0
    assert left_by(tmp_path) == wanted


@pytest.mark.parametrize("fault", ["optimiser", "seeds", "best", "algorithm"])
def test_a_planted_bug_is_seen(forge, straight, fault, tmp_path):
    # what the test above would miss if a resumed run forgot it, or drew other numbers
    wanted, events, _ = straight("reinforce")
    strike = {"at": "step", "number": events["step"] - 1, "signal": int(signal.SIGKILL)}
    assert forge.run(tmp_path, words("reinforce"), strike=strike)["code"] == -signal.SIGKILL
    forge.run(tmp_path, words("reinforce"), fault=fault)
    assert left_by(tmp_path) != wanted


@pytest.mark.parametrize(("name", "at", "number"), [("SIGINT", "step", 4), ("SIGTERM", "step", 11), ("SIGTERM", "load", 9),
                                                    ("SIGINT", "load", -2)])
def test_a_signal_finishes_the_step_saves_and_says_what_continues(forge, straight, name, at, number, tmp_path):
    wanted, events, _ = straight("reinforce")
    number = number if number > 0 else events[at] + number                     # the last ones are those of the final test
    strike = {"at": at, "number": number, "signal": int(signal.Signals[name])}
    found = forge.run(tmp_path, words("reinforce"), strike=strike)
    assert found["code"] == 128 + signal.Signals[name] and found["seconds"] < 10, found["said"]
    last = found["said"].strip().splitlines()[-1]
    assert last == f"rlseq: stopped; this continues: {shlex.join(['python', '-m', 'rlseq.run', *words('reinforce')])}"
    if at == "step":                                                           # six of pretraining come first
        kept = [path.name for path in tmp_path.rglob("last-*.json")]
        assert f"last-{number if number <= 6 else number - 6}.json" in kept, (kept, "the step was not finished, or not kept")
    assert forge.run(tmp_path, words("reinforce"))["code"] == 0
    assert left_by(tmp_path) == wanted
