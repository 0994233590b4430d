import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rouge_score import rouge_scorer

from rlseq.rewards.rouge import KINDS, Rouge, rouge, rouge_l_ids, rouge_n_ids, rouge_rows
from rlseq.types import Batch, pad


def ids(rows):
    """Texts of single letters -> ids and mask."""
    return pad([[ord(one) for one in row] for row in rows])


def references(*rows):
    """One problem with these references: [1, G, R] and its mask."""
    known, mask = ids(rows)
    return known[None], mask[None]


def test_rouge_l_counts_the_longest_common_subsequence():
    # cat sat: abc / adeabc... "t c s" in "t c o t m s": LCS = t, c, s = 3;  P = 3/3, R = 3/6, F1 = 2/3
    assert rouge_l_ids(*ids(["tcs"]), *references("tcotms")).item() == pytest.approx(2 / 3, abs=1e-12)


def test_a_repeated_word_counts_as_often_as_both_have_it():
    # h = a a a b, r = a a c: 1-grams common: a twice;  P = 2/4, R = 2/3, F1 = 2 * 2 / (4 + 3)
    assert rouge_n_ids(*ids(["aaab"]), *references("aac"), 1).item() == pytest.approx(4 / 7, abs=1e-12)
    # 2-grams: aa aa ab and aa ac: aa once;  F1 = 2 * 1 / (3 + 2)
    assert rouge_n_ids(*ids(["aaab"]), *references("aac"), 2).item() == pytest.approx(2 / 5, abs=1e-12)


def test_the_best_reference_counts_and_rows_answer_problem_n_over_k():
    known, mask = pad([[1, 2, 3], [7], [4, 5], [4, 6]])
    answers, real = pad([[1, 2, 3], [4], [4, 6], [9]])              # two answers to each of two problems
    score = rouge_l_ids(answers, real, known.view(2, 2, 3), mask.view(2, 2, 3))
    assert score.tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0], abs=1e-12)
    # the second answer, 4, is in no reference of the first problem but in both of the second


def test_empty_answers_and_empty_references_earn_nothing():
    for score in (rouge_l_ids, lambda *sides: rouge_n_ids(*sides, 2)):
        assert score(*ids(["", "ab"]), *references("abc", "")).tolist()[0] == 0
        assert score(*ids(["ab"]), *references("")).item() == 0
        assert score(*ids(["ab"]), torch.zeros(1, 0, 3).long(), torch.zeros(1, 0, 3).bool()).item() == 0
    assert rouge_rows(["a", ""], [["", "..."]]).tolist() == [0, 0] == rouge_rows(["a", ""], [[]]).tolist()


WORDS = ["the", "The", "cat", "cat", "read_csv", "Foo.bar", "(x)", "don't", "#Person1#", "3.5", "é", "Straße", "---",
         "İx", ""]


def drawn(seed, number, longest):
    choice = random.Random(seed)
    return [choice.choice([" ", "", "  "]).join(choice.choices(WORDS, k=choice.randint(0, longest)))
            for _ in range(number)]


@pytest.mark.parametrize("stemmer", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_batched_scores_equal_rouge_score(kind, stemmer):
    # 40 problems with 1 to 3 references and 3 answers each, empty, repeated and glued words among them
    known = [drawn(100 + i, 1 + i % 3, 25) for i in range(40)]
    texts = drawn(1, 120, 30)
    scorer = rouge_scorer.RougeScorer([kind], use_stemmer=stemmer)
    expected = [max(scorer.score(one, text)[kind].fmeasure for one in known[n // 3]) for n, text in enumerate(texts)]
    assert sum(expected) > 18                                       # the texts do overlap
    assert rouge_rows(texts, known, (kind,), stemmer).numpy() == pytest.approx(np.array(expected), abs=1e-9)
    reported = rouge(texts, [known[n // 3] for n in range(120)], (kind,), stemmer)[kind]
    assert reported == pytest.approx(np.array(expected), abs=1e-12)


def test_a_mix_is_the_mean_of_its_kinds():
    texts, known = ["a b c d"], [["a b x d"]]
    apart = [rouge_rows(texts, known, (kind,)).item() for kind in KINDS]
    assert rouge_rows(texts, known, KINDS).item() == pytest.approx(sum(apart) / 3, abs=1e-12)
    # LCS 3 of 4: 3/4; 1-grams 3 of 4: 3/4; 2-grams ab of ab bc cd / ab bx xd: 1/3
    assert apart == pytest.approx([3 / 4, 3 / 4, 1 / 3], abs=1e-12)


def test_metric_rows_add_up_to_the_mean_in_percent():
    examples = [SimpleNamespace(references=("a b",)), SimpleNamespace(references=("c d", "e"))]
    batch = Batch(*pad([[1], [2]]), *pad([[0], [0]]), num_actions=9, examples=examples)
    texts = {1: "a b", 2: "a", 3: "e", 0: ""}
    metric = Rouge("rouge1", lambda batch, actions: [texts[one] for one in actions[:, 0].tolist()])
    rows = metric.rows(batch, torch.tensor([[1], [2], [3], [1]]), torch.tensor([[True], [True], [True], [False]]))
    # a b: 1; a of a b: 2 * 1 / 3; e: 1 with its second reference; a masked answer is empty: 0
    assert rows[:, 0] == pytest.approx([1, 2 / 3, 1, 0]) and rows[:, 1].tolist() == [1, 1, 1, 1]
    assert metric.score(rows.sum(0)) == pytest.approx(100 * (8 / 3) / 4)
    assert metric.signature.startswith("rouge1|") and "rouge_score:0." in metric.signature


def test_mistakes_are_named_in_one_line():
    with pytest.raises(ValueError, match="no ROUGE rouge9; there are: rougeL, rouge1, rouge2"):
        rouge(["a"], [["a"]], ("rouge9",))
    with pytest.raises(ValueError, match="2 texts but 1 lists"):
        rouge(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="no reference for example 1"):
        rouge(["a", "b"], [["a"], []])
