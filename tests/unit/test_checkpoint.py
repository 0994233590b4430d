"""Checkpoints: complete, or refused with the reason."""

import pytest
import torch

from rlseq.checkpoint import read_checkpoint, write_checkpoint


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
    one = torch.ones(3)
    write_checkpoint(tmp_path, "x", {"a": one, "b": one}, {})
    assert torch.equal(read_checkpoint(tmp_path, "x")[0]["b"], one)


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
    for broken in ("json.dumps", "save_file", "_sync"):
        with monkeypatch.context() as patch:
            patch.setattr(f"rlseq.checkpoint.{broken}", lambda *given, **named: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                write_checkpoint(tmp_path, "last", {"a": torch.ones(1)}, {})
        assert torch.equal(read_checkpoint(tmp_path, "last")[0]["a"], old["a"])


def test_weights_without_their_own_notes_are_refused(tmp_path, monkeypatch):
    # a death between the two renames: new weights beside old notes are not mixed
    written(tmp_path)
    calls = []
    monkeypatch.setattr("rlseq.checkpoint.os.replace",
                        lambda source, target: calls.append(target) or source.rename(target) if not calls else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_checkpoint(tmp_path, "last", {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(tmp_path, "last")
