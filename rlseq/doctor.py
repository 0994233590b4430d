"""`python -m rlseq.doctor RUN`: what is wrong or right with a run, and what to change.

RUN is the folder of a run (with its metrics.jsonl; the last lines of `rlseq.run` name it as "checkpoint"), a result
(results/.../0.json) or the id of a run in MLflow.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import journal
from .command import Parser, exit_code
from .printable import printable
from .results import is_number, sound_curve, sound_diagnostics
from .verdicts import Course, Verdict, course, verdicts

WIDTH = 110           # of a line, in signs
MLFLOW = re.compile(r"[0-9a-f]{32}")
MORE = {"gradient_snr": "signal-to-noise of the gradient {:.2g}", "sample_copied":
        "{:.0%} of tokens copied from the source", "reward_share": "rewards take {:.1%} of a step"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 where RUN cannot be judged."""
    return exit_code(lambda: _judge(arguments), "rlseq.doctor")


def _judge(arguments: Sequence[str] | None) -> None:
    parser = Parser(prog="python -m rlseq.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="folder, result file or MLflow run id")
    parser.add_argument("--json", action="store_true", help="for machines: every verdict with its numbers and limits")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow that holds the id (default: MLFLOW_TRACKING_URI or "
                                                              "sqlite:///runs/mlflow.db)")
    wanted = parser.parse_args(arguments)
    run = read(wanted.run, wanted.tracking_uri)
    found = verdicts(run)
    if wanted.json:
        print(json.dumps({"run": run.name, "healthy": not any(one.sick for one in found),
                          "verdicts": [asdict(one) for one in found]}, indent=1))
    else:
        print(said(run, found))


def read(where: str, uri: str | None = None) -> Course:
    """A run from its folder, its result file or MLflow. Raises ValueError in one line where it holds nothing to judge."""
    path = Path(where)
    if path.is_dir():
        if not (path / journal.NAME).is_file():
            raise ValueError(f"{path} holds no {journal.NAME}; name the folder that rlseq.run prints as \"checkpoint\", a "
                             "result (results/.../0.json) or an MLflow run id")
        lines = journal.read(path / journal.NAME)
        if not all(is_number(value) for line in lines for value in line.values()):
            raise ValueError(f"{path / journal.NAME}: not all it says are numbers, so rlseq.run did not write it; run it again")
        return checked(Course(where, *journal.looks(lines)))
    if path.is_file():
        return of_result(path)
    if MLFLOW.fullmatch(where):
        from .server import history  # here, for MLflow takes seconds to start
        try:
            name, lines = history(uri, where)
        except ValueError as error:
            raise ValueError(f"no run {where}: {error}; another MLflow is named by --tracking-uri "
                             "URI") from None
        return checked(Course(name, *journal.looks(lines)))
    raise ValueError(f"no run {where!r}: neither a folder, nor a file, nor the id of an MLflow run (32 hexadecimal digits)")


def of_result(path: Path) -> Course:
    """A run from its result file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        name = "/".join(str(data[key]) for key in ("task", "policy", "algo", "seed"))
        if not (sound_curve(data["curve"]) and sound_diagnostics(data.get("diagnostics", {}))):
            raise ValueError("its curve or its diagnostics are no numbers")
        found = course(name, data["curve"], data.get("diagnostics", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a result of rlseq.run ({type(error).__name__}: {error}); name one under results/") \
            from None
    return checked(found)


def checked(run: Course) -> Course:
    """Raises ValueError in one line unless a probe looked before training and after some of it."""
    if "decoded_reward" not in run.before:
        raise ValueError(f"{run.name}: no diagnostics; this is pretraining, or a run by an earlier rlseq: name a fine-tuning, "
                         "or run it again")
    if not run.looks:
        raise ValueError(f"{run.name}: not a single look yet; wait for the first evaluation on dev (plan.finetune.every)")
    return run


def said(run: Course, found: Sequence[Verdict]) -> str:
    """Verdicts for people."""
    last = run.looks[-1]
    lines = [f"{printable(run.name, 300)}, {last.get('updates', 0):.0f} updates, {len(run.looks)} looks", ""]
    for one in found:
        if one.sick:
            lines += textwrap.wrap(f"ALARM  {one.name}: {one.says}.", WIDTH, subsequent_indent=" " * 7)
            lines += textwrap.wrap(one.change, WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 7)
    right = [one.fine for one in found if not one.sick]
    lines += textwrap.wrap(f"right  {'; '.join(right)}." if right else "", WIDTH, subsequent_indent=" " * 7)
    more = [text.format(run.mean(name)) for name, text in MORE.items() if any(name in look for look in run.looks)]
    lines += textwrap.wrap(f"also   {'; '.join(more)}." if more else "", WIDTH, subsequent_indent=" " * 7)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
