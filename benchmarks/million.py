"""How long until a million lines of one's own train, and in how much memory: `python -m benchmarks.million`.

Writes that many made-up pairs, starts a run on them, waits for its first update and ends it; then once more, from the cache.
Prints one JSON line a start: seconds to the first update, those of the processor (all that counts where other jobs run beside
it), and the most memory held until then.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS, LETTERS = 50_000, "etaoinshrdlucmfwypvbgkjqxz"
PATIENCE = 900.0                         # seconds until a start is given up


def made_up(count: int, mean: float, seed: int) -> list[str]:
    """Lines of about `mean` words, frequent ones short and rare ones long, as Zipf found."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(2 + np.log2(1 + np.arange(WORDS)) / 2 + rng.normal(0, 1, WORDS), 1, None).astype(int)
    known = ["".join(rng.choice(list(LETTERS), length)) for length in lengths]
    sizes = np.clip(rng.poisson(mean, count), 1, None)
    ranks = np.minimum(rng.zipf(1.2, int(sizes.sum())) - 1, WORDS - 1)
    words, lines, at = [known[rank] for rank in ranks], [], 0
    for number, size in enumerate(sizes):
        lines.append(" ".join(words[at:at + size]) + f" {number}.")
        at += size
    return lines


def write(folder: Path, name: str, sizes: dict[str, int], means: tuple[float, float]) -> None:
    """Aligned files of a task: `<split>.<ending>`."""
    endings = ("en", "de") if name == "translation" else ("source", "target")
    for split, count in sizes.items():
        for side, (ending, mean) in enumerate(zip(endings, means)):
            lines = made_up(count, mean, 2 * len(split) + side)
            (folder / f"{split}.{ending}").write_text("\n".join(f"{split} {line}" for line in lines) + "\n")


def start(folder: Path, name: str, words: list[str]) -> dict[str, float]:
    """From the command to the first update of a run: seconds, seconds of all cores, GB held at most."""
    begun = time.monotonic()
    with (folder / "said.txt").open("w") as said:
        command = [sys.executable, "-m", "rlseq.run", f"task={name}", "task.data=files", f"task.path={folder}"]
        process = subprocess.Popen([*command, "plan=smoke", "tracking=none", *words], cwd=folder, stderr=said, stdout=said)
        try:
            while not any(path.stat().st_size for path in folder.glob("runs/pretrained/*/metrics.jsonl")):
                if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                    raise RuntimeError(f"no first update: {(folder / 'said.txt').read_text()[-2000:]}")
                time.sleep(0.05)
            seconds = time.monotonic() - begun
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            ticks = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        finally:
            process.kill()
            process.wait()
    return {"seconds": round(seconds, 1), "cpu_seconds": round(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 1),
            "peak_gb": round(int(peak[1]) / 2**20, 2)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--task", choices=("translation", "summarization"), default="translation")
    parser.add_argument("--words", type=float, nargs=2, default=None, help="mean words of a source and of a target")
    parser.add_argument("options", nargs="*", help="further options of the run")
    given = parser.parse_args()
    means = tuple(given.words or ((12, 12) if given.task == "translation" else (60, 12)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, given.task, {"train": given.lines, "dev": 1000, "test": 1000}, means)
        size = sum(path.stat().st_size for path in folder.iterdir())
        about = {"task": given.task, "lines": given.lines, "words": means, "file_mb": round(size / 1e6)}
        for number in ("first", "again"):
            about |= {"start": number, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
            print(json.dumps(about | start(folder, given.task, given.options)), flush=True)
            for path in folder.glob("runs/pretrained/*/*"):
                path.unlink()
            kept = sum(path.stat().st_size for path in folder.glob("runs/cache/*/*"))
        print(json.dumps({"cache_mb": round(kept / 1e6)}))


if __name__ == "__main__":
    main()
