"""W7: how long until a command has answered, or has done its first training step. Standard library alone.

Every function runs a fresh interpreter of the kind it runs under itself, and counts until that one has ended or, for first
steps, until the mark of a finished step is there.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .job import Job, Repetition

PATIENCE = 120.0                 # seconds until a command that leaves no mark is given up


def needed(module: str) -> None:
    """Raises ModuleNotFoundError where this interpreter lacks it, before anything is timed."""
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def command(job: Job, module: str, *words: str) -> Repetition:
    """`python WORDS`, its end included; `module` is what it takes."""
    needed(module)

    def repetition() -> float:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return 1.0
    return repetition


def until(words: list[str], folder: Path, done: Callable[[], bool]) -> float:
    """Run `python WORDS` in a folder until `done`, then end it."""
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=said, stderr=said)
        start = time.monotonic()
        while not done():
            if (ended := process.poll()) is not None or time.monotonic() - start > PATIENCE:
                if not done():
                    process.kill()
                    last = (folder / "said.txt").read_text().strip().splitlines()[-1:]
                    raise RuntimeError(f"no first step ({'out of time' if ended is None else f'status {ended}'}): {last}")
            time.sleep(0.01)
        process.kill()
        process.wait()
    return 1.0


def fresh(make: Callable[[Path], float]) -> Repetition:
    """Repetitions in folders of their own, which go again."""
    def repetition() -> float:
        folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        try:
            return make(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return repetition


def rlseq(job: Job) -> Repetition:
    """The hull task as it comes, of smoke size; the mark is the checkpoint after the first update, dev scored once."""
    def make(folder: Path) -> float:
        words = ["-m", "rlseq.run", "task=hull", "plan=smoke", f"runs={folder}/runs", f"results={folder}/results",
                 "plan.pretrain.every=1", "plan.pretrain.dev=1"]
        return until(words, folder, lambda: any((folder / "runs").rglob("last-*.json")))
    return fresh(make)


JOEY = """
name: toy
joeynmt_version: "2.3.0"
model_dir: model
use_cuda: False
data:
  train: toy
  dev: toy
  dataset_type: plain
  src: {lang: en, level: word, voc_file: words.txt, lowercase: False}
  trg: {lang: de, level: word, voc_file: words.txt, lowercase: False}
testing: {beam_size: 1, eval_metrics: [bleu]}
training: {optimizer: adam, learning_rate: 0.001, batch_size: 8, batch_type: sentence, epochs: 1, validation_freq: 1000,
  logging_freq: 1, overwrite: True, normalization: tokens, loss: crossentropy, early_stopping_metric: loss,
  scheduling: exponential}
model:
  encoder: {type: transformer, num_layers: 1, num_heads: 2, hidden_size: 32, ff_size: 64, embeddings: {embedding_dim: 32}}
  decoder: {type: transformer, num_layers: 1, num_heads: 2, hidden_size: 32, ff_size: 64, embeddings: {embedding_dim: 32}}
"""


def joeynmt(job: Job) -> Repetition:
    """`joeynmt train` of a toy Transformer on 64 lines; the mark is the log line of step 1."""
    needed("joeynmt")

    def make(folder: Path) -> float:
        names = [f"w{number}" for number in range(40)]
        for side in ("en", "de"):
            (folder / f"toy.{side}").write_text("".join(" ".join(names[i % 30:i % 30 + 6]) + "\n" for i in range(64)))
        (folder / "words.txt").write_text("\n".join(["<unk>", "<pad>", "<s>", "</s>", *names]) + "\n")
        (folder / "toy.yaml").write_text(JOEY)
        return until(["-m", "joeynmt", "train", "toy.yaml"], folder,
                     lambda: "Step:        1" in (folder / "said.txt").read_text())
    return fresh(make)


RL4CO = """
import pathlib
import lightning
from rl4co.envs import TSPEnv
from rl4co.models import PointerNetwork
from rl4co.utils import RL4COTrainer

class Mark(lightning.Callback):
    def on_train_batch_end(self, *everything):
        pathlib.Path("mark").touch()

env = TSPEnv(generator_params={"num_loc": 10})
model = PointerNetwork(env, baseline="exponential", batch_size=8, train_data_size=64, val_data_size=8, test_data_size=8)
RL4COTrainer(max_epochs=1, accelerator="cpu", logger=None, callbacks=[Mark()], enable_checkpointing=False).fit(model)
"""


def rl4co(job: Job) -> Repetition:
    """Its trainer on tours of 10 points with its pointer network; the mark is made after the first batch."""
    needed("rl4co")

    def make(folder: Path) -> float:
        (folder / "toy.py").write_text(RL4CO)
        return until(["toy.py"], folder, lambda: (folder / "mark").exists())
    return fresh(make)
