"""Users' files at the command line: whatever is wrong is one line with file, line number and remedy, and nothing is written."""

import gzip
import json
import pickle
import sys

import pytest

from rlseq.batches import POOL, Batches
from rlseq.run import main
from rlseq.tasks import make

EN, DE = "".join(f"word {i}\n" for i in range(40)), "".join(f"Wort {i}\n" for i in range(40))
PAIRS = "".join(f"word {i}\tWort {i}\n" for i in range(40))
RECORDS = "".join(json.dumps({"source": f"word {i}", "target": f"Wort {i}"}) + "\n" for i in range(40))


def command(folder, monkeypatch, capsys, *words):
    """Exit code and stderr of a run in a folder of its own, and what it wrote there."""
    home = folder / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", ["rlseq.run", *words, "plan=smoke", "tracking=none", "device=cpu"])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().err, sorted(one.name for one in home.rglob("*"))


FAULTS = {
    "missing": ({"train.de": None}, ["no train split for en-de", "train.en + train.de", "there are"]),
    "empty": ({"train.de": b""}, ["train.de is empty"]),
    "blank": ({"dev.en": b"\n\n \n"}, ["dev.en", "blank lines only"]),
    "unequal": ({"train.de": DE.encode() + b"more\n"}, ["train.de has 41 lines", "train.en has 40", "line 41"]),
    "encoding": ({"test.de": b"fine\ncaf\xe9\n"}, ["test.de, line 2", "0xe9", "iconv"]),
    "NUL": ({"train.en": EN.replace("17", "1\x007").encode()}, ["train.en, line 18", "NUL"]),
    "10 MB": ({"train.en": EN.replace("17", "x" * 10**7).encode()}, ["train.en, line 18", "10000005 signs"]),
    "broken gzip": ({"train.en": None, "train.en.gz": gzip.compress(EN.encode())[:-9]}, ["train.en.gz", "gzip"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_translation_is_one_line_and_exit_code_2(fault, tmp_path, monkeypatch, capsys):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.en").write_text(EN)
        (tmp_path / f"{split}.de").write_text(DE)
    files, parts = FAULTS[fault]
    for name, data in files.items():
        (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    code, errors, written = command(tmp_path, monkeypatch, capsys, "task=translation", "task.data=files",
                                    f"task.path={tmp_path}")
    assert code == 2 and len(errors.splitlines()) == 1 and errors.startswith("rlseq: "), errors
    assert all(part in errors for part in parts), errors
    assert not written, "nothing may be half-written"


ONE_FILE = {
    "tab": ("train.tsv", PAIRS.replace("Wort 17", "Wort\t17"), ["train.tsv, line 18", "3 columns", "as a space"]),
    "no tab": ("train.tsv", PAIRS.replace("17\tWort", "17 Wort"), ["train.tsv, line 18", "no tab"]),
    "field": ("train.jsonl", RECORDS.replace('"target": "Wort 17"', '"targt": "x"'), ["line 18", "no field 'target'"]),
    "line": ("train.jsonl", RECORDS.replace('"Wort 17"}', '"Wort 17"'), ["train.jsonl, line 18", "not JSON"]),
    "few": ("train.tsv", "a\tb\n", ["1 training pairs are too few"]),
}


@pytest.mark.parametrize("fault", ONE_FILE)
def test_a_fault_in_texts_to_summarize_is_one_line_and_exit_code_2(fault, tmp_path, monkeypatch, capsys):
    name, data, parts = ONE_FILE[fault]
    (tmp_path / name).write_text(data)
    code, errors, written = command(tmp_path, monkeypatch, capsys, "task=summarization", "task.data=files",
                                    f"task.path={tmp_path / name}")
    assert code == 2 and len(errors.splitlines()) == 1 and all(part in errors for part in parts), errors
    assert not written


@pytest.mark.parametrize("name", ["translation", "summarization"])
def test_marks_windows_line_ends_and_any_script_change_nothing(name, tmp_path):
    texts = ["שלום \u202eעולם", "مرحبا", "e" + "\u0301" * 9 + "x", "हिन्दी नमस्ते", "日本語", "👩\u200d👩 \u200f", "plain"]
    rows = [f"{one} {i}\t{one} {i * i}" for i in range(30) for one in texts]
    tables = []
    for number, data in enumerate((b"\n".join(row.encode() for row in rows),
                                   b"\xef\xbb\xbf" + b"".join(row.encode() + b"\r\n" for row in rows))):
        path = tmp_path / f"{number}.tsv"
        path.write_bytes(data)
        task = make(name, {"data": "files", "path": str(path), "vocabulary": 400})
        tables.append([list(task.examples(split)) for split in ("train", "dev", "test")])
        batch = task.collate(task.examples("train")[:20])
        if name == "translation":
            assert task.decode(batch, batch.target) == [one.references[0] for one in batch.examples]
        assert task.metrics["chrf"].rows(batch, batch.target, batch.target_mask).shape[0] == 20
    assert tables[0] == tables[1] and sum(map(len, tables[0])) == len(rows)


def test_a_cache_belongs_to_one_direction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlseq.kept.SMALL", 1)
    for split in ("train", "dev", "test"):
        records = [{"en": f"{split} word {i}", "de": f"{split} Wort {i}"} for i in range(9)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))
    for pair, source in (("en-de", "dev word 3"), ("de-en", "dev Wort 3")):
        task = make("translation", {"data": "files", "path": str(tmp_path), "pair": pair, "vocabulary": 300})
        assert task.examples("dev")[3].source == source


def test_one_long_line_pads_no_batch_beyond_the_limit(tmp_path):
    rows = [f"word {i}\tWort {i}\n" for i in range(600)]
    rows[300:302] = ["long " * 5000 + "\tkurz\n", "a " * 40 + "\t" + "b " * 40 + "\n"]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("".join(rows).replace("word", split))
    for name, options in (("translation", {"max_tokens": 64}), ("summarization", {"max_source": 64})):
        task = make(name, {"data": "files", "path": str(tmp_path), "vocabulary": 300, **options})
        batches = Batches(task, 1, 200, 0)
        widths = [task.collate(batches(step)).source.shape for step in range(2 * POOL)]
        assert max(length for _, length in widths) <= 65 + (name == "summarization"), widths
        assert max(rows * length for rows, length in widths) < 8 * 200, "one long line does not swell a batch of short ones"
        assert task.collate(task.examples("dev")).source.shape[1] <= 8 * 64 + 1


def test_the_same_files_again_start_from_the_cache_and_a_changed_one_does_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlseq.kept.SMALL", 1)
    for split, count in (("train", 40), ("dev", 4), ("test", 4)):
        (tmp_path / f"{split}.en").write_text("".join(f"{split} word {i}\n" for i in range(count)))
        (tmp_path / f"{split}.de").write_text("".join(f"{split} Wort {i}\n" for i in range(count)))

    def started():
        task = make("translation", {"data": "files", "path": str(tmp_path), "vocabulary": 300})
        batch = pickle.loads(pickle.dumps(task)).collate(task.examples("train")[:5])
        return task.fingerprint, task.tokenizer.to_json(), batch.source.tolist(), batch.target.tolist()
    first = started()
    count = len(list((tmp_path / "runs/cache").iterdir()))
    assert count == 7                                # texts and ids of three splits, one tokenizer
    assert started() == first and len(list((tmp_path / "runs/cache").iterdir())) == count
    monkeypatch.setattr("rlseq.kept.SMALL", 10**9)
    assert started() == first, "the same without a cache"
    monkeypatch.setattr("rlseq.kept.SMALL", 1)
    (tmp_path / "train.de").write_text((tmp_path / "train.de").read_text().replace("3", "drei"))
    assert started()[0] != first[0]
    assert len(list((tmp_path / "runs/cache").iterdir())) == count + 5       # its texts, a tokenizer, all ids
    assert capsys.readouterr().err == ""
