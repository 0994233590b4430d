"""`python -m benchmarks W1 W3 --json`: measure workloads, print a JSON line per competitor, then a table."""

from __future__ import annotations

import argparse
import json
import sys

from .lines import lines, table
from .race import Result, Settings, race
from .workloads import WORKLOADS, Workload


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        settings, chosen = checked(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    tables = []
    for workload in chosen:
        found = measured(workload, settings, options.only)
        for one in found:
            print(json.dumps(one), flush=True)
        tables.append(table(workload, found))
    if not options.json:
        print("\n" + "\n".join(tables))
    return 0


def measured(workload: Workload, settings: Settings, only: list[str]) -> list[dict[str, object]]:
    """Lines of all competitors of a workload; those left out say so."""
    taken = [one for one in workload.competitors if (one.name in only if only else one.quick or not settings.quick)]
    results = {one.competitor: one for one in race(workload, settings, taken)}
    why = {"left_out": "not named by --only" if only else "not part of --quick"}
    return lines(workload, [results.get(one, Result(one, problem=why)) for one in workload.competitors])


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    found.add_argument("workloads", nargs="*", help=f"which of {', '.join(WORKLOADS)} (W6 names all of W6-*); all by default")
    found.add_argument("--json", action="store_true", help="JSON lines only, without the table")
    found.add_argument("--quick", action="store_true", help="a look within 60 seconds: few competitors, two short repetitions")
    found.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these competitors alone")
    found.add_argument("--repetitions", type=int, default=0, help="of each competitor; 5 by default")
    found.add_argument("--seconds", type=float, default=0.5, help="least length of a repetition")
    found.add_argument("--foreign", type=float, default=0.05,
                       help="a repetition is run again, up to twice, where others took more than this share of the CPUs")
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    found.add_argument("--data", default="", help="folder of Multi30k; without it a synthetic corpus of the same lengths")
    found.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="interpreter of a peer")
    return found


def named(workload: str, name: str) -> bool:
    """Whether W6 or W6-bleu names the workload W6-bleu."""
    return workload == name or workload.startswith(f"{name}-")


def checked(options: argparse.Namespace) -> tuple[Settings, list[Workload]]:
    """Settings and workloads; raises ValueError for what there is not."""
    for name in options.workloads:
        if not any(named(one, name) for one in WORKLOADS):
            raise ValueError(f"no workload {name!r}; there are: {', '.join(WORKLOADS)}")
    chosen = [one for key, one in WORKLOADS.items() if not options.workloads or any(named(key, n) for n in options.workloads)]
    names = {one.name for workload in chosen for one in workload.competitors}
    for name in options.only:
        if name not in names:
            raise ValueError(f"no competitor {name!r} in {', '.join(one.name for one in chosen)}; "
                             f"there are: {', '.join(sorted(names))}")
    known = sorted({one.python for workload in WORKLOADS.values() for one in workload.competitors if one.python})
    pythons = dict(one.split("=", 1) if "=" in one else (one, "") for one in options.python)
    for name, path in pythons.items():
        if name not in known or not path:
            raise ValueError(f"--python {name}={path} is not PEER=PATH with a peer of: {', '.join(known)}")
    if options.threads < 1 or options.repetitions < 0 or options.seconds < 0 or options.foreign < 0:
        raise ValueError(f"--threads {options.threads} must be 1 or more, --repetitions {options.repetitions}, --seconds "
                         f"{options.seconds} and --foreign {options.foreign} 0 or more")
    repetitions = options.repetitions or (2 if options.quick else 5)
    return Settings(options.data, options.threads, options.device, repetitions, 0.05 if options.quick else options.seconds,
                    options.quick, 1.0 if options.quick else options.foreign, pythons), chosen


if __name__ == "__main__":
    sys.exit(main())
