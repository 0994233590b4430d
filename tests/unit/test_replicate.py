"""rlseq.replicate sets published numbers beside ours: trained, found, or of checkpoints that were kept."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rlseq import experiment, tasks
from rlseq.checkpoint import read_facts
from rlseq.published import REPLICATIONS, Recipe, Replication, Row, Source
from rlseq.replicate import LARGEST, command, keep, main, options, seeds_of
from rlseq.run import read
from rlseq.train import Trainer
from tests.unit.test_predict import write as write_checkpoint_of

TINY = ["plan=smoke", "tracking=none", "policy.width=16", "tests=[test-15]"]
SMALL = Replication("lists in order", (Row("to 15", "test-15", "order"), Row("more", "test-30", "order"), Row("area", "", "")),
                    (Source("paper", "a paper that never was", {"to 15": 0.5, "area": 7.25}),),
                    (Recipe("sort-pointer", ("task=sort", "policy=pointer", "algo=reinforce"), "as it is"),), 2, ("all of it",))
RECIPES = {one.name: one for found in REPLICATIONS.values() for one in found.recipes}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A replication of two seeds in a folder of its own, its checkpoint kept: the folder and what was printed."""
    home = tmp_path_factory.mktemp("replicated")
    patch, said = pytest.MonkeyPatch(), []
    with patch.context() as here:
        here.chdir(home)
        here.setitem(REPLICATIONS, "small", SMALL)
        here.setattr("builtins.print", lambda *words, **options: said.append(" ".join(map(str, words))))
        assert main(["small", *TINY, "--keep", "kept"]) == 0
    return home, "\n".join(said)


def shown(printed: str, row: str) -> list[str]:
    """The cells of the last line that begins with a row's name."""
    line = [one for one in printed.splitlines() if one.startswith(row)][-1]
    return line.removeprefix(row).replace("[", "").replace("]", "").replace(",", "").replace("*", "").split()


def test_paper_and_ours_stand_side_by_side_over_the_seeds(printed):
    home, said = printed
    found = [json.loads((home / f"runs/smoke/sort-v0/pointer/reinforce/{seed}.json").read_text()) for seed in (0, 1)]
    means = [sum(one[stage]["test-15"]["metrics"]["order"]["score"] for one in found) / 2 for stage in ("before", "after")]
    paper, before, _, _, after, *_ = shown(said, "to 15")
    assert paper == "0.5" and [float(before), float(after)] == pytest.approx(means, abs=0.051)
    cells = re.findall(r"\[(\S+), \S+\](\*?)", [one for one in said.splitlines() if one.startswith("to 15")][-1])
    assert len(cells) == 2 and [bool(star) for _, star in cells] == [float(low) > 0.5 for low, _ in cells]
    assert shown(said, "more") == ["-", "-", "-"] and shown(said, "area") == ["7.25", "-", "-"]
    assert "a paper that never was" in said and "- all of it" in said
    assert "sort-pointer: task=sort policy=pointer algo=reinforce plan=smoke" in said, "overrides are said"


def test_what_was_run_before_is_found(printed, monkeypatch, capsys):
    monkeypatch.chdir(printed[0])
    monkeypatch.setitem(REPLICATIONS, "small", SMALL)
    monkeypatch.setattr(experiment, "run", lambda *all: pytest.fail("nothing is left to run"))
    assert main(["small", *TINY]) == 0
    said = capsys.readouterr().out
    assert "taken from" in said and shown(said, "to 15") == shown(printed[1], "to 15")


def test_a_result_older_than_a_metric_is_named_and_is_made_again_without_training(printed, monkeypatch, capsys):
    home, said = printed
    monkeypatch.chdir(home)
    monkeypatch.setitem(REPLICATIONS, "small", replace(SMALL, rows=(*SMALL.rows, Row("new", "test-15", "news"))))
    assert main(["small", *TINY]) == 0
    found = capsys.readouterr().out
    for seed in (0, 1):
        assert f"the result of reinforce, seed {seed}, lacks news: move sort-v0/pointer/reinforce/{seed}.json " in found
    assert shown(found, "new") == ["-", "-", "-"] and shown(found, "to 15") == shown(said, "to 15")
    monkeypatch.setitem(REPLICATIONS, "small", SMALL)
    monkeypatch.setattr(Trainer, "run", lambda trainer: pytest.fail("what lies in runs is not trained anew"))
    (home / "runs/smoke/sort-v0/pointer/reinforce/1.json").rename(home / "away.json")
    assert main(["small", *TINY]) == 0
    found = capsys.readouterr().out
    assert shown(found, "to 15") == shown(said, "to 15") and "lacks" not in found
    assert (home / "runs/smoke/sort-v0/pointer/reinforce/1.json").is_file()


def test_a_kept_checkpoint_scores_as_its_run_did_and_says_no_paths(printed, monkeypatch, capsys):
    home = printed[0]
    monkeypatch.chdir(home)
    monkeypatch.setitem(REPLICATIONS, "small", SMALL)
    run = json.loads((home / "runs/smoke/sort-v0/pointer/reinforce/0.json").read_text())
    for place in ("kept", "kept/sort-pointer"):
        assert main(["small", "--from-checkpoint", place, *TINY]) == 0
        said = capsys.readouterr().out
        score = run["after"]["test-15"]["metrics"]["order"]["score"]
        assert float(shown(said, "to 15")[1]) == pytest.approx(score, abs=0.051) and "reinforce, seed 0" in said
    assert str(home) not in (home / "kept/sort-pointer/model.json").read_text()


def test_where_a_users_data_lie_is_not_passed_on(tmp_path):
    facts = write_checkpoint_of(tmp_path / "run", "translation")
    notes = tmp_path / "run/model.json"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"task_options": facts["task_options"] | {"path": "/home/me"}}))
    keep(tmp_path / "run", tmp_path / "kept", {"seed": 0})
    kept = json.loads((tmp_path / "kept/model.json").read_text())
    assert kept["task_options"]["path"] == "FOLDER" and "/home/me" not in json.dumps(kept)


def test_a_checkpoint_that_is_too_large_is_not_kept(tmp_path):
    write_checkpoint_of(tmp_path / "run", "hull")
    with (tmp_path / "run/model.safetensors").open("r+b") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ValueError, match="more than 10,000,000"):
        keep(tmp_path / "run", tmp_path / "kept", {})
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(("words", "part"), [
    (["vinyals2015.tabel1"], "did you mean 'vinyals2015.table1'"), ([], "there are: vinyals2015.table1"),
    (["vinyals2015.table1", "sed=3"], "did you mean 'seed'"), (["multi30k.tiny"], "task.path=FOLDER"),
    (["chen2021.dialogsum"], "needs task.path: the folder"), (["dialogsum"], "chen2021.dialogsum"),
    (["multi30k.tiny", "--from-checkpoint"], "leave --from-checkpoint out"), (["order_matters.table1", "--beep"], "--help"),
    (["order_matters.table1", "--keep", "--from-checkpoint"], "give one of them"), (["multi30k.tiny", "seed="], "seed"),
    (["order_matters.table1", "seed=0,x"], "seed='x' is no whole number"),
    (["order_matters.table1", "--from-checkpoint", "seed=0,1"], "leave seed out"),
    (["vinyals2015.table1", "task=hul"], "did you mean 'hull'"), (["order_matters.table1", "seed=range(0"], "seed"),
])
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, part, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, *(["tracking=none"] if words else [])]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1 and errors.startswith("rlseq: ") and part in errors, errors
    assert not list(tmp_path.iterdir()), "nothing may be half-written"


@pytest.mark.parametrize(("name", "task", "part"), [("multi30k.tiny", "translation", "task.path=FOLDER"),
                                                    ("chen2021.dialogsum", "summarization", "needs task.path: the folder")])
def test_a_kept_checkpoint_asks_for_the_texts_that_are_not_passed_on(tmp_path, name, task, part, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_checkpoint_of(tmp_path / "results/checkpoints" / REPLICATIONS[name].recipes[0].name, task)
    assert main([name, "--from-checkpoint", "tracking=none"]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1 and part in errors, errors


def test_overrides_take_the_place_of_the_recipes():
    recipe = Recipe("x", ("task=sort", "policy=copy", "algo=reinforce"), "")
    assert command(recipe, ["policy=pointer", "algo.k=4"]) == ["task=sort", "algo=reinforce", "policy=pointer", "algo.k=4"]
    assert seeds_of(SMALL, ["a=1"]) == (["0", "1"], ["a=1"]) and seeds_of(SMALL, ["seed=3,5", "a=1"]) == (["3", "5"], ["a=1"])
    wanted = options(["multi30k.tiny", "--from-checkpoint", "task.path=here", "seed=1"])
    assert wanted.from_checkpoint == "results/checkpoints" and sorted(wanted.words) == ["seed=1", "task.path=here"]


@pytest.mark.parametrize("name", REPLICATIONS)
def test_numbers_stand_in_rows_that_ours_has(name, tmp_path):
    found = REPLICATIONS[name]
    labels = [row.label for row in found.rows]
    assert len(set(labels)) == len(labels) and all(set(one.numbers) <= set(labels) for one in found.sources)
    for recipe in found.recipes:
        texts = any(one.startswith("experiment=") for one in recipe.words)
        config, names, beside = read([*recipe.words, f"task.path={tmp_path}"] if texts else recipe.words)
        assert names["algo"] == "reinforce" and list(beside) == ["mle"] and config["results"] == "results"
        options = {key: value for key, value in config["task"].items() if key != "name"}
        (tmp_path / "test2017.en").touch()
        (tmp_path / "test2017.de").touch()
        task = tasks.make(config["task"]["name"], options)
        for row in found.rows:
            assert (row.split in task.tests and row.metric in task.metrics) or row.split == row.metric == "", row


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_checkpoint_that_is_passed_on_is_of_the_recipe_as_it_stands(recipe):
    notes = Path(__file__).resolve().parents[2] / "results/checkpoints" / recipe.name / "model.json"
    if not notes.is_file():
        pytest.skip(f"{recipe.name} is not passed on")
    facts = read_facts(notes)
    config, *_ = read([*recipe.words, "task.path=FOLDER"] if "experiment" in recipe.words[0] else recipe.words)
    assert config["policy"].items() <= ({"norm": "before"} | facts["shape"]).items()
    assert facts["cost"]["updates"] == config["plan"]["finetune"]["updates"]


@pytest.mark.parametrize("name", RECIPES)
def test_of_a_recipe_as_it_stands_there_is_a_result(name):
    words = RECIPES[name].words
    config, names, _ = read([*words, "task.path=FOLDER"] if "experiment" in words[0] else words)
    home = Path(__file__).resolve().parents[2] / "results"
    runs = [json.loads(path.read_text())["config"]
            for path in home.glob(f"{config['task']['name']}-v*/{names['policy']}/{names['algo']}/0*.json")]
    assert any(one["algo"] == config["algo"] and one["plan"]["finetune"] == config["plan"]["finetune"]
               and one["task"].get("pair") == config["task"].get("pair") for one in runs)


def test_the_recipes_of_texts_are_for_two_cores():
    for name, updates in (("multi30k.tiny", 10000), ("multi30k.tutorial", 6000), ("chen2021.dialogsum", 5000)):
        for recipe in REPLICATIONS[name].recipes:
            config, names, _ = read([*recipe.words, "task.path=FOLDER"])
            assert names["plan"] == "default" and config["plan"]["pretrain"]["updates"] == updates, "what the notes say"
    config, *_ = read([*REPLICATIONS["multi30k.tiny"].recipes[0].words, "task.path=FOLDER"])
    assert config["plan"]["pretrain"]["batch_tokens"] == 4096 and config["policy"]["dropout"] == 0.2
    assert config["plan"]["pretrain"]["subword_dropout"] == 0.1
