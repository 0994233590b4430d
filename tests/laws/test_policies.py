"""Laws of policies: two faces that agree, sound probabilities, and nothing that leaks between rows, steps and padding."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn.functional import pad

from rlseq import decode, tasks
from rlseq.env import SequenceEnv, through_stop
from rlseq.nn import heads
from rlseq.nn.policy import Shape, State
from rlseq.types import STOP, Batch, Sizes
from tests.toys import TINY, configured, fits, gradient, task_for, tiny_policy, tiny_shape

DECODERS = [{"decoder": "transformer"}, {"decoder": "gru", "attention": "none"}, {"decoder": "gru", "attention": "additive"},
            *({"decoder": "lstm", "attention": kind} for kind in ("none", "dot", "bilinear", "additive", "cosine")),
            {"decoder": "transformer", "norm": "after"}]
ENCODERS = [{"encoder": "transformer"}, {"encoder": "transformer", "positions": "none"}, {"encoder": "lstm"},
            {"encoder": "gru", "bidirectional": False, "summary": "mean"}]
HEADS = [{"head": "vocabulary"}, {"head": "pointer"}, {"head": "copy"}, {"head": "pointer", "pointing": "additive"},
         {"head": "copy", "pointing": "cosine"}, {"head": "pointer", "pointing": "relative"}]
# Every pair of an encoder, a decoder (with its attention) and a head meets; encoder and head never see each other else.
COMBINATIONS = [{**ENCODERS[(d + h) % len(ENCODERS)], **decoder, **head}
                for d, decoder in enumerate(DECODERS) for h, head in enumerate(HEADS)]
YAMLS = [(policy, task) for policy, options in configured("policy").items() for task in tasks.names()
         if fits(options, task)]


def toy_batch(head):
    """Three sources of 5, 3 and 1 positions, some in the vocabulary of 6, answers of several lengths."""
    source_mask = torch.arange(5) < torch.tensor([[5], [3], [1]])
    actions = torch.tensor([[1, 3, 5, 2, 0], [2, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    ids = torch.tensor([[1, 2, 4, 1, 5], [2, 3, 1, 0, 0], [1, 0, 0, 0, 0]])
    copies = torch.tensor([[6, 2, 7, 6, 5], [2, 6, 6, 0, 0], [6, 0, 0, 0, 0]])           # 6 and 7: words it has not
    if head == "copy":
        actions = torch.tensor([[7, 3, 6, 2, 0], [6, 1, 0, 0, 0], [4, 0, 0, 0, 0]])
    source = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(3)).double() if head == "pointer" else ids
    extra = {"copy_ids": copies} if head == "copy" else {}
    return Batch(source, source_mask, actions, through_stop(actions), {"copy": 8}.get(head, 6), extra, (0, 1, 2))


def toy_legal(batch, actions):
    """What a task would allow: real positions or source words only, no action twice, STOP always: [N, T, A]."""
    k = len(actions) // len(batch)
    open_ = torch.ones(len(batch), batch.num_actions, dtype=torch.bool)
    if batch.source.is_floating_point():
        open_[:, 1:] = batch.source_mask
    elif "copy_ids" in batch.extra:
        open_[:, 6:] = False
        open_.scatter_(1, batch.extra["copy_ids"], True)
    taken = torch.nn.functional.one_hot(actions, batch.num_actions).cumsum(1).roll(1, 1).bool()
    taken[:, 0] = False
    legal = open_.repeat_interleave(k, 0).unsqueeze(1) & ~taken
    legal[..., STOP] = True
    return legal | torch.nn.functional.one_hot(actions, batch.num_actions).bool()          # the answers shown are legal


def toy(options):
    sizes = Sizes(features=2, coordinates=2) if options["head"] == "pointer" else Sizes(source_ids=6, vocabulary=6, shared=True)
    batch = toy_batch(options["head"])
    policy = tiny_policy(Shape(**{"dropout": 0.0, **TINY, **options}), sizes)
    return policy, batch, toy_legal


def real(policy_name, task_name):
    """A policy of conf/policy at a small width, and four short training problems of a task."""
    options = configured("policy")[policy_name]
    task = task_for(task_name, options["head"])
    examples = task.examples("train")
    some = sorted((examples[i] for i in range(40)), key=task.length)[:12:3]
    batch = task.collate(some)
    if batch.source.is_floating_point():
        batch = replace(batch, source=batch.source.double())

    def legal(batch, actions):
        env = SequenceEnv(task)
        env.load(batch)
        return env.legal_along(actions)
    return tiny_policy(tiny_shape(options), task.sizes), batch, legal


CASES = {"-".join(map(str, one.values())): (toy, one) for one in COMBINATIONS} | {
    "-".join(one): (real, *one) for one in YAMLS}


@cache
def made(name):
    make, *given = CASES[name]
    return make(*given)


@pytest.fixture(params=CASES)
def case(request):
    return made(request.param)


def score(policy, batch, actions, legal, **options):
    return policy(policy.encode(batch), actions, through_stop(actions), legal, **options)


def close(one, other, tolerance=1e-9):
    """float64 sums of at most thousands of terms in another order: errors near 1e-14, a leak is far above 1e-9."""
    return (one - other).abs().max() < tolerance


def test_step_along_a_row_equals_forward_and_probabilities_are_sound(case):
    policy, batch, rule = case
    k = 2
    actions = torch.cat([batch.target.unsqueeze(1), batch.target.flip(0).unsqueeze(1)], 1).flatten(0, 1)
    if "copy_ids" in batch.extra or batch.source.is_floating_point():
        actions = batch.target.repeat_interleave(k, 0)            # another problem's actions may not exist here
    mask, legal = through_stop(actions), rule(batch, actions)
    memory = policy.encode(batch)
    whole = policy.log_probs(memory, actions, legal)
    scores = score(policy, batch, actions, legal, detail=True)
    state, last = policy.start(memory, k), None
    for t in range(actions.shape[1]):
        logp, state = policy.step(state, last, None if legal is None else legal[:, t])
        last, real_ = actions[:, t], mask[:, t]
        possible = logp.exp() * (1 if legal is None else legal[:, t])
        assert close(possible.sum(1), torch.ones(len(logp)), 1e-12), "probabilities of legal actions sum to 1"
        if legal is not None:
            assert (logp.exp()[~legal[:, t]] == 0).all(), "an illegal action has probability 0"
        assert close(logp.exp()[real_], whole[:, t].exp()[real_])
        assert close(logp.gather(1, last[:, None]).squeeze(1)[real_], scores.logp[:, t][real_])
        p = logp.exp()[real_]
        assert close(-torch.special.xlogy(p, p).sum(1), scores.entropy[:, t][real_])


def wider(batch, more, points):
    """The same problems with more padding of source and target; padded features hold large numbers."""
    source = pad(batch.source, (0, 0, 0, more) if batch.source.dim() == 3 else (0, more), value=0)
    if source.is_floating_point():
        source = torch.where(pad(batch.source_mask, (0, more)).unsqueeze(2), source, 7.0)
    extra = {name: pad(value, (0, more)) if name == "copy_ids" else value for name, value in batch.extra.items()}
    return replace(batch, source=source, source_mask=pad(batch.source_mask, (0, more)), target=pad(batch.target, (0, more)),
                   target_mask=pad(batch.target_mask, (0, more)), extra=extra,
                   num_actions=batch.num_actions + (more if points else 0))


def test_more_padding_changes_nothing(case):
    policy, batch, rule = case
    more = wider(batch, 3, isinstance(policy.head, heads.Pointer))
    legal = rule(batch, batch.target)
    wide = None if legal is None else pad(legal, (0, more.num_actions - batch.num_actions, 0, 3))
    if wide is not None:
        wide[:, -3:, STOP] = True
    size, positions, seen = batch.target.shape[1], batch.source.shape[1], batch.target_mask.unsqueeze(2)
    for narrow, broad in ((legal, wide), (None, None)):
        first = score(policy, batch, batch.target, narrow, attend=True)
        second = score(policy, more, more.target, broad, attend=True)
        assert close(first.logp * batch.target_mask, second.logp[:, :size] * batch.target_mask)
        if first.attention is not None:
            assert close(first.attention * seen, second.attention[:, :size, :positions] * seen)
            assert (second.attention[:, :size, positions:] == 0).all(), "padding is never attended to"
            assert close(second.attention.sum(2), torch.ones(()), 1e-12)


def test_the_future_changes_nothing(case):
    policy, batch, rule = case
    actions, legal = batch.target, rule(batch, batch.target)
    first = score(policy, batch, actions, legal)
    cut = actions.shape[1] // 2
    fed = actions.clone()
    fed[:, cut:] = actions[:, :1]                                     # what is fed at t is seen from t + 1 on
    second = score(policy, batch, actions, legal, fed=fed)
    assert close(first.logp[:, :cut + 1], second.logp[:, :cut + 1])
    if ((fed != actions)[:, :-1] & batch.target_mask[:, 1:]).any():
        assert not torch.equal(first.logp, second.logp), "what was fed is heard"


def test_what_else_is_in_the_batch_changes_nothing(case):
    policy, batch, rule = case
    legal = rule(batch, batch.target)
    together = score(policy, batch, batch.target, legal)
    for row in range(len(batch)):
        alone = batch.rows(row, row + 1)
        found = score(policy, alone, alone.target, None if legal is None else legal[row:row + 1])
        assert close(found.logp * alone.target_mask, together.logp[row:row + 1] * alone.target_mask)


@pytest.mark.parametrize("detail", [False, True])
def test_chunked_scoring_equals_unchunked_in_values_and_gradients(case, detail, monkeypatch):
    policy, batch, rule = case
    legal = rule(batch, batch.target)
    found = []
    for chunk in (heads.CHUNK, 2 * len(batch) * batch.num_actions):
        monkeypatch.setattr(heads, "CHUNK", chunk)
        scores = score(policy, batch, batch.target, legal, detail=detail)
        value = (scores.logp * batch.target_mask).sum()
        if detail:
            value = value + ((scores.entropy + 0.3 * scores.smooth) * batch.target_mask).sum()
        found.append((value.detach(), gradient(value, policy)))
    assert close(found[0][0], found[1][0]) and close(found[0][1], found[1][1])


@pytest.mark.parametrize("name", [name for name in CASES if "copy" in name])
def test_the_copy_heads_short_cut_equals_the_full_mixture(name):
    policy, batch, _ = made(name)
    assert isinstance(policy.head, heads.Copy)
    short = score(policy, batch, batch.target, None).logp * batch.target_mask
    full = score(policy, batch, batch.target, None, detail=True).logp * batch.target_mask
    assert close(short, full) and close(gradient(short.sum(), policy), gradient(full.sum(), policy))


def test_k_answers_to_a_source_equal_k_copies_of_the_source(case):
    policy, batch, rule = case
    actions = batch.target.repeat_interleave(2, 0)
    actions[1::2, 1:] = STOP                                          # the second answer to each is another one
    legal = rule(batch, actions)
    legal = None if legal is None else legal | torch.nn.functional.one_hot(actions, batch.num_actions).bool()
    twice = replace(batch, **{name: getattr(batch, name).repeat_interleave(2, 0)
                              for name in ("source", "source_mask", "target", "target_mask")},
                    extra={name: value.repeat_interleave(2, 0) for name, value in batch.extra.items()})
    mask = through_stop(actions)
    one, other = (score(policy, some, actions, legal).logp * mask for some in (batch, twice))
    assert close(one, other) and close(gradient(one.sum(), policy), gradient(other.sum(), policy))


@pytest.mark.parametrize("name, task", YAMLS)
def test_rows_that_leave_when_finished_change_nothing(name, task, monkeypatch):
    policy, batch, _ = real(name, task)
    for part in policy.modules():
        if isinstance(part, heads.Vocabulary):
            part.bias.data[STOP] += math.log(len(part.bias)) - 1      # so that answers end at many lengths
    env, rollouts, left, narrow = SequenceEnv(task_for(task, configured("policy")[name]["head"])), [], [], State.narrow
    monkeypatch.setattr(State, "narrow", lambda self, *kept: left.append(len(kept[1])) or narrow(self, *kept))
    env.load(batch)
    env.horizon = min(env.horizon, 12)
    for share in (0.0, 0.99):                                         # never; as soon as one row can
        monkeypatch.setattr(decode, "NARROW", share)
        torch.manual_seed(1)
        rollouts.append(decode.sample(policy, env, 3))
    one, other = rollouts
    assert left, "every row ended at the same step; nothing was compared"
    assert torch.equal(one.actions, other.actions) and torch.equal(one.mask, other.mask)
    assert close(one.logp, other.logp) and torch.equal(one.reward, other.reward)
    if one.legal is not None:
        assert torch.equal(one.legal[one.mask], other.legal[one.mask])
