"""What a list of values is worth as the sorted form of a multiset.

The one measure is the longest common subsequence with the sorted items, for a sorted list is the only one that shares
all of itself with it: a missing, repeated, invented or misplaced value costs. Values are numbers >= 0; anything else
(an unknown word) is negative and matches nothing.
"""

import torch
from torch import Tensor

from .bits import longest_common


def common(left: Tensor, right: Tensor) -> Tensor:
    """Length of the longest common subsequence of each pair of rows: [N, T], [N, S] long -> [N] long.

    Negative entries match nothing.
    """
    return longest_common(left, left >= 0, right[:, None], right[:, None] >= 0)[:, 0]


def _f1(shared: Tensor, *masks: Tensor) -> Tensor:
    return 2 * shared.double() / sum(mask.sum(1) for mask in masks).clamp_min(1)


def order_f1(answer: Tensor, mask: Tensor, items: Tensor, item_mask: Tensor) -> Tensor:
    """How far an answer is the sorted list: F1 of their longest common subsequence, [N] float64 in [0, 1].

        F1 = 2 LCS(answer, sorted items) / (|answer| + |items|)        1 for the sorted list alone

    answer: [N, T] values; items: [N, S] the input's values in any order; masks True where real.
    """
    return _f1(common(_hidden(answer, mask), ascending(items, item_mask)), mask, item_mask)


def items_f1(answer: Tensor, mask: Tensor, items: Tensor, item_mask: Tensor) -> Tensor:
    """F1 of the answer against the items as multisets, order aside: [N] float64; arguments as in `order_f1`.

    Sorted, two multisets have their intersection as longest common subsequence.
    """
    return _f1(common(ascending(answer, mask), ascending(items, item_mask)), mask, item_mask)


def is_sorted(answer: Tensor, mask: Tensor, items: Tensor, item_mask: Tensor) -> Tensor:
    """Whether the answer is exactly the sorted items: [N] bool; arguments as in `order_f1`."""
    shared = common(_hidden(answer, mask), ascending(items, item_mask))
    return (shared == mask.sum(1)) & (shared == item_mask.sum(1))


def _hidden(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, -1)


def ascending(values: Tensor, mask: Tensor) -> Tensor:
    """Rows sorted upwards, what the mask hides at the end as -1: [N, S]."""
    last = torch.iinfo(values.dtype).max
    rows = values.masked_fill(~mask, last).sort(1).values
    return rows.masked_fill(rows == last, -1)
