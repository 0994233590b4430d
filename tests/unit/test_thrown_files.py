"""Whatever files and arguments the commands that read results get: they do their work, or one line says what is wrong."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq import doctor, report, results, sync
from rlseq.lab import __main__ as lab
from tests.thrown import arguments, ended, many, unheard
from tests.unit.test_report import run
from tests.unit.test_security import EVIL, Bomb

leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5),
                   st.sampled_from(EVIL), st.just([]), st.just({}), st.lists(st.integers(), max_size=2),
                   st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The paths of everything within JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in places(one, (*path, key)))]


def changed(value: object, path: tuple, to: object) -> object:
    """JSON with something else in one place."""
    if not path:
        return to
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], to)
    return copy


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_who_leaves_ends_every_command_without_a_word(tmp_path, monkeypatch, buffered):
    path = results.write(replace(run(), diagnostics={"decoded_reward": {"before": 0.5, "after": 0.6}}), run().rows, tmp_path)
    for work in (lambda: doctor.main([str(path)]), lambda: doctor.main([str(path), "--json"]), lambda: report.main(["--help"]),
                 lambda: report.main(["--results", str(tmp_path), "--tracking-uri", "none"])):
        assert unheard(work, buffered=buffered) == (0, "")
    monkeypatch.setattr("rlseq.lab.course.run", lambda *_: [print(line) for line in range(9)] and 0)
    with arguments(f"results={tmp_path}"):
        assert unheard(lab.main, buffered=buffered) == (0, "")


def test_any_result_file_is_reported_judged_or_left_out_in_one_line(tmp_path):
    folder = tmp_path / "results"
    path = results.write(replace(run(), diagnostics={"decoded_reward": {"before": 0.5, "after": 0.6}}), run().rows, folder)
    sound = json.loads(path.read_text())
    every = places(sound)

    @many(int(os.environ.get("RLSEQ_THROWN", "240")) // 2)
    @given(st.integers(0, len(every) - 1), leaves, st.integers(0, 9), st.binary(max_size=8))
    def holds(index, leaf, kind, noise):
        text = json.dumps(changed(sound, every[index], leaf)).encode()
        path.write_bytes(noise if kind == 0 else text[:len(text) * index // len(every)] if kind == 1 else text)
        found = ended(lambda: report.main(["--results", str(folder), "--tracking-uri", "none", "--out", str(tmp_path / "out")]))
        assert found.code == 0 or found.code == 2 and "Traceback" not in found.errors, (every[index], leaf, found)
        assert all(line.startswith(("left out: ", "rlseq.report: ")) for line in found.errors.splitlines()), found
        judged = ended(lambda: doctor.main([str(path)]))
        assert judged.well, (every[index], leaf, judged)
    holds()


def test_any_archive_of_statistics_is_read_or_refused(tmp_path):
    path = results.write(run(), run().rows, tmp_path)
    archive = path.with_suffix(".npz")
    sound, pickled = archive.read_bytes(), pickle.dumps(Bomb(tmp_path / "mark"))
    bomb = io.BytesIO()
    np.savez(bomb, **{"before/test/accuracy": np.array([Bomb(tmp_path / "mark")], dtype=object)})
    huge, shape = io.BytesIO(), f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**12}, 2), }}".encode().ljust(118)
    array = b"\x93NUMPY\x01\x00v\x00" + shape
    with zipfile.ZipFile(huge, "w") as zipped:
        zipped.writestr("before/test/accuracy.npy", array)

    @many(60)
    @given(st.one_of(st.binary(max_size=40), st.sampled_from([bomb.getvalue(), huge.getvalue(), pickled]),
                     st.integers(0, len(sound) - 1).map(lambda at: sound[:at]),
                     st.integers(0, len(sound) - 1).map(lambda at: sound[:at] + bytes([sound[at] ^ 255]) + sound[at + 1:])))
    def holds(content):
        archive.write_bytes(content)
        data = json.loads(path.read_text())
        data["rows"]["sha256"] = hashlib.sha256(content).hexdigest()
        path.write_text(json.dumps(data))
        try:
            results.read(path)
        except ValueError as error:
            assert "\n" not in str(error)
        assert not (tmp_path / "mark").exists()
    holds()


def test_any_diary_is_judged_or_refused_in_one_line(tmp_path):
    line = {"step": 0, "time": 1.0, "decoded_reward": 0.5, "spread": 0.1, "flat": 0.2, "dev": 3.0, "loss": 0.1}

    @many(200)
    @given(st.lists(st.one_of(
        st.binary(max_size=30), st.just(json.dumps({**line, "step": 2}).encode()),
        st.tuples(st.sampled_from([*line, "stage"]), leaves).map(lambda pair: json.dumps({**line, pair[0]: pair[1]}).encode())),
        max_size=6))
    def holds(lines):
        (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
        found = ended(lambda: doctor.main([str(tmp_path)]))
        assert found.well, (lines, found)
        assert ended(lambda: doctor.main([str(tmp_path), "--json"])).well
    holds()


def test_any_arguments_of_the_lab_are_measured_or_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("rlseq.lab.course.run", lambda *_: 0)
    monkeypatch.chdir(tmp_path)

    @many(200)
    @given(st.lists(st.one_of(st.text(st.characters(exclude_characters="\0"), max_size=8), st.sampled_from(
        ["plan=", "plan=smok", "seed=-1", "seed=" + "9" * 30, "seed=" + "9" * 5000, "seed=1.5", "algo=nothing", "seed=3",
         "results=/proc/x", "results=out", "--x", "algo=,", "plan=smoke", "=", "algo=mle,ppo"])), min_size=1, max_size=3))
    def holds(words):
        with arguments(*words):
            found = ended(lab.main)
        assert found.well, (words, found)
    holds()


@pytest.mark.parametrize("command", [doctor.main, report.main, sync.main])
@pytest.mark.parametrize("words", [
    ["--bogus"], [], ["--results"], ["\udcff"], ["\x1b[31m"], ["--json", "a", "b"], ["x" * 5000]])
def test_any_arguments_of_the_others_are_refused_in_one_line(command, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlseq.server.finished_results", lambda uri, folder: [])
    found = ended(lambda: command(words))
    assert found.code == 2 and found.well, found
