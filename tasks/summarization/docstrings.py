"""Summaries that programmers wrote: the first line of a docstring, to be told from the signature and the text below it.

Read from the Python packages installed wherever rlseq runs, and from the standard library, by parsing, never importing.
"""

from __future__ import annotations

import ast
import gc
import gzip
import hashlib
import inspect
import json
import os
import platform
import re
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path

from rlseq.text import words

RULES = 1                                   # goes up when any rule of this file changes: names the cache
SUMMARY_WORDS, TEXT_WORDS = (3, 20), (15, 100)    # between white space, least and most
PIECES = (200, 30)                          # most words and punctuation marks of a source and of a summary
CACHE = Path("runs/cache")

SKIPPED_FOLDERS = {"tests", "test", "idle_test", "site-packages", "dist-packages", "__pycache__", "vendor", "_vendor",
                   "vendored", "_vendored", "extern", "externals", "third_party", "thirdparty", "lib2to3"}
NOT_READ = {"rlseq", "tests", "test"}       # top-level names: ourselves, and tests that packages leave behind

# Only a file that has docstrings with a blank line under their first paragraph is worth parsing, one in 4000 bytes.
WORTH = re.compile(rb'''"""\s*[A-Za-z][^\n"]{8,}\n(?:[^\n"]+\n)?[ \t\r]*\n''')
COPIED = 0.5                                # share of a text's runs of words that makes it another package's
BYTES_PER_DOCSTRING = 4_000
SECTION = re.compile(r"^(?:args?|arguments?|params?|parameters?|other parameters|attributes?|returns?|yields?|raises?|"
                     r"keyword arguments|kwargs|notes?|warnings?|see also|methods|inputs?|outputs?|shape):?$", re.I)
LEFT_OUT = re.compile(r"^(?:examples?|usage|references?|todo|example usage|see also|doctests?)\b[^.]{0,20}:*$", re.I)
MARK_UP = ((re.compile(r":[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`"), r"\1"),   # :class:`~a.B` -> a.B
           (re.compile(r"`+([^`]*)`+_*"), r"\1"), (re.compile(r"\*\*([^*\s][^*]*)\*\*"), r"\1"))
FIELD = re.compile(r"^:(?:param|arg|keyword|returns?|raises?|ivar)(?:[ \t]+([^:]*))?:[ \t]*", re.M)
TYPE_FIELD = re.compile(r"^:(?:type|rtype|vartype)\b.*$", re.M)
RULE = re.compile(r"^[ \t]*[-=~^*]{3,}[ \t]*$", re.M)
NO_WORDS = re.compile(r"[^A-Za-z ]+")
CODE = re.compile(r"^\s*(?:>>>|\.\.\s|\.\.$|\$ |\||\+-|@)|::$")


@dataclass(frozen=True)
class Pair:
    """The signature and the text below the first line; the first line; the top-level package both are from."""

    source: str
    summary: str
    package: str


@dataclass(frozen=True)
class Corpus:
    """All pairs in a fixed order, and what they were read from: `packages` maps names to versions."""

    pairs: tuple[Pair, ...]
    packages: dict[str, str]
    report: dict[str, int]                  # files read, files that do not parse, copied texts left out

    @property
    def fingerprint(self) -> str:
        """A short hash of the contributing packages, their versions and every pair."""
        digest = hashlib.sha256(json.dumps([RULES, self.packages], sort_keys=True).encode())
        for pair in self.pairs:
            digest.update(f"{pair.package}\0{pair.source}\0{pair.summary}\0".encode())
        return digest.hexdigest()[:12]


def plain(text: str) -> str:
    """One line without mark-up: roles, back-ticks and bold are taken off, white space becomes single spaces."""
    for pattern, kept in MARK_UP:
        text = pattern.sub(kept, text)
    return " ".join(text.split())


def summary_of(paragraph: str) -> str | None:
    """The first paragraph as a summary, or None where it is not one sentence of 3 to 20 words in ASCII."""
    text = plain(paragraph)
    if not SUMMARY_WORDS[0] <= len(text.split()) <= SUMMARY_WORDS[1] or not text.isascii() or CODE.search(text):
        return None
    if not text[0].isalpha() or text.endswith((":", ",")) or re.search(r"[.!?] +[A-Z]|->|[=|{}<>]", text):
        return None
    return text


def body_of(paragraphs: list[str]) -> str | None:
    """The text below the summary without code, directives and headings, cut after 100 words; None under 15 words."""
    kept, length = [], 0
    for paragraph in paragraphs:
        lines = [line for line in RULE.sub("", TYPE_FIELD.sub("", FIELD.sub(r"\1 : ", paragraph))).split("\n") if line]
        if not lines or CODE.search(lines[0]):
            continue
        if LEFT_OUT.match(lines[0].strip()):
            break                           # examples and references: what follows is code and titles
        lines = [line for line in lines if not SECTION.match(line.strip()) and not CODE.search(line)]
        text = plain(" ".join(lines))
        if len(NO_WORDS.sub("", text)) > 0.75 * len(text):
            kept.append(text)
            length += len(text.split())
        if length >= TEXT_WORDS[1]:
            break
    text = " ".join(" ".join(kept).split()[:TEXT_WORDS[1]])
    return text if length >= TEXT_WORDS[0] and text.isascii() else None


def signature(node: ast.AST, owner: str) -> str:
    """`def owner.name(arguments)` or `class Name(Base)`: names only, at most eight arguments."""
    name = f"{owner}.{node.name}" if owner else node.name
    if isinstance(node, ast.ClassDef):
        bases = [base.id if isinstance(base, ast.Name) else base.attr for base in node.bases
                 if isinstance(base, ast.Name | ast.Attribute)]
        return f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"def {name}({', '.join([one for one in arguments if one not in ('self', 'cls')][:8])})"


def documented(node: ast.AST, owner: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Classes, their methods and functions with the class that owns them; nothing nested in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child, ""
            yield from documented(child, child.name)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, owner
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from documented(child, owner)


def pairs_of(code: bytes, package: str) -> Iterator[Pair]:
    """Pairs of one file, in its order; raises SyntaxError or ValueError for one that does not parse."""
    if len(WORTH.findall(code)) * BYTES_PER_DOCSTRING < len(code):
        return
    for node, owner in documented(ast.parse(code)):
        first = node.body[0]
        if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)):
            continue
        paragraphs = re.split(r"\n[ \t]*\n", inspect.cleandoc(first.value.value))
        summary = summary_of(paragraphs[0]) if len(paragraphs) > 1 else None
        body = body_of(paragraphs[1:]) if summary else None
        if body and plain(summary).rstrip(".").lower() not in body.lower():   # a summary said again is no task
            source = f"{signature(node, owner)} : {body}"
            if len(words(source)) <= PIECES[0] and len(words(summary)) <= PIECES[1]:
                yield Pair(source, summary, package)


def installed() -> dict[str, tuple[Path, str]]:
    """Top-level packages and modules: name -> (its path, its version). The standard library's names start `python.`."""
    roots = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    versions = {}
    for one in sorted(distributions(), key=lambda one: one.metadata["Name"] or ""):    # their own order is the disk's
        root = Path(str(one.locate_file("")))
        roots |= {root} if root.name in ("site-packages", "dist-packages") else set()
        name = one.metadata["Name"] or ""
        for top in (one.read_text("top_level.txt") or name.replace("-", "_")).split():
            versions.setdefault(top.lower(), f"{name} {one.version}")
    found = {}
    for root, prefix in [(root, "") for root in sorted(roots)] + [(Path(sysconfig.get_path("stdlib")), "python.")]:
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            name = path.name.removesuffix(".py")
            module = path.suffix == ".py" or path.is_dir() and name.isidentifier()
            if module and name not in NOT_READ | SKIPPED_FOLDERS:
                version = platform.python_version() if prefix else versions.get(name.lower(), "")
                found.setdefault(prefix + name, (path, version))
    return dict(sorted(found.items()))


def python_files(path: Path) -> Iterator[Path]:
    """The .py files of a package in a fixed order, without tests and what it vendors; a module is its own file."""
    if path.is_file():
        yield path
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(one for one in folders if one not in SKIPPED_FOLDERS)
        yield from (Path(folder, one) for one in sorted(files) if one.endswith(".py"))


def extract(packages: dict[str, tuple[Path, str]]) -> Corpus:
    """All pairs of these packages; of texts copied within a package or from one package to another the first stays."""
    pairs, report = [], {"files": 0, "unparsed": 0, "copies": 0}
    seen: set[bytes] = set()                # whole texts, without case and punctuation
    elsewhere: set[int] = set()             # runs of words in the packages before this one
    collecting = gc.isenabled()
    gc.disable()                            # a syntax tree has no cycles worth the search: a third faster
    try:
        for name, (path, _) in packages.items():
            own = []
            for pair in _package(name, path, report):
                cut = re.findall(r"\w+", pair.source.split(" : ", 1)[1].lower())
                text = hashlib.md5(" ".join(cut).encode()).digest()
                copied = runs(cut)
                if text in seen or len(copied & elsewhere) > COPIED * len(copied):
                    report["copies"] += 1
                    continue
                seen.add(text)
                own.append(copied)
                pairs.append(pair)
            elsewhere.update(*own)
    finally:
        if collecting:
            gc.enable()
    versions = {name: packages[name][1] for name in sorted({pair.package for pair in pairs})}
    return Corpus(tuple(pairs), versions, report)


def runs(cut: list[str]) -> set[int]:
    """Checksums of all runs of eight words; the same in every process, unlike `hash`."""
    return {zlib.crc32(" ".join(cut[start:start + 8]).encode()) for start in range(len(cut) - 7)}


def _package(name: str, path: Path, report: dict[str, int]) -> Iterator[Pair]:
    for file in python_files(path):
        try:
            found = list(pairs_of(file.read_bytes(), name))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            report["unparsed"] += 1
            continue
        report["files"] += 1
        yield from found


def load() -> Corpus:
    """The corpus of the running environment: from the cache of equal packages and versions, else read and cached."""
    packages = installed()
    made_of = json.dumps([RULES, platform.python_version(), {name: version for name, (_, version) in packages.items()}])
    cache = CACHE / f"docstrings-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}.jsonl.gz"
    try:
        with gzip.open(cache, "rt", encoding="utf-8") as lines:
            head = json.loads(next(lines))
            return Corpus(tuple(Pair(*json.loads(line)) for line in lines), head["packages"], head["report"])
    except (OSError, EOFError, ValueError, StopIteration):
        pass                                # none yet, or a damaged one: read again
    corpus = extract(packages)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        head = {"packages": corpus.packages, "report": corpus.report}
        rows = [json.dumps(head)] + [json.dumps(list(asdict(pair).values())) for pair in corpus.pairs]
        temporary = cache.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(gzip.compress("\n".join(rows).encode(), compresslevel=3, mtime=0))
        os.replace(temporary, cache)        # atomic: a second run sees all of it or nothing
    except OSError:
        pass                                # no permission to write: read again next time
    return corpus
