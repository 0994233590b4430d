"""`python -m rlseq.sync [FOLDER...]`: bring to MLflow what it missed of runs: it was down, slow, or out of reach.

A run leaves all it has to say beside its checkpoint, in `metrics.jsonl` and `mlflow.json`. What MLflow holds already is not
sent again, so the command may be given at any time, and twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from . import journal, locks, record
from .command import Parser, exit_code
from .delivery import Delivery
from .printable import printable
from .server import plain, resolve

RECORD = re.compile(r"mlflow(-\w+)?\.json")                   # of the run that the diary belongs to; of earlier ones


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 where something could not be brought."""
    return exit_code(lambda: _bring(arguments), "rlseq.sync")


def _bring(arguments: Sequence[str] | None) -> int:
    wanted = _parser().parse_args(arguments)
    found = sorted({path for folder in wanted.folders for path in folder.rglob("mlflow*.json") if RECORD.fullmatch(path.name)})
    if not found:
        raise ValueError(f"no recorded run in {', '.join(map(str, wanted.folders))}; a run writes {record.NAME} beside its "
                         "checkpoint, but for tracking=none")
    silent: dict[str, int] = {}                # MLflows that do not answer, with how many runs wait for them
    code = 0
    for path in found:
        try:
            run = record.read(path)
            uri = _where(wanted.tracking_uri, run.uri)
            if uri in silent:
                silent[uri] += 1
                continue
            try:
                print(printable(synced(path, run, uri), 0))
            except ValueError as error:
                silent |= {uri: 0} if str(error).startswith("no MLflow") else {}
                raise ValueError(f"{path}: {error}") from None
        except (ValueError, OSError) as error:
            print(f"rlseq.sync: {printable(str(error), 0)}", file=sys.stderr)
            code = 2
    for uri, runs in silent.items():
        if runs:
            print(f"rlseq.sync: {runs} more runs wait for {plain(uri)}", file=sys.stderr)
    return code


def synced(path: Path, run: record.Record, uri: str) -> str:
    """Bring one run to MLflow, and what was done, for people. Raises ValueError in one line where MLflow fails."""
    home = path.parent
    current = path.name == record.NAME
    if current and locks.busy(home):
        return f"{home}: under way, it records itself"
    if run.status == "RUNNING":                # nobody runs it: it was killed, without a word
        run = run.ending("KILLED", int((home / journal.NAME if current else path).stat().st_mtime * 1000))
    delivery = Delivery(home, uri, thorough=True)
    with locks.alone(home) if current else nullcontext():      # a run that resumes meanwhile waits: it would bring the same
        delivery.bring(run, diary=current)
        if plain(uri) == run.uri:
            record.write(path, replace(run, run_id=delivery.run_id))
    new = delivery.values or delivery.files
    added = f"{delivery.values} values and {delivery.files} files added to" if new else "all is in"
    lost = f"; {', '.join(sorted(delivery.missing))} lies there no more" if delivery.missing else ""
    return f"{home}: {added} run {delivery.run_id} at {plain(uri)}{lost}"


def _where(given: str | None, recorded: str) -> str:
    """The URI to use: the one given, or the recorded one, with the password that MLFLOW_TRACKING_URI has for it."""
    if given is not None:
        return resolve(given)
    usual = resolve(None)
    return usual if plain(usual) == recorded else recorded


def _parser() -> Parser:
    parser = Parser(prog="python -m rlseq.sync", description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs")], metavar="FOLDER",
                        help="folders of runs, or above them (default: runs)")
    parser.add_argument("--tracking-uri", metavar="URI", help="another MLflow than the one that the runs were meant for")
    return parser


if __name__ == "__main__":
    sys.exit(main())
