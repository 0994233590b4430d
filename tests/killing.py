"""Runs that are killed: a process that has torch imported forks them, so that each costs a fraction of a second.

`python -m tests.killing` reads orders, one JSON object a line, and answers each with one. An order: `folder` to work in,
`words` of the command line, and `strike`, if any: {"at": an event, "number": of it, "signal"} or {"after": seconds, "signal"}.
Events are counted in the run: `write` (a file is opened for writing, synced, renamed, removed; a checkpoint's weights are
written), `step` (of the optimiser), `load` (of problems: to train on, to look at, to test on). `fault` plants a bug that the
tests must see, `room` limits the size of a file, `user` is who runs it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EVENTS = ("write", "step", "load")
TIMED = {"seconds", "started", "finished", "time", "reward_share"}         # what no two runs share


class Forge:
    """The process that forks runs."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, "-m", "tests.killing"], stdin=subprocess.PIPE, text=True, cwd=ROOT,
                                        stdout=subprocess.PIPE, env=environment)

    def run(self, folder: Path, words: list[str], **more: object) -> dict[str, object]:
        """Run in a folder: `code` (minus the signal, if one ended it), `seconds`, `said`; `events` of a run that ended."""
        folder.mkdir(parents=True, exist_ok=True)
        self.process.stdin.write(json.dumps({"folder": str(folder), "words": words, **more}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def left_by(folder: Path) -> dict[str, object]:
    """Every file under a folder as what it says: bytes, or JSON without what no two runs share."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == ".lock":
            continue
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = _untimed(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [_untimed(json.loads(line)) for line in path.read_text().splitlines()]
        else:
            found[name] = path.read_bytes()
    return found


def _untimed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _untimed(one) for key, one in value.items() if key not in TIMED}
    return [_untimed(one) for one in value] if isinstance(value, list) else value


@dataclass
class Watch:
    """Counts the events of a run, and strikes at one."""

    folder: str
    at: str = ""
    number: int = 0
    signal: int = signal.SIGKILL
    after: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENTS, 0))

    def event(self, kind: str) -> None:
        self.counts[kind] += 1
        if kind == self.at and self.counts[kind] == self.number:
            os.kill(os.getpid(), self.signal)

    def before(self, owner: object, name: str, kind: str) -> None:
        real = getattr(owner, name)

        def watched(*given, **named):
            self.event(kind)
            return real(*given, **named)
        setattr(owner, name, watched)

    def audit(self, event: str, given: tuple) -> None:
        if event == "open":
            path, _, flags = given
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.remove", "os.truncate", "os.mkdir"):
            path = given[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.folder):
            self.event("write")

    def begin(self) -> None:
        import torch

        from rlseq import checkpoint, env
        sys.addaudithook(self.audit)
        self.before(os, "fsync", "write")
        self.before(checkpoint, "save_file", "write")
        self.before(torch.optim.AdamW, "step", "step")
        self.before(env.SequenceEnv, "load", "load")


def plant(fault: str) -> None:
    """Make the run forget something when it resumes."""
    from rlseq import train
    load = train.Trainer.load

    def forgetful(self):
        load(self)
        if fault == "optimiser":
            self.optimiser.state.clear()
        elif fault == "best":
            self.best = None
        elif fault == "algorithm":
            self.algorithm.prepare(self.policy)
    if fault == "seeds":
        train.seed_step = lambda *parts: None
    else:
        train.Trainer.load = forgetful


def run(order: dict[str, object]) -> None:
    """The run itself, in the forked process."""
    from rlseq import experiment, run, stopping
    if order.get("user"):
        os.setgid(order["user"])
        os.setuid(order["user"])
    if order.get("room"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["room"], order["room"]))
    if order.get("fault"):
        plant(order["fault"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    strike = {key: value for key, value in (order.get("strike") or {}).items() if key != "after"}
    watch = Watch(order["folder"], **strike)
    watch.begin()
    sys.orig_argv = ["python", "-m", "rlseq.run", *order["words"]]
    config, names = composed(tuple(order["words"]))
    with run.one_line(), stopping.signals(run.continues()):
        experiment.run(config, names)
    print("events", json.dumps(watch.counts), flush=True)


@cache
def composed(words: tuple[str, ...]) -> tuple[dict[str, object], dict[str, str]]:
    """What the command line makes of its words."""
    import hydra
    from omegaconf import OmegaConf

    from rlseq import run
    from rlseq.paths import CONF
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config", overrides=run.checked(list(words))), resolve=True)
    return config, dict(word.split("=") for word in words if word.split("=")[0] in run.GROUPS)


def answer(order: dict[str, object]) -> dict[str, object]:
    """Fork a run, strike it where its time has come, and wait for its end."""
    composed(tuple(order["words"]))                          # once, for all that follow
    out, into = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.dup2(into, 1), os.dup2(into, 2)
        os.close(out)
        code = 1
        try:
            os.chdir(order["folder"])
            run(order)
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    os.close(into)
    strike = order.get("strike") or {}
    if "after" in strike:
        time.sleep(strike["after"])
        os.kill(child, strike["signal"])
    said = b""
    while part := os.read(out, 65536):
        said += part
    os.close(out)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = said.decode(errors="replace")
    events = [line for line in text.splitlines() if line.startswith("events ")]
    return {"code": code, "seconds": time.monotonic() - start, "said": text,
            "events": json.loads(events[-1][7:]) if events else None}


def main() -> None:
    import torch
    import torch._dynamo  # noqa: F401  what the runs need, once; an optimiser asks for this

    from rlseq import experiment  # noqa: F401
    from rlseq.algos import mle, ppo, reinforce  # noqa: F401
    torch.set_num_threads(1)                                 # no threads that a fork would lose
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
