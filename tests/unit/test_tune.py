"""rlseq.tune sweeps options on dev: no test problem is read, what is done is found, and the table's numbers are right."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from rlseq import algos, experiment, stats, tasks, tune_run, tune_table
from rlseq.build import build, names
from rlseq.evaluate import REWARD
from rlseq.paths import CONF, ROOT
from rlseq.run import checked, read
from rlseq.stage import Stage
from rlseq.tasks import sort
from rlseq.tune import main
from rlseq.tune_file import merged, shown, sweep_of
from rlseq.tune_file import names as sweeps
from rlseq.tune_table import Entry, Line, Sheet, keep, text

TOY = {"base": ["task=sort", "policy=pointer", "algo=reinforce", "plan=smoke", "policy.width=16", "plan.finetune.updates=2"],
       "vary": {"algo.k": [2]}, "also": [["algo=mle"], ["algo=mle", "plan.finetune.updates=0"]],
       "dev": {"dev": [], "to 5": ["task.max_length=5"]}}


def write(folder, **changes):
    """A file toy.yaml there, which opens with a comment."""
    (folder / "toy.yaml").write_text("# What is a toy for?\n" + yaml.safe_dump(TOY | changes))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The toy run in a folder of its own, where any look at a problem of a test split fails; what identifies the data, which
    is a hash of all splits, is another's here."""
    home, patch = tmp_path_factory.mktemp("swept"), pytest.MonkeyPatch()
    plain = sort.Task.examples

    def examples(self, split):
        assert split in ("train", "dev"), f"{split} was looked at"
        return plain(self, split)
    write(home)
    with patch.context() as here:
        here.chdir(home)
        here.setattr(sort.Task, "examples", examples)
        here.setattr(sort.Task, "fingerprint", property(lambda self: repr(self.lengths["train"])))
        assert main(["toy.yaml"]) == 0
        yield home, here


def test_a_sweep_writes_its_table_without_a_look_at_test(swept):
    told = (swept[0] / "runs/smoke/sweeps/toy.md").read_text()
    found = json.loads((swept[0] / "runs/smoke/sweeps/toy.json").read_text())["entries"]
    assert len(found) == 4 and "What is a toy for?" in told and "python -m rlseq.tune toy.yaml" in told
    assert "16 dev problems" in told and "seed 0" in told and "winner's curse" in told and "Holm" in told
    for one in found.values():
        assert set(one["columns"]) == {"dev", "to 5"} and set(one["columns"]["dev"]) == {"exact", "order", "items", "reward"}
    assert [one["cost"]["updates"] for one in found.values()] == [2, 2, 2, 0]
    for label, one in zip(["base", "algo.k=2", "algo=mle", "algo=mle plan.finetune.updates=0"], found.values()):
        line = next(line for line in told.splitlines() if line.startswith(f"| {label} "))
        assert line.split("|")[2].strip().startswith(f"{one['columns']['dev']['exact']:.1f} [")
        assert f"| {one['columns']['dev']['reward']:.1f} | {one['cost']['updates']} |" in line


def test_the_same_command_again_trains_and_scores_nothing(swept, monkeypatch, capsys):
    before = (swept[0] / "runs/smoke/sweeps/toy.md").read_text()
    monkeypatch.setattr(tune_run, "entry", lambda *all: pytest.fail("nothing is left to do"))
    assert main(["toy.yaml"]) == 0
    assert (swept[0] / "runs/smoke/sweeps/toy.md").read_text() == before
    assert capsys.readouterr().out.count("taken from the table") == 4


def test_a_sweep_that_is_killed_keeps_what_it_has_and_goes_on(swept, monkeypatch, capsys):
    plain, home = tune_run.entry, swept[0] / "killed/sweeps"

    def entry(one, *more):
        if one.setting.label == "algo=mle":
            raise KeyboardInterrupt
        return plain(one, *more)
    monkeypatch.setattr(tune_run, "entry", entry)
    assert main(["toy.yaml", "results=killed"]) == 130
    told = (home / "toy.md").read_text()
    assert "2 of 4 settings are done" in told and told.count("not done yet") == 2
    monkeypatch.setattr(tune_run, "entry", plain)
    monkeypatch.setattr(experiment.Trainer, "run", lambda *all: pytest.fail("its weights lie in runs/"))
    assert main(["toy.yaml", "results=killed"]) == 0
    told, whole = (one.read_text().partition("| setting ")[2]
                   for one in (home / "toy.md", swept[0] / "runs/smoke/sweeps/toy.md"))
    assert told and told == whole, "as if it had not been killed"
    assert capsys.readouterr().out.count("taken from the table") == 2


def test_statistics_that_are_gone_are_scored_again(swept, capsys):
    main(["toy.yaml", "results=lost"])
    (swept[0] / "lost/sweeps/toy.npz").write_bytes(b"PK no archive")
    capsys.readouterr()
    assert main(["toy.yaml", "results=lost"]) == 0
    said = capsys.readouterr()
    assert "is damaged" in said.err and "taken from the table" not in said.out
    (swept[0] / "lost/sweeps/toy.json").write_text("[]")
    assert main(["toy.yaml", "results=lost"]) == 2 and "delete it" in capsys.readouterr().err


def test_training_that_is_not_finite_is_a_row(swept, monkeypatch):
    plain = tune_run.trained

    def trained(setup):
        if setup.names["algo"] == "mle":
            raise FloatingPointError("the loss is nan")
        return plain(setup)
    monkeypatch.setattr(tune_run, "trained", trained)
    assert main(["toy.yaml", "results=blown"]) == 0
    told = (swept[0] / "blown/sweeps/toy.md").read_text()
    assert told.count("| not finite: the loss is nan |") == 2 and "difference to the best MLE" not in told


def test_several_seeds_are_averaged(swept):
    assert main(["toy.yaml", "results=two", "seed=0,1"]) == 0
    found = json.loads((swept[0] / "two/sweeps/toy.json").read_text())["entries"].values()
    first = [one["columns"]["dev"]["reward"] for one in found if one["cost"]["updates"] == 0]
    told = (swept[0] / "two/sweeps/toy.md").read_text()
    assert len(found) == 8 and sorted({one["seed"] for one in found}) == [0, 1] and "seeds 0, 1" in told
    assert f"| {sum(first) / 2:.1f} | 0 |" in told and "other seeds and other problems" in told


def test_seeds_of_one_checkpoint_are_entries_of_their_own(swept, monkeypatch):
    monkeypatch.setattr(tune_run.identity, "start_of", lambda setup: "named")               # as pretrained=FOLDER does
    found = tune_run.ready(sweep_of("toy.yaml", ["seed=0,1"]))
    assert len({one.identity for one in found}) == len(found) == 8


# ---- the table

def line(label, right, algo="reinforce", n=40, reward=0.5):
    """A setting that has the first `right` of n problems right, for each number of `right` with another seed."""
    entries = []
    for seed, count in enumerate(right):
        rows = np.stack([np.arange(n) < count, np.ones(n)], 1).astype(np.float32)
        entries.append(Entry(f"{label}{seed}", [label], seed, "exact", {"dev": {"exact": 100 * count / n, "reward": reward}},
                             {"updates": 10, "sampled_tokens": 12345, "scored_tokens": 1, "seconds": 2.5}, 7.0, ["abc1234"],
                             "1 of 2 cores", rows={"dev": rows}))
    return Line(label, algo, entries)


def sheet(*lines, seeds=(0,)):
    return Sheet("toy", "why", "command", "task=x", seeds, "exact", ["dev"], REWARD.score, lines)


def cells(told, label):
    return [one.strip() for one in next(one for one in told.splitlines() if one.startswith(f"| {label} ")).split("|")[1:-1]]


def test_the_numbers_of_the_table_are_those_of_the_statistics():
    # of 40 problems base has 10 right, a 30, b 12; MLE 16 and 20: 25 %, 75 %, 30 %, 40 %, 50 %
    lines = [line("base", [10]), line("a", [30]), line("b", [12]), line("m", [16], "mle"), line("n", [20], "mle")]
    told = text(sheet(*lines))
    assert [cells(told, label)[1].strip("*").split()[0] for label in "abmn"] == ["75.0", "30.0", "40.0", "50.0"]
    assert [cells(told, label)[2].split()[0] for label in "abmn"] == ["+50.00", "+5.00", "+15.00", "+25.00"]
    assert [cells(told, label)[4].split()[0] for label in ("base", *"abmn")] == ["-25.00", "+25.00", "-20.00", "-10.00", "-"]
    assert cells(told, "n")[0] == "n (best MLE)" and cells(told, "a")[5:] == ["0.5", "10", "12.3k", "2.5", "7"]
    raw = [stats.paired(one.rows("dev"), lines[0].rows("dev"), REWARD.score).p for one in lines[1:]]
    ranked = sorted(range(4), key=raw.__getitem__)
    holm, most = {}, 0.0
    for place, one in enumerate(ranked):                       # Holm by hand: the smallest times 4, the next times 3, ...
        holm[one] = most = max(most, min(1.0, (4 - place) * raw[one]))
    assert list(sheet(*lines).p.values()) == pytest.approx([holm[one] for one in range(4)])
    # shares of 20 more problems of 40: sd of one difference is 0.5, of their mean 0.079: 0.5 +- 1.96 * 0.079 = [34.5, 65.5]
    low, high = cells(told, "a")[2].split("[")[1].strip("]").split(", ")
    assert float(low) == pytest.approx(34.5, abs=3) and float(high) == pytest.approx(65.5, abs=3)


def test_the_best_is_marked_only_where_it_is_above_the_base_beyond_chance():
    sure, unsure = text(sheet(line("base", [10]), line("a", [30]))), text(sheet(line("base", [10]), line("a", [11])))
    assert cells(sure, "a")[1].startswith("**75.0 [") and "**a** did best, +50.00 [" in sure and "over 1 comparisons" in sure
    assert "**" not in unsure and "No setting is told apart above the base: the best, a, is +2.50 [" in unsure
    worse = text(sheet(line("base", [30]), line("a", [10]), line("b", [29])))
    assert "which did best itself" in worse and "Below the base beyond chance: a." in worse


def test_an_interval_above_0_is_not_enough_among_many():
    # 5 of 40 more right: the interval is [+2.5, +22.5] or so and p about 0.03, times 20 comparisons 0.6
    many = [line("base", [10]), line("a", [15]), *(line(f"b{i}", [10]) for i in range(19))]
    found = sheet(*many)
    assert found.over_base(many[1], "dev").low > 0 and found.best.label == "a" and found.winner is None


def test_seeds_are_averaged_and_widen_the_interval():
    told = text(sheet(line("base", [10, 10]), line("a", [30, 14]), seeds=(0, 1)))
    assert cells(told, "a")[1].split()[0] == "55.0" and cells(told, "a")[2].split()[0] == "+30.00"
    assert float(cells(told, "a")[2].split("[")[1].split(",")[0]) < 0, "two seeds so far apart tell nothing"


def test_entries_of_other_settings_stay(tmp_path):
    one, other = line("a", [3]).entries[0], line("b", [4]).entries[0]
    keep(tmp_path, "toy", one)
    keep(tmp_path, "toy", other)
    found = tune_table.read(tmp_path, "toy")
    assert list(found.values()) == [one, other] and np.array_equal(found["b0"].rows["dev"], other.rows["dev"])
    assert not list(tmp_path.glob(".*")), "no lock, nothing half-written"


# ---- the file

def test_a_file_becomes_settings(tmp_path):
    (tmp_path / "s.yaml").write_text("# Why\n# so?\nbase: [task=sort, algo=reinforce, algo.k=4, seed=3]\nvary:\n"
                                     "  algo.mle_weight: [0, {kind: linear, start: 1, end: 0}]\n  cuda_graphs: [false, null]\n"
                                     "also:\n- [algo=mle, plan.finetune.lr=3e-4]\n")
    found = sweep_of(str(tmp_path / "s.yaml"), ["algo.k=2", "tracking=mlflow"])
    assert found.aim == "Why so?" and found.seeds == ["3"] and found.dev == {"dev": {}} and found.name == "s"
    assert [one.label for one in found.settings] == [
        "base", "algo.mle_weight=0", "algo.mle_weight={kind:linear,start:1,end:0}", "cuda_graphs=false", "cuda_graphs=null",
        "algo=mle plan.finetune.lr=3e-4"]
    assert found.settings[0].words[-4:] == ("task=sort", "algo=reinforce", "algo.k=2", "tracking=mlflow")
    assert not any(one.startswith("algo.k") for one in found.settings[-1].words), "which MLE does not know"
    assert read(found.settings[2].words)[0]["algo"]["mle_weight"] == {"kind": "linear", "start": 1, "end": 0}
    assert merged(["a=1", "b=2"], ["a=3"]) == ["b=2", "a=3"]


def test_places_are_not_passed_on():
    assert shown("task.path=/home/me/data") == "task.path=FOLDER" and shown("algo.k=2") == "algo.k=2"


@pytest.mark.parametrize("name", sweeps())
def test_every_sweep_that_comes_along_can_be_built(name):
    path = CONF / "sweep" / f"{name}.yaml"
    lines, found = path.read_text().splitlines(), sweep_of(name)
    assert lines[0].startswith("# ") and len(lines) <= 20 and 4 <= len(found.settings) <= 18
    also = len(yaml.safe_load(path.read_text())["also"])
    varied = [one.label for one in found.settings[1:len(found.settings) - also]]
    together = {one.partition("=")[0]: one for one in varied}                        # one compose for all that is varied
    for words in ([*found.settings[0].words, *together.values()], *(one.words for one in found.settings[-also:])):
        config, _, _ = read([*words, "task.path=FOLDER"] if "task.data" in words else words)
        algos.make(config["algo"])
        for stage in ("pretrain", "finetune"):
            build(Stage, config["plan"][stage], stage)
        known = names(tasks.task_class(config["task"]["name"]))
        assert {*config["task"], *(option for own in found.dev.values() for option in own)} <= {*known, "name"}
    if "algo=mle" not in found.settings[0].words:
        assert sum("algo=mle" in one.label for one in found.settings) >= 3, "the baseline is tuned as carefully"


@pytest.mark.parametrize(("content", "words", "part"), [
    (None, ["srot"], "did you mean 'sort'"), (None, [], "there are: dialogsum"), (None, ["nowhere.yaml"], "nowhere.yaml"),
    (None, ["sort", "--lst"], "--help"),
    (None, ["sort", "word"], "name=value"),
    ("base: [", ["toy.yaml"], "toy.yaml: not readable"),
    ("- 1", ["toy.yaml"], "toy.yaml: a sweep holds base"), ("base: [5]", ["toy.yaml"], "list of words"),
    ("{base: [a=1], very: {}}", ["toy.yaml"], "did you mean 'vary'"),
    ("{base: [a=1], vary: {k: 3}}", ["toy.yaml"], "vary holds"),
    ("{base: [a=1], also: [x]}", ["toy.yaml"], "also holds"),
    ("{base: [a=1], dev: [x]}", ["toy.yaml"], "dev holds"),
    ("{base: [a=1], dev: {x: [algo.k=2]}}", ["toy.yaml"], "options of the task"),
    ("base: [tsk=sort]", ["toy.yaml"], "'task'"),
    ("{base: [task=sort], vary: {algo.kk: [2]}}", ["toy.yaml"],
     "setting algo.kk=2: unknown option algo.kk=2; did you mean 'k'"),
    ("{base: [task=sort], vary: {algo.k: [2, 2]}}", ["toy.yaml"], "stands there twice"),
    ("{base: [task=sort], vary: {seed: [2]}}", ["toy.yaml"], "seeds are averaged"),
    ("{base: [task=sort], vary: {task.max_length: [5]}}", ["toy.yaml"], "other dev problems"),
    ("{base: [task=sort], dev: {x: [task.max_lenth=5]}}", ["toy.yaml"], "did you mean 'max_length'"),
    ("{base: [task=sort, algo=reinforce]}", ["toy.yaml", "algo.k=1"], "setting base: "),
    ("base: [task=srt]", ["toy.yaml"], "'sort'"),
    ("base: [task=sort]", ["toy.yaml", "seed=x"], "whole number"), ("base: [task=sort]", ["toy.yaml", "seed=0,0"], "twice"),
    ("base: [task=sort]", ["toy.yaml", "pretrained=nowhere"], "name a folder that a run wrote"),
    ("base: [task=sort]", ["toy.yaml", "resume=must"], "leave it out"),
])
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, content, words, part, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content:
        (tmp_path / "toy.yaml").write_text(content)
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1 and errors.startswith("rlseq: ") and part in errors, errors
    assert {one.name for one in tmp_path.iterdir()} <= {"toy.yaml"}, "nothing may be written"


def test_a_run_says_who_takes_sweeps():
    with pytest.raises(KeyError, match="python -m rlseq.tune hull runs such a sweep"):
        checked(["sweep=hull"])


def test_settings_are_listed_without_torch(capsys):
    assert main(["sort", "--list", "runs=here"]) == 0
    said = capsys.readouterr().out
    assert "  1 base\n" in said and "algo.k=2" in said and said.count("runs=here") == len(sweep_of("sort").settings)
    code = "import sys, rlseq.tune; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"
