"""Batches: every example once an epoch, a function of (seed, step), and even costs."""

import os
import time
from collections import Counter
from concurrent.futures import wait
from contextlib import closing
from threading import Event, Timer

import numpy as np
import pytest

from rlseq import batches
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
    wait([ahead.drawn[1]])                                              # what was begun is done
    assert asked == [0, 1]
    assert [ahead(step) for step in (1, 2, 7, 8)] == [[1], [2], [7], [8]]
    ahead.close()
    assert sorted(set(asked)) == [0, 1, 2, 3, 7, 8]


@pytest.mark.parametrize("error", [ValueError("no step 3"), MemoryError("no step 3"), SystemExit("no step 3")])
def test_an_error_while_drawing_ahead_reaches_the_one_who_asks(error):
    def broken(step):
        raise error
    with closing(Ahead(broken, 9)) as ahead:
        with pytest.raises(ValueError, match=f"update 3: .* {type(error).__name__}: no step 3"):
            ahead(3)


def test_a_thread_that_is_gone_is_said_within_seconds(monkeypatch):
    monkeypatch.setattr(batches, "PATIENCE", 0.2)
    ahead = Ahead(lambda step: [step], 9)
    child = os.fork()                                                   # takes no thread along
    if child == 0:
        try:
            ahead(5)
        except ValueError as error:
            os._exit(7 if "update 5: the thread that draws its examples is gone" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    ahead.close()


def test_a_draw_that_hangs_is_said_and_holds_nobody_up_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr(batches, "PATIENCE", 0.01)
    hung = Event()
    ahead = Ahead(lambda step: hung.wait(10) and [step], 9)
    Timer(0.5, hung.set).start()
    assert ahead(4) == [4]
    assert "rlseq: update 4: waiting for its examples" in capsys.readouterr().err
    hung.clear()
    start = time.monotonic()
    ahead.close()
    assert time.monotonic() - start < 5 and ahead.thread.daemon
    hung.set()


def test_the_batch_drawn_ahead_is_the_one_a_stride_later():
    asked = []
    ahead = Ahead(lambda step: asked.append(step) or [step], stop=8, stride=3)
    assert [ahead(step) for step in (0, 3, 4)] == [[0], [3], [4]], "a step that nobody foresaw is drawn as well"
    ahead.close()
    assert asked[:3] == [0, 3, 6] and 4 in asked
