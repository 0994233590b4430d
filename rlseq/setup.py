"""A composed configuration, checked: every part is built before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from . import __version__, algos, tasks, tracking
from .build import build, nearest
from .env import Earned
from .evaluate import NLL, Decoding, Evaluation, evaluate, reference_nll, splits
from .nn.policy import Policy, Shape, make_policy
from .provenance import revision
from .task import Task
from .train import Stage, precision_context, seed_step

KEYS = ("policy", "task", "algo", "plan", "tracking", "seed", "device", "precision", "pretrained", "compare", "results",
        "runs", "tests", "decode", "cuda_graphs", "controls", "beams", "reward_limit")


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
        raise ValueError(f"device={name} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no GPU; take device=cpu, or install a CUDA build of torch")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))           # torchrun's; one GPU a rank
    torch.cuda.set_device(device)
    return device


def check(config: dict[str, object], names: Mapping[str, str]) -> Setup:
    """Build all parts of a configuration; raises ValueError or KeyError, one line, before anything is written."""
    for name in config:
        if name not in KEYS:
            raise ValueError(f"unknown option {name}={config[name]}{nearest(name, list(KEYS))}; there are: {', '.join(KEYS)}")
    plan = dict(config["plan"])
    for name in plan:
        if name not in ("name", "pretrain", "finetune", "test"):
            raise ValueError(f"unknown option plan.{name}{nearest(name, ['pretrain', 'finetune', 'test'])}; "
                             "plan takes: pretrain, finetune, test")
    if not isinstance(config["seed"], int) or isinstance(config["seed"], bool) or config["seed"] < 0:
        raise ValueError(f"seed={config['seed']!r} must be a whole number, 0 or more")
    if config["precision"] not in ("fp32", "bf16"):
        raise ValueError(f"precision={config['precision']} is not one of fp32, bf16")
    device = pick_device(config["device"])
    if not isinstance(config["cuda_graphs"], bool):
        raise ValueError(f"cuda_graphs={config['cuda_graphs']!r} is not one of true, false")
    if config["cuda_graphs"] and device.type != "cuda":
        raise ValueError(f"cuda_graphs=true needs device=cuda, and this run is on the {device.type}; leave it false")
    tracking.check(config["tracking"]["uri"])
    shape = build(Shape, config["policy"], "policy")
    options = dict(config["task"])
    name = str(options.pop("name"))
    heads = tasks.task_class(name).heads
    if shape.head not in heads:
        raise ValueError(f"policy={names['policy']} has a {shape.head} head, which does not fit task={name}; "
                         f"take a policy with one of: {', '.join(heads)}")
    task = tasks.make(name, options)
    widths = config["beams"]
    if not isinstance(widths, list) or any(not isinstance(one, int) or isinstance(one, bool) or one < 1 for one in widths):
        raise ValueError(f"beams={widths!r} must be a list of beam widths of 1 or more, such as [1,2,4,8]; [] for none")
    if not isinstance(plan["test"], int) or plan["test"] < 0:
        raise ValueError(f"plan.test={plan['test']!r} must be a number of examples of each test split, 0 for all")
    tests = [config["tests"]] if isinstance(config["tests"], str) else config["tests"]
    if not isinstance(tests, list):
        raise ValueError(f"tests={tests!r} must be a list of test splits, such as [headline]")
    finetune = build(Stage, plan["finetune"], "plan.finetune")
    if finetune.label_smoothing:
        raise ValueError("plan.finetune.label_smoothing has no effect; set algo.label_smoothing")
    tests = splits(task, tests)
    for split in ("train", "dev", *tests):
        if not len(task.examples(split)):
            raise ValueError(f"split {split} of task {name} is empty; look at task.data and task.path")
    algorithm = algos.make(config["algo"])
    algorithm.suits(task)
    return Setup(config, names, task, shape, algorithm, build(Stage, plan["pretrain"], "plan.pretrain"),
                 finetune, build(Decoding, config["decode"], "decode"), tests, device, plan["test"])


def fresh(setup: Setup) -> Policy:
    """A policy with the initial weights of this seed."""
    seed_step(setup.seed, "weights")
    return make_policy(setup.task.sizes, setup.shape).to(setup.device)


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
            "shape": asdict(setup.shape)}
