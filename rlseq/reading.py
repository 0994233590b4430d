"""Reading people's own text files, plain or gzip: whatever is wrong with them is said in one line."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

from .build import nearest

Paired = tuple[str, tuple[str, ...]]     # a source and its references


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


def read_text(path: str | Path) -> str:
    """The whole text of a UTF-8 file without byte-order mark, its line ends as "\\n"; ValueError for anything else."""
    path = find(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b" or path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error}); copy or download it again") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "ISO-8859-1"
        raise ValueError(f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file, "
                         f"such as by: iconv -f {kind} -t UTF-8") from error
    if not text.strip():
        raise ValueError(f"{path} is empty; it must hold one example a line")
    return text.replace("\r\n", "\n")


def read_lines(path: str | Path) -> list[str]:
    """Lines of a text file, split at line ends only (a line may hold U+2028 or a form feed), outer spaces kept."""
    text = read_text(path)
    return text.removesuffix("\n").split("\n")


def read_jsonl(path: str | Path) -> list[tuple[int, dict[str, object]]]:
    """Line numbers and JSON objects, one a line; blank lines are skipped. ValueError names a line that is none."""
    records = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error}); write one JSON object a line") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: a JSON {type(record).__name__}; write one JSON object a line")
        records.append((number, record))
    return records


def text_field(record: dict[str, object], name: str, where: str) -> tuple[str, ...]:
    """A field that holds a string, or several as a list; ValueError, beginning with `where`, when it does not."""
    if name not in record:
        raise ValueError(f"{where}: no field {name!r}{nearest(name, list(record))}; "
                         f"there are: {', '.join(map(str, record)) or 'none'}")
    value = record[name]
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not texts or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"{where}: field {name!r} holds {json.dumps(value)[:40]}; "
                         f"write a string, or a list of strings for several references")
    return texts


def read_pairs(source: str | Path, target: str | Path | None = None,
               fields: tuple[str, str] = ("source", "target")) -> list[Paired]:
    """Sources with their references: two aligned text files, or one .tsv or .jsonl file, each also with .gz behind.

    Further columns of a TSV, and a list in the target field of JSONL, are further references. The fields may also
    stand inside one field `translation`, as in many data sets of Hugging Face.
    """
    if target is not None:
        sources, targets = read_lines(source), read_lines(target)
        if len(sources) != len(targets):
            short, long = sorted(((len(sources), source), (len(targets), target)), key=lambda one: one[0])
            raise ValueError(f"{long[1]} has {long[0]} lines but {short[1]} has {short[0]}: line {short[0] + 1} of the "
                             f"former has no partner; line i of one must translate line i of the other")
        return [(one, (other,)) for one, other in zip(sources, targets)]
    kind = Path(str(source).removesuffix(".gz")).suffix
    if kind in (".jsonl", ".ndjson", ".json"):
        return [_fields(record, fields, f"{source}, line {number}") for number, record in read_jsonl(source)]
    if kind in (".tsv", ".tab"):
        return _columns(source)
    raise ValueError(f"{source}: one file of pairs must end in .tsv or .jsonl (.gz behind it is fine); "
                     f"for two aligned text files give both")


def _fields(record: dict[str, object], fields: tuple[str, str], where: str) -> Paired:
    inner = record.get("translation")
    record = inner if isinstance(inner, dict) else record
    return text_field(record, fields[0], where)[0], text_field(record, fields[1], where)


def _columns(path: str | Path) -> list[Paired]:
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        source, *references = line.split("\t")
        if not references:
            if not source.strip():
                continue                     # a blank line at the end of a spreadsheet's export
            raise ValueError(f"{path}, line {number}: no tab in {source[:40]!r}; write source, tab, target")
        pairs.append((source, tuple(references)))
    return pairs
