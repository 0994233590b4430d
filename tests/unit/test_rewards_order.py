"""Worth of a list as the sorted form of a multiset, against a plain dynamic programme and by enumeration."""

import itertools
import random
from collections import Counter

import pytest
import torch

from rlseq.rewards.order import ascending, common, is_sorted, items_f1, order_f1


def padded(rows):
    """Rows -> values and mask; the padding holds a value that must not matter (7, which occurs in rows too)."""
    width = max(map(len, rows)) + 1
    values, mask = torch.full((len(rows), width), 7), torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        values[index, :len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, :len(row)] = True
    return values, mask


def lcs_in_python(left, right):
    if not left or not right:
        return 0
    if left[-1] == right[-1]:
        return 1 + lcs_in_python(left[:-1], right[:-1])
    return max(lcs_in_python(left[:-1], right), lcs_in_python(left, right[:-1]))


def test_common_subsequence_agrees_with_the_recursion_that_defines_it():
    draw = random.Random(0)
    pairs = [[[draw.randrange(4) for _ in range(5)] for _ in range(2)] for _ in range(400)]
    left, right = torch.tensor(pairs).unbind(1)
    assert common(left, right).tolist() == [lcs_in_python(*pair) for pair in pairs]


def test_unknown_values_match_nothing_not_even_each_other():
    assert common(torch.tensor([[-1, 3, -1]]), torch.tensor([[-1, 3, -1]])).tolist() == [1]


def test_order_f1_by_hand():
    items = [5, 2, 5]                                  # sorted 2 5 5
    answers = {(2, 5, 5): 1, (5, 2, 5): 2 * 2 / 6,     # shares 2 5
               (2, 5): 2 * 2 / 5,                      # one missing
               (2, 5, 5, 5): 2 * 3 / 7,                # one repeated once too often
               (2, 5, 5, 9): 2 * 3 / 7,                # one invented
               (2, -1, 5): 2 * 2 / 6,                  # one unknown
               (5, 5, 2): 2 * 2 / 6, (9,): 0, (): 0}
    given = padded([list(one) for one in answers])
    found = order_f1(*given, *padded([items] * len(answers)))
    assert found.tolist() == pytest.approx(list(answers.values()), abs=1e-15)


def test_what_the_mask_hides_does_not_count():
    # the padding, 7, is an item that the answers miss: 0 shared, and 2 * 1 / (1 + 2)
    assert order_f1(*padded([[], [3]]), *padded([[7], [3, 7]])).tolist() == pytest.approx([0, 2 / 3])


def test_only_the_sorted_list_earns_one_and_is_exact():
    items = [3, 1, 1]
    every = [list(row) for n in range(5) for row in itertools.product([-1, 1, 3, 4], repeat=n)]
    given = *padded(every), *padded([items] * len(every))
    best = [row == [1, 1, 3] for row in every]
    assert (order_f1(*given) == 1).tolist() == best and sum(best) == 1
    assert is_sorted(*given).tolist() == best
    assert ((0 <= order_f1(*given)) & (order_f1(*given) <= items_f1(*given))).all()


def test_items_f1_agrees_with_counters():
    draw = random.Random(1)
    answers = [[draw.randrange(-1, 9) for _ in range(draw.randint(0, 8))] for _ in range(500)]
    items = [[draw.randrange(9) for _ in range(draw.randint(1, 8))] for _ in range(500)]

    def expected(answer, item):
        shared = sum((Counter(one for one in answer if one >= 0) & Counter(item)).values())
        return 2 * shared / (len(answer) + len(item))
    found = items_f1(*padded(answers), *padded(items))
    assert found.tolist() == pytest.approx([expected(*pair) for pair in zip(answers, items)], abs=1e-15)


def test_rows_are_sorted_and_their_padding_marked():
    assert ascending(*padded([[9, 3, 7], [0]])).tolist() == [[3, 7, 9, -1], [0, -1, -1, -1]]


def test_unknown_values_of_an_answer_stay_in_front_of_the_marked_padding():
    assert ascending(*padded([[4, -1, 2]])).tolist() == [[-1, 2, 4, -1]]
