"""The sort task: problems, what is held out, three encodings of one answer, legality, rewards, users' numbers."""

import pickle

import numpy as np
import pytest
import torch

from rlseq.paths import TASKS
from rlseq.tasks import make
from rlseq.types import STOP

HEADS = ("copy", "pointer", "vocabulary")
TESTS = ("test-15", "test-seen", "test-5", "test-10", "test-30", "test-100")


def task_for(head, **options):
    return make("sort", {"head": head, **options})


def rows(*answers):
    width = max(map(len, answers)) + 1
    actions = torch.tensor([[*answer] + [STOP] * (width - len(answer)) for answer in answers])
    return actions, (torch.cumsum(actions == STOP, 1) - (actions == STOP).long()) == 0


def is_held_out(value):
    return value % 7 == 3 and value % 10 != 0


def test_an_item_depends_on_split_seed_and_number_alone():
    train = task_for("copy").examples("train")
    items = train[10**9:10**9 + 3]
    again = task_for("pointer").examples("train")
    assert len(train) >= 2**40 and [again[10**9 + i] for i in (2, 1, 0)] == items[::-1]
    assert task_for("copy", seed=1).examples("train")[10**9:10**9 + 3] != items
    with pytest.raises(IndexError):
        task_for("copy").examples("dev")[1000]


def test_splits_share_no_list_however_short():
    # lists of one number: 872 values are seen in training, so dev and train could not be drawn apart by luck
    task = task_for("copy", min_length=1, max_length=1)
    seen = {split: {one.values for one in task.examples(split)[:300]} for split in ("train", "dev", *task.tests)}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))
    assert len(seen["train"]) > 150


def test_held_out_values_are_tested_and_never_trained_on():
    task = task_for("copy")
    assert task.tests == TESTS
    for split in ("train", "dev", "test-seen"):
        assert not any(is_held_out(value) for one in task.examples(split)[:1000] for value in one.values)
    drawn = [value for one in task.examples("test-15") for value in one.values]
    # a fresh draw is held out with probability 1/2, and copies keep that; 8000 draws in clumps: +-0.05 is > 6 sigma
    assert np.mean([is_held_out(value) for value in drawn]) == pytest.approx(0.5, abs=0.05)
    assert len({value for value in drawn if is_held_out(value)}) == sum(map(is_held_out, range(1000)))


def test_lengths_and_duplicates_are_those_promised():
    task = task_for("copy")
    for split in ("train", "dev", "test-15", "test-seen"):
        assert {len(one.values) for one in task.examples(split)[:1000]} == set(range(1, 16))
    for n in (5, 10, 30, 100):
        assert {len(one.values) for one in task.examples(f"test-{n}")[:5]} == {n}
    # of two items the second repeats the first with probability 0.3 (or by chance, 1/872): 1000 pairs, 4 sigma = 0.058
    pairs = [one.values for one in task_for("copy", min_length=2, max_length=2).examples("train")[:1000]]
    assert np.mean([a == b for a, b in pairs]) == pytest.approx(0.301, abs=0.058)
    # of k distinct values the next item adds one with probability 0.7: of 15, 1 + 14 * 0.7 = 10.8 less ~0.1 by chance
    long = [one.values for one in task_for("copy", min_length=15, max_length=15).examples("train")[:1000]]
    assert np.mean([len(set(one)) for one in long]) == pytest.approx(10.74, abs=0.25)


def test_three_encodings_by_hand():
    # words: v = 0, 10, .. -> 2 + v / 10; V = 102.  37 and 5 are no words: 37 is the 0th, 5 the 1st such value
    values = "37 120 5 37 120"
    expected = {"copy": [103, 102, 102, 14, 14], "vocabulary": [1, 1, 1, 14, 14], "pointer": [3, 1, 4, 2, 5]}
    for head, target in expected.items():
        task = task_for(head)
        batch = task.collate([task.parse(values), task.parse("9")])
        assert batch.target.tolist() == [[*target, STOP], [{"copy": 102, "vocabulary": 1, "pointer": 1}[head]] + [STOP] * 5]
        assert batch.target_mask.sum(1).tolist() == [6, 2]
        assert batch.num_actions == {"copy": 104, "vocabulary": 102, "pointer": 6}[head]
        assert task.sizes.vocabulary == {"copy": 102, "vocabulary": 102, "pointer": 0}[head]
    batch = task_for("copy").collate([task.parse(values), task.parse("9")])
    assert batch.extra["copy_ids"].tolist() == [[102, 14, 103, 102, 14], [102, 0, 0, 0, 0]]


@pytest.mark.parametrize("head", ["copy", "pointer"])
def test_references_are_legal_and_earn_exactly_one(head):
    task = task_for(head)
    batch = task.collate([task.examples(split)[i] for split in ("dev", *task.tests) for i in range(8)])
    assert task.reference_is_best
    assert task.reward(batch, batch.target, batch.target_mask).unique().tolist() == [1]
    for metric in task.metrics.values():
        assert metric.score(metric.rows(batch, batch.target, batch.target_mask).sum(0)) == 100
    for t in range(batch.target.shape[1]):
        legal = task.legal(batch, batch.target[:, :t])
        assert (legal.gather(1, batch.target[:, t:t + 1])[:, 0] | ~batch.target_mask[:, t]).all()
    assert batch.target.shape[1] <= task.horizon(batch)


def test_the_vocabulary_head_cannot_earn_what_is_no_word():
    task = task_for("vocabulary")
    batch = task.collate([task.parse("37 120 5 37 120"), task.parse("20 10")])
    with pytest.raises(ValueError, match="give integers from 0 to"):
        task.parse("9" * 5000)                                                   # more digits than int() takes
    assert not task.reference_is_best and task.legal(batch, batch.target[:, :0]) is None
    # 2 of 5 items are words: F1 = 2 * 2 / (5 + 5); only the second list can be answered in full
    assert task.reward(batch, batch.target, batch.target_mask).tolist() == pytest.approx([0.4, 1])
    exact = task.metrics["exact"]
    assert exact.score(exact.rows(batch, batch.target, batch.target_mask).sum(0)) == 50
    assert task.answer(batch, batch.target, 0) == "<unk> <unk> <unk> 120 120"


def test_legal_actions_by_hand():
    task = task_for("pointer")
    batch = task.collate([task.parse("4 4 8"), task.parse("6")])               # k = 2
    prefix = torch.tensor([[1, 3], [2, STOP], [1, STOP], [STOP, STOP]])
    found = [sorted(row.nonzero()[:, 0].tolist()) for row in task.legal(batch, prefix)]
    assert found == [[0, 2], [0, 1, 3], [0], [0, 1]]
    task = task_for("copy")
    batch = task.collate([task.parse("4 4 8"), task.parse("20")])               # copies: 102 and 103; none
    found = task.legal(batch, torch.zeros(4, 1, dtype=torch.long))
    assert found[:, :102].all() and found[:, 102:].tolist() == [[True, True]] * 2 + [[False, False]] * 2


def test_rewards_by_hand():
    # items 37 120 37: sorted 37 37 120.  copy: 37 is 102, 120 is 14, UNK 1, 20 is 4
    task = task_for("copy")
    batch = task.collate([task.parse("37 120 37"), task.parse("20")])
    answers, mask = rows([102, 102, 14], [102, 14, 102], [102, 14], [102, 102, 14, 14], [1, 102, 14], [4], [4, 4], [])
    first, first_mask = torch.cat([answers[:5], answers[5:]]), mask
    expected = [1, 2 * 2 / 6, 2 * 2 / 5, 2 * 3 / 7]
    assert task.reward(batch, first, first_mask)[:4].tolist() == pytest.approx(expected, abs=1e-7)
    # the last four answer the second problem: UNK and what it has not are worth nothing, 20 all, 20 twice 2/3
    assert task.reward(batch, first, first_mask)[4:].tolist() == pytest.approx([0, 1, 2 / 3, 0], abs=1e-7)
    # order aside, 37 120 37 has all items
    items = task.metrics["items"].rows(batch, first, first_mask)[:4, 0]
    assert items.tolist() == pytest.approx([1, 1, 4 / 5, 6 / 7], abs=1e-7)


def test_equal_values_are_worth_the_same_to_a_pointer():
    task = task_for("pointer")
    batch = task.collate([task.parse("5 3 5")])
    answers, mask = rows([2, 1, 3], [2, 3, 1], [2, 1, 1], [1, 2, 3])
    # positions 1 and 3 both hold 5; a position twice still reads 3 5 5; 5 3 5 shares two of three
    assert task.reward(batch, answers, mask).tolist() == pytest.approx([1, 1, 1, 2 / 3])


def test_pointers_to_equal_values_keep_the_order_of_the_source():
    batch = task_for("pointer").collate([task_for("pointer").parse("8 3 " * 50)])
    assert batch.target[0].tolist() == [*range(2, 101, 2), *range(1, 100, 2), STOP]


def test_an_answer_without_stop_is_judged_as_it_stands():
    task = task_for("pointer")
    batch = task.collate([task.parse("5 3")])
    assert task.reward(batch, torch.tensor([[2, 1]]), torch.ones(1, 2, dtype=torch.bool)).tolist() == [1]


def test_features_tell_all_values_apart_and_neighbours_are_near():
    task = task_for("copy")
    table = task.table[:-1]
    far = np.linalg.norm(table[:, None] - table[None], axis=-1) + 1e9 * np.eye(1000)
    assert table.shape == (1000, task.sizes.features) and np.abs(table).max() <= 1 and far.min() > 0.1
    assert table[0, 0] == -1 and table[999, 0] == 1
    assert table[270, -3:].tolist() == pytest.approx([0 / 4.5 - 1, 7 / 4.5 - 1, 2 / 4.5 - 1])
    batch = task.collate([task.parse("1 2 3"), task.parse("4")])
    assert not batch.source[1, 1:].any() and batch.source_mask.tolist() == [[True] * 3, [True, False, False]]


def test_fingerprint_names_the_problems_and_not_the_head():
    prints = [task_for(head).fingerprint for head in HEADS]
    changed = [task_for("copy", **one).fingerprint
               for one in ({"seed": 1}, {"high": 500}, {"every": 20}, {"max_length": 5}, {"duplicates": 0.1})]
    assert len(set(prints)) == 1 and len({prints[0], *changed}) == 6
    assert prints[0] in (TASKS / "sort" / "README.md").read_text(), "data changed: raise version, write the new fingerprint"


@pytest.mark.parametrize("line, said", [("", "empty"), ("3 x", "'x'"), ("3 -1", "'-1'"), ("1000", "'1000'"),
                                        ("1.5 2", "'1.5'")])
def test_malformed_lines_are_named(line, said):
    with pytest.raises(ValueError, match=said) as error:
        task_for("copy").parse(line)
    assert "\n" not in str(error.value) and "999" in str(error.value)


def test_answers_are_the_users_numbers():
    task = task_for("copy")
    batch = task.collate([task.parse("37, 120, 5"), task.parse("999")])
    answers, _ = rows([103, 102, 14], [2], [102], [1, 4])
    assert [task.answer(batch, answers, row) for row in range(4)] == ["5 37 120", "0", "999", "<unk> 20"]
    assert task.show(batch, answers, 1) == "37 120 5 | sorted 5 37 120 | answer 0"


@pytest.mark.parametrize("options, said", [
    ({"head": "words"}, "copy, pointer, vocabulary"), ({"head": "copy", "high": 50}, "high=50"),
    ({"head": "copy", "every": 1}, "every=1"), ({"head": "copy", "min_length": 9, "max_length": 3}, "min_length=9"),
    ({"head": "copy", "duplicates": 1.0}, "duplicates=1.0"),
])
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        make("sort", options)


def test_unknown_splits_are_named():
    with pytest.raises(KeyError, match="test-15"):
        task_for("copy").examples("test")


def test_the_task_travels_between_processes():
    task = pickle.loads(pickle.dumps(task_for("copy")))
    assert task.examples("train")[3] == task_for("copy").examples("train")[3]
