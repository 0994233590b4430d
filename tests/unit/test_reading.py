"""Users' files: whatever is wrong is said in one line, with file, line and remedy."""

import gzip

import pytest

from rlseq.reading import read_jsonl, read_lines, read_pairs


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def said(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa\r\n b \r\n", b"a\n b ", gzip.compress(b"a\n b \n")])
def test_byte_order_marks_windows_line_ends_and_gzip_do_not_matter(tmp_path, data):
    assert read_lines(written(tmp_path, "x.txt", data)) == ["a", " b "]


def test_a_line_ends_at_a_line_end_only(tmp_path):
    assert read_lines(written(tmp_path, "x.txt", "a\u2028b\x0cc\x85d\n\ne\n")) == ["a\u2028b\x0cc\x85d", "", "e"]


def test_the_gzip_beside_the_name_is_found(tmp_path):
    written(tmp_path, "x.txt.gz", gzip.compress(b"a\n"))
    assert read_lines(tmp_path / "x.txt") == ["a"]


def test_a_missing_file_names_the_nearest(tmp_path):
    written(tmp_path, "train.en", "a\n")
    assert "did you mean 'train.en'" in said(lambda: read_lines(tmp_path / "trian.en"))
    assert "there is no folder" in said(lambda: read_lines(tmp_path / "no" / "train.en"))
    assert "is a folder" in said(lambda: read_lines(tmp_path))


def test_an_empty_file_is_refused(tmp_path):
    assert "is empty" in said(lambda: read_lines(written(tmp_path, "x", " \n")))


def test_a_wrong_encoding_names_the_line_and_the_conversion(tmp_path):
    message = said(lambda: read_lines(written(tmp_path, "x", b"fine\ncaf\xe9\n")))
    assert "line 2" in message and "0xe9" in message and "iconv -f ISO-8859-1" in message
    assert "iconv -f UTF-16" in said(lambda: read_lines(written(tmp_path, "y", "abc\n".encode("utf-16"))))


@pytest.mark.parametrize("data", [gzip.compress(b"a\n" * 99)[:-9], gzip.compress(b"a\n")[:10] + b"\xff" * 20, b"no gzip"])
def test_a_broken_gzip_is_said(tmp_path, data):
    assert "not a whole gzip file" in said(lambda: read_lines(written(tmp_path, "x.gz", data)))


def test_aligned_files_of_different_lengths_name_the_first_line_alone(tmp_path):
    one, other = written(tmp_path, "a", "1\n2\n3\n"), written(tmp_path, "b", "1\n2\n")
    message = said(lambda: read_pairs(one, other))
    assert "3 lines" in message and "has 2" in message and "line 3" in message


def test_pairs_come_from_aligned_files_tsv_and_jsonl_with_further_references(tmp_path):
    one, other = written(tmp_path, "a", "x\ny\n"), written(tmp_path, "b", "u\nv\n")
    assert read_pairs(one, other) == [("x", ("u",)), ("y", ("v",))]
    assert read_pairs(written(tmp_path, "a.tsv", "x\tu\tw\n\ny\tv\n")) == [("x", ("u", "w")), ("y", ("v",))]
    lines = '{"en": "x", "de": ["u", "w"]}\n\n{"translation": {"en": "y", "de": "v"}}\n'
    packed = written(tmp_path, "a.jsonl.gz", gzip.compress(lines.encode()))
    assert read_pairs(packed, fields=("en", "de")) == [("x", ("u", "w")), ("y", ("v",))]


def test_mistakes_in_a_line_name_the_line(tmp_path):
    assert "line 2: no tab" in said(lambda: read_pairs(written(tmp_path, "a.tsv", "x\ty\nz\n")))
    assert "line 3: not JSON" in said(lambda: read_jsonl(written(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": \n')))
    assert "line 1: a JSON list" in said(lambda: read_jsonl(written(tmp_path, "b.jsonl", "[]\n")))
    message = said(lambda: read_pairs(written(tmp_path, "c.jsonl", '{"source": "x", "targt": "y"}\n')))
    assert "line 1" in message and "'target'" in message and "did you mean 'targt'" in message
    assert "write a string" in said(lambda: read_pairs(written(tmp_path, "d.jsonl", '{"source": "x", "target": 3}\n')))
    assert ".tsv or .jsonl" in said(lambda: read_pairs(written(tmp_path, "e.csv", "x,y\n")))
