"""BLEU, chrF, TER and exact match are what sacrebleu says."""

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import sacrebleu
import torch

from rlseq.rewards.ngrams import sentence_bleu_ids
from rlseq.rewards.text import (
    Bleu,
    Chrf,
    Exact,
    Ter,
    bleu_from_statistics,
    bleu_statistics,
    bleu_tokenizer,
    bleus,
    chrf_from_statistics,
    chrf_statistics,
    chrfs,
    exact,
    sentence_bleu,
    sentence_chrf,
    sentence_ter,
    sentence_worth,
    ter_statistics,
)
from rlseq.types import STOP, Batch, pad

K, MOST = 3, 3


def padded(problems: list[list[list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    most = max(map(len, problems))
    ids, mask = pad([row for own in problems for row in own + [[]] * (most - len(own))])
    return ids.view(len(problems), most, -1), mask.view(len(problems), most, -1)


def text_of(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def test_bleu_on_ids_equals_sacrebleu_with_several_references():
    rng = random.Random(0)             # few words and short rows: many partial, repeated, empty and full matches
    row = lambda least: [rng.randint(1, 4) for _ in range(rng.randint(least, 9))]
    answers = [row(0) for _ in range(150 * K)]
    problems = [[row(1) for _ in range(rng.randint(1, MOST))] for _ in range(150)]
    found = sentence_bleu_ids(*pad(answers), *padded(problems))
    expected = [sacrebleu.sentence_bleu(text_of(one), [text_of(ref) for ref in problems[n // K]], tokenize="none").score
                for n, one in enumerate(answers)]
    # both are float64 and differ by the order of a few roundings
    np.testing.assert_allclose(found.numpy(), np.array(expected) / 100, rtol=0, atol=1e-12)
    assert (found == 0).any() and (found == 1).any()


def test_bleu_on_ids_by_hand():
    # answer 1 2 2 5, reference 1 2 3 5 6: matches 3 of 4 words (the second 2 is clipped), 1 of 3 pairs (1 2),
    # 0 of 2 triples -> 1/(2*2), 0 of 1 -> 1/(4*1); brevity exp(1 - 5/4)
    found = sentence_bleu_ids(*pad([[1, 2, 2, 5]]), *padded([[[1, 2, 3, 5, 6]]]))
    assert found.item() == pytest.approx(math.exp(1 - 5 / 4) * (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25, abs=1e-12)


def test_a_reference_earns_one_on_ids_however_short():
    problems = [[[1]], [[1, 2]], [[1, 2, 3, 4, 5]], [[]]]
    assert sentence_bleu_ids(*pad([own[0] for own in problems]), *padded(problems)).tolist() == [1, 1, 1, 1]


def test_padding_changes_nothing_on_ids():
    answers, mask = pad([[1, 2, 3], [3, 1]])
    references, reference_mask = padded([[[1, 2, 4]], [[3, 1, 1]]])
    wide = torch.nn.functional.pad(answers, (0, 4), value=1), torch.nn.functional.pad(mask, (0, 4))
    more = torch.nn.functional.pad(references, (0, 5, 0, 2), value=1), torch.nn.functional.pad(reference_mask, (0, 5, 0, 2))
    assert torch.equal(sentence_bleu_ids(*wide, *more), sentence_bleu_ids(answers, mask, references, reference_mask))


WORDS = "the The cat , sat . on a mat , 3.5 don't \"Käse\" - über und der , Hund !".split(" ")


def corpus(size: int, seed: int, references: int) -> tuple[list[str], list[tuple[str, ...]]]:
    rng = random.Random(seed)
    line = lambda: " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
    return [line() for _ in range(size)], [tuple(line() for _ in range(references)) for _ in range(size)]


@pytest.mark.parametrize("references", [1, 3])
def test_sentence_rewards_equal_sacrebleu(references):
    for text, own in zip(*corpus(60, 1, references)):
        assert sentence_bleu(text, own) == pytest.approx(sacrebleu.sentence_bleu(text, own).score / 100, abs=1e-12)
        assert sentence_chrf(text, own) == pytest.approx(sacrebleu.sentence_chrf(text, own).score / 100, abs=1e-12)


def test_a_reference_earns_exactly_one_and_an_empty_answer_nothing():
    for _, own in zip(*corpus(30, 2, 2)):
        assert sentence_bleu(own[1], own) == sentence_chrf(own[1], own) == exact(own[1], own) == 1
    for reward in (sentence_bleu, sentence_chrf, exact):
        assert reward("", ("a",)) == 0 and reward("", ("",)) == 1 and reward("a", ("",)) == 0


@pytest.mark.parametrize("references", [1, 3])
def test_summed_statistics_are_the_corpus_scores_of_sacrebleu(references):
    texts, own = corpus(80, 3, references)
    texts[5] = ""
    streams = [list(stream) for stream in zip(*own)]
    total = bleu_statistics(texts, own).sum(0)
    assert bleu_from_statistics(total) == sacrebleu.corpus_bleu(texts, streams).score
    assert chrf_from_statistics(chrf_statistics(texts, own).sum(0)) == sacrebleu.corpus_chrf(texts, streams).score


def test_lower_cased_bleu_is_sacrebleus_and_says_so():
    texts, own = corpus(80, 4, 2)
    theirs = sacrebleu.corpus_bleu(texts, [list(stream) for stream in zip(*own)], lowercase=True).score
    assert bleu_from_statistics(bleu_statistics(texts, own, lowercase=True).sum(0)) == theirs
    assert theirs > bleu_from_statistics(bleu_statistics(texts, own).sum(0))         # "The" is "the" in one of them alone
    assert "|case:lc|" in Bleu(None, lowercase=True).signature and "|case:mixed|" in Bleu(None).signature


@dataclass(frozen=True)
class Problem:
    references: tuple[str, ...]


def test_metrics_decode_up_to_the_mask_and_give_k_answers_their_problem():
    names = ["", "a", "b", "c"]
    decode = lambda batch, actions: [" ".join(names[one] for one in row if one != STOP) for row in actions.tolist()]
    batch = Batch(*pad([[1], [2]]), *pad([[1], [2]]), 4, examples=(Problem(("a b",)), Problem(("c", "c c"))))
    actions = torch.tensor([[1, 2, 0], [1, 2, 3], [3, 0, 3], [3, 3, 3]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    texts, own = ["a b", "a b", "c", "c c c"], [("a b",)] * 2 + [("c", "c c")] * 2
    assert Exact(decode).rows(batch, actions, mask).tolist() == [[1, 1], [1, 1], [1, 1], [0, 1]]
    assert Exact(decode).score(np.array([3.0, 4.0])) == 75
    assert np.array_equal(Bleu(decode).rows(batch, actions, mask), bleu_statistics(texts, own))
    assert np.array_equal(Chrf(decode).rows(batch, actions, mask), chrf_statistics(texts, own))
    assert Bleu(decode).score(bleu_statistics(texts[:2], own[:2]).sum(0)) == bleu_from_statistics(
        bleu_statistics(texts[:2], own[:2]).sum(0))


def test_signatures_are_sacrebleus():
    assert Bleu(None).signature.startswith("BLEU|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert Chrf(None).signature.startswith("chrF2|nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert "tok:zh" in Bleu(None, bleu_tokenizer("zh_Hans")).signature
    assert [bleu_tokenizer(one) for one in ("de", "ja", "en_GB")] == ["13a", "char", "13a"]


def test_ter_equals_sacrebleus_for_sentences_and_corpora():
    texts = ["the cat sat on the mat", "mat the on sat cat the", "", "a dog", "one two three four"]
    own = [("the cat sat on the mat", "a cat sat"), ("the cat sat on the mat",), ("nothing",), ("a dog",), ("four",)]
    streams = [[one[i] if i < len(one) else None for one in own] for i in range(2)]
    rows = ter_statistics(texts, own)
    assert Ter(None).score(rows.sum(0)) == pytest.approx(sacrebleu.corpus_ter(texts, streams).score, abs=1e-9)
    for text, references, (edits, words) in zip(texts, own, rows):
        peer = sacrebleu.sentence_ter(text, references).score
        assert 100 * edits / words == pytest.approx(peer, abs=1e-9)
        assert sentence_ter(text, references) == pytest.approx(max(0.0, 1 - peer / 100), abs=1e-12)
    # "one two three four" for "four": three words too many to one of the reference, so 300 %, and worth nothing
    assert rows[-1].tolist() == [3, 1] and sentence_ter(texts[-1], own[-1]) == 0.0
    assert sentence_ter("", ("",)) == 1.0 and Ter(None).lower


@pytest.mark.parametrize(("kind", "worth"), [("bleu", sentence_bleu), ("chrf", sentence_chrf), ("ter", sentence_ter),
                                             ("exact", exact)])
def test_a_reward_is_found_by_its_name(kind, worth):
    pair = "the cat sat", ("the cat sat down",)
    assert sentence_worth(kind)(*pair) == worth(*pair)


def test_many_bleus_at_once_are_sacrebleus_one_by_one():
    rng = np.random.default_rng(0)
    total = np.sort(rng.integers(0, 40, (3, 400, 4)))[..., ::-1] * (rng.random((3, 400, 4)) < 0.8)     # orders nobody guessed
    right = np.minimum(rng.integers(0, 30, (3, 400, 4)), total) * (rng.random((3, 400, 4)) < 0.7)      # or guessed right
    totals = np.concatenate([total[..., :1], rng.integers(0, 60, (3, 400, 1)), right, total], -1).astype(float)
    one_by_one = [[bleu_from_statistics(one) for one in own] for own in totals]
    assert np.allclose(bleus(totals), one_by_one, rtol=1e-12, atol=0) and np.unique(np.isclose(one_by_one, 0)).size == 2


def test_many_chrfs_at_once_are_sacrebleus_one_by_one():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 60, (2, 300, 6, 2)) * (rng.random((2, 300, 6, 1)) < 0.7)               # orders beyond the text
    totals = np.concatenate([sizes, np.minimum(rng.integers(0, 40, (2, 300, 6, 1)), sizes.min(-1, keepdims=True))], -1)
    totals[0, :20, :, 2] = 0                                                                           # nothing in common
    one_by_one = [[chrf_from_statistics(one.ravel()) for one in own] for own in totals]
    assert np.allclose(chrfs(totals.reshape(2, 300, 18).astype(float)), one_by_one, rtol=1e-12, atol=0)
