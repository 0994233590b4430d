"""Results survive the disk, never overwrite each other silently, and broken ones say what is wrong in one line."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from rlseq.results import Result, comparable, config_hash, read, signature, write

COST = {"updates": 10, "sampled_tokens": 200, "scored_tokens": 400, "seconds": 3.5}


def evaluated(score):
    return {"test": {"signature": f"task:toy-v0|split:test|n:3|seed:1|commit:{score}", "n": 3,
                     "metrics": {"accuracy": {"score": score, "signature": "exact"}}}}


def made(**changed):
    return replace(Result(
        task="toy", task_version=0, policy="pointer", algo="mle", seed=1, plan="smoke", data="ab12", reward="exact",
        hash="0123456789ab", rlseq="0.1.0", commit="abc1234", dirty=False, torch="2.8", hardware="a CPU", device="cpu",
        precision="fp32", started="2025-01-01T00:00:00+00:00", finished="2025-01-01T00:01:00+00:00",
        config={"algo": {"name": "mle"}, "seed": 1}, task_options={}, pretrained={"hash": "ff", "cost": COST},
        cost=COST, before=evaluated(0.0), after=evaluated(200 / 3),
        curve=[{"stage": "finetune", "updates": 1, "sampled_tokens": 0, "scored_tokens": 5, "seconds": 0.1,
                "loss": 1.5, "reward": None, "dev": float("nan")}],
        samples=[{"source_answer_text": "ä -> b", "reward": 1.0}], pictures=[], primary="accuracy", tests=["test"]),
        **changed)


def rows():
    return {"before/test/accuracy": np.array([[0, 1], [0, 1], [0, 1]]),
            "after/test/accuracy": np.array([[1, 1], [0, 1], [1, 1]])}


def test_a_result_comes_back_as_it_was_written(tmp_path):
    path = write(made(), rows(), tmp_path)
    assert path == tmp_path / "toy-v0" / "pointer" / "mle" / "1.json"
    found = read(path)
    assert replace(found, curve=[]) == made(curve=[])
    assert found.curve[0]["dev"] is None                               # JSON has no NaN
    assert found.rows["after/test/accuracy"].dtype == np.float32
    assert (found.rows["after/test/accuracy"] == rows()["after/test/accuracy"]).all()
    assert found.headline["metrics"]["accuracy"]["score"] == pytest.approx(200 / 3)
    json.loads(path.read_text(), parse_constant=pytest.fail)           # strict JSON
    assert sorted(one.name for one in path.parent.iterdir()) == ["1.json", "1.npz"]


def test_statistics_in_any_order_of_memory_come_back(tmp_path):
    stored = rows() | {"extra/turned": np.arange(6.0).reshape(2, 3).T, "extra/none": np.zeros((0, 2))}
    found = read(write(made(), stored, tmp_path)).rows
    assert set(found) == set(stored) and all(np.array_equal(found[name], value) for name, value in stored.items())


def test_another_configuration_is_never_overwritten_and_the_same_is_replaced(tmp_path):
    first = write(made(), rows(), tmp_path)
    other = write(made(hash="fedcba987654", plan="full"), rows(), tmp_path)
    assert other.name == "1-fedcba98.json" and read(first).plan == "smoke" and read(other).plan == "full"
    assert write(made(commit="new"), rows(), tmp_path) == first and read(first).commit == "new"
    assert write(made(hash="fedcba987654", commit="new"), rows(), tmp_path) == other and read(other).commit == "new"
    kept = other.read_bytes()
    first.unlink()                                                     # nobody holds the short name any more, and yet:
    assert write(made(hash="fedcba987654"), rows(), tmp_path) == other and other.read_bytes() != kept
    first.write_text("{ broken")
    assert write(made(), rows(), tmp_path).name == "1-01234567.json" and first.read_text() == "{ broken"


def test_an_interrupted_write_leaves_the_old_result_whole(tmp_path, monkeypatch):
    path = write(made(), rows(), tmp_path)
    before = path.read_bytes()
    def stopped(_):
        raise KeyboardInterrupt
    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        write(made(commit="new"), rows(), tmp_path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 2 and read(path).commit == "abc1234"


@pytest.mark.parametrize("spoil, words", [
    (lambda path: path.write_text("{"), "not readable as JSON"),
    (lambda path: path.write_text("[1]"), "not a result of format 1"),
    (lambda path: path.write_text('{"format": 9}'), "not a result of format 1 but of 9"),
    (lambda path: path.write_text('{"format": 1, "colour": 2}'), "missing.*'task'.*unknown.*'colour'"),
    (lambda path: path.with_suffix(".npz").unlink(), "1.npz is missing beside it"),
    (lambda path: path.with_suffix(".npz").write_bytes(b"x"), "not the one it was written with"),
    (lambda path: path.unlink(), "no such result"),
])
def test_a_broken_result_says_what_is_wrong_in_one_line(tmp_path, spoil, words):
    path = write(made(), rows(), tmp_path)
    spoil(path)
    with pytest.raises(ValueError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("changed, words", [
    ({"seed": "1"}, "seed='1' is not int"),
    ({"cost": {"updates": 1}}, "cost must hold updates, sampled_tokens"),
    ({"tests": ["test", "far"]}, "before.far must hold signature"),
    ({"primary": "bleu"}, "lacks the primary metric 'bleu'"),
    ({"tests": []}, "tests is empty"),
])
def test_parts_that_do_not_belong_together_are_not_written(tmp_path, changed, words):
    with pytest.raises(ValueError, match=words):
        write(made(**changed), rows(), tmp_path)
    with pytest.raises(ValueError, match=r"must be \[3, m\], got \(2, 2\)"):
        write(made(), {**rows(), "after/test/accuracy": np.ones((2, 2))}, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_names_cannot_leave_the_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot name a folder"):
        write(made(algo="../../etc"), rows(), tmp_path)


def test_only_seed_and_commit_may_differ_between_compared_results():
    one = signature({"task": "hull-v0", "split": "test-50", "n": 1000, "seed": 3, "rlseq": "0.1.0", "commit": "abc"})
    assert one == "task:hull-v0|split:test-50|n:1000|seed:3|rlseq:0.1.0|commit:abc"
    assert comparable(one) == "task:hull-v0|split:test-50|n:1000|rlseq:0.1.0"
    assert comparable(one, ("seed", "commit", "n", "split")) == "task:hull-v0|rlseq:0.1.0"
    with pytest.raises(ValueError, match="may not hold"):
        signature({"reward": "a|b"})


def test_the_hash_of_a_configuration_ignores_circumstances_and_order():
    one = config_hash({"algo": {"k": 4, "lr": 1e-4}, "seed": 1, "device": "cpu"})
    assert one == config_hash({"device": "cuda", "algo": {"lr": 1e-4, "k": 4}, "seed": 2, "controls": True, "beams": [1]})
    assert len(one) == 12
    assert one != config_hash({"algo": {"k": 8, "lr": 1e-4}, "seed": 1, "device": "cpu"})


def test_a_file_from_before_a_field_was_thought_of_still_reads(tmp_path):
    path = write(made(), rows(), tmp_path)
    data = json.loads(path.read_text())
    for name in ("control", "variants", "beams", "matched", "diagnostics", "groups"):
        del data[name]
    path.write_text(json.dumps(data))
    found = read(path)
    assert found.control == "" and found.variants == found.beams == found.diagnostics == {} and found.groups == []
    path.write_text(json.dumps(data | {"beams": []}))
    with pytest.raises(ValueError, match=r"beams=\[\] is not dict"):
        read(path)
    del data["config"]
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"missing \['config'\], unknown \[\]"):
        read(path)
