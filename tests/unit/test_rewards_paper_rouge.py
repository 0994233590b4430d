import gzip
import json
import time
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlseq.rewards.paper_rouge import PaperRouge, paper_rouge
from rlseq.rewards.rouge import KINDS, rouge_rows, stems
from rlseq.types import Batch, pad
from tests.unit.test_rewards_rouge import drawn

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dialogsum"


@pytest.fixture
def program(monkeypatch):
    """py-rouge's class, and its scores with the settings of its documentation, the mean over references: kind -> [N]. What it
    would download is not needed: it parts words in texts that have no sentences any more."""
    rouge = pytest.importorskip("rouge", reason="needs py-rouge, and pkg_resources of setuptools below 81 for it")
    if not hasattr(rouge.Rouge, "AVAILABLE_METRICS"):
        pytest.skip("the package `rouge` that is installed is not py-rouge")
    import nltk
    from nltk.tokenize import NLTKWordTokenizer
    monkeypatch.setattr(nltk, "word_tokenize", lambda text, language: NLTKWordTokenizer().tokenize(text))
    made = rouge.Rouge(metrics=["rouge-n", "rouge-l"], max_n=2, limit_length=True, length_limit=100, length_limit_type="words",
                       apply_avg=False, apply_best=False, alpha=0.5, weight_factor=1.2, stemming=True)

    def scores(texts, references):
        found = made.get_scores(list(texts), [list(one) for one in references])
        return {kind: np.array([np.mean(one["f"]) for one in found["rouge-" + kind[5:].lower()]]) for kind in KINDS}
    return rouge.Rouge, scores


@pytest.fixture(scope="module")
def people():
    """The three summaries of each of DialogSum's test dialogues: three lists of 500."""
    if not SHARED.is_dir():
        pytest.skip("needs DialogSum beside the checkout, in shared/data/dialogsum")
    rows = [json.loads(line) for line in gzip.open(SHARED / "test.jsonl.gz", "rt", encoding="utf-8")]
    return [[one[f"summary{number}"] for one in rows] for number in (1, 2, 3)]


@pytest.mark.parametrize(("kind", "expected"), [
    # h = "the cats sat there" -> the cat sat there; r1 = "A cat sat." 3 words; r2 = "The cat" 2 words
    ("rouge1", (4 / 7 + 4 / 6) / 2),                   # cat sat: 2 * 2 / (4 + 3);  the cat: 2 * 2 / (4 + 2)
    ("rouge2", (2 / 5 + 2 / 4) / 2),                   # cat sat: 2 * 1 / (3 + 2);  the cat: 2 * 1 / (3 + 1)
    # 1 / 1.2 = 0.8333: (2/4)^.8333 = 0.56123, (2/3)^.8333 = 0.71326, F1 = 0.62817;  with (2/2)^.8333 = 1: 0.71896
    ("rougeL", (0.62817 + 0.71896) / 2),
])
def test_the_mean_over_references_of_stemmed_words_and_for_l_a_power(kind, expected):
    assert paper_rouge(["the cats sat there"], [["A cat sat.", "The cat"]], kind).item() == pytest.approx(expected, abs=1e-5)


def test_without_the_quirks_it_is_rouge():
    texts, known = drawn(7, 60, 25), [[one] for one in drawn(8, 30, 25)]         # one reference: its mean is the best
    for kind in ("rouge1", "rouge2"):
        expected = rouge_rows(texts, known, (kind,), stemmer=True).tolist()
        assert paper_rouge(texts, known, kind).tolist() == pytest.approx(expected, abs=1e-12)
    assert (paper_rouge(texts, known, "rougeL") >= rouge_rows(texts, known, ("rougeL",), True) - 1e-12).all()


def test_each_problem_has_its_own_number_of_references():
    texts = ["a b", "c", "", "a b"]                                              # two answers to each of two problems
    found = paper_rouge(texts, [["a b"], ["a b", "", "d"]], "rouge1").tolist()
    assert found == pytest.approx([1, 0, 0, 1 / 3])                              # an empty reference counts, an absent one not
    assert paper_rouge(["a"], [[]], "rougeL").tolist() == [0] and paper_rouge([], [], "rouge2").tolist() == []


def test_stems_are_those_of_rouge_score():
    from rouge_score.tokenizers import DefaultTokenizer
    for text in [*drawn(3, 50, 25), "Flies died; running's easily 3.5 dying agreements THE"]:
        assert stems(text) == DefaultTokenizer(True).tokenize(text)


def test_metric_rows_add_up_to_the_mean_in_percent():
    examples = [SimpleNamespace(references=("a b", "a")), SimpleNamespace(references=("e",))]
    batch = Batch(*pad([[1], [2]]), *pad([[0], [0]]), num_actions=9, examples=examples)
    texts = {1: "a b", 2: "a", 3: "e", 0: ""}
    metric = PaperRouge("rouge1", lambda batch, actions: [texts[one] for one in actions[:, 0].tolist()])
    rows = metric.rows(batch, torch.tensor([[1], [2], [3], [1]]), torch.tensor([[True], [True], [True], [False]]))
    # a b: (1 + 2/3) / 2; a: (2/3 + 1) / 2; e: 1; a masked answer is empty: 0
    assert rows[:, 0] == pytest.approx([5 / 6, 5 / 6, 1, 0]) and rows[:, 1].tolist() == [1, 1, 1, 1]
    assert metric.score(rows.sum(0)) == pytest.approx(100 * (8 / 3) / 4)
    assert "refs:mean" in metric.signature and "^1/1.2" not in metric.signature
    assert "^1/1.2" in PaperRouge("rougeL", metric.decode).signature


def test_it_is_py_rouge_but_for_the_stemmer(program, monkeypatch):
    def stemmed(tokens):
        tokens[:] = [stem for one in tokens for stem in stems(one)]
        return tokens
    monkeypatch.setattr(program[0], "stem_tokens", staticmethod(stemmed))
    known = [drawn(100 + i, 1 + i % 3, 25) for i in range(60)]
    texts = drawn(1, 60, 30)
    expected = program[1](texts, known)
    assert expected["rouge2"].sum() > 5                                                    # the texts do overlap
    for kind in KINDS:
        assert paper_rouge(texts, known, kind).numpy() == pytest.approx(expected[kind], abs=1e-12)


def test_people_agree_as_the_paper_says_they_do(people):
    # Chen et al. 2021 (recalled): 53.35, 26.72, 50.84. py-rouge says 53.34, 26.70, 50.85; another stemmer is worth 0.05
    for kind, paper in (("rouge1", 53.35), ("rouge2", 26.72), ("rougeL", 50.84)):
        pairs = [paper_rouge(ours, [[one] for one in theirs], kind).mean().item() for ours, theirs in combinations(people, 2)]
        assert 100 * sum(pairs) / 3 == pytest.approx(paper, abs=0.1)


def test_the_stemmer_is_worth_less_than_a_tenth_of_a_point(people, program):
    one, two, three = people
    known = list(zip(one, three))
    theirs = program[1](two, known)
    for kind in KINDS:
        ours = paper_rouge(two, known, kind).numpy()
        assert 100 * ours.mean() == pytest.approx(100 * theirs[kind].mean(), abs=0.1)
        assert (abs(ours - theirs[kind]) > 1e-9).mean() < 0.1                    # most summaries have no irregular form


def test_a_thousand_answers_take_less_than_two_seconds(people):
    texts, known = [text for pair in zip(*people[:2]) for text in pair], list(zip(*people))
    begun = time.process_time()
    for kind in KINDS:
        paper_rouge(texts, known, kind)
    assert len(texts) == 1000 and time.process_time() - begun < 2                # about 0.4 s
