"""`python -m rlseq.report`: all results -> leaderboard.md and index.html.

Results come from files (`results/<task>-v<n>/<policy>/<algo>/<seed>.json`) and from finished runs in MLflow that carry
theirs as artifact. Of equal ones (same configuration and seed) the latest counts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .command import Parser, exit_code
from .files import write_whole
from .printable import printable
from .report_groups import Judge, groups
from .report_html import page
from .report_text import leaderboard, main_table
from .results import Result, read

__all__ = ["main", "main_table"]
PATTERN = "*-v*/*/*/*.json"                    # where `results.write` puts them


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 where there is nothing to report on."""
    return exit_code(lambda: _report(arguments), "rlseq.report")


def _report(arguments: Sequence[str] | None) -> None:
    wanted = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as fetched:
        results, complaints = collected(wanted.results, wanted.tracking_uri, Path(fetched))
        for one in complaints:
            print(f"left out: {printable(one, 1000)}", file=sys.stderr)
        if not results:
            raise ValueError(f"no results in {wanted.results} nor in finished MLflow runs; run `python -m rlseq.run` "
                             "first, or give --results DIR (runs of plan=smoke: --results runs/smoke)")
        judged = [Judge(group) for group in groups(results)]
        out = wanted.out or wanted.results
        try:
            write_whole(out / "leaderboard.md", leaderboard(judged, complaints))
            write_whole(out / "index.html", page(judged, complaints, wanted.results / "lab.svg"))
        except OSError as error:
            raise ValueError(f"{error}, with --out DIR") from None
    print(f"{len(results)} results -> {out / 'leaderboard.md'} and {out / 'index.html'}")


def collected(folder: Path, uri: str | None, fetched: Path) -> tuple[list[Result], list[str]]:
    """Results of a folder and of MLflow's finished runs ("none": of the folder alone), and what had to be left out.

    Pictures become absolute paths. Raises ValueError in one line where MLflow does not answer.
    """
    found: dict[tuple, Result] = {}
    complaints: list[str] = []
    places = [(path, path.parent) for path in sorted(folder.glob(PATTERN))]
    if uri != "none":
        from .server import finished_results  # here, for it may start MLflow, which is slow
        try:
            places += [(path, fetched) for path in finished_results(uri, fetched)]
        except ValueError as error:
            raise ValueError(f"{error}; give another --tracking-uri, or none") from None
    for path, home in places:
        try:
            one = read(path)
        except ValueError as error:
            complaints.append(str(error))
            continue
        if home is fetched and one.plan == "smoke":
            continue                           # its numbers mean nothing; runs/smoke holds them for who asks
        shown = path.parent.parent / "pictures" if home is fetched else path.parent
        pictures = [shown / Path(place).name for place in one.pictures]             # a stranger's path stays shut
        key = (one.task, one.task_version, one.policy, one.algo, one.hash, one.seed)
        if key not in found or found[key].finished < one.finished:
            found[key] = replace(one, pictures=[str(place) for place in pictures])
    return list(found.values()), complaints


def _parser() -> Parser:
    parser = Parser(prog="python -m rlseq.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                        help="folder of result files (default: results)")
    parser.add_argument("--tracking-uri", metavar="URI",
                        help="MLflow to collect finished runs from, or none (default: MLFLOW_TRACKING_URI or "
                             "sqlite:///runs/mlflow.db where that file exists)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the folder of results)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
