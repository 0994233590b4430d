"""The trainer. All randomness of a step follows from (seed, step, rank): resuming is exact."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from . import dist, journal, memory, shards, stopping
from .algos import Algorithm
from .batches import Ahead, Batches
from .checkpoint import differences, packed, read_newest, unpacked, write_numbered
from .descent import Descent, Learner, averaged
from .diagnostics import Probe, gradient_signal, weighing
from .env import SequenceEnv
from .files import settle
from .nn.policy import Policy
from .parts import fitted, in_parts
from .progress import progress
from .stage import Cost, Stage
from .types import Rollout


def seed_step(*parts: object) -> None:
    """Seed torch from anything printable, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "big"))


def precision_context(device: torch.device, precision: str):
    """Autocast to bf16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@dataclass
class Trainer:
    """Trains a policy with an algorithm for one stage, and keeps the weights that did best on dev.

    `judge(policy) -> float` scores dev; `log(step, values)` receives metrics; `folder` holds the checkpoints of a run
    under way, from which `run` resumes if they agree on `identity`, and its diary (`metrics.jsonl`). A `probe` looks at the
    policy before training and at every look; then `policy` must hold its first weights when a run resumes, too.
    """

    policy: Policy
    algorithm: Algorithm
    env: SequenceEnv
    stage: Stage
    name: str
    seed: int
    judge: Callable[[Policy], float]
    folder: Path
    precision: str = "fp32"
    log: Callable[[int, dict[str, float]], None] = lambda step, values: None
    cost: Cost = field(default_factory=Cost)
    curve: list[dict[str, object]] = field(default_factory=list)
    best: tuple[float, dict[str, Tensor]] | None = None
    recent: list[dict[str, Tensor]] = field(default_factory=list)
    heard: list[dict[str, float]] = field(default_factory=list)       # what the updates since the last look said
    probe: Probe | None = None
    diagnostics: dict[str, dict[str, float]] = field(default_factory=dict)    # {name: {"before", "after"}}, once chosen
    candidates: dict[str, dict[str, Tensor]] = field(default_factory=dict)     # last, best and averaged weights, once chosen
    accumulate: int = 1               # slices of a rank's problems whose gradients add up to one step's
    shard: bool = False               # whether ranks share out what is trained
    parts: int = 1                    # in which answers are drawn; more from when memory runs out on
    identity: dict[str, object] = field(default_factory=dict)         # flat: what a checkpoint to go on from must agree on

    def run(self, resume: bool = True, until: int | None = None) -> None:
        """Train to the end of the stage (or to the collection that reaches update `until`), then leave the policy with the
        best weights on dev. Raises `Stopped` after a signal, when a checkpoint holds what was done."""
        device, stage = self.env.device, self.stage
        memory.keep()
        seed_step(self.seed, self.name, "prepare")
        self.algorithm.prepare(self.policy)
        self.learner = Learner(self.policy, self.algorithm).to(device)
        self.trained = shards.twin(self.learner) if self.shard else self.learner
        self.optimiser = torch.optim.AdamW(self.trained.parameters(), lr=stage.lr, betas=(0.9, 0.98), eps=1e-9,
                                           weight_decay=stage.weight_decay, fused=True)
        self.probed()
        self.saved, self.row = self.cost.updates, 0                      # update of the last checkpoint; of steps left out
        if resume:
            self.load()
        path, looked = self.folder / journal.NAME, not self.due()
        self.journal = journal.Journal(path, self.cost.updates, looked) if dist.rank() == 0 else None
        if self.probe is not None and self.probe.begun:
            (self.log if self.cost.updates else self.tell)(0, self.probe.begun)          # what `log` feeds may be new
        dist.like_first([*self.learner.parameters(), *self.learner.buffers()])
        if self.shard:
            shards.hand_out(self.learner, self.trained)
        self.descent = Descent(self.trained, self.optimiser, lambda: precision_context(device, self.precision), stage.clip,
                               self.accumulate, self.row, self.shard)
        try:
            with nullcontext() if dist.world() == 1 else stopping.held():        # one rank alone must not leave the others
                self.train(min(stage.updates, until or stage.updates))
            if self.cost.updates == stage.updates:
                self.choose()
                self.diagnostics = {name: {"before": self.probe.begun.get(name), "after": value}
                                    for name, value in self.probed().items()}
        except stopping.Stopped:
            if self.cost.updates > self.saved:
                with stopping.later():
                    self.save()
            raise

    def train(self, stop: int) -> None:
        """Updates up to the collection that reaches `stop`, with a look wherever one is due."""
        stage, kind = self.stage, "pretrain" if self.name == "pretrain" else "finetune"  # all algorithms see the same problems
        batches = Batches(self.env.task, stage.batch, stage.batch_tokens, _number(self.seed, kind), stage.subword_dropout)
        with closing(Ahead(batches, stop, self.algorithm.passes)) as ahead, progress(
                stage.updates, self.name, "update", self.cost.updates, shown=dist.rank() == 0) as bar:
            self.env.whence = ahead.whence
            while True:
                if self.due():
                    self.look()
                if self.cost.updates >= stop:
                    break
                before = self.cost.updates
                with self.undivided():
                    found = self.update(ahead)
                bar.update(self.cost.updates - before)
                bar.set_postfix({name: f"{found[name]:.3f}" for name in ("reward", "nll", "penalty", "rate") if name in found}
                                | ({"dev": f"{self.curve[-1]['dev']:.2f}"} if self.curve else {}), refresh=False)

    def undivided(self) -> AbstractContextManager[None]:
        """What stands in here is finished on all ranks before a signal ends the run."""
        return stopping.later(lambda asked: dist.anywhere(asked, self.env.device))

    def due(self) -> bool:
        """Whether updates were made on which dev was not scored yet, and should be; a resumed run asks this, too."""
        now, before = self.cost.updates, self.curve[-1]["updates"] if self.curve else 0
        return before < now and (before // self.stage.every < now // self.stage.every or now == self.stage.updates)

    def probed(self) -> dict[str, float]:
        """What the probe says of the policy as it is, if there is one."""
        if self.probe is None or dist.rank() > 0:
            return {}
        self.policy.eval()
        with precision_context(self.env.device, self.precision):
            return self.probe(self.policy)

    def tell(self, step: int, values: dict[str, float]) -> None:
        """Write values down, here and wherever `log` does."""
        if self.journal is not None:
            self.journal.add(step, values)
        self.log(step, values)

    def update(self, batches: Callable[[int], Sequence]) -> dict[str, float]:
        """Collect answers and take the algorithm's gradient steps on them: `passes`, fewer at the end of the stage or where
        it has had enough. The problems are those of its first step; ranks share them out."""
        step, start, self.env.spent = self.cost.updates, time.perf_counter(), 0.0
        examples = batches(step)
        share = dist.shared_out(len(examples))
        batch = self.env.task.collate(examples)                          # all of them, so that ranks pad alike
        self.env.load(batch if dist.world() == 1 else batch.rows(share.held.start, share.held.stop))
        with dist.sharing(share):
            rollout = self.collect(step)
            seen = averaged(rollout.log | (weighing(rollout) if self.algorithm.weighs else {}), self.env.device)
            self.cost.sampled_tokens += int(seen.pop("sampled_tokens", 0.0))
            before = self.cost.seconds
            for number in range(min(self.algorithm.passes, self.stage.updates - step)):
                found = self.descend(rollout, number)
                if found is None:
                    break
                self.cost.seconds, start = self.cost.seconds + time.perf_counter() - start, time.perf_counter()
                seen |= found | {"sampled_tokens": self.cost.sampled_tokens, "scored_tokens": self.cost.scored_tokens,
                                 "seconds": self.cost.seconds}
                seen |= {"reward_share": self.env.spent / (self.cost.seconds - before)} if self.env.spent else {}
                self.heard.append(dict(seen))
                self.tell(self.cost.updates, self.heard[-1])
        if self.shard:
            shards.hand_back(self.trained, self.learner)
        self.cost.seconds += time.perf_counter() - start
        return seen

    def collect(self, step: int) -> Rollout:
        """The algorithm's answers to the loaded problems; in parts from when memory runs out on."""
        buffers, heard = list(self.algorithm.buffers()), []
        kept = [one.clone() for one in buffers]
        self.learner.eval()

        def attempt(number: int) -> Rollout:
            for one, before in zip(buffers, kept, strict=True):
                one.copy_(before)
            seed_step(self.seed, self.name, step)                        # the same draw on every rank: each takes its share
            with in_parts(number), dist.again(heard), precision_context(self.env.device, self.precision):
                return self.algorithm.collect(self.policy, self.env, step / max(1, self.stage.updates))
        with torch.no_grad():
            rollout, self.parts = fitted(attempt, self.parts, len(self.env.batch), f"{self.name} update {step}, collecting")
        return rollout

    def descend(self, rollout: Rollout, number: int) -> dict[str, float] | None:
        """Gradient step `number` on collected answers; None, and no step, where after the first the algorithm has had
        enough. One whose gradient is not finite is left out and counted."""
        step, part = self.cost.updates, self.algorithm.part(rollout, number)
        real = len(part.batch) > 0 and dist.own(1).count > 0             # else one that counts for nothing stands in
        what, rate = f"{self.name} update {step}", self.stage.rate(step)
        self.trained.train(self.algorithm.dropout)
        found = self.descent.gradient(part if len(part.batch) else rollout.slice(0, 1), real,
                                      lambda: seed_step(self.seed, self.name, step, dist.rank() + 1), what)
        self.cost.scored_tokens += int(found.pop("tokens"))
        if number and self.algorithm.enough(found):
            return None
        norm = self.descent.step(found["loss"], rate, what)
        self.cost.updates += 1
        if norm is not None:
            return {"loss": found.pop("loss"), "gradient_norm": norm, **found, "learning_rate": rate}
        self.cost.skipped += 1
        finite = {name: value for name, value in found.items() if math.isfinite(value)}
        return {**finite, "loss": found["loss"], "learning_rate": rate, "skipped": self.cost.skipped}

    def look(self) -> None:
        """Score dev, keep the weights if they are the best so far, write a checkpoint."""
        self.policy.eval()
        with precision_context(self.env.device, self.precision):
            score = self.judge(self.policy)
        signs = {"dev": score, "skipped": self.cost.skipped, **gradient_signal(self.optimiser, self.policy.parameters()),
                 **self.probed()}
        with self.undivided():
            state = {name: value.detach().cpu().clone() for name, value in self.policy.state_dict().items()}
            if self.best is None or score > self.best[0]:
                self.best = (score, state)
            self.recent = [*self.recent, state][-self.stage.average:]
            self.curve.append({"stage": self.name, **asdict(self.cost), "loss": self.heard[-1]["loss"], "reward": None,
                               **journal.means(self.heard), **signs})
            self.heard = []
            self.tell(self.cost.updates, signs)
            if self.cost.updates > self.saved:                           # else a stop left one here, perhaps the only one
                self.save()

    def choose(self) -> None:
        """Leave the policy with the best weights on dev; the average of the last ones is a candidate. All are kept."""
        if self.best is None:
            return
        self.candidates = {"last": self.recent[-1], "best": self.best[1]}
        if len(self.recent) > 1:
            mean = {name: torch.stack([one[name].double() for one in self.recent]).mean(0).to(value.dtype)
                    for name, value in self.recent[0].items()}
            self.candidates["averaged"] = mean
            self.policy.load_state_dict(mean)
            with precision_context(self.env.device, self.precision):
                score = self.judge(self.policy)
            if score > self.best[0]:
                self.best = (score, mean)
        self.policy.load_state_dict(self.best[1])

    def save(self) -> None:
        """Write a checkpoint of the run under way; `load` finds all of its state in it."""
        self.saved, moments = self.cost.updates, shards.state_of(self.optimiser)
        if dist.rank() > 0:
            return
        settle(self.journal.path)                                        # a checkpoint is not ahead of its diary
        tensors = packed({"learner": self.learner.state_dict(), "best": self.best[1] if self.best else {},
                          **{f"optimiser/{index}": state for index, state in moments.items()},
                          **{f"recent/{index}": state for index, state in enumerate(self.recent)}})
        write_numbered(self.folder, "last", self.cost.updates, tensors, {
            "cost": asdict(self.cost), "curve": self.curve, "heard": self.heard,
            "best": self.best[0] if self.best else None, "row": self.descent.row,
            "parts": [self.parts, self.descent.slices], "identity": self.identity})

    def load(self) -> None:
        """Take back what `save` wrote last, if it did. Raises ValueError where it belongs to another configuration."""
        found = dist.told(read_newest(self.folder, "last") if dist.rank() == 0 else None)
        if found is None:
            return
        groups, facts = unpacked(found[0]), found[1]
        if differ := differences(facts["identity"], self.identity):
            raise ValueError(f"the checkpoints in {self.folder} are of another run: {'; '.join(differ)}; give the same "
                             "options, or resume=never, which moves them aside and begins anew")
        self.learner.load_state_dict(groups["learner"])
        saved, parameters = self.optimiser.state_dict(), list(self.trained.parameters())
        moments = {int(name.partition("/")[2]): state for name, state in groups.items() if name.startswith("optimiser/")}
        saved["state"] = {index: {name: value if name == "step" else shards.like(value, parameters[index])
                                  for name, value in state.items()} for index, state in sorted(moments.items())}
        self.optimiser.load_state_dict(saved)
        self.cost, self.curve, self.heard = Cost(**facts["cost"]), facts["curve"], facts["heard"]
        self.best = None if facts["best"] is None else (facts["best"], groups["best"])
        self.recent = [groups[f"recent/{i}"] for i in range(self.stage.average) if f"recent/{i}" in groups]
        self.saved, self.row = self.cost.updates, facts["row"]
        parts, slices = facts.get("parts", (1, 1))                                 # older checkpoints have none
        self.parts, self.accumulate = max(self.parts, parts), max(self.accumulate, slices)


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")
