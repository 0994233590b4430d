"""The cache of arrays: whole or absent, and never believed blindly."""

import json
import os
import shutil

import numpy as np
import pytest

from rlseq import kept as module
from rlseq.kept import held, kept


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Maker:
    """Three parts, and how often they were made."""

    def __init__(self, breaks=None):
        self.made, self.breaks = 0, breaks

    def __call__(self):
        self.made += 1
        for part in range(3):
            if part == 2 and self.breaks:
                raise self.breaks
            yield {"one": np.arange(part, part + 4, dtype=np.int32), "two": np.full((part, 2), part, np.uint16)}


def same(found):
    assert found["one"].tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5] and found["one"].dtype == np.int32
    assert found["two"].tolist() == [[1, 1], [2, 2], [2, 2]]
    return found


def folder():
    return next(module.FOLDER.glob("things-*"))


def test_arrays_are_made_once_and_mapped_after_that(capsys):
    maker = Maker()
    for _ in range(3):
        found = same(kept("things", ["a", 1], maker))
    assert maker.made == 1 and not found["one"].flags.writeable and capsys.readouterr().err == ""
    same(kept("things", ["a", 2], maker))
    assert maker.made == 2 and len(list(module.FOLDER.iterdir())) == 2


def test_nothing_is_written_of_what_has_no_name(here):
    maker = Maker()
    same(kept("things", None, maker))
    same(kept("things", None, maker))
    assert maker.made == 2 and not list(here.iterdir())


def flip(path):
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [
    lambda at: flip(at / "one.bin"), lambda at: os.truncate(at / "one.bin", 44), lambda at: (at / "two.bin").unlink(),
    lambda at: (at / "facts.json").write_text("{"), lambda at: (at / "facts.json").write_text("[]"),
    lambda at: (at / "facts.json").unlink(),
    lambda at: (at / "facts.json").write_text((at / "facts.json").read_text().replace('"<u2"', '"|O"')),
    lambda at: (at / "facts.json").write_text(json.dumps({**json.loads((at / "facts.json").read_text()), "told": "other"})),
], ids=["a bit", "cut", "gone", "no JSON", "other JSON", "no facts", "objects", "foreign"])
def test_what_is_damaged_or_foreign_is_said_and_made_again(damage, capsys):
    maker = Maker()
    kept("things", "a", maker)
    damage(folder())
    same(kept("things", "a", maker))
    assert maker.made == 2 and "is damaged" in capsys.readouterr().err
    same(kept("things", "a", maker))
    assert maker.made == 2


@pytest.mark.parametrize("error", [ValueError("line 3"), KeyboardInterrupt()])
def test_what_fails_while_it_is_made_leaves_nothing(error, here):
    with pytest.raises(type(error)):
        kept("things", "a", Maker(error))
    assert not list(here.iterdir())


def test_a_disk_that_cannot_be_written_keeps_nobody_from_working(here, capsys):
    (here / "runs").write_text("a file where the folder should be")
    same(kept("things", "a", Maker()))
    assert "cannot write" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(here, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(module, "_sweep", full)                            # after all is written, before it counts
    same(kept("things", "a", Maker()))
    assert "No space left on device" in capsys.readouterr().err and not list(here.iterdir())


def test_two_processes_that_make_the_same_agree(capsys):
    class Slower(Maker):
        def __call__(self):
            if not self.made:
                kept("things", "a", Maker())                               # another was faster
            yield from super().__call__()
    # the temporary folder is named by the process, so the faster one gets another number
    number = os.getpid()
    maker, pids = Slower(), iter([number + 1, number, number, number, number, number])
    original = os.getpid
    try:
        os.getpid = lambda: next(pids, number)
        same(kept("things", "a", maker))
    finally:
        os.getpid = original
    assert [one.name for one in module.FOLDER.iterdir()] == [folder().name]
    assert maker.made == 1 and capsys.readouterr().err == ""


def test_processes_of_one_number_on_two_machines_do_not_meet(monkeypatch, capsys):
    class There(Maker):
        def __call__(self):
            if not self.made:
                with monkeypatch.context() as patch:
                    patch.setattr(module.platform, "node", lambda: "there")
                    same(kept("things", "a", Maker()))
            yield from super().__call__()
    same(kept("things", "a", There()))
    assert [one.name for one in module.FOLDER.iterdir()] == [folder().name] and capsys.readouterr().err == ""


def test_what_a_killed_process_of_our_number_left_is_in_nobodys_way(monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_withdraw", lambda temporary: None)
        kept("things", "a", Maker(KeyboardInterrupt()))
    same(kept("things", "a", Maker()))
    assert [one.name for one in module.FOLDER.iterdir()] == [folder().name] and capsys.readouterr().err == ""


def test_what_a_killed_process_left_is_swept_up_after_a_day():
    kept("things", "a", Maker())
    left = module.FOLDER / f".{folder().name}.1"
    left.mkdir()
    shutil.rmtree(folder())
    kept("things", "a", Maker())
    assert left.exists(), "it may still be at work"
    os.utime(left, (0, 0))
    shutil.rmtree(folder())
    kept("things", "a", Maker())
    assert not left.exists()


def test_small_files_are_read_again_and_large_ones_known_by_their_bytes(here):
    small, large = here / "small", here / "large"
    small.write_bytes(b"a")
    large.write_bytes(b"a" * module.SMALL)
    assert held([small]) is None and len(held([small, large])) == 2
    before = held([large])
    large.write_bytes(b"b" * module.SMALL)
    assert held([large]) != before
