"""A composed configuration, checked: every part is built before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from . import __version__, algos, memory, results, shards, tasks, tracking
from .build import MOST_SEED, build, nearest, shown
from .env import Earned
from .evaluate import NLL, WIDEST, Decoding, Evaluation, evaluate, reference_nll, splits
from .nn.policy import Policy, Shape, make_policy
from .printable import printable
from .provenance import revision
from .task import Task
from .train import Stage, precision_context, seed_step

KEYS = ("policy", "task", "algo", "plan", "tracking", "seed", "device", "precision", "pretrained", "compare", "results",
        "runs", "tests", "decode", "cuda_graphs", "controls", "accumulate", "shard", "beams", "reward_limit", "resume")

GROUPS = {"plan": ("pretrain", "finetune", "test"), "tracking": ("uri",), "task": (), "algo": ()}     # () others check
MOST_EXAMPLES = 10**9


@dataclass(frozen=True)
class Setup:
    """A checked configuration; everything a run needs, nothing trained yet."""

    config: dict[str, object]
    names: Mapping[str, str]             # of the chosen task, policy, algo, plan
    task: Task
    shape: Shape
    algorithm: algos.Algorithm
    pretrain: Stage
    finetune: Stage
    decoding: Decoding
    tests: list[str]
    device: torch.device
    test: int                            # examples of each test split
    control: Earned = "own"              # what stands in for the reward while training, in a control

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def runs(self) -> Path:
        return Path(self.config["runs"])


def pick_device(name: str) -> torch.device:
    """auto, cpu or cuda; raises ValueError where there is no such device."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={shown(name)} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no GPU; take device=cpu, or install a CUDA build of torch")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()          # torchrun's; one GPU a rank
    if number >= count:
        raise ValueError(f"rank {number} has no GPU of its own, this machine has {count}; take --nproc-per-node {count}")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def check(config: dict[str, object], names: Mapping[str, str], tested: bool = True, made: Task | None = None) -> Setup:
    """Build all parts of a configuration; raises ValueError or KeyError, one line, before anything is written.

    Unless it is `tested` it has no test splits, and no problem of one is answered. `made` is its task where it was made before.
    """
    _check_keys(config, KEYS)
    for group, known in GROUPS.items():
        _check_keys(config[group], known, group)
    for name in names.values():
        results.check_name(name)
    device, plan = pick_device(config["device"]), config["plan"]
    _check_values(config, device)
    tracking.check(config["tracking"]["uri"])
    shape = build(Shape, config["policy"], "policy")
    if config["shard"]:
        shards.check(int(os.environ.get("WORLD_SIZE", "1")), shape.encoder, shape.decoder)
    options = dict(config["task"])
    name = str(options.pop("name", None))
    heads = tasks.task_class(name).heads
    if shape.head not in heads:
        raise ValueError(f"policy={names['policy']} has a {shape.head} head, which does not fit task={name}; "
                         f"take a policy with one of: {', '.join(heads)}")
    if options.get("head", shape.head) != shape.head:
        raise ValueError(f"task.head={shown(options['head'])} must be policy.head={shape.head}; leave task.head out")
    task = made or tasks.make(name, options)
    results.check_name(task.name)
    finetune = build(Stage, plan["finetune"], "plan.finetune")
    for option in ("label_smoothing", "consistency"):
        if getattr(finetune, option):
            raise ValueError(f"plan.finetune.{option} has no effect; set algo.{option} of what takes it, such as algo=mle")
    pretrain, decoding = build(Stage, plan["pretrain"], "plan.pretrain"), build(Decoding, config["decode"], "decode")
    for kind, stage in (("pretrain", pretrain), ("finetune", finetune)):
        if stage.subword_dropout and not task.has_subwords:
            raise ValueError(f"plan.{kind}.subword_dropout={stage.subword_dropout} cuts sources into other subwords, but "
                             f"task={name} has none; leave it out")
    algorithm = algos.make(config["algo"])
    algorithm.suits(task)
    for part, price in (("plan.pretrain", pretrain.consistency), ("algo", getattr(algorithm, "consistency", 0.0))):
        if price and not shape.dropout:
            raise ValueError(f"{part}.consistency={price} is the price of what two draws of dropout differ in, and "
                             "policy.dropout=0 draws none; leave one of them out")
    tests = splits(task, [config["tests"]] if isinstance(config["tests"], str) else config["tests"]) if tested else []
    for split in ("train", "dev", *tests):                               # last, for it may read for long
        if not len(task.examples(split)):
            raise ValueError(f"split {split} of task {name} is empty; look at task.data and task.path")
    return Setup(config, names, task, shape, algorithm, pretrain, finetune, decoding, tests, device, plan["test"])


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check_keys(given: object, known: Sequence[str], group: str = "") -> None:
    """Raises ValueError unless all options of a group are given and no other; where none are known, unless it is a group."""
    where, takes = (f"{group}.", f"{group} takes") if group else ("", "there are")
    if not isinstance(given, Mapping):
        raise ValueError(f"{group}={shown(given)} is a group of options, such as {where}{known[0] if known else 'NAME'}=VALUE")
    for name in given if known else ():
        if name not in known:
            raise ValueError(f"unknown option {where}{name}={printable(str(given[name]))}{nearest(str(name), list(known))}; "
                             f"{takes}: {', '.join(known)}")
    for name in known:
        if name not in given:
            raise ValueError(f"{where}{name} must be given; {takes}: {', '.join(known)}")


def _check_values(config: Mapping[str, object], device: torch.device) -> None:
    """Raises ValueError for what an option that stands alone cannot be."""
    for name, value, nothing in (("results", config["results"], False), ("runs", config["runs"], False), (
            "pretrained", config["pretrained"], True), ("tracking.uri", config["tracking"]["uri"], True)):
        if not (isinstance(value, str) and value.strip() and "\0" not in value) and not (nothing and value is None):
            raise ValueError(f"{name}={shown(value)} names no place; give a path{' or null' if nothing else ''}")
    if not _whole(config["seed"], 0, MOST_SEED):
        raise ValueError(f"seed={shown(config['seed'])} must be a whole number from 0 to {MOST_SEED}")
    if not _whole(config["accumulate"], 1, MOST_EXAMPLES):
        raise ValueError(f"accumulate={shown(config['accumulate'])} must be a whole number from 1: the slices in which a rank "
                         "scores its part of a batch")
    if config["precision"] not in ("fp32", "bf16"):
        raise ValueError(f"precision={shown(config['precision'])} is not one of fp32, bf16")
    if config["resume"] not in ("never", "auto", "must"):
        raise ValueError(f"resume={shown(config['resume'])} is not one of never, auto, must")
    for name in ("cuda_graphs", "shard"):
        if not isinstance(config[name], bool):
            raise ValueError(f"{name}={shown(config[name])} is not one of true, false")
    if config["cuda_graphs"] and device.type != "cuda":
        raise ValueError(f"cuda_graphs=true needs device=cuda, and this run is on the {device.type}; leave it false")
    widths, test = config["beams"], config["plan"]["test"]
    if not isinstance(widths, list) or not all(_whole(one, 1, WIDEST) for one in widths):
        raise ValueError(f"beams={shown(widths)} must be a list of beam widths from 1 to {WIDEST}, such as [1,2,4,8]; [] for "
                         "none")
    if not _whole(test, 0, MOST_EXAMPLES):
        raise ValueError(f"plan.test={shown(test)} must be a number of examples of each test split, from 0, for all, to "
                         f"{MOST_EXAMPLES}")
    if not isinstance(config["tests"], str | list):
        raise ValueError(f"tests={shown(config['tests'])} must be a list of test splits, such as [headline]")


def fresh(setup: Setup) -> Policy:
    """A policy with the initial weights of this seed. Raises ValueError where its weights alone exceed the memory."""
    sizes = setup.task.sizes
    with torch.device("meta"):                                        # counted before it is made
        weights = sum(one.numel() for one in make_policy(sizes, setup.shape).parameters())
    if 4 * weights > (held := memory.of(setup.device)):
        raise ValueError(f"policy={setup.names['policy']} with these options has {weights:.3g} weights, that is "
                         f"{4 * weights / 2**30:.3g} GiB, and there are {held / 2**30:.3g} GiB of memory; lower policy.width "
                         "or the numbers of layers")
    seed_step(setup.seed, "weights")
    return make_policy(sizes, setup.shape).to(setup.device)


def judge(setup: Setup, stage: Stage) -> Callable[[Policy], float]:
    """Policy -> score of the primary metric on dev, decoded greedily."""
    primary = next(iter(setup.task.metrics))
    return lambda policy: evaluate(policy, setup.task, "dev", setup.device, limit=stage.dev, metrics=[primary]).scores[primary]


def test(setup: Setup, policy: Policy) -> dict[str, Evaluation]:
    """Every test split, decoded; the likelihood of its references is among the scores."""
    found = {}
    for split in setup.tests:
        one = decoded(setup, policy, split, setup.decoding, show=8)
        with precision_context(setup.device, setup.config["precision"]):
            rows = reference_nll(policy, setup.task, split, setup.device, limit=setup.test)
        found[split] = replace(one, rows=one.rows | {"nll": rows}, scores=one.scores | {"nll": NLL.score(rows.sum(0))})
    return found


def decoded(setup: Setup, policy: Policy, split: str, decoding: Decoding, limit: int = 0, show: int = 0,
            metrics: Sequence[str] | None = None) -> Evaluation:
    """One split, or its first `limit` examples, decoded; all policies that sample see the same random numbers."""
    seed_step(setup.seed, "test", split)
    with precision_context(setup.device, setup.config["precision"]):
        return evaluate(policy, setup.task, split, setup.device, decoding, limit=limit or setup.test, show=show,
                        metrics=metrics)


def about(setup: Setup) -> dict[str, object]:
    """What `rlseq.predict` needs to rebuild task and policy without the training data."""
    options = {key: value for key, value in setup.config["task"].items() if key != "name"}
    return {"rlseq": __version__, "commit": revision(), "task": setup.task.name, "task_version": setup.task.version,
            "task_options": options, "task_state": setup.task.state(), "sizes": asdict(setup.task.sizes),
            "shape": setup.shape.facts}
