"""What comes from strangers runs no code, leaves no folder and steers no page, table or terminal."""

import ast
import io
import json
import os
import pickle
import re
import struct
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from rlseq import predict, report, results
from rlseq.delivery import Delivery
from rlseq.paths import PACKAGE, TASKS
from tests.thrown import arguments, ended
from tests.unit.test_predict import write as checkpoint
from tests.unit.test_report import run

SOURCES = {path: ast.parse(path.read_text(encoding="utf-8"))
           for root in (PACKAGE, TASKS) for path in sorted(root.rglob("*.py"))}
RUNS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.load", "__import__", "runpy.run_path"}
EVIL = ['</script><xss-mark onxss="1">', '"><xss-mark>', "'onxss='1", "<!--<xss-mark>", "|x|`<xss-mark>`\n# top",
        "\u202egnp\x1b[31m", "javascript:xss()", "]]><xss-mark/>", "&lt;xss-mark&gt;", "${xss}", "$style $script"]


class Bomb:
    """Its unpickling leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


# ---- code

@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_that_is_read_can_run(path):
    for node in ast.walk(SOURCES[path]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {one.name for one in node.names} | {getattr(node, "module", None)}
            assert not modules & {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}, (path, modules)
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in RUNS, (path, node.lineno)
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            assert given.get("shell", "False") == given.get("allow_pickle", "False") == "False", (path, node.lineno)
            assert given.get("trust_remote_code", "False") == "False", (path, node.lineno)
            if ast.unparse(node.func).endswith(".from_pretrained"):
                assert "trust_remote_code" in given, f"{path}, line {node.lineno}: say trust_remote_code=False"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "0.0.0.0" not in node.value, f"{path}, line {node.lineno}: a server is for this machine alone"


def hostile(folder: Path, mark: Path) -> dict[str, bytes]:
    """What may stand in the place of weights: name -> bytes."""
    bomb, archive, torchs = pickle.dumps(Bomb(mark)), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("archive/data.pkl", bomb)
    torch.save({"first": Bomb(mark)}, torchs)
    numpys = io.BytesIO()
    np.save(numpys, np.array([Bomb(mark)], dtype=object), allow_pickle=True)

    def header(said: dict, size: int | None = None) -> bytes:
        text = json.dumps(said).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text
    whole = {"first": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}
    return {"pickle": bomb, "zip": archive.getvalue(), "torch": torchs.getvalue(), "npy": numpys.getvalue(), "empty": b"",
            "endless header": header(whole, 2**62), "short": header(whole),
            "terabytes": header({"first": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
            "overlap": header({"a": whole["first"], "b": whole["first"]}) + bytes(32),
            "overflow": header({"first": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 32]}}) + bytes(32),
            "path": header({"../../../../tmp/evil": whole["first"]}) + bytes(32),
            "no JSON": struct.pack("<Q", 4) + b"{{{{",
            "wrong kind": header({"first": {**whole["first"], "dtype": "PY"}}) + bytes(32)}


def test_weights_of_a_stranger_run_nothing_and_take_no_memory(tmp_path):
    """The notes name the hash of whatever lies there: the stranger wrote both."""
    from rlseq.checkpoint import read_checkpoint
    checkpoint(tmp_path / "sound", "sort")
    stem = "model"
    for name, content in hostile(tmp_path, tmp_path / "mark").items():
        place = tmp_path / name
        checkpoint(place, "sort")
        forge(place, stem, content)
        with pytest.raises(ValueError):
            read_checkpoint(place, stem) and predict.Predictor(predict.Options(str(place)))
        with arguments(f"checkpoint={place}"):
            found = ended(predict.main, b"1 2\n")
        assert found.code == 2 and found.well, (name, found)
        assert not (tmp_path / "mark").exists(), name


def forge(place: Path, stem: str, content: bytes) -> None:
    """Put other weights into a checkpoint, with their hash in its notes."""
    import hashlib
    weights, notes = place / f"{stem}.safetensors", place / f"{stem}.json"
    weights.write_bytes(content)
    said = json.loads(notes.read_text())
    for name in [one for one in said if "sha256" in one]:
        said[name] = hashlib.sha256(content).hexdigest()
    notes.write_text(json.dumps(said))


@pytest.mark.parametrize("notes", [
    "[" * 100_000, "{}", "[]", "null", "", "\xed\xa0\x80", '{"sha256": 5}', '{"a":' * 9000, "9" * 5000, "NaN"])
def test_notes_of_a_stranger_are_refused_in_one_line(tmp_path, notes):
    checkpoint(tmp_path / "it", "sort")
    (tmp_path / "it" / "model.json").write_text(notes)
    with arguments(f"checkpoint={tmp_path / 'it'}"):
        found = ended(predict.main, b"1 2\n")
    assert found.code == 2 and found.well, found


# ---- pages and tables

class Page(HTMLParser):
    """Everything that a browser would make of a page: elements, attributes, addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.addresses = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value for name, value in attrs if name in ("src", "href", "srcdoc", "action")}


def everywhere(evil: str, folder: Path) -> None:
    """Two results that say `evil` wherever a string may stand."""
    base = run("reinforce")
    for index, one in enumerate((base, run("mle"))):
        said = json.loads(json.dumps({"k": evil, evil: [evil]}))
        hurt = replace(one, hardware=evil, torch=evil, commit=evil, precision=evil, device=evil, plan=evil, finished=evil,
                       hash=f"{index}{evil}", reward=evil, rlseq=evil, samples=[{"text": evil, evil: evil, "reward": 0.5}],
                       groups=[{"split": evil, "index": 0, "head": evil, "size": 2, "source": [evil], "reference": [evil],
                                "stages": {"before": [], evil: []}}], config={**one.config, "algo": {"name": evil, **said}},
                       diagnostics={evil: {"before": 0.1, "after": 0.2}}, pictures=[evil, "/etc/passwd", "../../x.png"],
                       curve=[{**point, "stage": evil, evil: 1.0} for point in one.curve], task_options=said)
        path = results.write(hurt, one.rows, folder)
        data = json.loads(path.read_text())
        for stage in ("before", "after"):
            data[stage]["test"]["signature"] += f"|x:{evil}"
            data[stage]["test"]["metrics"]["accuracy"]["signature"] = evil
        path.write_text(json.dumps(data))


@pytest.mark.parametrize("evil", EVIL)
def test_results_of_a_stranger_cannot_steer_the_page(tmp_path, evil):
    everywhere(evil, tmp_path / "results")
    (tmp_path / "results" / "lab.svg").write_text(f"<svg onload='xss()'><xss-mark/>{evil}</svg>")
    found = ended(lambda: report.main(["--results", str(tmp_path / "results"), "--tracking-uri", "none"]))
    assert found.code == 0, found
    page = Page((tmp_path / "results" / "index.html").read_text())
    assert "xss-mark" not in page.tags and not {one for one in page.attributes if one.startswith("on")}
    assert all(one.startswith(("#", "data:image/")) for one in page.addresses), page.addresses
    board = (tmp_path / "results" / "leaderboard.md").read_text()
    assert "<xss-mark" not in re.sub(r"`[^`\n]*`", "", board) and "\x1b" not in board and "\n# top" not in board
    assert "\x1b" not in found.errors + found.out.decode() and "\u202e" not in found.errors


@pytest.mark.parametrize("evil", [*EVIL, "\udc80", "\0", "a,b\n=cmd()"])
def test_a_table_for_mlflow_is_json_whatever_a_data_set_says(tmp_path, monkeypatch, evil):
    told = {}
    delivery = Delivery(tmp_path, "sqlite:///none", thorough=False)
    monkeypatch.setattr(delivery, "_text", lambda text, name: told.update({name: text}))
    monkeypatch.setattr(delivery, "_tag", lambda name, value: told.update({name: value}))
    delivery._table("predictions", [{"text": evil, "reward": 0.5}, {"text": f"{evil}\u2028{evil}", "reward": 1.0}])
    assert set(told) == {"predictions.json", "mlflow.loggedArtifacts"} and all(one.isascii() for one in told.values())
    assert json.loads(told["predictions.json"])["data"] == [[evil, 0.5], [f"{evil}\u2028{evil}", 1.0]]


@pytest.mark.parametrize("name", ["../up", "/etc", "a/b", "..", ".hidden", "", "a\x1b", "x" * 101, "a\nb"])
def test_no_name_leads_out_of_the_results(tmp_path, name):
    for field in ("task", "policy", "algo"):
        with pytest.raises(ValueError, match="cannot name a folder"):
            results.place(replace(run(), **{field: name}), tmp_path / "results")


def test_no_link_leads_out_of_the_results(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results" / "toy-v0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="a link that leaves"):
        results.write(run(), run().rows, tmp_path / "results")
    assert not list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")            # the folder itself may be one: its user named it
    assert results.write(run(), run().rows, tmp_path / "linked").is_file()
