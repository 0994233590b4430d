"""Files appear whole or not at all; a folder has one worker at a time."""

import errno
import os

import pytest

from rlseq import files
from rlseq.files import aside, check_writable, whole, write_whole


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_whole(tmp_path / "new" / "a.txt", "größer")
    write_whole(tmp_path / "new" / "a.txt", b"other")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"other"


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "a") as place:
        place.write_bytes(b"half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch, where):
    write_whole(tmp_path / "a", b"old")

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(files.os, where, full)
    with pytest.raises(OSError, match=r"a cannot be written: No space left on device; make room there or") as found:
        write_whole(tmp_path / "a", b"new")
    assert "\n" not in str(found.value) and (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_within_a_file_complains_once(tmp_path):
    with pytest.raises(OSError) as found, whole(tmp_path / "notes"), whole(tmp_path / "weights"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(found.value).count("cannot be written") == 1 and "weights" in str(found.value)


def test_what_a_killed_process_left_half_written_is_swept_at_the_next_write(tmp_path):
    child = os.fork()
    if not child:
        try:
            with whole(tmp_path / "a") as place:
                place.write_bytes(b"half")
                os._exit(9)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    write_whole(tmp_path / "a", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_living_neighbour_is_not_swept(tmp_path):
    ours = tmp_path / f".a.{files.platform.node()}.{os.getppid()}.tmp"
    ours.write_bytes(b"under way")
    write_whole(tmp_path / "a", b"whole")
    assert ours.read_bytes() == b"under way"


def test_a_folder_steps_aside_to_the_first_free_name(tmp_path):
    folder = tmp_path / "run"
    assert aside(folder, but=".lock") is None
    for number in (1, 2):
        write_whole(folder / "last-3.json", str(number))
        (folder / ".lock").touch()
        assert aside(folder, but=".lock") == tmp_path / f"run~{number}"
        assert (tmp_path / f"run~{number}" / "last-3.json").read_text() == str(number)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_place_that_holds_no_folder_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "newer", "runs")
    with pytest.raises(ValueError, match="results=.*is read-only or no folder"):
        check_writable(tmp_path / "file" / "results", "results")
