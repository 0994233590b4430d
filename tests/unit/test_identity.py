"""What `resume` makes of what lies there: goes on, begins anew and keeps the old, or refuses and says what differs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlseq import experiment, identity, pretrain
from rlseq.run import read
from rlseq.setup import check
from rlseq.stopping import Stopped
from rlseq.train import Trainer
from tests.unit.test_locks import tiny

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture
def half(tmp_path, monkeypatch):
    """`half(setup, pretrained)` makes a run up to its first checkpoint, at update 3 of 6, and returns its folder."""
    def make(setup, pretrained):
        with monkeypatch.context() as patch:
            update = Trainer.update

            def stop(trainer, batches):
                if trainer.cost.updates == 3:
                    raise Stopped(15)
                return update(trainer, batches)
            patch.setattr(Trainer, "update", stop)
            with pytest.raises(Stopped):
                experiment.done(setup, pretrained, own=True)
        return identity.checkpoint_folder(setup, pretrained.hash)
    return make


def six(folder, resume="auto", **changes):
    setup = tiny(folder, "reinforce", **changes)
    object.__setattr__(setup, "finetune", replace(setup.finetune, updates=6))
    setup.config["resume"] = resume
    return setup


def updates_trained(monkeypatch):
    """The updates at which steps were taken from now on."""
    seen, update = [], Trainer.update
    monkeypatch.setattr(Trainer, "update", lambda one, batches: seen.append(one.cost.updates) or update(one, batches))
    return seen


@pytest.mark.parametrize(("resume", "first"), [("auto", 3), ("must", 3), ("never", 0)])
def test_a_run_under_way_is_continued_or_kept_aside(tmp_path, half, monkeypatch, capsys, resume, first):
    pretrained = pretrain.pretrain(six(tmp_path))
    folder = half(six(tmp_path), pretrained)
    seen = updates_trained(monkeypatch)
    setup = six(tmp_path, resume)
    if resume == "must":
        experiment.check_begun(setup, [])
    assert experiment.done(setup, pretrained, own=True).cost["updates"] == 6
    assert seen[0] == first and (folder / "model.json").is_file() and not list(folder.glob("last-*"))
    kept = folder.with_name(f"{folder.name}~1")
    assert kept.is_dir() == (resume == "never")
    if resume == "never":
        assert (kept / "last-3.json").is_file() and f"is now in {kept}" in capsys.readouterr().err


def test_never_trains_a_finished_run_again_and_keeps_the_first(tmp_path, monkeypatch):
    pretrained = pretrain.pretrain(six(tmp_path))
    experiment.done(six(tmp_path), pretrained, own=True)
    seen = updates_trained(monkeypatch)
    experiment.done(six(tmp_path), pretrained, own=True)
    assert not seen, "a finished run is evaluated again, not trained"
    experiment.done(six(tmp_path, "never"), pretrained, own=True)
    folder = identity.checkpoint_folder(six(tmp_path), pretrained.hash)
    weights = [(place / "model.safetensors").read_bytes() for place in (folder, folder.with_name(f"{folder.name}~1"))]
    assert seen[0] == 0 and weights[0] == weights[1]


def test_must_refuses_where_nothing_was_begun_and_names_what_differs(tmp_path, half):
    with pytest.raises(ValueError, match="resume=must finds nothing to resume in .*; no run of this seed lies beside it"):
        experiment.check_begun(six(tmp_path, "must", k=2), [])
    folder = half(six(tmp_path, k=2), pretrain.pretrain(six(tmp_path)))
    with pytest.raises(ValueError) as refused:
        experiment.check_begun(six(tmp_path, "must", k=3), [])
    assert f"the nearest, {folder}, has algo.k=2 there, 3 here: give the same options, or resume=auto" in str(refused.value)


def test_a_run_begun_beside_one_under_way_says_what_differs(tmp_path, half, capsys):
    pretrained = pretrain.pretrain(six(tmp_path))
    folder = half(six(tmp_path, k=2), pretrained)
    experiment.done(six(tmp_path, k=3), pretrained, own=True)
    assert f"begun anew; the run under way in {folder} has algo.k=2 there, 3 here" in capsys.readouterr().err


def test_damaged_notes_of_another_run_keep_none_from_beginning(tmp_path, half):
    pretrained = pretrain.pretrain(six(tmp_path))
    folder = half(six(tmp_path, k=2), pretrained)
    (folder / "last-3.json").write_text("{oops")
    assert experiment.done(six(tmp_path, k=3), pretrained, own=True).cost["updates"] == 6


def test_a_checkpoint_of_another_version_is_refused_with_the_difference(tmp_path, half):
    pretrained = pretrain.pretrain(six(tmp_path))
    folder = half(six(tmp_path), pretrained)
    notes = folder / "last-3.json"
    facts = json.loads(notes.read_text())
    notes.write_text(json.dumps(facts | {"identity": facts["identity"] | {"rlseq": "9.9"}}))
    with pytest.raises(ValueError, match='rlseq="9.9" there, ".*" here; give the same options, or resume=never'):
        experiment.done(six(tmp_path), pretrained, own=True)


def test_options_are_named_as_on_the_command_line(tmp_path):
    found = identity.named(identity.finetuning(tiny(tmp_path, "reinforce", k=2), "abc"))
    assert found["algo.k"] == 2 and found["plan.finetune.updates"] == 3 and found["pretrained"] == "abc"
    assert identity.named(identity.pretraining(tiny(tmp_path)))["plan.pretrain.updates"] == 3


@pytest.mark.parametrize("task", ["hull", "sort"])
def test_committed_results_of_the_recipes_are_found(task):
    config, names, _ = read([f"task={task}", "algo=reinforce", "seed=1"])
    setup = check(config, names)
    found = identity.finished(replace(setup, config=config | {"results": str(RESULTS)}), identity.start_of(setup))
    assert found is not None and found.seed == 1


@pytest.mark.parametrize("option", ["subword_dropout", "consistency"])
def test_an_option_that_is_off_is_no_part_of_what_came_before_it(tmp_path, option):
    setup = six(tmp_path)
    off, on = ({"plan.pretrain." + option, "plan.finetune." + option} & (
        identity.named(identity.pretraining(one)).keys() | identity.named(identity.finetuning(one, "x")).keys()) for one in (
        setup, replace(setup, pretrain=replace(setup.pretrain, **{option: 0.1}))))
    assert off == set() and on == {"plan.pretrain." + option}


def test_norm_after_is_told_apart_and_norm_before_is_as_it_always_was(tmp_path):
    setup = six(tmp_path)
    after = replace(setup, shape=replace(setup.shape, norm="after"))
    assert "norm" not in identity.pretraining(setup)["policy"] and identity.pretraining(after)["policy"]["norm"] == "after"
    assert type(setup.shape)(**setup.shape.facts) == setup.shape and type(after.shape)(**after.shape.facts) == after.shape
