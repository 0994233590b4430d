"""The commands: help at once, mistakes in one line, a run from end to end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlseq import predict
from rlseq.run import checked, choices, main

ROOT = Path(__file__).resolve().parents[2]


def command(folder, *words, module="rlseq.run", given=None):
    """Run a command in a folder; its exit code, output and errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    found = subprocess.run([sys.executable, "-m", module, *words], cwd=folder, capture_output=True, text=True, input=given,
                           env=environment, timeout=300)
    return found.returncode, found.stdout, found.stderr


def test_help_names_everything_and_does_not_import_torch(tmp_path):
    start = time.perf_counter()
    code, said, _ = command(tmp_path, "--help")
    seconds = time.perf_counter() - start
    assert code == 0
    for group in ("task", "algo", "policy", "plan"):
        for name in choices(group):
            assert name in said, (group, name)
    modules = "import sys, rlseq.run; print('torch' in sys.modules, 'mlflow' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", modules], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert loaded == ["False", "False"]
    assert seconds < 5, seconds         # about 0.8 s alone; the tests may share the machine


@pytest.mark.parametrize(("words", "part"), [
    ("task=hul", "did you mean 'hull'"), ("algo.kk=3", "did you mean 'k'"), ("sed=3", "did you mean 'seed'"),
    ("seed=x", "whole number"), ("seed=0,1", "put -m first; one list is seed=[0,1]"), ("task=hull,sort", "several values"),
    ("algo.k=1", "k >= 2"), ("policy=transformer", "does not fit task=hull"),
    ("device=cuda:9", "auto, cpu, cuda"), ("plan.finetune.lr=abc", "not a finite number"), ("policy.width=30", "multiple of"),
    ("pretrained=/nope", "no checkpoint file"), ("tests=[foo]", "no test split"), ("nonsense", "name=value"),
    ("recipe=hull-full", "not chosen by hand"), ("task=translation task.path=x", "not used"),
    ("compare=mee", "did you mean 'mle'"), ("precision=fp8", "fp32, bf16"), ("task.reward=bleu", "one of"),
    ("plan.test=-5", "plan.test"), ("decode.temperature=1 decode.top_p=2", "top_p"), ("decode.top_k=5", "temperature"),
    ("decode=5", "group of options"), ("plan.finetune=3", "group of options"), ("tests=5", "list of test splits"),
    ("plan.finetune.label_smoothing=0.1", "algo.label_smoothing"), ("task=null", "no task"),
    ("task=hull plan.pretrain.subword_dropout=0.1", "task=hull has none"), ("plan.pretrain.subword_dropout=1", "0.999"),
    ("plan.finetune.consistency=5", "set algo.consistency"), ("algo=mle algo.consistency=5 policy.dropout=0", "leave one"),
    ("plan.pretrain.consistency=5 policy.dropout=0", "leave one"), ("plan.pretrain.consistency=-1", "consistency=-1"),
    ("controls=[shufled]", "did you mean 'shuffled'"), ("controls=3", "auto, true, false"), ("beams=[0]", "beam widths"),
    ("cuda_graphs=true device=cpu", "needs device=cuda"), ("cuda_graphs=5", "true, false"),
    ("algo.kl=0.1 algo.kl.where=both", "write algo.kl.weight=0.1 algo.kl.where=both"),
    ("algo.mle_weight.end=0 algo.mle_weight=1", "write algo.mle_weight.start=1 algo.mle_weight.end=0"),
    ("task=sort --plan smoke", "--plan is not known: options are name=value, such as plan=VALUE"),
    ("task=sort algo=PPO", "did you mean 'ppo'"), ("algo.kl.where=both", "algo.kl.weight must be given"),
    ("task=sort policy=fixed algo=attention_reg", "no attention"), ("task=translation task.data=files", "path"),
])
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, part, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rlseq.run", *words.split(), "tracking=none"])
    with pytest.raises(SystemExit) as stopped:
        main()
    errors = capsys.readouterr().err
    assert stopped.value.code == 2 and len(errors.strip().splitlines()) == 1, errors
    assert errors.startswith("rlseq: ") and part in errors, errors
    assert not list(tmp_path.iterdir()), "nothing may be half-written"


def test_a_smoke_run_writes_a_result_a_checkpoint_a_picture_and_a_report(tmp_path):
    code, said, errors = command(tmp_path, "task=hull", "algo=reinforce", "plan=smoke", "compare=mle")
    assert code == 0, errors
    home = tmp_path / "runs/smoke/hull-v0/pointer_relative"
    result = json.loads((home / "reinforce/0.json").read_text())
    assert result["cost"]["updates"] == 4 and result["cost"]["sampled_tokens"] > 0
    assert (home / "reinforce/0.png").stat().st_size > 10_000 and (home / "mle/0.json").is_file()
    assert "mlflow ui" in said and "mle continued" in said
    assert all(set(one["stages"]) == {"before", "after"} for one in result["groups"]) and result["groups"]
    assert (home / "reinforce/0.json").stat().st_size < 300_000
    start, other = (json.loads((home / name / "0.json").read_text())["pretrained"]["hash"] for name in ("mle", "reinforce"))
    assert start == other, "both must start from one checkpoint"
    checkpoint = next(line.split()[1] for line in said.splitlines() if line.startswith("checkpoint"))
    code, answers, errors = command(tmp_path, f"checkpoint={checkpoint}", module="rlseq.predict",
                                    given="0 0 1 0 0 1\n\n5 5 9 9 1 8 2 2\n")
    assert code == 0 and len(answers.split("\n")) == 4 and answers.split("\n")[1] == "", (answers, errors)
    code, said, errors = command(tmp_path, "--results", "runs/smoke", module="rlseq.report")
    assert code == 0 and (tmp_path / "runs/smoke/index.html").is_file(), errors


def test_plain_overrides_may_name_options_that_no_yaml_states():
    assert checked(["algo.k=4", "task=hull", "-m", "+a=1"]) == ["-m", "++algo.k=4", "task=hull", "+a=1"]
    assert checked(["task=hull", "--cfg", "job"]) == ["task=hull", "--cfg", "job"]
    assert checked(["task.path={split}.{lang},b"]) == ['++task.path="{split}.{lang},b"']


def test_predict_refuses_unknown_and_mistyped_options():
    with pytest.raises(ValueError, match="did you mean 'beam'"):
        predict.options(["checkpoint=x", "bean=3"])
    with pytest.raises(ValueError, match="is not a int"):
        predict.options(["checkpoint=x", "beam=three"])


@pytest.mark.slow
def test_a_checkpoint_of_ones_own_brings_its_tokenizer_and_must_fit(tmp_path):
    common = ["task=translation", "policy=gru", "plan=smoke", "tracking=none", "policy.width=32"]
    code, said, errors = command(tmp_path, *common, "algo=mle", "task.vocabulary=300")
    assert code == 0, errors
    checkpoint = next(line.split()[1] for line in said.splitlines() if line.startswith("checkpoint"))
    code, said, errors = command(tmp_path, *common, "algo=reinforce", "compare=mle", f"pretrained={checkpoint}",
                                 "task.data=files", "task.path=own", "task.vocabulary=300")
    assert code == 2 and "own" in errors, "the user's folder does not exist yet"
    own = tmp_path / "own"
    own.mkdir()
    for split in ("train", "dev", "test"):
        for language in ("en", "de"):
            (own / f"{split}.{language}").write_text("".join(f"{split} {language} {i}\n" for i in range(40)))
    code, said, errors = command(tmp_path, *common, "algo=reinforce", "compare=mle", f"pretrained={checkpoint}",
                                 "task.data=files", "task.path=own", "task.vocabulary=300")
    assert code == 0, errors
    kept = next(line.split()[1] for line in said.splitlines() if line.startswith("checkpoint"))
    first, second = (json.loads((tmp_path / one / "model.json").read_text()) for one in (checkpoint, kept))
    assert first["task_state"] == second["task_state"], "ids must keep their meaning"
    code, _, errors = command(tmp_path, *common, "policy.width=64", f"pretrained={checkpoint}")
    assert code == 2 and "shape" in errors and len(errors.strip().splitlines()) == 1
