"""Counting with bits equals counting in plain form: lengths about a word's, few words, many copies, all widths of ids."""

import pytest
import torch

from rlseq.rewards import bits, plain


def prefix(lengths, width):
    return torch.arange(width) < lengths[..., None]


def drawn(steps, width, several, k, words, first=0, problems=40):
    """Answers, mask, references, mask of any lengths up to these; few different words make n-grams repeat."""
    draw = torch.Generator().manual_seed(steps * 1000 + width)
    rows = problems * k
    answers = torch.randint(first, first + words, (rows, steps), generator=draw)
    references = torch.randint(first, first + words, (problems, several, width), generator=draw)
    mask = prefix(torch.randint(0, steps + 1, (rows,), generator=draw), steps)
    return answers, mask, references, prefix(torch.randint(0, width + 1, (problems, several), generator=draw), width)


LENGTHS = [(7, 9), (1, 5), (38, 38), (5, 64), (64, 65), (70, 130), (200, 200)]


@pytest.mark.parametrize("steps, width", LENGTHS)
@pytest.mark.parametrize("several, k", [(1, 1), (3, 1), (1, 4), (2, 3)])
def test_bits_count_what_the_plain_form_counts(steps, width, several, k):
    for words in (2, 6, 50):
        sides = drawn(steps, width, several, k, words)
        assert torch.equal(bits.longest_common(*sides), plain.longest_common(*sides))
        assert torch.equal(bits.common_ngrams(*sides, 4), plain.common_ngrams(*sides, 4))


def test_ids_of_any_size_are_told_apart():
    # 16 bits hold 2^15 - 1 and two values more; ids that agree in their low 16 or 32 bits are not equal
    for first in (2**15 - 4, 2**31 - 4, 2**40):
        sides = drawn(20, 70, 2, 1, 6, first)
        assert torch.equal(bits.common_ngrams(*sides, 4), plain.common_ngrams(*sides, 4))
        assert torch.equal(bits.longest_common(*sides), plain.longest_common(*sides))
    one, other = torch.tensor([[1, 7, 7]]), torch.tensor([[[1 + 2**16, 7, 7 + 2**32]]])
    assert bits.longest_common(one, one > 0, other, other > 0).tolist() == [[1]]


def test_a_masked_token_within_an_answer_is_left_out():
    answers, mask, references, known = drawn(30, 90, 1, 1, 4)
    gaps = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    assert torch.equal(bits.longest_common(answers, gaps, references, known),
                       plain.longest_common(answers, gaps, references, known))


@pytest.mark.parametrize("rows, steps, several, width", [(0, 3, 1, 3), (2, 0, 1, 3), (2, 3, 0, 3), (2, 3, 1, 0)])
def test_nothing_has_nothing_in_common(rows, steps, several, width):
    answers, references = torch.zeros(rows, steps).long(), torch.zeros(rows, several, width).long()
    sides = (answers, answers == 0, references, references == 0)
    assert bits.longest_common(*sides).tolist() == [[0] * several] * rows
    assert bits.common_ngrams(*sides, 4).tolist() == [[0] * 4] * rows


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    sides = drawn(50, 100, 2, 2, 5)
    whole = bits.longest_common(*sides), bits.common_ngrams(*sides, 4)
    monkeypatch.setattr(bits, "BLOCK", 1)             # one step at a time
    assert torch.equal(bits.longest_common(*sides), whole[0]) and torch.equal(bits.common_ngrams(*sides, 4), whole[1])


def test_counts_by_hand():
    # a b a b c in a b x a b a: 1-grams a a b b = 4; ab (2 in each) and ba (1 in each): 3; aba: 1; abab: 0. LCS a b a b
    # = 4 (of a b . a b a). With b c beside it: c too, and bc; the 1-grams of the first stay: 5, 4, 1, 0; LCS 2 with b c
    answers, references = torch.tensor([[1, 2, 1, 2, 3]]), torch.tensor([[[1, 2, 9, 1, 2, 1], [2, 3, 0, 0, 0, 0]]])
    known = references > 0
    both = answers, answers > 0, references, known
    assert bits.common_ngrams(*both, 4).tolist() == plain.common_ngrams(*both, 4).tolist() == [[5, 4, 1, 0]]
    assert bits.longest_common(*both).tolist() == plain.longest_common(*both).tolist() == [[4, 2]]
    assert bits.common_ngrams(answers, answers > 0, references[:, :1], known[:, :1], 4).tolist() == [[4, 3, 1, 0]]


def test_ones_are_counted_in_every_bit():
    words = torch.tensor([0, -1, 1, -2**63, 2**62 - 1, 0x5555555555555555, -2])
    assert bits.ones(words).tolist() == [bin(one & 2**64 - 1).count("1") for one in words.tolist()]
