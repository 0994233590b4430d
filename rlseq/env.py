"""The token-level decision process of a task: batched in tensors for training, single in numpy for gymnasium."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from . import tasks
from .task import Task
from .types import STOP, Batch
from .worth import Asked

Earned = Literal["own", "constant", "shuffled"]      # the task's reward, or what stands in for it in a control


def through_stop(actions: Tensor) -> Tensor:
    """Actions [N, T] -> mask [N, T], True through the first STOP."""
    stopped = (actions == STOP).cumsum(1)
    return (stopped - (actions == STOP).long()) == 0


def observation_space(batch: Batch, horizon: int) -> spaces.Dict:
    """What one episode on a problem of this batch shows."""
    source = batch.source
    floats = source.is_floating_point()
    seen = {"source": spaces.Box(-np.inf if floats else 0, np.inf if floats else 2**31, tuple(source.shape[1:]),
                                 np.float32 if floats else np.int64),
            "source_mask": spaces.MultiBinary(source.shape[1]),
            "prefix": spaces.Box(-1, batch.num_actions - 1, (horizon,), np.int64),
            "legal": spaces.MultiBinary(batch.num_actions)}
    if "copy_ids" in batch.extra:
        seen["copy_ids"] = spaces.Box(0, batch.num_actions - 1, (source.shape[1],), np.int64)
    return spaces.Dict(seen)


class SequenceEnv(VectorEnv):
    """N = B*k token-by-token episodes at once, in tensors on the device; the reward comes with the last action.

    Training loads a batch and calls `begin`, `legal` and `advance`; `reset` and `step` are gymnasium's words for the
    same. Rows that have ended ignore their actions and earn nothing; nothing resets by itself. By `narrow` they leave
    the play: `rows` are the numbers of those still in it, `playing` their problems. A `static` environment asks
    roll-outs for steps of one shape, which a GPU can replay as a graph: no row leaves.

    `reward` makes controls of any algorithm, which need not know (Choshen et al. 2020): "constant" pays every answer 1;
    "shuffled" deals the rewards of the answers out among them, across problems and afresh at every step (on several
    ranks each among its own).
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}

    def __init__(self, task: Task, device: torch.device | str = "cpu", problems: int = 16, static: bool = False,
                 reward: Earned = "own") -> None:
        self.task, self.device, self.static, self.reward = task, torch.device(device), static, reward
        self.problems = self.num_envs = problems
        self.spent = 0.0                             # seconds in rewards; whoever reads them sets them back
        self.whence: Callable[[object], str] | None = None     # a raw problem -> "train example 17", for messages
        self.looks_late = self.device.type == "cuda"           # whether rewards are finite: nobody waits for a GPU to say so
        self.owed: list[tuple[Asked, Tensor, str]] = []        # rewards yet to be looked at

    def load(self, batch: Batch) -> None:
        """Take the problems that are answered next. Raises ValueError where a reward to the last ones was not finite."""
        while self.owed:
            asked, found, part = self.owed.pop()
            asked.finite(found, part)
        self.batch = batch.to(self.device)
        self.horizon = self.task.horizon(self.batch)
        self.begin(1)

    def begin(self, k: int) -> None:
        """Start k answers to every problem."""
        self.k, self.num_envs, self.steps = k, len(self.batch) * k, 0
        self.actions = torch.zeros(self.num_envs, self.horizon, dtype=torch.long, device=self.device)
        self.mask = torch.zeros(self.num_envs, self.horizon, dtype=torch.bool, device=self.device)
        self.done = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self.playing, self.rows = self.batch, torch.arange(self.num_envs, device=self.device)

    def part(self, start: int, stop: int) -> SequenceEnv:
        """An environment with problems start..stop-1 alone, padded as here."""
        found = copy.copy(self)
        found.load(self.batch.rows(start, stop))
        return found

    @property
    def single_action_space(self) -> spaces.Discrete:
        return spaces.Discrete(self.batch.num_actions)

    @property
    def action_space(self) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete([self.batch.num_actions] * self.num_envs)

    @property
    def single_observation_space(self) -> spaces.Dict:
        return observation_space(self.batch, self.horizon)

    @property
    def observation_space(self) -> spaces.Dict:
        return gymnasium.vector.utils.batch_space(self.single_observation_space, self.num_envs)

    def legal(self) -> Tensor | None:
        """What may follow in every row in play [N, A]; None when all may."""
        prefix = self.actions[:, :self.steps]
        return self.task.legal(self.playing, prefix if len(self.rows) == self.num_envs else prefix[self.rows])

    def advance(self, action: Tensor) -> None:
        """Take one action for each row in play [N]; a row ends by STOP or by the horizon."""
        assert self.steps < self.horizon, "the episode is over; call begin()"
        self.mask[:, self.steps] = ~self.done
        if len(self.rows) < self.num_envs:
            action = torch.zeros_like(self.actions[:, 0]).index_copy(0, self.rows, action)
        self.actions[:, self.steps] = torch.where(self.done, STOP, action)
        self.steps += 1
        self.done = self.done | (action == STOP) | (self.steps == self.horizon)

    def narrow(self, share: float) -> tuple[Tensor, Tensor] | None:
        """Let finished rows leave the play, if that leaves at most this share of its rows: places in it, or None.

        The problems [B'] with an unfinished row stay, each with as many rows as the one that needs most; finished rows
        fill up. Results are positions among the problems and rows [B'*k'] in play until now.
        """
        done = self.done[self.rows].view(len(self.playing), -1)                                  # [B, k]
        need = (~done).sum(1)
        problems, widest = need.nonzero().squeeze(1), int(need.max())
        if len(problems) * widest > share * done.numel() or len(problems) * widest == done.numel():
            return None
        first = done[problems].to(torch.uint8).argsort(dim=1, stable=True)[:, :widest]               # unfinished ones first
        rows = (problems.unsqueeze(1) * done.shape[1] + first).flatten()
        self.playing, self.rows = self.playing.take(problems), self.rows[rows]
        return problems, rows

    def answers(self) -> tuple[Tensor, Tensor]:
        """Actions and mask [N, T] so far."""
        return self.actions[:, :self.steps], self.mask[:, :self.steps]

    def worth(self, actions: Tensor, mask: Tensor) -> Tensor:
        """Reward of whole answers [N, T] to the loaded problems -> [N]; in a control, what stands in for it.

        Raises ValueError in one line for whatever the task's code does wrong; on a GPU, that a number is not finite is said
        when the next problems are loaded, for nobody waits here.
        """
        start, asked = time.perf_counter(), Asked(self.task, self.batch, actions, mask, self.whence)
        found = self.dealt(self._finite(asked, asked.reward(), "reward"))
        self.spent += time.perf_counter() - start
        return found

    def prefix_worth(self, actions: Tensor, mask: Tensor) -> Tensor:
        """Worth of every prefix of answers [N, T] -> [N, T]; in a control, what stands in for it (a constant says nothing of
        an answer before its end). Raises as `worth`."""
        start, asked = time.perf_counter(), Asked(self.task, self.batch, actions, mask, self.whence)
        found = self.dealt(self._finite(asked, asked.prefix_reward(), "prefix_reward"))
        self.spent += time.perf_counter() - start
        return torch.zeros_like(found) if self.reward == "constant" else found

    def _finite(self, asked: Asked, found: Tensor, part: str) -> Tensor:
        if self.looks_late:
            self.owed.append((asked, found, part))
        else:
            asked.finite(found, part)
        return found

    def dealt(self, rewards: Tensor) -> Tensor:
        """Rewards [N, ...] of answers as the learner gets them: as they are, all 1, or each row another answer's.

        The order follows from the step's seed, takes nothing from the stream that draws answers, and is the same for an
        answer's worth and for that of its prefixes.
        """
        if self.reward == "own":
            return rewards
        if self.reward == "constant":
            return torch.ones_like(rewards)
        own = torch.Generator().manual_seed((1_000_003 * torch.initial_seed() + 1) % 2**63)
        return rewards[torch.randperm(len(rewards), generator=own).to(rewards.device)]

    def legal_along(self, actions: Tensor) -> Tensor | None:
        """Legality before each action of given answers [N, T] -> [N, T, A]; None when all is legal."""
        first = self.task.legal(self.batch, actions[:, :0])
        if first is None:
            return None
        rest = [self.task.legal(self.batch, actions[:, :t]) for t in range(1, actions.shape[1])]
        return torch.stack([first, *rest], 1)

    def observe(self) -> dict[str, Tensor]:
        """What a learner may see: sources [N, S(, F)], their mask, the actions so far (-1 ahead), what is legal."""
        ahead = torch.arange(self.horizon, device=self.device) >= self.steps
        legal = self.legal() if self.steps < self.horizon else None
        if legal is None:
            legal = torch.ones(self.num_envs, self.batch.num_actions, dtype=torch.bool, device=self.device)
        named = {"source": self.batch.source, "source_mask": self.batch.source_mask}
        named |= {"copy_ids": self.batch.extra["copy_ids"]} if "copy_ids" in self.batch.extra else {}
        return {name: value.repeat_interleave(self.k, 0) for name, value in named.items()} | {
            "prefix": self.actions.masked_fill(ahead, -1), "legal": legal}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Tensor], dict]:
        """Options: "batch" (a Batch; by default problems drawn with the seed) and "k" (answers to each, default 1)."""
        options = options or {}
        if "batch" in options:
            self.load(options["batch"])
        else:
            examples = self.task.examples("train")
            pick = np.random.default_rng(seed).integers(0, len(examples), self.problems)
            self.load(self.task.collate([examples[int(i)] for i in pick]))
        self.begin(int(options.get("k", 1)))
        return self.observe(), {}

    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict]:
        """Gymnasium's step: observation, reward [N], terminated [N], truncated [N], info."""
        before = self.done
        self.advance(torch.as_tensor(actions, device=self.device))
        reward = torch.where(self.done & ~before, self.worth(*self.answers()), 0.0)
        stopped = (self.actions[:, :self.steps] == STOP).any(1)
        return self.observe(), reward, self.done & stopped, self.done & ~stopped, {}


class AnswerEnv(gymnasium.Env):
    """One episode in numpy, for learners of other people: `gymnasium.make("rlseq/hull-v0")` after `import rlseq.env`.

    Spaces must not change, so it draws from a fixed pool of training problems, padded alike. An illegal action ends
    the episode with reward 0 and `info["illegal"]`; `observation["legal"]` is the mask for learners that take one.
    """

    metadata = {"render_modes": ["ansi"]}

    def __init__(self, task: str, pool: int = 256, options: dict[str, object] | None = None,
                 render_mode: str | None = None) -> None:
        kind = tasks.task_class(task)
        self.task = tasks.make(task, {"head": kind.heads[0], **(options or {})})
        examples = self.task.examples("train")
        self.pool = self.task.collate([examples[i] for i in range(min(pool, len(examples)))])
        self.horizon, self.render_mode = self.task.horizon(self.pool), render_mode
        self.action_space = spaces.Discrete(self.pool.num_actions)
        self.observation_space = observation_space(self.pool, self.horizon)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, np.ndarray], dict]:
        super().reset(seed=seed)
        row = int(self.np_random.integers(len(self.pool)))
        self.batch = self.pool.rows(row, row + 1)
        self.prefix = torch.zeros(1, 0, dtype=torch.long)
        return self._observe(), {}

    def _legal(self) -> Tensor:
        legal = self.task.legal(self.batch, self.prefix)
        return torch.ones(self.pool.num_actions, dtype=torch.bool) if legal is None else legal[0]

    def _observe(self) -> dict[str, np.ndarray]:
        prefix = np.full(self.horizon, -1, np.int64)
        prefix[:self.prefix.shape[1]] = self.prefix[0].numpy()
        seen = {"source": self.batch.source[0], "source_mask": self.batch.source_mask[0].to(torch.int8),
                "legal": self._legal().to(torch.int8)}
        seen |= {"copy_ids": self.batch.extra["copy_ids"][0]} if "copy_ids" in self.batch.extra else {}
        return {name: value.numpy().copy() for name, value in seen.items()} | {"prefix": prefix}     # theirs to change

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict]:
        if not bool(self._legal()[int(action)]):
            return self._observe(), 0.0, True, False, {"illegal": True}
        self.prefix = torch.cat([self.prefix, torch.tensor([[int(action)]])], 1)
        stopped = int(action) == STOP
        ended = stopped or self.prefix.shape[1] == self.horizon
        reward = float(Asked(self.task, self.batch, self.prefix, through_stop(self.prefix)).reward()[0]) if ended else 0.0
        return self._observe(), reward, stopped, ended and not stopped, {"illegal": False}

    def render(self) -> str:
        return self.task.show(self.batch, self.prefix, 0)


def register() -> None:
    """Make every task known to gymnasium as `rlseq/<name>-v<version>`; options go by `gymnasium.make(id, options={})`."""
    for name in tasks.names():
        identity = f"rlseq/{name}-v{tasks.version(name)}"
        if identity not in gymnasium.registry:
            gymnasium.register(identity, entry_point="rlseq.env:AnswerEnv", kwargs={"task": name})


register()
