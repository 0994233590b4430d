"""One competitor in a process of its own: `python -m benchmarks.worker module:function '{"job": {...}, "arguments": [...]}'`.

It prints one JSON line when it is ready (or why it cannot run), answers each line `go SECONDS` with one JSON line of what
that repetition took, and ends with its input. What libraries print goes to stderr. Needs the standard library alone until
the competitor itself is imported, so that it runs under any interpreter that a peer asks for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

LOADED = {"torch": "torch", "transformers": "transformers", "joeynmt": "joeynmt", "rl4co": "rl4co", "sacrebleu": "sacrebleu",
          "rouge_score": "rouge-score", "scipy": "scipy", "shapely": "shapely", "torchmetrics": "torchmetrics", "nltk": "nltk",
          "numpy": "numpy", "rlseq": "rlseq"}           # modules and the names of their distributions


def memory(name: str) -> float | None:
    """VmHWM (the most ever held) or VmRSS (held now) of this process, MB; None where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return round(int(found[1]) / 1000, 1) if found else None


def versions() -> dict[str, str]:
    """Of what this process has loaded."""
    found = {}
    for module, name in LOADED.items():
        if module in sys.modules:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = str(getattr(sys.modules[module], "__version__", "unknown"))
    return found


def repeat(repetition: Callable[[], float], settle: Callable[[], None], seconds: float) -> dict[str, object]:
    """Call it until `seconds` have passed, at least once: what it did, how long that took, the CPU time it cost.
    `settle` waits for the device."""
    units, calls, before = 0.0, 0, time.process_time()
    start = time.perf_counter()
    while True:
        units, calls = units + repetition(), calls + 1
        settle()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return {"units": units, "calls": calls, "seconds": elapsed, "cpu": time.process_time() - before,
                    "peak_mb": memory("VmHWM")}


def main() -> None:
    """Prepare, say so, then repeat on demand."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)                                           # what libraries print must not reach the channel

    def say(message: dict[str, object]) -> None:
        print(json.dumps(message), file=channel, flush=True)

    target, options = sys.argv[1], json.loads(sys.argv[2])
    module, name = target.split(":")
    try:
        from .job import Job, prepared  # here, not above: it needs torch, which an interpreter may lack
        job = Job(**options["job"])
        settle = prepared(job)
        repetition = getattr(importlib.import_module(f"benchmarks.{module}"), name)(job, *options["arguments"])
        start_mb = memory("VmRSS")
        repetition()                                        # warm-up
        settle()
    except ModuleNotFoundError as error:
        return say({"missing": f"{error}; benchmarks/README.md says how to install it"})
    except Exception as error:                              # whatever a peer raises becomes its line; the others go on
        return say({"failed": f"{type(error).__name__}: {error}".split("\n")[0]})
    say({"ready": True, "start_mb": start_mb, "facts": job.facts, "versions": versions()})
    for line in sys.stdin:
        say(repeat(repetition, settle, float(line.split()[1])))


if __name__ == "__main__":
    main()
