"""Laws of tasks: what every folder of tasks/ promises, with every head that it offers."""

import warnings
from functools import cache

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlseq import tasks
from rlseq.env import SequenceEnv, through_stop
from rlseq.evaluate import lower_is_better
from rlseq.types import STOP
from tests.toys import loaded, task_for

CASES = [(name, head) for name in tasks.names() for head in tasks.task_class(name).heads]
IDS = [f"{name}-{head}" for name, head in CASES]


@pytest.fixture(params=CASES, ids=IDS)
def case(request):
    return task_for(*request.param)


def some(task, split, count=6, short=False):
    """The first problems of a split, or the shortest of its first 60."""
    examples = task.examples(split)
    found = [examples[i] for i in range(min(60 if short else count, len(examples)))]
    return sorted(found, key=task.length)[:count] if short else found


def all_splits(task):
    return ("train", "dev", *task.tests)


@cache
def random_answers(task, split="train", k=2, seed=0):
    """k answers to a few problems, each drawn evenly among the legal actions, with STOP held back to make them long."""
    env = loaded(task, some(task, split, short=True))
    env.begin(k)
    generator = torch.Generator().manual_seed(seed)
    while not env.done.all():
        legal = env.legal()
        weight = torch.ones(env.num_envs, env.batch.num_actions) if legal is None else legal.float()
        assert (weight[~env.done].sum(1) > 0).all(), f"no legal action after {env.actions[:, :env.steps].tolist()}"
        weight[:, STOP] *= 0.05 * weight.shape[1] / 10
        weight[env.done | (weight.sum(1) == 0), STOP] = 1.0
        env.advance(torch.multinomial(weight, 1, generator=generator).squeeze(1))
    return env, *env.answers()


def test_a_task_says_what_it_is(case):
    assert case.name in tasks.names() and isinstance(case.version, int) and case.head in case.heads
    assert case.tests and case.metrics and case.reward_name and case.fingerprint
    assert len(set(all_splits(case))) == len(case.tests) + 2
    with pytest.raises(KeyError, match="there are"):
        case.examples("no-such-split")
    for split in all_splits(case):
        assert len(case.examples(split)) > 0


def test_references_are_legal(case):
    for split in all_splits(case):
        env = loaded(case, some(case, split))
        batch = env.batch
        assert torch.equal(batch.target_mask, through_stop(batch.target)), "a reference ends with its STOP, then padding"
        assert (batch.target.masked_fill(~batch.target_mask, STOP) == batch.target).all()
        assert ((batch.target == STOP) & batch.target_mask).sum(1).eq(1).all()
        assert batch.target.max() < batch.num_actions and batch.target.min() >= 0
        assert isinstance(batch.num_actions, int) and isinstance(env.horizon, int)
        if split == "train":
            assert batch.target.shape[1] <= env.horizon
        legal = env.legal_along(batch.target)
        if legal is not None:
            assert legal.shape == (*batch.target.shape, batch.num_actions) and legal.dtype == torch.bool
            assert legal.gather(2, batch.target.unsqueeze(2)).squeeze(2)[batch.target_mask].all()


def test_a_reference_earns_the_maximum(case):
    for split in all_splits(case):
        env = loaded(case, some(case, split, 24))
        reward = env.worth(env.batch.target, env.batch.target_mask)
        assert reward.shape == (len(env.batch),) and (reward >= 0).all() and (reward <= 1 + 1e-6).all()
        if getattr(case, "reference_is_best", True):
            best = complete(case, env.batch)
            assert best.any() and (reward[best] > 1 - 1e-6).all()                         # float32
        else:
            assert (reward < 1).any(), "a task that says so has references that earn less"


def complete(task, batch):
    """Which references can be written with the actions there are; a text task's UNK earns nothing (action 1)."""
    if not task.sizes.vocabulary or not task.sizes.source_ids:
        return torch.ones(len(batch), dtype=torch.bool)
    return ~((batch.target == 1) & batch.target_mask).any(1)


def test_splits_share_no_example(case):
    seen = {}
    for split in all_splits(case):
        batch = case.collate(some(case, split, 200))
        for row, one in enumerate(batch.examples):
            key = (batch.source[row][batch.source_mask[row]].numpy().tobytes(), show_source(one))
            assert seen.setdefault(key, split) == split, f"{split} and {seen[key]} share {one!r}"


def show_source(example):
    """What tells two problems apart before ids are taken: UNK makes different texts look alike."""
    source = getattr(example, "source", None)
    return source if isinstance(source, str) else None


@pytest.mark.parametrize("name", tasks.names())
def test_item_i_of_a_split_is_the_same_in_a_fresh_instance(name):
    head = tasks.task_class(name).heads[0]
    one, other = task_for(name, head), tasks.make(name, {"head": head})
    assert one.fingerprint == other.fingerprint
    for split in all_splits(one):
        examples, again = one.examples(split), other.examples(split)
        assert len(examples) == len(again)
        for i in (5, 0, 3):
            a, b = one.collate([examples[i]]), other.collate([again[i]])
            assert torch.equal(a.source, b.source) and torch.equal(a.target, b.target)


def test_some_action_is_legal_all_along(case):
    env, actions, mask = random_answers(case)                          # asserts it at every step
    assert actions.shape == (2 * len(env.batch), actions.shape[1]) and mask[:, 0].all()
    assert torch.equal(mask, through_stop(actions)) and actions.shape[1] <= env.horizon


def test_the_environments_return_equals_the_batched_reward(case):
    before, actions, mask = random_answers(case)
    batched = before.worth(actions, mask)
    env = SequenceEnv(case)
    seen, _ = env.reset(options={"batch": before.batch, "k": 2})
    assert set(seen) == set(env.single_observation_space.spaces)
    total, ends = torch.zeros(env.num_envs), torch.zeros(env.num_envs, dtype=torch.long)
    for t in range(actions.shape[1]):
        assert seen["legal"].gather(1, actions[:, t:t + 1]).squeeze(1)[mask[:, t]].all()
        seen, reward, terminated, truncated, _ = env.step(actions[:, t])
        assert not (terminated & truncated).any() and (reward[~(terminated | truncated)] == 0).all()
        total, ends = total + reward, ends + (terminated | truncated).long()
    assert torch.equal(terminated | truncated, torch.ones_like(terminated)) and (ends > 0).all()
    assert (total - batched).abs().max() < 1e-6                        # float32


@pytest.fixture
def made_once(monkeypatch):
    """Environments take the laws' own instances of tasks: reading their data again would take seconds."""
    monkeypatch.setattr(tasks, "make", lambda name, options: task_for(name, options["head"]))


def test_the_single_environment_pays_what_the_batch_pays(case, made_once):
    env = gymnasium.make(f"rlseq/{case.name}-v{case.version}", options={"head": case.head}, pool=4).unwrapped
    generator = np.random.default_rng(0)
    for seed in range(3):
        seen, _ = env.reset(seed=seed)
        row, ended, total = [], False, 0.0
        while not ended:
            row.append(int(generator.choice(np.flatnonzero(seen["legal"]))))
            seen, reward, terminated, truncated, info = env.step(row[-1])
            assert env.observation_space.contains(seen) and not info["illegal"]
            total, ended = total + reward, terminated or truncated
        actions = torch.tensor([row])
        assert terminated == (row[-1] == STOP) and len(row) <= env.horizon
        assert total == pytest.approx(float(case.reward(env.batch, actions, through_stop(actions))[0]), abs=1e-6)
    legal = np.flatnonzero(env.reset(seed=0)[0]["legal"])
    illegal = set(range(env.action_space.n)) - set(legal.tolist())
    if illegal:
        assert env.step(min(illegal))[1:] == (0.0, True, False, {"illegal": True})


@pytest.mark.parametrize("name", tasks.names())
def test_gymnasiums_checker_passes(name, made_once):
    env = gymnasium.make(f"rlseq/{name}-v{tasks.task_class(name).version}", pool=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")
        check_env(env.unwrapped, skip_render_check=True)


def test_more_source_padding_changes_neither_reward_nor_metrics(case):
    env, actions, mask = random_answers(case, k=1)
    longest = max(some(case, "train", 40), key=case.length)
    more = loaded(case, [*env.batch.examples, longest])
    assert more.batch.source.shape[1] > env.batch.source.shape[1]
    spare = torch.zeros(1, actions.shape[1], dtype=torch.long)
    longer, its = torch.cat([actions, spare]), torch.cat([mask, through_stop(spare)])
    assert torch.equal(env.worth(actions, mask), more.worth(longer, its)[:-1])
    for metric in case.metrics.values():
        assert np.array_equal(metric.rows(env.batch, actions, mask), metric.rows(more.batch, longer, its)[:-1])


def test_actions_after_stop_change_neither_reward_nor_metrics(case):
    env, actions, mask = random_answers(case, k=1)
    actions = torch.nn.functional.pad(actions, (0, 2))
    mask = torch.nn.functional.pad(mask, (0, 2))
    other = torch.where(mask, actions, env.batch.num_actions - 1)
    assert torch.equal(env.worth(actions, mask), env.worth(other, mask))
    for metric in case.metrics.values():
        assert np.array_equal(metric.rows(env.batch, actions, mask), metric.rows(env.batch, other, mask))


def test_row_n_answers_problem_n_over_k(case):
    env, actions, mask = random_answers(case, k=3)
    rewards = [env.task.reward(env.batch.rows(b, b + 1), actions[3 * b:3 * b + 3], mask[3 * b:3 * b + 3])
               for b in range(len(env.batch))]
    assert torch.equal(torch.cat(rewards).float(), env.worth(actions, mask))
    for metric in case.metrics.values():
        parts = [metric.rows(env.batch.rows(b, b + 1), actions[3 * b:3 * b + 3], mask[3 * b:3 * b + 3])
                 for b in range(len(env.batch))]
        assert np.array_equal(np.concatenate(parts), metric.rows(env.batch, actions, mask))
    legal = env.legal_along(actions)
    if legal is not None:
        alone = SequenceEnv(case)
        alone.load(env.batch.rows(1, 2))
        assert torch.equal(alone.legal_along(actions[3:6])[mask[3:6]], legal[3:6][mask[3:6]])


def test_summed_metrics_rank_references_above_random_answers(case):
    env, actions, mask = random_answers(case, k=1)
    for name, metric in case.metrics.items():
        gold = metric.rows(env.batch, env.batch.target, env.batch.target_mask)
        poor = metric.rows(env.batch, actions, mask)
        assert gold.dtype == np.float64 and gold.shape == (len(env.batch), gold.shape[1]) and metric.signature
        best, worst = metric.score(gold.sum(0)), metric.score(poor.sum(0))
        perfect = getattr(case, "reference_is_best", True) and complete(case, env.batch).all()
        if lower_is_better(case, name):
            assert 0 <= best <= worst and (best < 1 or not perfect), (name, worst, best)
        else:
            assert 0 <= worst <= best <= 100 + 1e-6 and (best > 99 or not perfect), (name, worst, best)


def test_people_can_read_problems_and_answers(case):
    env, actions, mask = random_answers(case, k=2)
    for row in range(len(actions)):
        assert "\n" not in case.show(env.batch, actions, row) and "\n" not in case.answer(env.batch, actions, row)


def test_a_checkpoints_state_restores_the_same_ids(case):
    other = tasks.make(case.name, {"head": case.head})
    other.restore(case.state())
    examples = some(case, "dev")
    one, two = case.collate(examples), other.collate(examples)
    assert torch.equal(one.source, two.source) and one.num_actions == two.num_actions and case.sizes == other.sizes
