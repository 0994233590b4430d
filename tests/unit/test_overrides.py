"""Whatever stands on the command line of rlseq.run, training begins or one line says what is wrong, and nothing is written.

RLSEQ_THROWN=2000 throws so many command lines; by default fewer are thrown, the same each time.
"""

import gzip
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq import algos, tasks, text
from rlseq.build import names
from rlseq.evaluate import Decoding
from rlseq.nn.policy import Shape
from rlseq.paths import CONF
from rlseq.run import choices, main
from rlseq.setup import KEYS
from rlseq.stage import Stage
from tests.thrown import Begins, arguments, ended, many

COUNT = int(os.environ.get("RLSEQ_THROWN", "240"))
KINDS = sorted(path.stem for path in (CONF.parent / "rlseq" / "algos").glob("*.py") if path.stem not in (
    "__init__", "base", "regular", "reuse", "sampled"))
NESTED = ("weight", "where", "estimator", "target", "start", "end", "kind", "levels", "epochs", "shaping", "trace")
OPTIONS = sorted({*KEYS, *(f"policy.{one}" for one in names(Shape)), *(f"decode.{one}" for one in names(Decoding)),
                  *(f"plan.{part}.{one}" for part in ("pretrain", "finetune") for one in names(Stage)), "plan.test",
                  *(f"algo.{one}" for kind in KINDS for one in names(algos.kind_of(kind))), "algo.kind", "task.name",
                  *(f"task.{one}" for name in ("hull", "sort", "translation") for one in names(tasks.task_class(name)))})
ODD = ("", "-1", "0", "1", "2", "3", "1e30", "1e-30", "nan", "inf", "-inf", "true", "false", "null", "''", "[]", "[1,2]", "{}",
       "{a: 1}", "{1: 2}", "[[1],[2]]", "${seed}", "${nothing}", "${oc.env:HOME}", "${oc.decode:x}", "${now:%Y}", "${",
       "${algo.k}", "100000000", "1000000000", "-5000000000000000000000", "9" * 400, "1_000", "0x10", "'open", '"', "[1,",
       "{a:", "a,b", "1,2", "range(3)", "choice(1,2)", "glob(*)", "interval(0,1)", " ", "\\", "=", "a=b", "../../x", "???",
       "☃", "\u202egnp", "\x1b[31m", "a\nb", "/etc/passwd", "None", "0.5", "1.5", "copy", "pointer", "loss", "both", "k1",
       "leave_one_out", "{kind: linear, start: 1, end: 0}", "{start: nan}", "[" * 300, "(", "!!python/object:os.system", "lstm")
FLAGS = ("--cfg", "--cfg=job", "--cfg=nothing", "--info=nothing", "--bogus", "-x", "-m", "--multirun", "~seed", "~algo", "=",
         "~plan.test", "~algo.kind", "~task.name", "+new=1", "++new.deep=1", "+algo.k=1", "task", "=5", "hydra.mode=nothing",
         "hydra=x", "--config-name=nothing", "--config-dir=/nowhere", "--resolve", "--package", "~nothing", "task@x=hull",
         "~task", "++task=5", "--experimental-rerun=nothing", "hydra/launcher=nothing", "+task.deep.deeper=1", "..=1", "a..b=1",
         "++algo=5", "++plan=[]")

word = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
value = st.one_of(st.sampled_from(ODD), st.integers().map(str), st.floats().map(repr), word,
                  st.lists(st.integers(-2, 9), max_size=4).map(str), st.lists(word, max_size=3).map(str))
option = st.one_of(st.sampled_from(OPTIONS), st.sampled_from(OPTIONS), st.builds(".".join, st.tuples(
    st.sampled_from(OPTIONS), st.sampled_from(NESTED))), st.builds(lambda name, at: name[:at] + name[at + 1:],
                                                                   st.sampled_from(OPTIONS), st.integers(0, 12)))
override = st.one_of(st.builds("{}={}".format, option, value), st.builds("{}={}".format, option, value),
                     st.sampled_from(FLAGS), st.builds("{}={}".format, word, value), word)
lines = st.tuples(st.sampled_from(["hull", "hull", "sort", "translation", "summarization"]), st.sampled_from(choices("algo")),
                  st.lists(st.sampled_from(choices("policy")), max_size=1), st.lists(override, min_size=1, max_size=3))


@pytest.fixture
def throw(tmp_path, monkeypatch):
    """Words of a command line -> how rlseq.run ends with them, at the latest where training begins."""
    from rlseq import pretrain
    from rlseq.tasks.summarization import docstrings

    def begins(*_):
        raise Begins

    learn, made = text.Tokenizer.train.__func__, {}

    def learned(cls, lines, kind, size):                     # from few lines and once: what is learned matters to nobody here
        if (kind, size) not in made:
            made[kind, size] = learn(cls, [next(iter(lines), "a")], kind, size)
        return made[kind, size]
    monkeypatch.setattr(text.Tokenizer, "train", classmethod(learned))
    pairs = [docstrings.Pair(f"read_{i}(path) it reads all of file {i}", f"Reads file {i}.", f"p{i % 50}") for i in range(400)]
    corpus = docstrings.Corpus(pairs, {}, {"files": 0, "unparsed": 0, "copies": 0})
    monkeypatch.setattr(docstrings, "load", lambda: corpus)
    for name in ("_pretrain", "test"):
        monkeypatch.setattr(pretrain, name, begins)
    monkeypatch.chdir(tmp_path)

    def thrown(*words):
        with arguments(*words):
            return ended(main)
    return thrown


@many(COUNT)
@given(lines)
def test_any_command_line_begins_to_train_or_is_refused_in_one_line(throw, tmp_path, line):
    task, algo, policy, overrides = line
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)           # of one that was accepted before
    words = [f"task={task}", f"algo={algo}", *(f"policy={one}" for one in policy), "tracking=none", "policy.width=32",
             *overrides]
    found = throw(*words)
    if {"-m", "--multirun"} & set(words):                          # a line for every run that ends ill, and one for the sweep
        lines = found.errors.splitlines()
        assert found.code in (0, None) or found.code == 2 and lines[-1].startswith("rlseq: "), (words, found)
        assert not any(line.startswith("Traceback") or "\x1b" in line for line in lines), (words, found)
    else:
        assert found.well, (words, found)
    left = [path for path in tmp_path.rglob("*") if path.name not in ("runs", "multirun.yaml")]
    assert found.code is None or not left, (words, left)


@pytest.mark.parametrize(("words", "part"), [
    (["algo.k=100000000"], "from 1 to 65_536"), (["policy.width=1000000000"], "from 1 to 65_536"),
    (["policy.width=65536", "policy.encoder_layers=20"], "GiB of memory; lower policy.width"),
    (["plan.pretrain.updates=-1"], "from 0 to 1_000_000_000"), (["seed=1e30"], "whole number"), (["seed=-1"], "whole number"),
    (["plan.finetune.lr=nan"], "not a finite number"), (["plan.finetune.lr=inf"], "not a finite number"),
    (["results=''"], "names no place"), (["task.seed=[1]"], "is not int"), (["~seed"], "seed must be given"),
    (["algo.kl={weight: {start: {}}}"], "finite number"), (["algo.k=${nothing}"], "nothing"),
    (["results=${oc.env:HOME}"], "let the shell fill it in"), (["~plan.test"], "plan.test must be given"),
    (["task.head=copy"], "must be policy.head=pointer"), (["algo.k=[1"], "algo.k=[1 cannot be read"),
    (["decode.temperature=1", "decode.no_repeat=3"], "samples"), (["decode.length_penalty=2"], "there is none"),
    (["decode.beam=100000"], "from 0 to 4_096"), (["algo.temperature=1e-9"], "must lie in"),
    (["algo.kind=base"], "exactly one"), (["algo.kind=os..path"], "no algorithm module"),
    (["task=translation", "policy=pointer"], "does not fit task=translation"),
    (["--cfg=nothing"], "invalid choice"), (["task.n_max=3"], "3 <= n_min <= n_max"), (["tracking.uri=''"], "names no place"),
    (["task.n_max=" + "9" * 5000], "digits"), (["algo.k=" + "[" * 2000 + "]" * 2000], "nested too deeply"), (["~algo"], "algo"),
    (["algo=raml", "algo.tau=" + "9" * 400], "not a finite number"), (["algo.\x1b[31m=1"], r"\x1b[31m"),
    (["algo.k=\udcff"], "UTF-8"), (["plan=[9,5]"], "no plan '[9'"), (["-m", "plan=choice(1,2)"], "group override"),
    (["-m", "plan=choice([1],[2])"], "no plan"), (["-m", "policy=range(2)"], "group override"), (["plan={}"], "no plan"),
    (["reward_limit=" + "9" * 400], "seconds"),
    (["-m", "seed=range(1,1000000000)"], "sweep over fewer"), (["-m", "seed=range(0,1e9)"], "sweep over fewer")])
def test_what_cannot_be_is_refused_with_a_reason(throw, tmp_path, words, part):
    found = throw("task=hull", "algo=reinforce", *words, "tracking=none")
    assert found.code == 2 and found.well and part in found.errors, found
    assert not [one for one in tmp_path.rglob("*") if one.name not in ("runs", "multirun.yaml")]


def test_a_sound_command_line_begins_to_train(throw):
    assert throw("task=hull", "algo=reinforce", "algo.k=4", "tracking=none").code is None
    assert throw("task=summarization", "algo=mle", "tracking=none").code is None
    assert throw("task=sort", "algo=reinforce", "algo.k=65536", "tracking=none").code is None    # and takes no memory yet


TEXT = "a cat reads files\nit writes lists\n\nGr\u00fc\u00dfe an alle\n\u05d0\u05d1\u05d2 \u202eabc\nx\ty\n" * 8
row = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.sampled_from([
    "", " ", "a\tb", "\t", "\0", '{"source": "a cat", "target": "eine Katze"}', '{"source": "a"}', "x" * 9999, "\u2028", "a\r",
    '{"source": 1, "target": []}', "[1]", '{"text": "a b", "summary": "a"}', "{"]))
rows = st.lists(row, min_size=1, max_size=12).map(lambda found: ("\n".join(found) + "\n").encode())
content = st.one_of(rows, rows, st.just(TEXT.encode()), st.just(TEXT.encode()), st.binary(max_size=40), st.sampled_from([
    b"", b"\n\n\n", TEXT.encode("utf-16"), b"\xef\xbb\xbf" + TEXT.encode(), TEXT.encode("latin-1", "replace"), b"\x1f\x8b",
    gzip.compress(TEXT.encode())[:40], gzip.compress(b"a\n" * 9), TEXT.replace("\n", "\r\n").encode(), b"a\0b\n" * 9]))
names_of = st.sampled_from(["train.en", "train.de", "dev.en", "test.de", "train.tsv", "train.jsonl", "train.source",
                            "train.target", "train.tsv.gz", "dev.jsonl.gz", "test.source"])
PARTS = [f"{split}.{language}" for split in ("train", "dev", "test") for language in ("en", "de")]
SOUND = {"translation": dict.fromkeys(PARTS, TEXT.encode()),
         "summarization": {"train.source": TEXT.encode(), "train.target": TEXT.encode()}}


def test_any_files_of_a_user_begin_to_train_or_are_refused_in_one_line(throw, tmp_path):
    @many(COUNT // 3)
    @given(st.sampled_from(sorted(SOUND)), st.dictionaries(names_of, content, min_size=1, max_size=3), st.booleans())
    def holds(task, files, among):
        shutil.rmtree(tmp_path / "own", ignore_errors=True)
        (tmp_path / "own").mkdir()
        for name, held in {**(SOUND[task] if among else {}), **files}.items():
            (tmp_path / "own" / name).write_bytes(held)
        found = throw(f"task={task}", "task.data=files", f"task.path={tmp_path / 'own'}", "task.vocabulary=300", "algo=mle",
                      "policy.width=32", "compare=null", "tracking=none")
        lines = found.errors.splitlines()
        assert found.code is None or found.code == 2 and lines, (files, found)
        assert all(line.startswith("rlseq: ") and len(line) < 2100 and line.isprintable() for line in lines), (files, found)
    holds()
