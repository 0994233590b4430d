"""rlseq.exposure from the command line: tables, files, checkpoints of one task, and mistakes in one line."""

import json
from pathlib import Path

import pytest

from rlseq.exposure import HOME, cautions, main, named, options, ordered, read, task_of
from tests.unit.test_predict import write as write_checkpoint_of

FEW = ["--problems", "8", "--places", "0,1/2", "--kinds", "random"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Checkpoints where runs would put them; that of mle and of reinforce are the same policy."""
    found = tmp_path_factory.mktemp("runs")
    for place in ("sort/copy/mle/0-00000000", "sort/copy/reinforce/0-11111111", "sort/copy/reinforce/1-11111111",
                  "pretrained/sort-v0-22222222"):
        write_checkpoint_of(found / place, "sort")
    write_checkpoint_of(found / "hull", "hull")
    write_checkpoint_of(found / "text", "translation")
    return found


def noted(folder: Path, changes: dict) -> None:
    """Change what a checkpoint's notes say."""
    notes = folder / "model.json"
    notes.write_text(json.dumps({**json.loads(notes.read_text()), **changes}))


def test_a_table_and_its_files_from_folders_alone(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [str(home / "sort/copy/reinforce/0-11111111"), str(home / "sort/copy/mle/0-00000000"), *FEW, "--write", "sort"]
    assert main(words) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].startswith("sort-v0, dev: ") and "of the first 8 problems" in lines[0]
    assert any(line.startswith("mle, at 1/2") for line in lines) and "loss - mle's" in said
    same = [line for line in lines if line.startswith("reinforce, all")]
    assert "+0.00 [+0.00, +0.00]" in same[0], "the same policy loses as much, by the same mistakes"
    assert sorted(one.name for one in (tmp_path / HOME).iterdir()) == ["sort.json", "sort.md", "sort.svg"]
    page = (tmp_path / HOME / "sort.md").read_text()
    assert "python -m rlseq.exposure" in page and "--write sort" in page and said.splitlines()[0] in page
    data = json.loads((tmp_path / HOME / "sort.json").read_text())
    assert [one["checkpoint"] for one in data["checkpoints"]] == ["mle", "reinforce"] and data["base"] == "mle"
    assert {"commit", "hardware", "seed", "date"} <= set(data["about"])
    assert main(words) == 0 and capsys.readouterr().out == said, "the same numbers twice"


def test_labels_and_seeds_follow_from_folders_or_are_given(home, tmp_path):
    runs = home / "sort/copy/reinforce"
    assert (read(str(runs / "1-11111111")).label, read(str(runs / "1-11111111")).seed) == ("reinforce", "1")
    one = read(str(home / "pretrained/sort-v0-22222222"))
    assert (one.label, one.seed, one.start) == ("mle pretrained", "?", "22222222")
    assert read(f"a system={runs / '0-11111111'}").label == "a system"
    write_checkpoint_of(tmp_path / "x=y", "sort")
    noted(tmp_path / "x=y", {"kept": {"algo": "mixer", "seed": 3, "policy": "copy"}})
    one = read(str(tmp_path / "x=y"))
    assert (one.label, one.seed) == ("mixer", "3"), "a folder whose name holds a sign of equality; a kept checkpoint"


def test_the_one_to_compare_with_comes_first_and_equal_labels_are_seeds(home):
    runs = home / "sort/copy"
    words = [str(runs / "reinforce/0-11111111"), str(runs / "reinforce/1-11111111"), str(runs / "mle/0-00000000")]
    base, found = ordered(options(words))
    assert base == "mle" and named(found) == [("mle", "0"), ("reinforce", "0"), ("reinforce", "1")]
    assert ordered(options([*words, "--base", "reinforce"]))[0] == "reinforce" == ordered(options(words[:2]))[0]
    unknown = [read(f"x={home / 'pretrained/sort-v0-22222222'}"), read(f"x={home / 'pretrained/sort-v0-22222222'}")]
    assert named(unknown) == [("x", "#1"), ("x", "#2")]
    said = cautions(base, found, task_of(found, {}))
    assert said == ["reinforce is compared with mle over their common seeds only"]


def test_other_starts_and_other_data_are_said(home, tmp_path):
    for name, start in (("mle", "aaa"), ("mixer", "bbb")):
        write_checkpoint_of(tmp_path / name / "0-00000000", "sort")
        noted(tmp_path / name / "0-00000000", {"identity": {"pretrained": start, "data": "other"}})
    base, found = ordered(options([str(tmp_path / name / "0-00000000") for name in ("mle", "mixer")]))
    said = cautions(base, found, task_of(found, {}))
    assert ["did not start from the same checkpoint" in said[0], "not the data" in said[1], len(said)] == [True, True, 2]


def test_texts_lie_where_task_path_says(tmp_path, monkeypatch, capsys):
    for split in ("train", "dev", "test"):
        for side, word in (("en", "cat"), ("de", "Katze")):
            lines = [f"the {word} reads all files {split} {i} and all lists" for i in range(9)]
            (tmp_path / f"{split}.{side}").write_text("\n".join(lines) + "\n")
    facts = write_checkpoint_of(tmp_path / "run", "translation")
    noted(tmp_path / "run", {"task_options": {**facts["task_options"], "data": "files", "path": "FOLDER", "max_tokens": 128}})
    monkeypatch.chdir(tmp_path)
    assert main([f"x={tmp_path / 'run'}", *FEW]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "task.path=" in error
    assert main(["x=run", f"task.path={tmp_path}", *FEW, "--write", "x"]) == 0
    assert "bleu, at all places" in capsys.readouterr().out
    written = [one.read_text() for one in (tmp_path / HOME).iterdir()]
    assert not any(str(tmp_path) in one for one in written), "pages are passed on, and say no place of this machine"
    assert "task.path=FOLDER" in (tmp_path / HOME / "x.md").read_text()


@pytest.mark.parametrize(("words", "part"), [
    ([], "name one checkpoint"), (["nowhere"], "no checkpoint in nowhere"), (["x=nowhere"], "no checkpoint in nowhere"),
    (["{sort}", "{hull}"], "task.name"), (["{sort}", "--split", "tset"], "tset"), (["{sort}", "--problems", "0"], "problems"),
    (["{sort}", "--wrong", "0"], "wrong"), (["{sort}", "--wrong", "99"], "take fewer"), (["{sort}", "--places", "1"], "places"),
    (["{sort}", "--places", "a"], "places"), (["{sort}", "--places", "1/0"], "places"), (["{sort}", "--kinds", "odd"], "kinds"),
    (["{sort}", "--base", "ml"], "did you mean 'mle'"), (["{sort}", "{sort}"], "two checkpoints"),
    (["{sort}", "--odd"], "--help"), (["{sort}", "--seed", "-1"], "seed"), (["{sort}", "--write", "../x"], "letters"),
    (["{sort}", "--device", "tpu"], "device"),
    (["{sort}", "task.high=2000"], "leave the task's options out"), (["{sort}", "task.odd=1"], "odd"),
    (["../x={sort}"], "LABEL="), (["{hull}"], "LABEL="),
])
def test_a_mistake_is_one_line_and_exit_code_2(home, tmp_path, words, part, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = {"sort": home / "sort/copy/mle/0-00000000", "hull": home / "hull"}
    if words == ["{hull}"]:
        write_checkpoint_of(tmp_path / "\u202e" / "x", "hull")
        places["hull"] = tmp_path / "\u202e" / "x"
    assert main([one.format_map(places) for one in words]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1 and errors.startswith("rlseq: ") and part in errors, errors
    assert not (tmp_path / "results").exists(), "nothing may be half-written"


def test_help_needs_no_checkpoint(capsys):
    assert main(["--help"]) == 0 and "LABEL=" in capsys.readouterr().out
