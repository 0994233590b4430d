"""Reading people's own text files as a stream, plain or gzip: whatever is wrong with them is said in one line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from .build import nearest
from .printable import printable
from .progress import progress
from .say import speaks

Paired = tuple[str, tuple[str, ...]]     # a source and its references
BLOCK = 2**22                            # bytes read at a time
LONGEST = 2**20                          # signs of a line; a longer one is no sentence, and its ids would fill the memory
MARK = b"\xef\xbb\xbf"                   # the byte-order mark of UTF-8


def find(path: str | Path) -> Path:
    """The file itself, or the same with `.gz` behind its name; ValueError names the nearest file there is."""
    path = Path(path).expanduser()
    for one in (path, path.with_name(path.name + ".gz")):
        if one.is_file():
            return one
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file; name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"no file {path}: there is no folder {path.parent}; give the path of an existing text file")
    there = sorted(one.name for one in path.parent.iterdir() if one.is_file())
    raise ValueError(f"no file {path} (nor {path.name}.gz){nearest(path.name, there)}; give an existing text file")


def lines(path: str | Path) -> Iterator[str]:
    """Lines of a UTF-8 file without byte-order mark and line ends, outer spaces kept; ValueError for anything else.

    A line ends at "\\n" or "\\r\\n" only: it may hold U+2028 or a form feed.
    """
    path = find(path)
    blank = True
    for number, block in _blocks(path):
        text = _decoded(path, number, block.removeprefix(MARK) if number == 1 else block)
        blank = blank and not text.strip()
        found = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
        longest = max(map(len, found))
        if longest > LONGEST:
            at = number + next(i for i, line in enumerate(found) if len(line) == longest)
            raise ValueError(f"{path}, line {at}: {longest} signs in one line, more than {LONGEST}; write one example a line, "
                             "or take it out")
        if number == 1 and len(found) == 1 and "\r" in found[0].strip("\r"):
            raise ValueError(f"{path}, line 1: its lines end by CR alone; convert the file, such as by: tr '\\r' '\\n'")
        yield from found
    if blank:
        raise ValueError(f"{path} is empty or holds blank lines only; it must hold one example a line")


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines, about BLOCK bytes of them at a time, and the number of the first."""
    with path.open("rb") as raw, progress(
            path.stat().st_size, f"reading {printable(path.name)}", "B", shown=speaks(), passing=True) as bar:
        packed = raw.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        number, rest = 1, b""
        while block := _read(path, file, packed, number):
            bar.update(raw.tell() - bar.n)
            end = block.rfind(b"\n") + 1
            if end:
                yield number, rest + block[:end]
                number += block.count(b"\n", 0, end) + rest.count(b"\n")
                rest = block[end:]
            else:
                rest += block
            if len(rest) > 4 * LONGEST + BLOCK:            # four bytes a sign at most
                raise ValueError(f"{path}, line {number}: more than {len(rest)} bytes without a line end; write one example a "
                                 "line, or take it out")
        if rest:
            yield number, rest


def _read(path: Path, file: BinaryIO, packed: bool, number: int) -> bytes:
    try:
        return file.read(BLOCK)
    except (OSError, EOFError, zlib.error) as error:
        if not packed:
            raise
        raise ValueError(f"{path}, after line {number - 1}: not a whole gzip file ({error}); copy it again") from error


def _decoded(path: Path, number: int, block: bytes) -> str:
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = number + block.count(b"\n", 0, error.start)
        kind = "UTF-16" if line == 1 and block[:2] in (b"\xff\xfe", b"\xfe\xff") else "ISO-8859-1"
        raise ValueError(f"{path}, line {line}: byte 0x{block[error.start]:02x} is not UTF-8; convert the file, "
                         f"such as by: iconv -f {kind} -t UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{path}, line {number + text.count(chr(10), 0, text.index(chr(0)))}: a NUL byte, so this is no text; "
                         "convert the file if it is UTF-16 (iconv -f UTF-16LE -t UTF-8), or take the bytes out (tr -d '\\000')")
    return text


def records(path: str | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line numbers and JSON objects, one a line; blank lines are skipped. ValueError names a line that is none."""
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error}); write one JSON object a line") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: a JSON {type(record).__name__}; write one JSON object a line")
        yield number, record


def text_field(record: dict[str, object], name: str, where: str) -> tuple[str, ...]:
    """A field that holds a string, or several as a list; ValueError, beginning with `where`, when it does not."""
    if name not in record:
        there = [printable(one) for one in record]
        raise ValueError(f"{where}: no field {name!r}{nearest(name, there)}; there are: {', '.join(there[:12]) or 'none'}")
    value = record[name]
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not texts or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"{where}: field {name!r} holds {printable(json.dumps(value), 40)}; "
                         f"write a string, or a list of strings for several references")
    return texts


def pairs(source: str | Path, target: str | Path | None = None,
          fields: tuple[str, str] = ("source", "target")) -> Iterator[Paired]:
    """Sources with their references: two aligned text files, or one .tsv or .jsonl file, each also with .gz behind.

    Further columns of a TSV, and a list in the target field of JSONL, are further references. The fields may also
    stand inside one field `translation`, as in many data sets of Hugging Face.
    """
    if target is not None:
        return _aligned(source, target)
    kind = Path(str(source).removesuffix(".gz")).suffix
    if kind in (".jsonl", ".ndjson", ".json"):
        return (_fields(record, fields, f"{source}, line {number}") for number, record in records(source))
    if kind in (".tsv", ".tab"):
        return _columns(source)
    raise ValueError(f"{source}: one file of pairs must end in .tsv or .jsonl (.gz behind it is fine); "
                     f"for two aligned text files give both")


def _aligned(source: str | Path, target: str | Path) -> Iterator[Paired]:
    """Line i of one file with line i of the other."""
    count = [0, 0]
    for one, other in zip_longest(lines(source), lines(target)):
        count[0], count[1] = count[0] + (one is not None), count[1] + (other is not None)
        if count[0] == count[1]:
            yield one, (other,)
    if count[0] != count[1]:
        short, long = sorted(((count[0], source), (count[1], target)), key=lambda one: one[0])
        raise ValueError(f"{long[1]} has {long[0]} lines but {short[1]} has {short[0]}: line {short[0] + 1} of the "
                         f"former has no partner; line i of one must translate line i of the other")


def _fields(record: dict[str, object], fields: tuple[str, str], where: str) -> Paired:
    inner = record.get("translation")
    record = inner if isinstance(inner, dict) else record
    return text_field(record, fields[0], where)[0], text_field(record, fields[1], where)


def _columns(path: str | Path) -> Iterator[Paired]:
    """Columns of a TSV; empty ones at the end of a line stand for references that it lacks."""
    width = 0
    for number, line in enumerate(lines(path), 1):
        source, *references = line.split("\t")
        if not references:
            if not source.strip():
                continue                     # a blank line at the end of a spreadsheet's export
            raise ValueError(f"{path}, line {number}: no tab in '{printable(source, 40)}'; write source, tab, target")
        width = width or len(references)
        if len(references) > width:
            raise ValueError(f"{path}, line {number}: {len(references) + 1} columns, but its first line has {width + 1}; write "
                             "a tab within a field as a space, or give the first line as many columns (they may be empty)")
        while len(references) > 1 and not references[-1].strip():
            references.pop()
        yield source, tuple(references)
