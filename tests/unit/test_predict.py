"""rlseq.predict answers every line there is, in order, whatever signs it holds; what it cannot answer it says."""

import io
import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlseq import predict, tasks
from rlseq.checkpoint import write_checkpoint
from rlseq.nn.policy import make_policy
from rlseq.paths import ROOT
from rlseq.predict import LONGEST, UNANSWERED, UNENDED, UNREAD, Options, Predictor
from rlseq.replicate import LARGEST
from rlseq.text import Tokenizer
from tests.thrown import arguments, ended, many, unheard
from tests.toys import tiny_shape

WORDS = ["the cat reads all files", "it keeps 12 lists, and nothing else", "Die Katze liest Dateien"]
TASKS = {"translation": ({"max_tokens": 12}, "vocabulary", ("bpe", 270)),
         "summarization": ({"max_source": 20, "max_target": 6}, "copy", ("word", 12)),
         "sort": ({}, "copy", None), "hull": ({}, "pointer", None)}


def write(folder, name):
    """A checkpoint of a policy that has learned nothing; the notes that stand in it."""
    options, head, kind = TASKS[name]
    options = {"head": head, **options}
    task = tasks.make(name, options)
    state = {"tokenizer": Tokenizer.train(WORDS, *kind).to_json()} if kind else {}
    task.restore(state)
    torch.manual_seed(0)
    shape = tiny_shape({"head": head})
    policy = make_policy(task.sizes, shape)
    facts = {"rlseq": "0.1.0", "commit": ["abc", False], "task": name, "task_version": task.version, "task_options": options,
             "task_state": state, "sizes": asdict(task.sizes), "shape": asdict(shape)}
    write_checkpoint(folder, "model", policy.state_dict(), facts)
    return facts


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("checkpoints")
    for name in TASKS:
        write(home / name, name)
    return home


@pytest.fixture(scope="module")
def predictors(folders):
    return {name: Predictor(Options(str(folders / name), batch=4, scores=True)) for name in TASKS}


ODD = "\u2028\x0b\x0c\x85\r\x00\ufeff\u202e\u200d\x1b\t \u0301"
signs = st.one_of(st.characters(exclude_categories=[]), st.sampled_from(ODD))
whole = st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(ODD))
lines = st.lists(st.one_of(st.text(signs, max_size=30), st.sampled_from(["", " ", "\u3000", *WORDS])), max_size=8)


@pytest.mark.parametrize("name", ["translation", "summarization"])
def test_any_lines_of_unicode_get_as_many_answers_in_one_line_each(predictors, name):
    @many(150)
    @given(lines)
    def holds(given):
        answers = list(predictors[name](given))
        assert len(answers) == len(given)
        for line, answer in zip(given, answers, strict=True):
            assert len(answer.splitlines()) <= 1 and bool(answer) == bool(line.strip()), (line, answer)
            answer.encode()
    holds()


@pytest.mark.parametrize("name", ["translation", "summarization"])
def test_an_answer_depends_on_its_line_alone_so_order_is_kept(predictors, name):
    given = [*WORDS, "", "a", "Dateien " * 8, "\u2028", "x \x0b y", "it"]
    together = [answer.partition("\t")[2] for answer in predictors[name](given)]
    assert together == [next(predictors[name]([line])).partition("\t")[2] for line in given]


@pytest.mark.parametrize(("name", "sound"), [("sort", "3 1 2"), ("hull", "0 0 1 0 0 1")])
def test_lines_of_numbers_are_answered_or_named(predictors, name, sound):
    @many(200)
    @given(st.one_of(st.text(signs, max_size=20), st.text("0123456789 ,.-+e_", max_size=30),
                     st.lists(st.floats() | st.integers(), max_size=9).map(lambda found: " ".join(map(str, found)))))
    def holds(line):
        try:
            answers = list(predictors[name]([sound, "", line]))
        except ValueError as error:
            assert str(error).startswith("line 3: ")
        else:
            assert len(answers) == 3 and answers[0] and not answers[1] and bool(answers[2]) == bool(line.strip())
    holds()


@pytest.mark.parametrize("name", TASKS)
def test_bytes_in_are_lines_out_or_one_line_says_which_is_wrong(folders, name):
    @many(60)
    @given(st.one_of(st.binary(max_size=60), st.text(whole).map(str.encode),
                     st.lists(st.sampled_from([b"3 1 2", b"", b"\r", b"0 0 1 0 0 1", b"\xff", b"\xed\xa0\x80", "é".encode()]))
                     .map(b"\n".join)))
    def holds(given):
        with arguments(f"checkpoint={folders / name}", "batch=3"):
            found = ended(predict.main, given)
        assert found.well, (given, found)
        count = len(list(io.BytesIO(given)))
        assert found.code == 2 or found.out.count(b"\n") == count, (given, found)
    holds()


def test_a_byte_order_mark_is_no_part_of_the_first_line(folders):
    with arguments(f"checkpoint={folders / 'sort'}"):
        marked, plain = ended(predict.main, b"\xef\xbb\xbf3 1 2\r\n5\n"), ended(predict.main, b"3 1 2\n5\n")
    assert marked.code == 0 and marked.out == plain.out and plain.out.count(b"\n") == 2


def test_what_is_cut_is_said_and_what_is_too_long_is_left_empty(predictors, folders):
    one = predictors["summarization"]
    one.notes.clear()
    long, endless = "cat " * 30, "cat" * 400_000
    assert list(one(["cat", long, endless]))[2] == "" and one.notes[UNREAD] == [2] and one.notes[UNANSWERED] == [3]
    other = predictors["translation"]
    other.notes.clear()
    answers = list(other(["a", "a b " * LONGEST]))
    assert all(answers) and other.notes[UNREAD] == [2]
    other.notes.clear()
    with torch.no_grad():
        other.policy.head.bias[0] = -1e4                                # never STOP
    cut = next(other(["a"]))
    assert cut and other.notes[UNENDED] == [1]
    with torch.no_grad():
        other.policy.head.bias[0] = 0.0
    with arguments(f"checkpoint={folders / 'summarization'}"):
        found = ended(predict.main, long.encode() + b"\n" + long.encode())
    assert found.code == 0 and f"rlseq: line 1 and 1 more: {UNREAD}" in found.errors


def test_long_lines_do_not_meet_in_one_batch(predictors):
    one = predictors["sort"]
    problems = {number: one.task.parse("1 " * count) for number, count in enumerate((4000, 10, 4000, 4000, 10), 1)}
    wide = Predictor.__new__(Predictor)
    wide.__dict__ |= {**one.__dict__, "options": Options("x", batch=64, beam=9)}
    assert list(wide._parts(problems)) == [[2, 5], [1], [3], [4]]              # 2 * 8001 * 9 > 2**17 > 8001 * 9


@pytest.mark.parametrize("words", [
    ("beam=3",), ("beam=3", "no_repeat=2", "length_penalty=0.5"), ("precision=bf16",), ("no_repeat=1",)])
def test_every_way_of_decoding_answers_every_line(folders, words):
    for name in ("translation", "summarization"):
        with arguments(f"checkpoint={folders / name}", "scores=true", *words):
            found = ended(predict.main, "a\n\n\u2028b c\nÄ\n".encode())
        assert found.code == 0 and found.out.count(b"\n") == 4 and found.out.split(b"\n")[1] == b"", found


def test_a_terminal_sees_no_control_characters(folders, monkeypatch):
    monkeypatch.setattr(Predictor, "__call__", lambda self, lines: iter(["-1.0\tred \x1b[31malert"]))
    with arguments(f"checkpoint={folders / 'sort'}"):
        assert ended(predict.main, terminal=True).out == b"-1.0\tred \\x1b[31malert\n"


@pytest.mark.parametrize("words", [
    ("beam=100000",), ("batch=0",), ("batch=" + "9" * 5000,), ("length_penalty=nan",), ("scores=maybe",), ("bean=1",),
    ("beam",), ("device=cuda:9",), ("checkpoint=",), ("=1",), ("no_repeat=-1",), ("length_penalty=1e300",), ("beam=١",),
    ("precision=",), ("length_penalty=2",), ("\udcff=1",), ("beam=\x1b",)])
def test_options_that_cannot_be_are_refused_in_one_line(folders, words):
    with arguments(f"checkpoint={folders / 'sort'}", *words):
        found = ended(predict.main, b"1\n")
    assert (found.code == 2 or words == ("beam=١",)) and found.well, found


def test_a_reader_who_leaves_ends_the_command_without_a_word(folders):
    with arguments(f"checkpoint={folders / 'sort'}"):
        assert unheard(predict.main, b"1 2\n" * 9) == (0, "")


@pytest.mark.parametrize(("change", "part"), [
    ({"task": "../../evil"}, "no task"), ({"task": None}, "no task"),
    ({"task_options": {"head": "copy", "high": 10**12}}, "from 2"),
    ({"task_options": [1]}, "group of options"), ({"task_options": {"head": "copy", "__class__": 1}}, "unknown option"),
    ({"sizes": {"features": 18, "vocabulary": 2**40}}, "does not fit"), ({"sizes": {"features": "x"}}, "does not fit"),
    ({"shape": {"head": "copy", "width": 10**9}}, "does not fit"),
    ({"shape": {"head": "copy", "encoder_layers": 10**9}}, "does not fit"),
    ({"shape": {"head": "copy", "width": 65536}}, "other names or shapes"), ({"task_state": "x"}, "task_state"),
    ({"task_version": 99}, "answers sort-v99"), ({"rlseq": "\x1b[31m"}, None)])
def test_notes_of_a_stranger_take_no_memory_and_run_nothing(tmp_path, change, part):
    facts = write(tmp_path / "it", "sort")
    notes = tmp_path / "it" / "model.json"
    notes.write_text(json.dumps({**json.loads(notes.read_text()), **facts, **change}))
    with arguments(f"checkpoint={tmp_path / 'it'}"):
        found = ended(predict.main, b"2 1\n")
    assert found.well and (part is None or found.code == 2 and part in found.errors), found


def test_pictures_are_drawn_of_hulls_by_line_and_of_no_text(folders, tmp_path):
    drawing = Predictor(Options(str(folders / "hull"), pictures=str(tmp_path / "drawn")))
    assert len(list(drawing(["0 0 1 0 0 1", "", "5 5 9 9 1 8 2 2"]))) == 3
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [one.name for one in drawn] == ["1.png", "3.png"] and all(one.read_bytes().startswith(b"\x89PNG") for one in drawn)
    with pytest.raises(ValueError, match="pictures=x, but answers of sort are text"):
        Predictor(Options(str(folders / "sort"), pictures="x"))


KEPT = sorted((ROOT / "results/checkpoints").glob("*/model.json"))
ASKED = {"hull": ("0 0 10 10 10 0 0 10 5 5", "0 2 1 3"), "sort": ("907 41 13 907 5", "5 13 41 907 907"),      # by hand
         "translation": ("A man is playing a guitar.", None), "summarization": ("#Person1#: Hello! #Person2#: Goodbye.", None)}


@pytest.mark.parametrize("notes", KEPT, ids=[one.parent.name for one in KEPT])
def test_what_lies_in_results_answers_out_of_the_box(notes):
    predictor = Predictor(Options(str(notes.parent)))
    line, known = ASKED[predictor.task.name]
    [answer] = predictor([line])
    assert answer == known if known else len(answer.split()) > 1
    assert sum(one.stat().st_size for one in notes.parent.iterdir()) <= LARGEST


def test_what_lies_in_results_is_small():
    assert sum(one.stat().st_size for one in (ROOT / "results/checkpoints").rglob("*")) <= 40_000_000
