"""Competitors of one workload side by side: each in its own process, their repetitions interleaved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .workloads import Competitor, Workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """How a run measures."""

    data: str = ""
    threads: int = 2
    device: str = "cpu"
    repetitions: int = 5
    least: float = 0.5                  # seconds of a repetition: short work is repeated until then
    quick: bool = False
    foreign: float = 0.05               # a repetition with a larger share of other people's CPU time is run again
    pythons: dict[str, str] = field(default_factory=dict)       # interpreters of peers that need their own


@dataclass
class Result:
    """What was measured of one competitor; `problem` says why nothing was."""

    competitor: Competitor
    values: list[float] = field(default_factory=list)           # a repetition's units per second (or seconds)
    foreign: list[float] = field(default_factory=list)          # share of the CPUs that others took meanwhile
    start_mb: float | None = None
    peak_mb: float | None = None
    facts: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    problem: dict[str, str] = field(default_factory=dict)


class Runner:
    """One competitor's process."""

    def __init__(self, competitor: Competitor, settings: Settings) -> None:
        self.result = Result(competitor)
        python = settings.pythons.get(competitor.python, sys.executable)
        job = {"data": settings.data, "threads": settings.threads, "device": settings.device, "quick": settings.quick}
        command = [python, "-m", "benchmarks.worker", competitor.make,
                   json.dumps({"job": job, "arguments": competitor.arguments})]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        threads = {name: str(settings.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.errors = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.errors, text=True, env={**os.environ, **threads, "PYTHONPATH": path})
        except OSError as error:
            self.process, self.result.problem = None, {"missing": f"interpreter {python}: {error.strerror}"}

    def listen(self) -> dict[str, object]:
        """The next line of the process; empty where it has ended, and then `problem` says how."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.errors.seek(0)
        words = self.errors.read().strip().splitlines() or [f"ended with status {self.process.wait()}"]
        self.result.problem = {"failed": words[-1]}
        return {}

    def ready(self) -> bool:
        """Wait until it is prepared and warm; False where it cannot run."""
        if self.process is None:
            return False
        told = self.listen()
        self.result.problem |= {key: str(told[key]) for key in ("missing", "failed") if key in told}
        self.result.facts, self.result.versions = told.get("facts", {}), told.get("versions", {})
        self.result.start_mb = told.get("start_mb")
        return not self.result.problem

    def repeat(self, settings: Settings) -> None:
        """One repetition that counts; a disturbed one is run again, up to twice."""
        for attempt in range(3):
            before = busy()
            self.process.stdin.write(f"go {settings.least}\n")
            self.process.stdin.flush()
            told = self.listen()
            if not told:
                return
            others = max(0.0, busy() - before - told["cpu"]) / (told["seconds"] * (os.cpu_count() or 1))
            if others <= settings.foreign or attempt == 2 or self.result.competitor.inverse:
                break
        value = told["units"] / told["seconds"]
        self.result.values.append(1 / value if self.result.competitor.inverse else value)
        self.result.foreign.append(others)
        self.result.peak_mb = told["peak_mb"]

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
        self.errors.close()


def busy() -> float:
    """CPU seconds that this machine has spent on anyone so far; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    user, nice, system, _, _, *rest = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")


def race(workload: Workload, settings: Settings, chosen: list[Competitor]) -> list[Result]:
    """Measure the chosen competitors in turn, the order rotating from round to round."""
    runners = [Runner(one, settings) for one in chosen]
    try:
        running = [one for one in runners if one.ready()]
        for round_ in range(settings.repetitions):
            turn = round_ % max(len(running), 1)
            for one in [*running[turn:], *running[:turn]]:
                if not one.result.problem:
                    one.repeat(settings)
    finally:
        for one in runners:
            one.close()
    return [one.result for one in runners]

