"""Gates: a disk that is full or read-only ends a run in one line with nothing half-written, and the same command goes on."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gates.test_kills import words
from tests.killing import Forge, left_by


@pytest.fixture(scope="module")
def forge():
    one = Forge()
    yield one
    one.close()


@pytest.fixture(scope="module")
def straight(forge, tmp_path_factory):
    """What an uninterrupted run leaves, and its bytes."""
    folder = tmp_path_factory.mktemp("straight")
    found = forge.run(folder, words("reinforce"))
    assert found["code"] == 0, found["said"]
    return left_by(folder), sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def complaint(found):
    """The one line that a run ended with."""
    assert found["code"] == 2 and "Traceback" not in found["said"], found["said"]
    lines = [line for line in found["said"].splitlines() if line.startswith("rlseq: ")]
    assert len(lines) == 1, found["said"]
    return lines[0]


@contextmanager
def small_disk(size):
    """A file system of so many bytes."""
    folder = Path(tempfile.mkdtemp())
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True)
    if made.returncode:
        folder.rmdir()
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.mark.parametrize("share", [0.5, 1.55, 1.7])          # of what a run leaves; more is needed on the way
def test_a_full_disk_is_one_line_and_with_room_the_same_command_goes_on(forge, straight, share):
    wanted, size = straight
    with small_disk(int(size * share)) as folder:
        said = complaint(forge.run(folder, words("reinforce")))
        assert "cannot be written: No space left on device" in said and "make room there" in said, said
        assert not list(folder.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
        found = forge.run(folder, words("reinforce"))
        assert found["code"] == 0, found["said"]
        assert left_by(folder) == wanted


@pytest.mark.parametrize("name", ["last-3.safetensors", "metrics.jsonl"])
def test_a_file_that_may_not_grow_is_one_line_and_the_same_command_goes_on(forge, straight, tmp_path, name):
    # a quota, where nothing can be mounted: the weights fit, the checkpoint with the optimiser's moments does not
    model = next(len(value) for name, value in straight[0].items() if name.endswith("model.safetensors"))
    said = complaint(forge.run(tmp_path, words("reinforce"), room=300 if name == "metrics.jsonl" else 2 * model))
    assert f"{name} cannot be written: " in said and "make room there" in said, said
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.safetensors"))
    assert forge.run(tmp_path, words("reinforce"))["code"] == 0
    assert left_by(tmp_path) == straight[0]


@pytest.mark.parametrize("option", ["runs", "results"])
def test_a_read_only_folder_is_refused_before_any_work(forge, option):
    # root writes wherever it likes, so this is tried by nobody
    folder = Path(tempfile.mkdtemp())
    for name in ("runs", "results"):
        (folder / name).mkdir()
        (folder / name).chmod(0o555 if name == option else 0o777)
    folder.chmod(0o755)
    try:
        nobody = {"user": 65534} if os.getuid() == 0 else {}
        said = complaint(forge.run(folder, [*words("reinforce"), "results=results"], **nobody))
        assert said.startswith(f"rlseq: {option}={option} cannot be written to: ") and "read-only" in said, said
        assert not [path for path in folder.rglob("*") if path.is_file()]
    finally:
        shutil.rmtree(folder)


def test_a_read_only_file_system_is_refused_before_any_work(forge):
    with small_disk(2**20) as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        said = complaint(forge.run(folder, words("reinforce")))
        assert "cannot be written to: " in said and "read-only" in said and not list(folder.iterdir()), said
