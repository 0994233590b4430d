"""Text to ids and back."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq import text
from rlseq.text import STOP_PIECE, UNK, UNK_PIECE, Tokenizer, clean, join_words, word_counter, words
from rlseq.types import STOP

LINES = ["#Person1#: Don't you know foo_bar.baz?", "Der Preis beträgt 1.234,50 € am 3. Mai.", "東京は晴れ。 नमस्ते שלום",
         "a ▁ b▁"] * 5
BPE = Tokenizer.train(LINES, "bpe", 320)
WORD = Tokenizer.train(LINES, "word", 12)
ANY_TEXT = st.text(st.characters(), max_size=40)        # every code point, lone surrogates too


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_subwords_bring_back_any_text(line):
    assert BPE.decode(BPE.encode(line)) == clean(line)
    assert BPE.join(BPE.pieces(line)) == clean(line)


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_word_pieces_join_to_the_text_known_or_not(line):
    assert WORD.join(WORD.pieces(line)) == clean(line)


def test_a_cutter_forgets_when_it_remembers_too_much_and_gives_the_same(monkeypatch):
    monkeypatch.setattr(text, "REMEMBERED", 5)
    cutter, once = BPE.cutter(), BPE.cutter()
    for _ in range(3):
        for line in LINES:
            assert cutter([line])[0].tolist() == BPE.encode(line) == once([line, ""])[0].tolist()


@pytest.mark.parametrize("tokenizer", [BPE, WORD])
@given(st.lists(st.lists(ANY_TEXT, max_size=4).map(" ".join), max_size=4))
@settings(max_examples=200, deadline=None)
def test_lines_cut_at_their_spaces_first_give_the_same_ids_and_words(tokenizer, lines):
    ids, sizes = tokenizer.cutter()(lines)
    rows = tokenizer.encode_batch(lines)
    assert ids.tolist() == [one for row in rows for one in row] and sizes.tolist() == list(map(len, rows))
    assert word_counter()(lines)[1].tolist() == [len(words(line)) for line in lines]


@given(ANY_TEXT)
@settings(max_examples=100, deadline=None)
def test_cleaning_twice_is_cleaning_once(line):
    assert clean(clean(line)) == clean(line)


def test_cleaning_composes_letters_and_collapses_every_white_space():
    assert clean(" u\u0308ber\u202f12\xa0km\t\r\n") == "über 12 km"


@pytest.mark.parametrize("tokenizer", [BPE, WORD])
@pytest.mark.parametrize("line", ["<stop>", STOP_PIECE, "␄", "▁<unk>", "<unk> \x00", ""])
def test_no_text_encodes_to_stop(tokenizer, line):
    assert STOP not in tokenizer.encode(line)


def test_a_special_name_an_identifier_and_an_apostrophe_stay_one_word():
    assert words("#Person1#: don't foo_bar, x-ray") == [
        "▁#Person1#", ":", "▁don't", "▁foo_bar", ",", "▁x", "-", "ray"]


def test_an_underline_mark_of_the_text_is_not_taken_for_a_space():
    assert words("▁ a▁b") == ["▁▁", "▁a", "▁", "b"] and join_words(["▁▁", "▁a", "▁", "b"]) == "▁ a▁b"


def test_scripts_without_spaces_are_cut_at_each_character():
    assert words("東京abc") == ["▁東", "京", "abc"]


def test_words_rank_by_count_then_by_letters_behind_stop_and_unk():
    tokenizer = Tokenizer.train(["b a c", "a b", "d"], "word", 5)
    assert [tokenizer.piece(one) for one in range(tokenizer.size)] == [STOP_PIECE, UNK_PIECE, "▁a", "▁b", "▁c"]
    assert tokenizer.encode("a d") == [2, UNK] and tokenizer.id("▁d") == UNK


def test_decoding_ends_at_stop():
    ids = BPE.encode("Der Preis")
    assert BPE.decode([*ids, STOP, *ids]) == "Der Preis"


def test_digits_are_subwords_of_their_own():
    tokenizer = Tokenizer.train(["in 2024 and 2024"] * 50, "bpe", 300)
    assert [tokenizer.decode([one]) for one in tokenizer.encode("2024")] == list("2024")


@pytest.mark.parametrize("tokenizer", [BPE, WORD])
def test_a_tokenizer_comes_back_from_json(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json() and again.size == tokenizer.size
    assert again.encode_batch(LINES) == tokenizer.encode_batch(LINES)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "bpe"}'])
def test_what_is_no_tokenizer_is_said_in_one_line(text):
    with pytest.raises(ValueError, match="no tokenizer written by rlseq"):
        Tokenizer.from_json(text)


def test_training_gives_the_same_tokenizer_in_another_process():
    code = (f"from rlseq.text import Tokenizer; import sys; "
            f"sys.stdout.buffer.write(Tokenizer.train({LINES!r}, 'bpe', 320).to_json().encode())")
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode()
    assert other == BPE.to_json()


def test_sizes_are_kept_and_too_small_ones_refused():
    assert BPE.size == 320 and WORD.size == 12
    assert len(set(BPE.piece(one) for one in range(320))) == 320
    with pytest.raises(ValueError, match="257"):
        Tokenizer.train(LINES, "bpe", 256)
    with pytest.raises(ValueError, match="3 or more"):
        Tokenizer.train(LINES, "word", 2)
    with pytest.raises(ValueError, match="bpe, word"):
        Tokenizer.train(LINES, "char", 300)
