"""Examples in columns are the examples that went in."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq import kept, table
from rlseq.table import Table, overlaps
from rlseq.text import Tokenizer, words

ANY_TEXT = st.text(st.characters(), max_size=20)
PAIRS = [(f"source {i} é", tuple(f"target {i} {j}" for j in range(1 + i % 3))) for i in range(50)]


def made(source, references, ids=None):
    return source, references


def of(pairs, **options):
    return Table.of(made, lambda: pairs, **options)


@given(st.lists(st.tuples(ANY_TEXT, st.lists(ANY_TEXT, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_text_comes_back(pairs):
    found = of(pairs)
    assert list(found) == pairs and len(found) == len(pairs)
    assert [one for texts in found.texts(found.lines()) for one in texts] == [t for s, r in pairs for t in (s, *r)]
    assert list(found.joined()) == ["\0".join((s, *r)).encode("utf-8", "surrogatepass") for s, r in pairs]


def test_a_table_is_a_sequence():
    found = of(PAIRS)
    assert found[-1] == PAIRS[-1] and found[3:7] == PAIRS[3:7] and found[np.int64(4)] == PAIRS[4]
    with pytest.raises(IndexError):
        found[50]
    assert list(pickle.loads(pickle.dumps(found))) == PAIRS


def test_examples_are_taken_by_number_with_their_ids():
    tokenizer = Tokenizer.train([line for s, r in PAIRS for line in (s, *r)], "bpe", 280)
    whole = Table.of(lambda source, references, ids=None: (source, references, ids), lambda: PAIRS)
    rows = np.array([7, 3, 44])
    for found in (whole.encoded(tokenizer).take(rows), whole.take(rows).encoded(tokenizer)):
        for (source, references, ids), row in zip(found, rows):
            assert (source, references) == PAIRS[row] and ids.tokenizer == tokenizer.key
            assert [one.tolist() for one in ids.lines] == tokenizer.encode_batch([source, *references])
        assert found.sizes(0).tolist() == [len(tokenizer.encode(PAIRS[row][0])) for row in rows]
        assert found.sizes(1).tolist() == [len(tokenizer.encode(PAIRS[row][1][0])) for row in rows]


def test_words_are_counted_as_they_are_cut():
    source, target = of(PAIRS).take(np.array([5, 2])).word_counts()
    assert source.tolist() == [len(words(PAIRS[i][0])) for i in (5, 2)] == [3, 3]
    assert target.tolist() == [len(words(PAIRS[i][1][0])) for i in (5, 2)]


@pytest.mark.parametrize(("kind", "size"), [("bpe", 300), ("word", 20)])
def test_a_vocabulary_is_that_of_all_lines_in_their_order(kind, size, monkeypatch):
    learned = of(PAIRS).learned(kind, size)
    assert learned.to_json() == Tokenizer.train([line for s, r in PAIRS for line in (s, *r)], kind, size).to_json()
    monkeypatch.setattr(table, "TRAINED_ON", 10)                           # of more, from so many spread over them
    lines = [line for s, r in PAIRS[::5] for line in (s, *r)]
    assert of(PAIRS).learned(kind, size).to_json() == Tokenizer.train(lines, kind, size).to_json()


def test_a_second_start_reads_and_cuts_nothing_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read = []

    def stream():
        read.append(1)
        yield from PAIRS
    for _ in range(2):
        found = Table.of(made, stream, ("these",)).take(np.arange(40), told=("forty",))
        tokenizer = found.learned("bpe", 280)
        encoded = found.encoded(tokenizer)
        assert list(encoded) == PAIRS[:40] and encoded.sizes(0)[3] == len(tokenizer.encode(PAIRS[3][0]))
        found.word_counts()
        monkeypatch.setattr(Tokenizer, "train", lambda *_: pytest.fail("learned again"))
        monkeypatch.setattr(Tokenizer, "cutter", lambda *_: pytest.fail("cut again"))
    assert len(read) == 1 and len(list(kept.FOLDER.iterdir())) == 4
    assert list(Table.of(made, stream, ("others",)).take(np.arange(30))) == PAIRS[:30] and len(read) == 2


def test_what_is_repeated_and_shared_is_counted():
    # two of train are equal; of dev's three sources two stand in train, one of them with the same reference
    train = of([("a", ("x",)), ("a", ("x",)), ("a", ("y",)), ("B", ("z",))], same=str.lower)
    dev = of([("A", ("n",)), ("B", ("z",)), ("c", ("x",))], same=str.lower)
    assert overlaps({"train": train, "dev": dev, "test": of([("d", ("x",))], same=str.lower)}) == [
        "train: 1 of 4 examples repeat an earlier one",
        "dev: 2 of 3 sources stand in train too (1 with the same references); scores on dev flatter by that"]
