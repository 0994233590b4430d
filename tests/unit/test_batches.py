"""Batches: every example once an epoch, a function of (seed, step), and even costs."""

from collections import Counter

import numpy as np
import pytest

from rlseq.batches import ENDLESS, POOL, Ahead, Batches


class Lengths:
    """A task of numbers; a number's cost is its remainder by 50, and 1 more."""

    name = "lengths"

    def __init__(self, data):
        self.data = data

    def examples(self, split):
        assert split == "train"
        return self.data

    def length(self, example):
        return 1 + example % 50


class Endless:
    def __len__(self):
        return 2**40

    def __getitem__(self, i):
        return i


def drawn(batches, steps):
    return [one for step in steps for one in batches(step)]


@pytest.mark.parametrize(("size", "tokens"), [(4, 0), (7, 0), (1, 100), (1, 300)])
def test_each_epoch_sees_each_example_once(size, tokens):
    task = Lengths(list(range(300)))
    batches = Batches(task, size, tokens, 5)
    pools = -(-300 * 4 // (POOL * batches.size))
    seen = drawn(batches, range(POOL * pools))
    # a pool is sorted, so epochs mingle within it only: all counts differ by at most one at any pool's end
    assert max(Counter(seen).values()) - min(Counter(seen).values()) <= 1 and len(set(seen)) == 300
    assert len(seen) == pools * POOL * batches.size
    one = Batches(Lengths(list(range(POOL * 3))), 3, 0, 5)
    first, second = drawn(one, range(POOL)), drawn(one, range(POOL, 2 * POOL))
    assert sorted(first) == sorted(second) == list(range(POOL * 3)) and first != second


def test_a_step_depends_on_seed_and_number_alone():
    task = Lengths(list(range(500)))
    one, other = Batches(task, 4, 0, 5), Batches(task, 4, 0, 5)
    for _ in range(3):
        forward = [one(step) for step in range(80)]
        assert [other(step) for step in reversed(range(80))][::-1] == forward
    assert [Batches(task, 4, 0, 6)(step) for step in range(80)] != forward


def test_batches_hold_alike_lengths_in_shuffled_order():
    batches = Batches(Lengths(list(range(10000))), 8, 0, 1)
    spans, means = [], []
    for step in range(POOL):
        lengths = [1 + one % 50 for one in batches(step)]
        spans.append(max(lengths) - min(lengths))
        means.append(np.mean(lengths))
        assert len(lengths) == 8
    assert np.mean(spans) < 5 < 30 < max(means) - min(means)             # unsorted spans would be about 40
    assert abs(np.corrcoef(np.arange(POOL), means)[0, 1]) < 0.6


def test_batches_of_tokens_cost_alike_and_short_examples_come_in_larger_ones():
    batches = Batches(Lengths(list(range(10000))), 8, 800, 1)
    found = [batches(step) for step in range(4 * POOL)]
    costs = [sum(1 + one % 50 for one in part) for part in found]
    assert all(part for part in found) and abs(np.mean(costs) - 800) < 80
    assert max(costs) < 1.2 * np.mean(costs) and min(costs) > 0.8 * np.mean(costs)
    sizes = [len(part) for part in found]
    means = [cost / size for cost, size in zip(costs, sizes)]
    assert np.corrcoef(sizes, means)[0, 1] < -0.5


@pytest.mark.parametrize("tokens", [1, 5, 51])
def test_no_batch_of_tokens_is_empty_however_small(tokens):
    batches = Batches(Lengths([0] * 30 + [49] * 2), 1, tokens, 1)
    assert all(len(batches(step)) for step in range(2 * POOL))


def test_endless_splits_are_read_in_order_from_a_random_start():
    batches = Batches(Lengths(Endless()), 4, 0, 5)
    seen = sorted(drawn(batches, range(2 * POOL)))
    assert seen == list(range(seen[0], seen[0] + 2 * POOL * 4)) and len(Endless()) >= ENDLESS
    assert min(drawn(Batches(Lengths(Endless()), 4, 0, 6), range(POOL))) != seen[0]


class AtOnce(Endless):
    def __getitem__(self, i):
        raise AssertionError("one by one")

    def __getitems__(self, indices):
        return (i for i in indices)


def test_data_that_gives_many_examples_at_once_is_asked_so():
    one, other = Batches(Lengths(Endless()), 4, 0, 5), Batches(Lengths(AtOnce()), 4, 0, 5)
    assert [one(step) for step in range(2 * POOL)] == [other(step) for step in range(2 * POOL)]


@pytest.mark.parametrize(("data", "size", "tokens", "said"), [([], 4, 0, "is empty"), ([1], 0, 0, "batch=0"),
                                                              ([1], 1, -1, "batch_tokens=-1")])
def test_impossible_batches_are_refused(data, size, tokens, said):
    with pytest.raises(ValueError, match=said):
        Batches(Lengths(data), size, tokens, 0)


def test_the_next_step_is_drawn_before_it_is_asked_for_and_none_after_the_last():
    asked = []
    ahead = Ahead(lambda step: asked.append(step) or [step], 9)
    assert ahead(0) == [0]
    ahead.thread.submit(lambda: None).result()                          # what was begun is done
    assert asked == [0, 1]
    assert [ahead(step) for step in (1, 2, 7, 8)] == [[1], [2], [7], [8]]
    ahead.close()
    assert sorted(set(asked)) == [0, 1, 2, 3, 7, 8]


def test_an_error_while_drawing_ahead_reaches_the_one_who_asks():
    def broken(step):
        raise ValueError(f"no step {step}")
    ahead = Ahead(broken, 9)
    with pytest.raises(ValueError, match="no step 3"):
        ahead(3)
    ahead.close()


def test_the_batch_drawn_ahead_is_the_one_a_stride_later():
    asked = []
    ahead = Ahead(lambda step: asked.append(step) or [step], stop=8, stride=3)
    assert [ahead(step) for step in (0, 3, 4)] == [[0], [3], [4]], "a step that nobody foresaw is drawn as well"
    ahead.close()
    assert asked[:3] == [0, 3, 6] and 4 in asked
