"""Controls: what a gain by reward must beat before the reward may be thanked for it.

    mle          MLE continued from the same checkpoint for the same budget
    constant     the same algorithm, every answer paid 1: what peaking alone does (Choshen et al. 2020). Where a baseline makes
                 all advantages 0 and nothing else is mixed in, it does not move: then it is the start itself
    shuffled     the same algorithm, the rewards of a batch dealt out among its answers afresh at every step
    temperature  MLE continued, sampled at the temperature at which it is as spread as the policy trained on rewards is at
                 temperature 1; compared with that policy's samples, for greedy answers know no temperature
                 (Kiegeland and Kreutzer 2021 ask how much of a gain is a matter of peakiness)
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from . import algos
from .build import nearest
from .decode import sample, truncated
from .env import SequenceEnv
from .nn.policy import Policy
from .setup import Setup, fresh
from .train import precision_context, seed_step

ALL = ("mle", "constant", "shuffled", "temperature")
PAID = ("constant", "shuffled")                # those that train the algorithm again
DRAWN, ANSWERS, ROWS = 256, 512, 64            # dev problems and answers that an entropy is measured on; rows at a time
ENOUGH = 8                                     # answers to a problem that tell whether rewards are heard
COLDEST, HOTTEST = 0.02, 8.0                   # temperatures between which the matching one is sought


def wanted(setup: Setup) -> tuple[str, ...]:
    """The controls of a run, in the order of `ALL`; none for an algorithm that no reward reaches.

    Raises ValueError for what `controls` cannot be.
    """
    value = setup.config["controls"]
    if value == "auto":
        value = setup.config["compare"] is not None
    if isinstance(value, bool) or value is None:
        value = list(ALL) if value else []
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        raise ValueError(f"controls={value!r} must be auto, true, false or a list of: {', '.join(ALL)}")
    for name in value:
        if name not in ALL:
            raise ValueError(f"no control {name!r}{nearest(str(name), list(ALL))}; there are: {', '.join(ALL)}")
    return tuple(name for name in ALL if name in value) if value and uses_rewards(setup) else ()


class _Lottery(SequenceEnv):
    """Pays by chance: who learns the same from two lotteries does not look at rewards."""

    def open(self, ticket: int) -> SequenceEnv:
        """This lottery, with the numbers of a ticket."""
        self.luck = torch.Generator().manual_seed(ticket)
        return self

    def dealt(self, rewards: Tensor) -> Tensor:
        return torch.rand(rewards.shape, generator=self.luck).to(rewards.device)


def uses_rewards(setup: Setup) -> bool:
    """Whether rewards change what the algorithm learns, seen at the end of its schedule by paying it two lotteries."""
    examples, losses, options = setup.task.examples("train"), [], dict(setup.config["algo"])
    batch = setup.task.collate([examples[i] for i in range(min(4, len(examples)))])
    if options.get("k", 0) > ENOUGH:                                     # more answers of the same kind tell no more
        options["k"] = ENOUGH
    for ticket in (1, 2):
        policy, algorithm = fresh(setup).eval(), algos.make(options)
        seed_step(setup.seed, "lottery")
        algorithm.prepare(policy)
        algorithm.to(setup.device).eval()
        env = _Lottery(setup.task, setup.device).open(ticket)
        env.load(batch)
        with torch.no_grad(), precision_context(setup.device, setup.config["precision"]):
            rollout = algorithm.collect(policy, env, 1.0)
            seed_step(setup.seed, "lottery")
            losses.append(float(algorithm.loss(policy, rollout)[0]))
    return losses[0] != losses[1]


def controlled(setup: Setup, kind: str) -> Setup:
    """The same run with another reward; its results go by the name of `<algo>+<kind>`."""
    return replace(setup, control=kind, names={**setup.names, "algo": f"{setup.names['algo']}+{kind}"},
                   algorithm=algos.make(setup.config["algo"]))


@torch.no_grad()
def spread(setup: Setup, policy: Policy, temperature: float = 1.0) -> float:
    """Mean entropy of an action, in nats, where the policy goes at a temperature: exact at each step of answers drawn on
    dev. The same random numbers at every call, so that it changes smoothly with the temperature."""
    task, env = setup.task, SequenceEnv(setup.task, setup.device)
    examples = task.examples("dev")
    count = min(len(examples), DRAWN)
    each, order = max(2, ANSWERS // count), sorted(range(count), key=lambda i: task.length(examples[i]))
    entropy = actions = 0.0
    policy.eval()
    for start in range(0, count, max(1, ROWS // each)):
        env.load(task.collate([examples[i] for i in order[start:start + max(1, ROWS // each)]]))
        seed_step(setup.seed, "spread", start)
        with precision_context(setup.device, setup.config["precision"]):
            drawn = sample(policy, env, each, temperature)
            logp = policy.log_probs(policy.encode(drawn.batch), drawn.actions, drawn.legal)              # [N, T, A]
        logp = truncated(logp.flatten(0, 1)[drawn.mask.flatten()].double(), temperature)
        entropy -= float((logp.exp() * logp).sum())
        actions += float(drawn.mask.sum())
    return entropy / actions


def matched(setup: Setup, policy: Policy, mle: Policy, steps: int = 12) -> dict[str, float]:
    """The temperature at which MLE's samples have the mean entropy that the policy's have at 1, by bisection on dev.

    Result: `temperature`, `entropy` of the policy and `mle_entropy` reached at it, nats an action.
    """
    wish, low, high = spread(setup, policy), math.log(COLDEST), math.log(HOTTEST)
    found = {"temperature": 1.0, "entropy": wish, "mle_entropy": spread(setup, mle)}
    for _ in range(steps):
        if abs(found["mle_entropy"] - wish) <= 0.005 * wish:
            break
        low, high = (low, math.log(found["temperature"])) if found["mle_entropy"] > wish else (
            math.log(found["temperature"]), high)
        middle = math.exp((low + high) / 2)
        found |= {"temperature": middle, "mle_entropy": spread(setup, mle, middle)}
    return found
