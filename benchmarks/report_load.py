"""How long the report of a sweep takes: `python -m benchmarks.report_load [--runs 200] [--limit 20] [--task hull]`.

The runs are made from one result of each task in results/: a tenth or more of its answers exchanged for the pretrained
checkpoint's, so that systems and seeds differ as they do in a sweep. Prints the seconds of `python -m rlseq.report` by the
clock and by the processor; exit code 1 above the limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlseq import results
from rlseq.report_groups import Judge, groups

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 5


def models(folder: Path, task: str | None) -> list[Judge]:
    """One result of each task to make others from, judged: reinforce with most metrics."""
    found: dict[str, results.Result] = {}
    for path in sorted(folder.glob("*-v*/*/reinforce/*.json")):
        one = results.read(path)
        most = len(found[one.task].headline["metrics"]) if one.task in found else 0
        if task in (None, one.task) and len(one.headline["metrics"]) > most:
            found[one.task] = one
    return [Judge(groups([one])[0]) for one in found.values()]


def sweep(judge: Judge, runs: int, folder: Path) -> None:
    """Write `runs` results: MLE continued and configurations of reinforce, SEEDS seeds each."""
    model = judge.group.entries[-1].results[0]
    for number in range(runs):
        (system, seed), rows, after = divmod(number, SEEDS), dict(model.rows), {}
        rng = np.random.default_rng([system, seed])
        for split, said in model.after.items():
            kept = rng.random(said["n"]) < 0.9 - 0.01 * system
            metrics = {}
            for metric, one in said["metrics"].items():
                now, before, score = rows[f"after/{split}/{metric}"], rows[f"before/{split}/{metric}"], judge.score(metric)
                if score is not None and now.shape == before.shape:
                    now = np.where(kept[:, None], now, before)
                    one = one | {"score": float(score(now.sum(0, dtype=np.float64)))}
                rows[f"after/{split}/{metric}"], metrics[metric] = now, one
            after[split] = said | {"metrics": metrics}
        algo = "mle" if system == 0 else model.algo
        results.write(replace(
            model, algo=algo, seed=seed, after=after, config=model.config | {"algo": model.config["algo"] | {"k": system + 2}},
            hash=f"{system:04d}{seed:08d}", pretrained=model.pretrained | {"hash": f"{seed:012d}"}), rows, folder)


def seconds(folder: Path) -> tuple[float, float]:
    """By the clock and by the processor, of one report."""
    before, begun = os.times(), time.perf_counter()
    words = ["-m", "rlseq.report", "--results", str(folder), "--tracking-uri", "none"]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    taken, after = time.perf_counter() - begun, os.times()
    return taken, after.children_user + after.children_system - before.children_user - before.children_system


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the sweep, report on it, say how long it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_load", description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds by the clock")
    parser.add_argument("--task", help="one task alone (default: all of results/)")
    wanted = parser.parse_args(arguments)
    judged = models(ROOT / "results", wanted.task)
    with tempfile.TemporaryDirectory() as home:
        for number, judge in enumerate(judged):
            sweep(judge, wanted.runs // len(judged) + (number < wanted.runs % len(judged)), Path(home))
        clock, processor = seconds(Path(home))
        size = (Path(home) / "index.html").stat().st_size
    tasks = ", ".join(one.group.task for one in judged)
    print(f"{wanted.runs} runs of {tasks}: {clock:.1f} s by the clock, {processor:.1f} s by the processor, "
          f"page {size / 1e6:.1f} MB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return int(clock > wanted.limit)


if __name__ == "__main__":
    sys.exit(main())
