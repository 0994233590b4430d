"""Time to quality: what the default hull recipe reaches at n = 50, and in how many seconds of training.

Reads result files of runs that are finished; `--train` makes one first.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from .workloads import Goal, Workload

WANTED = 90.0                              # percent of hulls named exactly
QUALITY = Workload("quality", "Default hull recipe: accuracy on test-50 after fine-tuning, median over seeds", "%", (),
                   goals=(Goal("rlseq-mle", "", WANTED, "quality"), Goal("rlseq-reinforce", "", WANTED, "quality")))


def train(root: Path) -> None:
    """The command that a user would give; it writes into results/."""
    subprocess.run([sys.executable, "-m", "rlseq.run", "task=hull"], cwd=root, check=True)


def lines(root: Path) -> list[dict[str, object]]:
    """One line an algorithm, of the newest version of the task; `seconds` is pretraining and fine-tuning together, and
    `seconds_to_90` when dev (n = 5..50) first showed 90 %."""
    versions = sorted((root / "results").glob("hull-v*"), key=lambda path: int(path.name.split("-v")[1]))
    folders = sorted(path for path in versions[-1].glob("pointer_relative/*") if path.is_dir()) if versions else []
    found = [one for one in map(line, folders) if one]
    nothing = {"workload": "quality", "name": "rlseq-mle", "value": None, "unit": "%", "repetitions": 0,
               "missing": "no finished run in results/hull-v*/pointer_relative; run python -m benchmarks quality --train"}
    return found or [nothing]


def line(folder: Path) -> dict[str, object] | None:
    """The runs of one algorithm with plan=default; None where there is none."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    runs = [one for one in runs if one["plan"] == "default"]
    if not runs:
        return None
    score = [one["after"]["test-50"]["metrics"]["accuracy"]["score"] for one in runs]
    seconds = [one["pretrained"]["cost"]["seconds"] + one["cost"]["seconds"] for one in runs]
    reached = [first_reaching(one) for one in runs]
    return {"workload": "quality", "name": f"rlseq-{folder.name}", "value": statistics.median(score), "unit": "%",
            "ratio_to_best_peer": None, "ratio_to_limit": None, "repetitions": len(runs), "min": min(score), "max": max(score),
            "seconds": round(statistics.median(seconds), 1),
            "seconds_to_90": None if None in reached else round(statistics.median(reached), 1),
            "task": runs[0]["task"] + f"-v{runs[0]['task_version']}", "commit": runs[0]["commit"],
            "hardware": runs[0]["hardware"]}


def first_reaching(run: dict) -> float | None:
    """Seconds of training until dev first showed the accuracy wanted; None if it never did."""
    before = run["pretrained"]["cost"]["seconds"]
    for look in run["curve"]:
        if look["dev"] >= WANTED:
            return look["seconds"] + (0.0 if look["stage"] == "pretrain" else before)
    return None
