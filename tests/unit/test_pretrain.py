"""A checkpoint of the user's own, given as `pretrained`: taken if it fits, refused key by key if not."""

import pytest

from rlseq import pretrain
from rlseq.checkpoint import read_checkpoint
from tests.unit.test_locks import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A setup, the folder of its pretrained checkpoint and what stands in its notes."""
    setup = tiny(tmp_path_factory.mktemp("made"))
    folder = pretrain.pretrain(setup).folder
    return setup, folder, read_checkpoint(folder, "model")[1]


def test_a_checkpoint_that_fits_is_taken(made):
    setup, folder, facts = made
    pretrain.adopt(setup, facts, folder)
    setup.config["pretrained"] = str(folder)
    assert pretrain.pretrain(setup).hash == facts["sha256"][:12]


@pytest.mark.parametrize(("change", "said"), [
    ({"task": "hull", "task_version": 7}, 'task="hull" there, "sort" here; task_version=7 there, 0 here'),
    ({"sizes": {"vocabulary": 3}}, "vocabulary=3 there, 102 here")])
def test_one_of_another_kind_is_refused_key_by_key(made, change, said):
    setup, folder, facts = made
    with pytest.raises(ValueError, match="they must agree") as refused:
        pretrain.adopt(setup, facts | change, folder)
    assert said in str(refused.value)


@pytest.mark.parametrize(("change", "said"), [
    ({"width": 99}, "shape.width=99 there, 8 here"), ({"norm": "after"}, 'shape.norm="after" there, "before" here')])
def test_one_of_another_shape_names_what_differs_alone(made, change, said):
    setup, folder, facts = made
    with pytest.raises(ValueError) as refused:
        pretrain.adopt(setup, facts | {"shape": facts["shape"] | change}, folder)
    assert str(refused.value).endswith(f"is of another kind: {said}; they must agree")


def test_weights_do_not_ask_what_was_dropped_out(made):
    setup, folder, facts = made
    pretrain.adopt(setup, facts | {"shape": facts["shape"] | {"dropout": 0.9}}, folder)


def test_notes_that_no_run_wrote_are_refused_in_words(made):
    setup, folder, _ = made
    with pytest.raises(ValueError, match="is no checkpoint of a run: its notes lack commit, cost, curve"):
        pretrain.adopt(setup, {"sha256": "x"}, folder)
