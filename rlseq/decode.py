"""Decoding, generic over every policy and task: ancestral sampling, greedy, beam search. Nothing carries gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from . import dist, memory
from .env import SequenceEnv, through_stop
from .nn.graphs import StepGraph
from .nn.linear import constant_weights
from .nn.policy import Policy
from .parts import cuts, in_parts, parts
from .types import NEVER, STOP, Rollout, joined

Answers = TypeVar("Answers")
NARROW = 0.75             # finished rows leave when at most this share of rows would stay
LOOK = 16                 # steps on a GPU between looks at who has finished: each look waits for the GPU
COLDEST, HOTTEST = 1e-4, 1e4     # temperatures: beyond, float32 has no distribution left
MANY, BLOCK = 512, 64     # from MANY actions on, the mass of BLOCKs is summed first: adding up in order is slow


def draw(p: Tensor, uniform: Tensor) -> Tensor:
    """One action a row by the inverse of the cumulative distribution: p [N, A], uniform [N] in [0, 1) -> [N].

    Of many actions, first a block of them is drawn by its mass and then one in it by what is left of the number.
    An action of probability 0 is never drawn; what is rarer than 2^-24 only as finely as float32 adds up. Rows need not
    sum to 1.
    """
    actions = p.shape[1]
    if actions < MANY:
        return _inverse(p, uniform.unsqueeze(1) * p.sum(1, keepdim=True))[0].squeeze(1)
    whole = actions // BLOCK * BLOCK
    mass = p[:, :whole].view(len(p), -1, BLOCK).sum(2)
    if whole < actions:
        mass = torch.cat([mass, p[:, whole:].sum(1, keepdim=True)], 1)
    block, left = _inverse(mass, uniform.unsqueeze(1) * mass.sum(1, keepdim=True))
    place = block * BLOCK + torch.arange(BLOCK, device=p.device)                               # [N, BLOCK]
    inside = p.gather(1, place.clamp(max=actions - 1))
    if whole < actions:
        inside = inside.masked_fill_(place >= actions, 0.0)
    return (block * BLOCK + _inverse(inside, left)[0]).squeeze(1)


def _inverse(mass: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Masses [N, A] and numbers [N, 1] from 0 to their sum -> into whose mass each falls [N, 1], and how far [N, 1].

    The number is kept below the last sum, and the first sum above it belongs to a mass that added something. A GPU's
    parallel sums may creep there by rounding: then the largest.
    """
    sums = mass.cumsum(1)
    last = sums[:, -1:]
    number = torch.minimum(number.to(sums.dtype), torch.nextafter(last, torch.zeros_like(last)))
    found = torch.searchsorted(sums, number, right=True)
    own = mass.gather(1, found)
    found = torch.where(own > 0, found, mass.argmax(1, keepdim=True))
    return found, (number - (sums.gather(1, found) - own)).clamp_(min=0)


def truncated(logp: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """log p [N, A] -> log of p^(1/temperature), cut to the `top_k` likeliest and to the nucleus `top_p`, renormalised.

    The nucleus is the smallest set of likeliest actions with at least mass `top_p` (Holtzman et al. 2020).
    """
    if temperature != 1.0:
        logp = (logp / temperature).masked_fill(logp < NEVER / 2, NEVER).log_softmax(-1)
    if 0 < top_k < logp.shape[1]:
        least = logp.topk(top_k, dim=1).values[:, -1:]
        logp = logp.masked_fill(logp < least, NEVER).log_softmax(-1)
    if top_p < 1.0:
        ordered, order = logp.sort(dim=1, descending=True)
        before = ordered.exp().cumsum(1) - ordered.exp()
        cut = torch.zeros_like(logp, dtype=torch.bool).scatter(1, order, before >= top_p)
        logp = logp.masked_fill(cut, NEVER).log_softmax(-1)
    return logp


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raises ValueError for settings that no distribution has."""
    if not COLDEST <= temperature <= HOTTEST:
        raise ValueError(f"temperature={temperature} must lie in [{COLDEST:g}, {HOTTEST:g}]; for the likeliest action decode "
                         "greedily")
    if top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(f"top_k={top_k} must be 0 (off) or more, top_p={top_p} must lie in (0, 1]")


@torch.no_grad()
def sample(policy: Policy, env: SequenceEnv, k: int = 1, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
           given: tuple[Tensor, Tensor] | None = None) -> Rollout:
    """k answers to each loaded problem, drawn from pi, or from pi^(1/temperature), truncated.

    `logp` is under what drew them, and so is their score by `policy.score`: the rollout keeps the temperature, and what
    was cut off is not legal in it. `given`: actions [N, T] and how many of each row [N] are taken instead of drawn.
    """
    check_sampling(temperature, top_k, top_p)
    if own := _cuts(env):
        return joined(_in_turn(env, own, lambda i, part: sample(
            policy, part, k, temperature, top_k, top_p, given and tuple(one[own[i][0] * k:own[i][1] * k] for one in given))),
                      env.batch)
    cut = top_k > 0 or top_p < 1.0

    def choose(logits: Tensor) -> tuple[Tensor, Tensor]:
        warm = logits if temperature == 1.0 else logits / temperature
        p = truncated(logits.log_softmax(-1), temperature, top_k, top_p).exp() if cut else warm.softmax(-1)
        return _or_given(env, given, draw(p, _uniform(env))), p
    return replace(_roll(policy, env, k, choose, cut), temperature=temperature)


@torch.no_grad()
def greedy(policy: Policy, env: SequenceEnv, given: tuple[Tensor, Tensor] | None = None) -> Rollout:
    """The likeliest action at every step, one answer a problem; `given` as in `sample`."""
    if own := _cuts(env):
        return joined(_in_turn(env, own, lambda i, part: greedy(
            policy, part, given and tuple(one[slice(*own[i])] for one in given))), env.batch)
    return _roll(policy, env, 1, lambda logits: (_or_given(env, given, logits.argmax(1)), logits.softmax(-1)))


@torch.no_grad()
def sample_and_greedy(policy: Policy, env: SequenceEnv, k: int) -> tuple[Rollout, Rollout]:
    """`sample` and `greedy` side by side: one encoding, one roll-out of k + 1 rows a problem, the last of them greedy."""
    if own := _cuts(env):
        drawn, best = zip(*_in_turn(env, own, lambda i, part: sample_and_greedy(policy, part, k)))
        return joined(drawn, env.batch), joined(best, env.batch)

    def choose(logits: Tensor) -> tuple[Tensor, Tensor]:
        p = logits.softmax(-1)
        return torch.where(env.rows % (k + 1) == k, logits.argmax(1), draw(p, _uniform(env))), p

    both = _roll(policy, env, k + 1, choose)

    def share(answers: slice) -> Rollout:
        def part(rows: Tensor) -> Tensor:
            return both.grouped(rows)[:, answers, :steps].flatten(0, 1)
        steps = int(both.grouped(both.mask)[:, answers].sum(2).max())
        return Rollout(both.batch, *map(part, (both.actions, both.mask, both.logp, both.reward, both.weight)),
                       None if both.legal is None else part(both.legal), None, len(range(k + 1)[answers]))
    return share(slice(0, k)), share(slice(k, k + 1))


def _roll(policy: Policy, env: SequenceEnv, k: int, choose: Callable[[Tensor], tuple[Tensor, Tensor]],
          cut: bool = False) -> Rollout:
    """Answers by `choose(logits [N, A]) -> actions [N] and the p [N, A] they came from`; rows in play only.

    With `cut`, actions of probability 0 count as not legal.
    """
    memory.keep()
    env.begin(k)
    state = policy.start(policy.encode(env.batch), k)
    player = StepGraph(policy, env.horizon) if env.static else policy
    action, chances, legals = None, [], []
    look = 1 if env.device.type == "cpu" and not env.static else LOOK
    with constant_weights():
        while env.steps < env.horizon:
            legal, rows = env.legal(), env.rows
            logits, state = player.logits(state, action, legal)
            action, p = choose(logits)
            chances.append(_spread(p.gather(1, action.unsqueeze(1)).squeeze(1), rows, env.num_envs, 1.0))
            legal = p > 0 if cut else legal
            legals.append(None if legal is None else _spread(legal, rows, env.num_envs, True))
            env.advance(action)
            if env.steps % look == 0 and env.steps < env.horizon:
                left = env.num_envs - int(env.done.sum())
                if not left:
                    break
                if not env.static and left <= NARROW * len(env.rows) and (kept := env.narrow(NARROW)):
                    state, action = state.narrow(*kept), action[kept[1]]
    actions, mask = env.answers()
    steps = int(mask.sum(1).max())                                         # the last look may have come late
    actions, mask = actions[:, :steps], mask[:, :steps]
    reward = env.worth(actions, mask).unsqueeze(1) * last_step(mask)
    return Rollout(env.batch, actions, mask, torch.stack(chances[:steps], 1).log() * mask, reward, torch.zeros_like(reward),
                   None if legals[0] is None else torch.stack(legals[:steps], 1), None, k)


def _or_given(env: SequenceEnv, given: tuple[Tensor, Tensor] | None, action: Tensor) -> Tensor:
    """Actions [N'] for the rows in play, or those that are given in their place."""
    if given is None or env.steps >= given[0].shape[1]:
        return action
    return torch.where(env.steps < given[1][env.rows], given[0][env.rows, env.steps], action)


def _cuts(env: SequenceEnv) -> list[tuple[int, int]]:
    """Where the loaded problems are cut that are to be answered in parts, for want of memory; nowhere else."""
    return [] if parts() == 1 else cuts(len(env.batch), parts())


def _in_turn(env: SequenceEnv, own: list[tuple[int, int]], answer: Callable[[int, SequenceEnv], Answers]) -> list[Answers]:
    """answer(number of the part, its environment) of one part after the other, each by the random numbers that it would get
    beside the others; the generator is left as that would leave it."""
    begun, ends, found = generator(env), [], []
    for i, (start, stop) in enumerate(own):
        part = env.part(start, stop)
        set_generator(env, begun)
        with in_parts(1), dist.sharing(dist.own(len(env.batch)).part(start, stop)):
            found.append(answer(i, part))
        ends.append((part.steps, i, generator(env)))
        env.spent = part.spent
    set_generator(env, max(ends)[2])
    return found


def generator(env: SequenceEnv) -> Tensor:
    """The state of the generator that draws on the environment's device."""
    return torch.cuda.get_rng_state(env.device) if env.device.type == "cuda" else torch.get_rng_state()


def set_generator(env: SequenceEnv, state: Tensor) -> None:
    if env.device.type == "cuda":
        torch.cuda.set_rng_state(state, env.device)
    else:
        torch.set_rng_state(state)


def _uniform(env: SequenceEnv) -> Tensor:
    """A number in [0, 1) for every row in play."""
    numbers = dist.uniform(env.num_envs, env.device)
    return numbers if len(env.rows) == env.num_envs else numbers[env.rows]


def _spread(values: Tensor, rows: Tensor, count: int, rest: float | bool) -> Tensor:
    """Values of some rows [N', ...] -> of all [N, ...], `rest` for the others."""
    if len(rows) == count:
        return values
    return values.new_full((count, *values.shape[1:]), rest).index_copy(0, rows, values)


def repeats(prefix: Tensor, n: int, actions: int) -> Tensor:
    """Prefix [N, t] -> [N, A], True where an action would complete an n-gram that the row already holds."""
    found = torch.zeros(len(prefix), actions, dtype=torch.bool, device=prefix.device)
    if prefix.shape[1] < n:
        return found
    grams = prefix.unfold(1, n, 1)                                                     # [N, t - n + 1, n]
    last = prefix[:, prefix.shape[1] - n + 1:].unsqueeze(1)
    match = (grams[..., :-1] == last).all(-1)
    ends = torch.where(match, grams[..., -1], STOP)
    found.scatter_(1, ends, True)
    found[:, STOP] = False
    return found


@torch.no_grad()
@constant_weights()
def beam(policy: Policy, env: SequenceEnv, width: int = 5, length_penalty: float = 1.0,
         no_repeat: int = 0, keep: int = 1) -> tuple[Rollout, Tensor]:
    """The best of `width` partial answers kept at every step; the best `keep` of them for each problem, and their scores [N].

        score = sum_t log p_t / T^length_penalty            (0: the plain sum; Wu et al. 2016 use another form)

    Finished answers stay in the beam and compete by score; `no_repeat` forbids a second n-gram of that size. Where there are
    fewer answers than `keep`, the rest score below NEVER / 2.
    """
    if own := _cuts(env):
        found, scores = zip(*_in_turn(env, own, lambda i, part: beam(policy, part, width, length_penalty, no_repeat, keep)))
        return joined(found, env.batch), torch.cat(scores)
    if not 1 <= keep <= width:
        raise ValueError(f"beam width {width} must be at least 1, and at least the {keep} answers that are kept of it")
    env.begin(width)
    batch, problems, actions = env.batch, len(env.batch), env.batch.num_actions
    state = policy.start(policy.encode(batch), width)
    total = torch.full((problems, width), NEVER, device=env.device)
    total[:, 0] = 0.0                                                                  # all rows are alike at first
    prefix = torch.zeros(problems * width, 0, dtype=torch.long, device=env.device)
    lengths = torch.zeros(problems * width, device=env.device)
    done = torch.zeros(problems * width, dtype=torch.bool, device=env.device)
    action = None
    for _ in range(env.horizon):
        legal = env.task.legal(batch, prefix)
        if no_repeat:
            fresh = ~repeats(prefix, no_repeat, actions)
            allowed = fresh if legal is None else fresh & legal
            legal = torch.where(allowed.any(1, keepdim=True), allowed, fresh if legal is None else legal)
        logp, state = policy.step(state, action, legal)
        logp = logp.masked_fill(done.unsqueeze(1), NEVER)
        logp[:, STOP] = torch.where(done, 0.0, logp[:, STOP])
        reach = lengths + (~done).float()
        sums = (total.view(-1, 1) + logp).view(problems, -1)                           # [B, width * A]
        ranked = (sums.view(-1, actions) / reach.pow(length_penalty).unsqueeze(1)).view(problems, -1)
        best = ranked.topk(width, dim=1).indices
        rows = (best // actions + torch.arange(problems, device=env.device).unsqueeze(1) * width).view(-1)
        action, total = (best % actions).view(-1), sums.gather(1, best)
        prefix = torch.cat([prefix[rows], action.unsqueeze(1)], 1)
        lengths, done, state = reach[rows], done[rows] | (action == STOP), state.select(rows)
        if bool(done.all()):
            break
    score = total / lengths.view(problems, width).pow(length_penalty)
    best = score.topk(keep, dim=1).indices                                                     # [B, keep]
    chosen = prefix[(best + torch.arange(problems, device=env.device).unsqueeze(1) * width).flatten()]
    mask = through_stop(chosen)
    reward = env.worth(chosen, mask).unsqueeze(1) * last_step(mask)
    nothing = torch.zeros_like(reward)
    return Rollout(batch, chosen, mask, nothing, reward, nothing, k=keep), score.gather(1, best).flatten()


def last_step(mask: Tensor) -> Tensor:
    """Mask [N, T] -> [N, T] float, 1 at the last action of every row."""
    return (mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))).float()
