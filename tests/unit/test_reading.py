"""Users' files: whatever is wrong is said in one line, with file, line and remedy."""

import gzip

import pytest

from rlseq.reading import LONGEST, lines, pairs


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def said(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa\r\n b \r\n", b"a\n b ", gzip.compress(b"a\n b \n", mtime=0)])
def test_byte_order_marks_windows_line_ends_and_gzip_do_not_matter(tmp_path, data):
    assert list(lines(written(tmp_path, "x.txt", data))) == ["a", " b "]


def test_a_line_ends_at_a_line_end_only(tmp_path):
    assert list(lines(written(tmp_path, "x.txt", "a\u2028b\x0cc\x85d\n\ne\n"))) == ["a\u2028b\x0cc\x85d", "", "e"]


def test_the_gzip_beside_the_name_is_found(tmp_path):
    written(tmp_path, "x.txt.gz", gzip.compress(b"a\n"))
    assert list(lines(tmp_path / "x.txt")) == ["a"]


def test_a_missing_file_names_the_nearest(tmp_path):
    written(tmp_path, "train.en", "a\n")
    assert "did you mean 'train.en'" in said(lambda: list(lines(tmp_path / "trian.en")))
    assert "there is no folder" in said(lambda: list(lines(tmp_path / "no" / "train.en")))
    assert "is a folder" in said(lambda: list(lines(tmp_path)))


MANY = b"a\n" * 3_000_000                   # more than one block of reading


@pytest.mark.parametrize(("data", "parts"), [
    (b"", ["is empty"]),
    (b" \n\t\n\n", ["blank lines only"]),
    (b"fine\ncaf\xe9\n", ["line 2", "0xe9", "iconv -f ISO-8859-1"]),
    (MANY + b"\xff\n", ["line 3000001", "not UTF-8"]),
    ("abc\n".encode("utf-16"), ["line 1", "iconv -f UTF-16 "]),
    ("abc\n".encode("utf-16-le"), ["line 1: a NUL byte", "iconv -f UTF-16LE"]),
    (MANY + b"a\0b\n", ["line 3000001: a NUL byte", "tr -d"]),
    (b"a\n" + b"x" * 10_000_000 + b"\nb\n", ["line 2", "10000000 signs", "take it out"]),
    (b"a\n" + b"x" * 30_000_000, ["line 2: more than", "bytes without a line end"]),
    (b"a\rb\rc\r", ["line 1", "CR alone", "tr "]),
    (gzip.compress(MANY, mtime=0)[:-9], ["line", "not a whole gzip file", "again"]),
    (gzip.compress(b"a\n", mtime=0)[:10] + b"\xff" * 20, ["not a whole gzip file"]),
], ids=["empty", "blank", "latin-1", "late", "utf-16", "utf-16-le", "NUL", "10 MB", "endless", "CR", "cut gzip", "bad gzip"])
def test_a_file_that_is_no_text_is_said_with_its_line_and_the_remedy(tmp_path, data, parts):
    message = said(lambda: list(lines(written(tmp_path, "x.txt", data))))
    assert message.startswith(str(tmp_path / "x.txt")) and all(one in message for one in parts), message


def test_a_gz_that_is_none_is_said(tmp_path):
    assert "not a whole gzip file" in said(lambda: list(lines(written(tmp_path, "x.gz", b"no gzip"))))


def test_a_line_may_be_as_long_as_is_allowed_and_cross_the_blocks_of_reading(tmp_path):
    texts = ["é" * LONGEST, "b", "c" * LONGEST] * 3
    assert list(lines(written(tmp_path, "x.txt", "\r\n".join(texts)))) == texts


def test_right_to_left_and_combining_characters_are_text(tmp_path):
    texts = ["\u202eשלום עולם", "مرحبا \u200fab\u200e", "e" + "\u0301" * 50, "हिन्दी", "👩\u200d👩", "\ufeffx"]
    assert list(lines(written(tmp_path, "x.txt", "\n".join(texts)))) == texts


def test_aligned_files_of_different_lengths_name_the_first_line_alone(tmp_path):
    one, other = written(tmp_path, "a", "1\n2\n3\n"), written(tmp_path, "b", "1\n2\n")
    message = said(lambda: list(pairs(one, other)))
    assert "3 lines" in message and "has 2" in message and "line 3" in message


def test_pairs_come_from_aligned_files_tsv_and_jsonl_with_further_references(tmp_path):
    one, other = written(tmp_path, "a", "x\ny\n"), written(tmp_path, "b", "u\nv\n")
    assert list(pairs(one, other)) == [("x", ("u",)), ("y", ("v",))]
    assert list(pairs(written(tmp_path, "a.tsv", "x\tu\tw\n\ny\tv\n"))) == [("x", ("u", "w")), ("y", ("v",))]
    text = '{"en": "x", "de": ["u", "w"]}\n\n{"translation": {"en": "y", "de": "v"}}\n'
    packed = written(tmp_path, "a.jsonl.gz", gzip.compress(text.encode()))
    assert list(pairs(packed, fields=("en", "de"))) == [("x", ("u", "w")), ("y", ("v",))]


@pytest.mark.parametrize(("name", "data", "parts"), [
    ("a.tsv", "x\ty\nz\n", ["line 2: no tab in 'z'"]),
    ("a.tsv", "x\ty\nu\tv\tw\n", ["line 2: 3 columns, but its first line has 2", "as a space"]),
    ("a.tsv", "x\ty\n\x1b[31mz\n", ["line 2", r"\x1b[31mz"]),
    ("a.jsonl", '{"source": "x", "target": "y"}\n\n{"source": \n', ["line 3: not JSON"]),
    ("a.jsonl", "[" * 100_000, ["line 1: not JSON"]),
    ("a.jsonl", "[]\n", ["line 1: a JSON list"]),
    ("a.jsonl", '{"source": "x", "targt": "y"}\n', ["line 1", "'target'", "did you mean 'targt'"]),
    ("a.jsonl", '{"source": "x", "target": 3}\n', ["line 1", "write a string"]),
    ("a.jsonl", '{"source": "x", "target": []}\n', ["line 1", "holds []"]),
    ("a.jsonl", '{"source": "x", "\\u001b[31m": 3}\n', ["line 1", r"\x1b[31m"]),
    ("a.csv", "x,y\n", [".tsv or .jsonl"]),
])
def test_mistakes_in_a_line_name_the_line(tmp_path, name, data, parts):
    message = said(lambda: list(pairs(written(tmp_path, name, data))))
    assert str(tmp_path / name) in message and all(one in message for one in parts), message
    assert message.isprintable()


def test_an_empty_column_is_no_reference(tmp_path):
    assert list(pairs(written(tmp_path, "a.tsv", "x\tu\tv\ny\tw\t\nz\t\t\n"))) == [
        ("x", ("u", "v")), ("y", ("w",)), ("z", ("",))]
