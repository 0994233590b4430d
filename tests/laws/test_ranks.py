"""Laws of ranks and slices, for every YAML of conf/algo: how a batch is shared out or cut changes what is learnt by rounding.

Weights are compared in float64 without dropout. Gradients then differ by the order of summation only, some 1e-16; Adam divides
by their size, so that a few steps may grow that to 1e-10, while a share counted twice or lost moves weights by about lr = 1e-2.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rlseq import dist, experiment, pretrain, shards, tasks
from rlseq.env import SequenceEnv
from rlseq.evaluate import evaluate, reference_nll
from rlseq.nn.policy import Shape, make_policy
from rlseq.paths import ROOT
from rlseq.train import Stage, Trainer
from tests.laws.test_training import NAMES, carried, trainer
from tests.ranks import together
from tests.toys import TINY, Table, algorithm_of, task_for, tiny_policy
from tests.unit.test_locks import tiny

LSTM = {"encoder": "lstm", "decoder": "lstm"}
CLOSE = 1e-7
CASES = [*((name, {}) for name in NAMES), ("scheduled_sampling", LSTM)]
SAID = ("loss", "gradient_norm", "reward", "nll", "sampled_nll", "off_policy", "penalty", "risk", "value_loss", "kl", "kl_step",
        "update_kl", "clipped", "entropy", "sampled_tokens", "scored_tokens")       # of the rest some is no mean over problems
REUSE = {"epochs": 2, "minibatches": 2}


def titled(case):
    return f"{case[0]}-{case[1].get('decoder', 'transformer')}"


def exact(case, folder, log, batch=7, **more):
    """A trainer of a case in float64, of uneven batches, whose randomness is that of drawing alone."""
    name, shape = case
    options = {"updates": 4, "every": 4, "clip": 0.0, "lr": 1e-2, "warmup": 0, **more}
    return trainer(name, folder, {"dropout": 0.0, **shape}, log, precise=True, batch=batch, **options,
                   changes=carried(name, reuse=REUSE))


def kept(one, log, path):
    """Leave weights and diary of a trainer where another process finds them."""
    if dist.rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weights": one.learner.state_dict(), "log": log, "cost": vars(one.cost)}, path)


def alike(one, two, what):
    """Whether two trainings left the same weights and said the same, to rounding."""
    assert one["weights"].keys() == two["weights"].keys()
    for part, value in one["weights"].items():
        assert (value - two["weights"][part]).abs().max() < CLOSE, (what, part)
    for (step, values), (_, others) in zip(one["log"], two["log"], strict=True):
        for name in set(SAID) & set(values):
            assert values[name] == pytest.approx(others[name], rel=1e-6, abs=1e-6), (what, name, step)  # some: float32


def train_all(cases, folder, batch):
    for case in cases:
        one = exact(case, Path(folder) / titled(case) / str(dist.world()), log := [], batch)
        one.run()
        kept(one, log, Path(folder) / titled(case) / f"{dist.world()}.pt")


@pytest.mark.parametrize(("world", "batch", "cases"), [(2, 7, CASES), (3, 2, [("ppo", {}), ("mle", {}), ("mixer", {})])])
def test_ranks_equal_one_whatever_their_shares(world, batch, cases, tmp_path):
    # a batch of 7 gives 3 and 4; of 2 problems on 3 ranks one has none, and minibatches leave another without any
    together(world, train_all, cases, str(tmp_path), batch)
    train_all(cases, tmp_path, batch)
    for case in cases:
        one, more = (torch.load(tmp_path / titled(case) / f"{number}.pt") for number in (1, world))
        alike(one, more, titled(case))


REAL = (("sort", "copy"), ("translation", "vocabulary"))


def train_real(folder):
    """Tasks whose horizon, and whose number of actions, follow from how wide a batch is padded."""
    for name, head in REAL:
        task = task_for(name, head)
        torch.manual_seed(3)
        policy, log = make_policy(task.sizes, Shape(head=head, **TINY)), []
        algorithm = algorithm_of("rloo", policy, {"k": 2}).float()
        one = Trainer(policy, algorithm, SequenceEnv(task), Stage(updates=2, batch=5, every=2, warmup=0), "rloo", seed=7,
                      judge=lambda policy: 0.0, folder=Path(folder) / name / str(dist.world()),
                      log=lambda step, values, log=log: log.append((step, values)))
        one.run()
        kept(one, log, Path(folder) / name / f"{dist.world()}.pt")


def test_ranks_equal_one_where_horizons_follow_the_padding(tmp_path):
    together(2, train_real, str(tmp_path))
    train_real(tmp_path)
    for name, _ in REAL:                                           # in float32; what is drawn does not hang on rounding
        one, two = (torch.load(tmp_path / name / f"{world}.pt") for world in (1, 2))
        assert one["cost"]["sampled_tokens"] == two["cost"]["sampled_tokens"] > 0
        for (_, values), (_, others) in zip(one["log"], two["log"], strict=True):
            for said in {"loss", "reward", "length"} & set(values):
                assert values[said] == pytest.approx(others[said], abs=1e-4), (name, said)


def train_stretch(folder, until):
    one = exact(("ppo", {}), Path(folder) / "run", log := [], updates=12, every=4)
    one.run(until=until)
    kept(one, log, Path(folder) / f"{until}.pt")


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path):
    for until, world in ((4, 2), (8, 1), (12, 2)):
        if world == 1:
            train_stretch(tmp_path / "changing", until)
        else:
            together(world, train_stretch, str(tmp_path / "changing"), until)
    train_stretch(tmp_path / "one", 12)
    changing, one = (torch.load(tmp_path / name / "12.pt") for name in ("changing", "one"))
    for part, value in one["weights"].items():
        assert (value - changing["weights"][part]).abs().max() < CLOSE, part
    counted = ("updates", "sampled_tokens", "scored_tokens")
    assert [one["cost"][name] for name in counted] == [changing["cost"][name] for name in counted]


def train_and_resume(folder):
    for name, stops in (("whole", [8]), ("parts", [4, 8])):
        for stop in stops:
            torch.rand(17 * stop)                                       # a resumed run finds another generator state
            one = trainer("grpo", Path(folder) / name, {"dropout": 0.3}, [], batch=7, updates=8, every=4,
                          changes=carried("grpo", reuse=REUSE))
            one.run(until=stop)
        if dist.rank() == 0:
            torch.save(one.learner.state_dict(), Path(folder) / f"{name}.pt")


def test_resuming_is_exact_on_two_ranks_as_well(tmp_path):
    together(2, train_and_resume, str(tmp_path))
    whole, parts = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def evaluate_all(folder):
    task = Table(words=4, steps=4, rule=True)
    policy = make_policy(task.sizes, Shape(head="vocabulary", **TINY))
    policy.load_state_dict(tiny_policy(Shape(head="vocabulary", **TINY), task.sizes, scale=3.0).float().state_dict())
    found = evaluate(policy, task, "train", torch.device("cpu"), size=5, show=3)
    nll = reference_nll(policy, task, "train", torch.device("cpu"), size=5)
    torch.save({"rows": found.rows["reward"].tolist(), "nll": nll.tolist(), "shown": found.shown, "scores": found.scores},
               Path(folder) / f"{dist.world()}-{dist.rank()}.pt")


def finished_unseen(folder):
    """A finished run again, on ranks of which the second first sees its checkpoint late, as over a network."""
    is_file, blind = Path.is_file, [one for one in (folder / "runs" / "sort").rglob("model.json") if dist.rank() == 1]
    Path.is_file = lambda path: is_file(path) and not (path in blind and not blind.remove(path))
    Trainer.run = None                                                   # nothing is trained, by none
    setup = tiny(folder)
    assert experiment.done(setup, pretrain.pretrain(setup), own=True).cost["updates"] == 3 and not blind


def test_a_rank_that_sees_a_finished_checkpoint_late_does_as_the_first(tmp_path):
    setup = tiny(tmp_path)
    experiment.done(setup, pretrain.pretrain(setup), own=True)
    together(2, finished_unseen, tmp_path)


def test_evaluation_shared_by_ranks_is_the_same_to_the_last_bit_on_each(tmp_path):
    together(2, evaluate_all, str(tmp_path))
    evaluate_all(tmp_path)
    alone, *shared = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert len(alone["shown"]) == 3 and all(one == alone for one in shared)


def lose_one(folder):
    """Rank 1 is killed at its third update; rank 0 writes down how it ended, and when."""
    one = exact(("reinforce", {}), Path(folder) / "run", [], updates=50, every=2)
    if dist.rank() == 1:
        one.env.load = lambda batch, load=one.env.load: os.kill(os.getpid(), signal.SIGKILL) if one.cost.updates == 3 else load(
            batch)
    try:
        one.run()
    except dist.Lost as error:
        (Path(folder) / "said").write_text(str(error))
        raise


def test_a_rank_that_dies_ends_the_others_within_seconds_in_words(tmp_path):
    group = together(2, lose_one, str(tmp_path), wait=False)
    killed = group.processes[1]
    killed.join(60)
    died = time.monotonic()
    assert killed.exitcode == -signal.SIGKILL
    group.processes[0].join(60)
    assert group.processes[0].exitcode not in (0, None) and time.monotonic() - died < 20, "a busy machine; alone about 0.1 s"
    said = (tmp_path / "said").read_text()
    assert said.startswith("another rank has ended (") and "the same command continues from the last checkpoint" in said
    one = exact(("reinforce", {}), tmp_path / "run", [], updates=50, every=2)
    one.run(until=4)
    assert [point["updates"] for point in one.curve] == [2, 4], "it goes on, and on one rank"


RELATIVE = {"head": "copy", "pointing": "relative"}                  # its gain is one number, [1] where it is shared out


def train_sharded(folder, name, when, product, shape):
    """Four updates with or without shards each, resumed in between. In float32 as well, where products are oneDNN's."""
    os.environ["RLSEQ_PRODUCT"] = product
    task = tasks.make("sort", {"head": "copy", "max_length": 6}) if shape else None
    for number, shard in enumerate(when, 1):
        one = exact((name, {"decoder_layers": 2, **shape}), Path(folder) / "run", log := [], updates=4 * len(when), task=task)
        if product == "onednn":
            one.policy, one.algorithm = one.policy.float(), one.algorithm.float()
        one.shard, one.accumulate = shard, 2
        one.run(until=4 * number)
    kept(one, log, Path(folder) / "found.pt")


@pytest.mark.parametrize(("name", "product", "shape", "given"), [
    ("ppo", "plain", {}, [True, True]), ("mle", "plain", {}, [True, True]), ("mle", "onednn", {}, [True, False]),
    ("mle", "onednn", RELATIVE, [False, True, False])])
def test_sharded_parameters_learn_what_whole_ones_do(name, product, shape, given, tmp_path):
    for when in (given, [False] * len(given)):
        together(2, train_sharded, str(tmp_path / str(any(when))), name, when, product, shape)
    whole, sharded = (torch.load(tmp_path / str(shard) / "found.pt") for shard in (False, True))
    if product == "plain":
        alike(whole, sharded, name)
    losses = [[values["loss"] for _, values in one["log"] if "loss" in values] for one in (whole, sharded)]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], abs=1e-4)   # float32: also of biases without gradient


@pytest.mark.parametrize(("ranks", "decoder", "said"), [(1, "transformer", "there is one; start with torchrun"), (
    2, "lstm", "this policy has encoder=transformer, decoder=lstm")])
def test_what_cannot_be_sharded_is_refused(ranks, decoder, said):
    with pytest.raises(ValueError, match=f"shard=true .*{said}"):
        shards.check(ranks, "transformer", decoder)


COMMAND = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rlseq.run",
           "task=sort", "algo=mixer", "plan=smoke", "plan.pretrain.updates=60", "plan.pretrain.every=6", "tracking=none",
           "policy.width=16", "policy.feedforward=16", "device=cpu"]


def process_of_rank(number, torchrun):
    """The process id of a rank, by what torchrun put into its environment; None while there is none."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"\nPPid:\t{torchrun.pid}\n" in (entry / "status").read_text():
                if f"\0RANK={number}\0".encode() in b"\0" + (entry / "environ").read_bytes():
                    return int(entry.name)
        except OSError:
            continue                                                    # gone meanwhile
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_torchrun_loses_a_rank_ends_in_one_line_and_the_same_command_goes_on(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(COMMAND, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("runs/pretrained/*/last*.json")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    os.kill(process_of_rank(1, first), signal.SIGKILL)
    died = time.monotonic()
    _, told = first.communicate(timeout=120)
    assert first.returncode != 0 and time.monotonic() - died < 40, "a busy machine; alone about a second"
    ours = [line for line in told.replace("\r", "\n").splitlines() if line.startswith("rlseq: ")]
    assert len(ours) == 1 and "another rank has ended" in ours[0], told
    second = subprocess.run(COMMAND, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("result ") == 1, "of the ranks one prints"
    result = json.loads(next(tmp_path.glob("runs/smoke/sort-v0/*/mixer/0.json")).read_text())
    assert [point["updates"] for point in result["curve"] if point["stage"] == "pretrain"] == list(range(6, 61, 6))
    diary = [json.loads(line)["step"] for path in tmp_path.glob("runs/pretrained/*/metrics.jsonl")
             for line in path.read_text().splitlines() if '"loss"' in line]
    assert diary == list(range(1, 61)), "written by one rank, and no step twice"
