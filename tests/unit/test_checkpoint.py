"""Checkpoints: complete, or refused with the reason."""

import pytest
import torch

from rlseq.checkpoint import (
    differences,
    numbered,
    packed,
    read_checkpoint,
    read_newest,
    unpacked,
    write_checkpoint,
    write_numbered,
)


def written(folder):
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3), "c": torch.zeros(0)}
    write_checkpoint(folder, "last", tensors, {"step": 5, "curve": [{"dev": 0.5}]})
    return tensors


def test_what_is_read_is_what_was_written(tmp_path):
    tensors = written(tmp_path / "new")
    found, facts = read_checkpoint(tmp_path / "new", "last")
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert facts["step"] == 5 and facts["curve"] == [{"dev": 0.5}]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["last.json", "last.safetensors"]


def test_tensors_that_share_memory_are_kept_apart(tmp_path):
    one = torch.arange(4.0).view(2, 2)
    write_checkpoint(tmp_path, "x", {"a": one, "turned": one.T, "part": one[0]}, {})
    found, _ = read_checkpoint(tmp_path, "x")
    assert torch.equal(found["turned"], one.T) and torch.equal(found["part"], one[0])


def test_a_tensor_of_two_names_takes_the_room_of_one(tmp_path):
    one = torch.rand(1000)
    write_checkpoint(tmp_path, "x", {"a": one, "b": one, "c": one.clone()}, {})
    found, _ = read_checkpoint(tmp_path, "x")
    assert all(torch.equal(found[name], one) for name in "abc") and list(found) == ["a", "c", "b"]
    assert 8000 <= (tmp_path / "x.safetensors").stat().st_size < 9000           # two of 4000 bytes, not three
    notes = tmp_path / "x.json"
    notes.write_text(notes.read_text().replace('"b": "a"', '"b": "z"'))
    with pytest.raises(ValueError, match="no safetensors file of its notes"):
        read_checkpoint(tmp_path, "x")


def test_a_damaged_file_is_refused(tmp_path):
    written(tmp_path)
    path = tmp_path / "last.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(tmp_path, "last")


@pytest.mark.parametrize("name", ["last.json", "last.safetensors"])
def test_a_missing_half_is_refused(tmp_path, name):
    written(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"no checkpoint file .*{name}"):
        read_checkpoint(tmp_path, "last")


@pytest.mark.parametrize("text", ["{\"step\": 5", "[]", "", "3"])
def test_broken_notes_are_refused_in_words(tmp_path, text):
    written(tmp_path)
    (tmp_path / "last.json").write_text(text)
    with pytest.raises(ValueError, match="damaged"):
        read_checkpoint(tmp_path, "last")


def test_a_write_that_dies_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    old = written(tmp_path)
    for broken in ("checkpoint.json.dumps", "checkpoint.save_file", "files.os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(f"rlseq.{broken}", lambda *given, **named: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                write_checkpoint(tmp_path, "last", {"a": torch.ones(1)}, {})
        assert torch.equal(read_checkpoint(tmp_path, "last")[0]["a"], old["a"])


def test_weights_without_their_own_notes_are_refused(tmp_path, monkeypatch):
    # a death between the two renames: new weights beside old notes are not mixed
    written(tmp_path)
    calls = []
    monkeypatch.setattr("rlseq.files.os.replace",
                        lambda source, target: calls.append(target) or source.rename(target) if not calls else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_checkpoint(tmp_path, "last", {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(tmp_path, "last")


def steps(folder, *numbers):
    for number in numbers:
        write_numbered(folder, "last", number, {"a": torch.full((3,), float(number))}, {"step": number})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_of_a_run_under_way_are_kept(tmp_path):
    write_checkpoint(tmp_path, "model", {}, {})
    steps(tmp_path, 5, 9, 10, 100)
    assert numbered(tmp_path, "last") == [100, 10] and numbered(tmp_path, "model") == []
    assert names(tmp_path) == ["last-10.json", "last-10.safetensors", "last-100.json", "last-100.safetensors", "model.json",
                               "model.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "a flipped bit", "no weights", "half the notes"])
def test_a_damaged_checkpoint_is_detected_and_the_one_before_it_used_aloud(tmp_path, damage, capsys):
    steps(tmp_path, 10, 20)
    weights, notes = tmp_path / "last-20.safetensors", tmp_path / "last-20.json"
    data = bytearray(weights.read_bytes())
    if damage == "no weights":
        weights.unlink()
    elif damage == "half the notes":
        notes.write_text(notes.read_text()[:20])
    elif damage == "truncated":
        weights.write_bytes(data[:-3])
    else:
        data[len(data) // 2] ^= 4
        weights.write_bytes(data)
    tensors, facts = read_newest(tmp_path, "last")
    said = capsys.readouterr().err
    assert facts["step"] == 10 and tensors["a"].tolist() == [10.0] * 3
    assert said.startswith("rlseq: ") and "last-20" in said and "going on from update 10" in said and said.count("\n") == 1


def test_what_comes_after_a_damaged_checkpoint_takes_its_place(tmp_path):
    steps(tmp_path, 10, 20)
    (tmp_path / "last-20.safetensors").write_bytes(b"")
    steps(tmp_path, 15)                                        # stopped by a signal, before 20
    assert numbered(tmp_path, "last") == [15, 10]


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew_in_silence(tmp_path):
    assert read_newest(tmp_path, "last") is None
    steps(tmp_path, 10)
    (tmp_path / "last-10.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="last-10.safetensors is damaged.*resume=never"):
        read_newest(tmp_path, "last")


def test_weights_whose_notes_were_not_written_do_not_exist(tmp_path):
    steps(tmp_path, 10, 20)
    (tmp_path / "last-20.json").unlink()
    assert read_newest(tmp_path, "last")[1]["step"] == 10
    steps(tmp_path, 30)
    assert names(tmp_path) == [f"last-{n}.{kind}" for n in (10, 30) for kind in ("json", "safetensors")]


def test_groups_of_tensors_come_back_as_they_went(tmp_path):
    groups = {"learner": {"a.b": torch.ones(1)}, "recent/0": {"a.b": torch.zeros(2)}, "recent/1": {"c": torch.ones(3)}}
    found = unpacked(packed(groups))
    assert found.keys() == groups.keys()
    assert all(torch.equal(found[group][name], value) for group, state in groups.items() for name, value in state.items())


def test_differences_are_said_key_by_key():
    there, here = {"algo.k": 4, "task.pair": ("en", "de"), "old": 1}, {"algo.k": 5, "task.pair": ["en", "de"]}
    assert differences(there, here) == ["algo.k=4 there, 5 here", "old=1 there, nothing here"]
    assert not differences(here, here)
