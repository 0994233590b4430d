"""What the laws are shown on: a task whose answers can be counted, small policies, every YAML of conf/."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import torch
import yaml
from torch import Tensor, nn

from rlseq import algos, tasks
from rlseq.build import build, names
from rlseq.env import SequenceEnv
from rlseq.exact import all_answers, log_probability
from rlseq.exact import gradient as gradient  # the tests' own, by one name
from rlseq.lab.problems import none_twice_running
from rlseq.nn.policy import Policy, Shape, make_policy
from rlseq.paths import CONF
from rlseq.task import Mean, Task, prefixes, problem_rows
from rlseq.types import STOP, Batch, Sizes, pad

TINY = {"width": 8, "heads": 2, "feedforward": 12, "dropout": 0.0, "encoder_layers": 1, "decoder_layers": 1}


def configured(group: str) -> dict[str, dict[str, object]]:
    """Every YAML file of conf/<group>: name -> options."""
    found = {path.stem: yaml.safe_load(path.read_text()) or {} for path in sorted((CONF / group).glob("*.yaml"))}
    return {name: {key: value for key, value in options.items() if key != "defaults"} for name, options in found.items()}


@cache
def task_for(name: str, head: str) -> Task:
    """A task with its default options, made once for all laws."""
    return tasks.make(name, {"head": head})


def fits(options: dict[str, object], task: str) -> bool:
    """Whether a YAML of conf/policy fits a task."""
    head = str(options["head"])
    if head not in tasks.task_class(task).heads:
        return False
    return options.get("pointing") != "relative" or task_for(task, head).sizes.coordinates == {"pointer": 2, "copy": 1}[head]


def tiny_shape(options: dict[str, object]) -> Shape:
    """A policy's YAML at a width that a law can afford; what is not width stays as it is."""
    known = {one.name for one in fields(Shape)}
    assert set(options) <= known, f"conf/policy holds options that Shape lacks: {set(options) - known}"
    layers = {name: min(2, int(options.get(name, 1))) for name in ("encoder_layers", "decoder_layers")}
    return build(Shape, {**options, **TINY, **layers}, where="policy")


def tiny_policy(shape: Shape, sizes: Sizes, seed: int = 0, scale: float = 1.0) -> Policy:
    """A small policy in float64, out of training mode; `scale` widens the parameters, so that nothing is near uniform."""
    torch.manual_seed(seed)
    policy = make_policy(sizes, shape).double().eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(scale).add_(0.1 * torch.randn_like(parameter))
    return policy


def algorithm_of(name: str, policy: Policy, changes: dict[str, object]) -> algos.Algorithm:
    """conf/algo/<name>.yaml in float64 with those `changes` that the algorithm has an option for."""
    options = configured("algo")[name]
    known = names(algos.kind_of(str(options["kind"])))
    made = algos.make({**options, **{key: value for key, value in changes.items() if key in known}})
    torch.manual_seed(1)
    made.prepare(policy)
    return made.double()


def is_sampler(name: str) -> bool:
    """Whether the algorithm draws answers of its own (it takes the options of `Sampling`)."""
    return "off_policy" in names(algos.kind_of(str(configured("algo")[name]["kind"])))


class Table(Task):
    """Problem i: a few ids. The worth of every answer stands in a table of random multiples of 1/64.

    Such rewards, their sums and their halves are exact in float32, so an identity may be asked for to 1e-8. With
    `rule`, STOP must not come first and no word may follow itself. `same` makes every answer worth as much.
    """

    name, version, heads, reward_name = "table", 0, ("vocabulary",), "table"
    tests = ("test",)

    def __init__(self, words: int = 3, steps: int = 3, rule: bool = False, same: float | None = None,
                 head: str = "vocabulary") -> None:
        self.words, self.steps, self.rule, self.head = words, steps, rule, head
        size = (32, (words + 1) ** steps)
        worth = torch.randint(0, 65, size, generator=torch.Generator().manual_seed(5)) / 64
        self.worth = worth if same is None else torch.full(size, same)
        self.metrics = {"reward": Mean("table", self.reward)}

    sizes = property(lambda self: Sizes(source_ids=8, vocabulary=self.words))
    fingerprint = property(lambda self: f"{self.words} {self.steps} {self.rule}")

    def examples(self, split: str) -> list[int]:
        return {"train": list(range(0, 24)), "dev": list(range(24, 28)), "test": list(range(28, 32))}[split]

    def collate(self, examples: list[int]) -> Batch:
        source, source_mask = pad([[i % 8, i // 8, (3 * i + 1) % 8][:1 + i % 3] for i in examples])
        target, target_mask = pad([self.reference(i) for i in examples])
        return Batch(source, source_mask, target, target_mask, self.words, {"problem": torch.tensor(examples)}, tuple(examples))

    def reference(self, example: int) -> list[int]:
        """Words in turn, of several lengths; never one twice in a row."""
        count = 1 + example % (self.steps - 1) if self.words > 2 else 1
        return [*(1 + (example + t) % (self.words - 1) for t in range(count)), STOP]

    def length(self, example: int) -> int:
        """Says little of the reference's length, so that the two halves of a batch hold unequal numbers of tokens."""
        return 2 + example % 2

    def horizon(self, batch: Batch) -> int:
        return self.steps

    def legal(self, batch: Batch, prefix: Tensor) -> Tensor | None:
        return none_twice_running(prefix, self.words) if self.rule else None

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        place = (self.words + 1) ** torch.arange(actions.shape[1])
        code = ((actions + 1) * mask * place).sum(1)
        return self.worth[batch.extra["problem"][problem_rows(batch, len(actions))], code]

    has_prefix_reward = True

    def prefix_reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        return prefixes(self.reward, batch, actions, mask)

    def parse(self, line: str) -> int:
        return int(line)

    def answer(self, batch: Batch, actions: Tensor, row: int) -> str:
        return " ".join(map(str, actions[row].tolist()))

    show = answer


def loaded(task: Task, examples: list) -> SequenceEnv:
    """The task's environment with these problems."""
    env = SequenceEnv(task)
    env.load(task.collate(examples))
    return env


def setting(rule: bool = False, steps: int = 2, problem: int = 4, words: int = 3, shape: str = "lstm",
            coarse: bool = False) -> tuple[Table, SequenceEnv, Policy]:
    """One problem of a table and a policy for it; `coarse` rewards are so few that many answers tie."""
    task = Table(words=words, steps=steps, rule=rule)
    if coarse:
        task.worth = (task.worth * 3).round() / 4
    options = {"head": "vocabulary", **({"encoder": "lstm", "decoder": "lstm"} if shape == "lstm" else {})}
    return task, loaded(task, [problem]), tiny_policy(tiny_shape(options), task.sizes)


def made(kind: str, policy: Policy, **options: object) -> algos.Algorithm:
    """An algorithm in float64, its critic's weights arbitrary: one that says 0 would hide its mistakes."""
    algorithm = algos.make({"kind": kind, **options})
    torch.manual_seed(1)
    algorithm.prepare(policy)
    for parameter in algorithm.value.parameters() if hasattr(algorithm, "value") else ():
        nn.init.normal_(parameter, std=0.3)
    return algorithm.double()


def answers_of(task: Task, env: SequenceEnv, policy: Policy) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every answer to the one problem: actions and mask [M, T], log p [M] with gradient, reward [M] in float64."""
    actions, mask = all_answers(task, env.batch)
    return actions, mask, log_probability(policy, env, actions, mask), task.reward(env.batch, actions, mask).double()
