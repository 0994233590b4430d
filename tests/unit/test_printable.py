"""Text of strangers: nothing of it may steer a terminal, and what is meant to be read stays."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq.printable import printable


@pytest.mark.parametrize(("text", "shown"), [
    ("red \x1b[31malert\x1b[0m", r"red \x1b[31malert\x1b[0m"), ("over\rwritten", r"over\rwritten"),
    ("one\ntwo\tthree", r"one\ntwo\tthree"), ("gnp\u202egpj.exe", r"gnp\u202egpj.exe"), ("a\u2028b\x85c", r"a\u2028b\x85c"),
    ("\udc80 of bytes", r"\udc80 of bytes"), ("\ufeffmark", r"\ufeffmark"), ("nul\x00", r"nul\x00"),
    ("Größe מילה 漢字 नि é 👍", "Größe מילה 漢字 नि é 👍"), ("non\xa0breaking", "non\xa0breaking"), ("", "")])
def test_what_steers_is_spelled_out_and_the_rest_stays(text, shown):
    assert printable(text) == shown


def test_long_text_ends_with_an_ellipsis_within_the_limit():
    assert printable("a" * 80) == "a" * 80 and printable("a" * 81) == "a" * 77 + "..."
    assert printable("abcdef", 5) == "ab..." and printable("abcdef", 2) == ".." and printable("a" * 999, 0) == "a" * 999


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=[])), st.integers(1, 100))
def test_nothing_shown_is_a_control_a_format_sign_or_half_a_pair(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert not [sign for sign in shown if unicodedata.category(sign)[0] == "C" or unicodedata.category(sign) in ("Zl", "Zp")]
    shown.encode("utf-8")
