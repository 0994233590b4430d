"""How policies go on after mistakes: by hand for policies that never notice or never recover, else against plain decoding."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from rlseq import recovery, tasks
from rlseq.decode import greedy
from rlseq.env import through_stop
from rlseq.evaluate import evaluate
from rlseq.nn.policy import Shape
from rlseq.recovery import DISTANCES, KINDS, Plan, Trial, by_policy, mistaken, pasted, start
from rlseq.task import Mean, problem_rows
from rlseq.types import STOP, Batch, Rollout, Scores
from tests.toys import TINY, Table, loaded, task_for, tiny_policy, tiny_shape

CPU = torch.device("cpu")
HORIZON, WORDS = 16, 20
BAD = WORDS - 1                        # what the toys hold likeliest after what they say; no reference has it


class Places(Table):
    """References of 5 to 10 words, each once; an answer is worth the share of its actions, STOP too, that stand where the
    reference has them, of the longer of the two."""

    def __init__(self, rule=False):
        super().__init__(words=3, steps=3, rule=rule)
        self.words, self.steps, self.metrics = WORDS, HORIZON, {"exact": Mean("exact", lambda *all: self.reward(*all) == 1)}

    def reference(self, example):
        return [*(1 + (3 * example + t) % (BAD - 1) for t in range(5 + example % 6)), STOP]

    def reward(self, batch: Batch, actions: Tensor, mask: Tensor) -> Tensor:
        found = []
        for row, problem in enumerate(problem_rows(batch, len(actions)).tolist()):
            gold, said = self.reference(batch.examples[problem]), actions[row][mask[row]].tolist()
            found.append(sum(a == b for a, b in zip(gold, said)) / max(len(gold), len(said)))
        return torch.tensor(found)

    def examples(self, split):
        return range(24)


@dataclass(frozen=True)
class State:
    batch: Batch
    step: int = 0

    def narrow(self, problems, rows):
        return State(self.batch.take(problems), self.step)


class Toy:
    """Says the reference. Deaf to what came before, or lost for good: from its first mistake on it repeats itself."""

    def __init__(self, lost):
        self.lost = lost

    def eval(self):
        return self

    def encode(self, batch):
        return batch

    def start(self, batch, k):
        return State(batch)

    def likes(self, batch, step, action):
        """Logits [N, A] at a step."""
        gold = torch.nn.functional.pad(batch.target.masked_fill(~batch.target_mask, STOP), (0, HORIZON))
        wanted = gold[:, step]
        if self.lost and step:
            wanted = torch.where(action == gold[:, step - 1], wanted, action)
        return 5.0 * torch.nn.functional.one_hot(wanted, WORDS) + torch.nn.functional.one_hot(torch.tensor(BAD), WORDS)

    def logits(self, state, action, legal=None):
        return self.likes(state.batch, state.step, action), State(state.batch, state.step + 1)

    def __call__(self, batch, actions, mask, legal=None, fed=None):
        rows = [self.likes(batch, t, fed[:, t - 1] if t else None).log_softmax(1) for t in range(actions.shape[1])]
        return Scores(torch.stack(rows, 1).gather(2, actions.unsqueeze(2)).squeeze(2))


def means(found, *key):
    return found[key][:, 0] / found[key][:, 1]


@pytest.mark.parametrize("wrong", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_who_does_not_hear_its_prefix_loses_what_is_wrong_and_no_more(kind, wrong):
    trial = Trial(Places(), Plan(wrong=wrong, places=(0.0, 0.3)))
    found = trial(Toy(lost=False))
    assert len(trial.numbers) == 24
    lengths = np.array([len(trial.task.reference(trial.examples[i])) for i in trial.numbers])
    for place in (0.0, 0.3):
        assert means(found, "clean", place, "reward") == pytest.approx(1)
        assert means(found, kind, place, "reward") == pytest.approx(1 - wrong / lengths)         # rewards are float32
        assert (found[f"{kind} alone", place, "reward"] == found[kind, place, "reward"]).all(), "nothing beyond"
    for distance in DISTANCES:
        assert not found["after", kind, distance][:, 0].any() and found["after", kind, distance][:, 1].sum() > 5


def test_who_is_lost_after_a_mistake_earns_what_came_before_it():
    trial = Trial(Places(), Plan(places=(0.0, 0.25, 0.5)))
    found = trial(Toy(lost=True))
    lengths = np.array([len(trial.task.reference(trial.examples[i])) for i in trial.numbers])
    for place in (0.0, 0.25, 0.5):
        begin = np.floor(place * (lengths - 1))
        assert means(found, "clean", place, "reward") == pytest.approx(1)
        # it says BAD to the horizon: of 16 actions, those before stand where they should
        assert means(found, "own", place, "reward") == pytest.approx(begin / HORIZON)
        assert means(found, "own alone", place, "reward") == pytest.approx(1 - 1 / lengths)
    # wanted is BAD (logit 6) and no more the reference's (0 for 5): the others sum to exp(6) + 19 and to exp(5) + e + 18
    more = 5 + np.log(np.exp(6) + 19) - np.log(np.exp(5) + np.exp(1) + 18)
    own = found["after", "own", 1]
    assert own[:, 0] / own[:, 1] == pytest.approx(more, abs=1e-5)
    assert not found["after", "own", 4][:, 0].any(), "fed the reference again, it only hears the last action"


def test_places_and_lengths_of_references():
    assert start(torch.tensor([4, 5, 8, 3]), 0.25).tolist() == [1, 1, 2, 0]
    assert start(torch.tensor([10, 30]), 0.3).tolist() == [3, 9], "no rounding of floats"
    # L = 5..10; at 3/4 mistakes begin at 3, 4, 5, 6, 6, 7: three wrong and one left need L >= 9 (6+3 < 9 no), 10 (7+3 no)
    with pytest.raises(ValueError, match="leaves an action after 3 wrong"):
        Trial(Places(), Plan(wrong=3, places=(0.75,)))
    trial = Trial(Places(), Plan(wrong=2, places=(0.75,), problems=12))
    assert {5 + i % 6 for i in trial.numbers} == {9, 10} and trial.asked == 12      # 6 + 2 < 9, 7 + 2 < 10, else not


def real(name, head, shape=None, scale=3.0):
    """A task, and a policy that has learned nothing; its parameters are wide, so that it is sure of its mistakes."""
    task = Places(rule=True) if name == "places" else tasks.make(name, {"head": head})
    policy = tiny_policy(shape or tiny_shape({"head": head, "dropout": 0.0}), task.sizes, scale=scale)
    return task, policy if name == "places" else policy.float()


CASES = [("hull", "pointer"), ("sort", "pointer"), ("sort", "copy"), ("places", "vocabulary")]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_at_place_0_clean_is_the_ordinary_greedy_answer(case):
    task, policy = real(*case)
    trial = Trial(task, Plan(problems=20, places=(0.0, 0.25), kinds=("own",)))
    found, plain = trial(policy), evaluate(policy, task, "dev", CPU, limit=20)
    for name in ("reward", *trial.metrics):
        assert np.array_equal(found["clean", 0.0, name], plain.rows[name][trial.numbers])


@pytest.mark.parametrize("wrong", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_mistakes_are_legal_wrong_no_stop_and_the_same_for_all(case, wrong):
    task, policy = real(*case)
    trial = Trial(task, Plan(problems=30, places=(0.5,), wrong=wrong))
    with torch.no_grad():
        trial(policy), trial(real(*case, scale=1.0)[1])
    trial.env.load(task.collate([trial.examples[i] for i in trial.numbers]))
    env, mask = trial.env, trial.env.batch.target_mask
    gold, begin = env.batch.target, start(mask.sum(1) - 1, 0.5)
    for kind in ("random", "shared"):
        fed = trial.kept[kind, 0.5, 0]
        steps = torch.arange(gold.shape[1])
        inside = (steps >= begin[:, None]) & (steps < (begin + wrong)[:, None])
        assert torch.equal(fed[~inside & mask], gold[~inside & mask]) and (fed[inside] != STOP).all()
        assert (fed[inside] != gold[inside]).all()
        legal = env.legal_along(fed)
        assert legal.gather(2, fed.unsqueeze(2)).squeeze(2)[inside].all()
    with torch.no_grad():
        own = mistaken(env, gold, begin, wrong, by_policy(policy, env))
        assert torch.equal(own, trial.kept["shared", 0.5, 0]), "those of the policy that was measured first"
        # the likeliest wrong one, by scoring whole rows: each is below no other legal action but the reference's and STOP
        logp = policy.log_probs(policy.encode(env.batch), own, env.legal_along(own))
    logp = logp.scatter(2, gold.unsqueeze(2), -np.inf)
    logp[:, :, STOP] = -np.inf
    assert torch.equal(logp.argmax(2)[inside], own[inside])


def test_where_no_action_is_wrong_the_references_stays_and_is_counted():
    task, policy = real("sort", "pointer")
    env = loaded(task, [task.examples("dev")[i] for i in range(8)])
    length = env.batch.target_mask.sum(1) - 1
    with torch.no_grad():                                    # at the last item nothing else is legal but STOP
        assert torch.equal(mistaken(env, env.batch.target, length - 1, 1, by_policy(policy, env)), env.batch.target)
    two = Table(words=2, steps=9)                            # one word and STOP
    two.reference = lambda example: [1, 1, 1, 1, STOP]
    trial = Trial(two, Plan(kinds=("random",), places=(0.0, 0.5)))
    found = trial(tiny_policy(Shape(head="vocabulary", **TINY), two.sizes))
    assert found["unharmed", "random"].tolist() == [[2, 2]] * 4


def test_random_mistakes_follow_from_seed_and_problem_whatever_is_decoded_together(monkeypatch):
    task, policy = real("sort", "pointer")
    plan = Plan(problems=30, places=(0.25,), kinds=("random",))

    def mistakes(seed=0):
        trial = Trial(task, Plan(**{**plan.__dict__, "seed": seed}))
        trial(policy)
        return {number: row[row != STOP].tolist() for (_, _, first), rows in trial.kept.items()
                for number, row in zip(trial.numbers[first:], rows)}
    once = mistakes()
    assert mistakes() == once and mistakes(seed=1) != once
    monkeypatch.setattr(recovery, "TOGETHER", 7)
    assert mistakes() == once


def test_a_trial_says_the_same_twice_and_in_small_batches(monkeypatch):
    task, policy = real("hull", "pointer")
    plan = Plan(problems=10, places=(0.0, 0.5), kinds=("random", "own"))
    found = [Trial(task, plan)(policy) for _ in range(2)]
    assert all((found[0][key] == found[1][key]).all() for key in found[0])
    monkeypatch.setattr(recovery, "TOGETHER", 4)
    calls = []
    parts = Trial(task, plan)(policy, lambda: calls.append(1))
    assert len(calls) > 1 and all(np.allclose(found[0][key], parts[key], atol=1e-3) for key in parts)


@torch.no_grad()
@pytest.mark.parametrize("shape", [{}, {"encoder": "lstm", "decoder": "lstm"}], ids=["transformer", "lstm"])
def test_nats_after_a_mistake_are_those_of_plain_steps(shape):
    task, policy = real("places", "vocabulary", Shape(head="vocabulary", **{**TINY, **shape}))
    trial = Trial(task, Plan(problems=12, places=(0.25,), kinds=("random",)))
    found, fed = trial(policy), trial.kept["random", 0.25, 0]

    def nats(example, shown):
        env, told = loaded(task, [example]), []
        state, gold = policy.start(policy.encode(env.batch), 1), task.reference(example)
        for t, action in enumerate(gold):
            legal = task.legal(env.batch, torch.tensor([shown[:t]], dtype=torch.long))
            logp, state = policy.step(state, torch.tensor(shown[t - 1:t]) if t else None, legal)
            told.append(float(-logp[0, action]) if legal[0, action] else None)
        return told
    seen = 0
    for row, number in enumerate(trial.numbers):
        example = trial.examples[number]
        gold = task.reference(example)
        right, wrong = nats(example, gold), nats(example, fed[row].tolist())
        for distance in DISTANCES:
            step = int((len(gold) - 1) * 0.25) + distance
            there = step < len(gold) and wrong[step] is not None
            seen += there
            wanted = [wrong[step] - right[step], 1] if there else [0, 0]
            assert found["after", "random", distance][row] == pytest.approx(wanted, abs=1e-9)
    assert seen > 6


def test_the_mistake_alone_in_a_clean_answer_by_hand():
    task = task_for("sort", "pointer")
    env = loaded(task, [task.parse("9 5 7 3"), task.parse("4 1 2 3")])
    actions = torch.tensor([[4, 2, 3, 1, 0], [2, 3, 0, 0, 0]])           # 3 5 7 9; 1 2, and STOP too soon
    clean = Rollout(env.batch, actions, through_stop(actions), *[torch.zeros(2, 5)] * 3)
    fed = torch.tensor([[4, 3, 3, 1, 0], [2, 3, 1, 4, 0]])
    found, mask = pasted(env, clean, fed, torch.tensor([2, 3]))
    # 3 7, then the rest 7 9 without the 7 that is used up; 1 2 4, where the clean answer had ended
    assert [row[real].tolist() for row, real in zip(found, mask)] == [[4, 3, 1, 0], [2, 3, 1, 0]]


@pytest.mark.parametrize("case", CASES[:2], ids=" ".join)
def test_what_a_pointer_says_after_a_mistake_is_legal(case, monkeypatch):
    task, policy = real(*case)
    said = []
    monkeypatch.setattr(recovery, "greedy", lambda *all: said.append((all[1].batch, greedy(*all))) or said[-1][1])
    found = Trial(task, Plan(problems=10, wrong=2, places=(0.25, 0.5)))(policy)
    assert all(abs(found["after", kind, one]).max() < 1e4 for kind in KINDS for one in DISTANCES), "what is used up is no cost"
    assert len(said) == 2 * (1 + len(KINDS))
    for batch, answers in said:
        env = loaded(task, batch.examples)
        legal = env.legal_along(answers.actions).gather(2, answers.actions.unsqueeze(2)).squeeze(2)
        assert legal[answers.mask].all()


@pytest.mark.parametrize(("options", "part"), [({"places": (1.0,)}, "places"), ({"places": ()}, "places"),
                                               ({"places": (0.5, 0.5)}, "places"), ({"kinds": ("odd",)}, "kinds"),
                                               ({"kinds": ()}, "kinds"), ({"kinds": ("own", "own")}, "each once")])
def test_a_plan_that_cannot_be_is_refused(options, part):
    with pytest.raises(ValueError, match=part):
        Plan(**options)
