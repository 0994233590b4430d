"""Laws of the package: what a wheel holds works without the checkout, and extensions are found wherever they lie."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked into a folder that stands for site-packages."""
    home = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(home), str(ROOT)],
                   check=True, capture_output=True)
    site = home / "site"
    with zipfile.ZipFile(next(home.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def python(site: Path, code: str, folder: Path) -> str:
    """What a fresh interpreter prints that sees the unpacked wheel and not the checkout."""
    found = subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(site)})
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_wheel_holds_tasks_and_configurations(installed, tmp_path):
    code = ("import rlseq, rlseq.tasks as t, rlseq.paths as p; print(rlseq.__file__); print(*t.names());"
            "print(t.task_class('sort').__module__); print((p.CONF / 'config.yaml').is_file())")
    place, names, module, config = python(installed, code, tmp_path).splitlines()
    assert Path(place).is_relative_to(installed)
    assert names.split() == sorted(path.parent.name for path in ROOT.glob("tasks/*/__init__.py"))
    assert module == "rlseq.tasks.sort" and config == "True"


def test_a_wheel_puts_no_bare_tasks_or_conf_beside_the_package(installed):
    assert sorted(path.name for path in installed.iterdir() if path.suffix != ".dist-info") == ["rlseq"]


def test_a_task_survives_pickling_by_its_one_name(installed, tmp_path):
    code = ("import pickle, rlseq.tasks as t; one = t.make('hull', {'head': 'pointer'});"
            "print(pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint, type(one).__module__)")
    assert python(installed, code, tmp_path).split() == ["True", "rlseq.tasks.hull"]


def test_an_entry_point_brings_a_task_of_another_package(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    source = "from rlseq.tasks.hull import Task as Hull\n\n\nclass Task(Hull):\n    name = 'mine'\n"
    (package / "__init__.py").write_text(source)
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rlseq.tasks]\nmine = mine:Task\n")
    code = "import rlseq.tasks as t; print('mine' in t.names(), t.task_class('mine').name)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])})
    assert found.stdout.split() == ["True", "mine"], found.stderr
