"""`python -m benchmarks W1 W3 --json`: measure workloads beside peers and the limit; README.md beside this file says how."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import growth, quality
from .lines import lines, table
from .race import ROOT, Result, Settings, race
from .workloads import WORKLOADS, Workload
from .written import facts, write

QUICK = 40.0                    # seconds after which a quick run starts no further workload
KNOWN = {**WORKLOADS, "quality": quality.QUALITY}


@dataclass
class Found:
    """What a run has measured so far."""

    lines: list[dict[str, object]] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    try:
        settings, chosen = checked(options)
        found = Found()
        for workload in chosen:
            measured(workload, settings, options, found)
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print("\nQuick: smaller batches, two short repetitions.\n" if settings.quick else "")
    print("\n".join(found.tables))
    if options.write:
        foreign = [one["foreign_cpu"] for one in found.lines if "foreign_cpu" in one]
        about = facts(settings, found.versions, statistics.median(foreign) if foreign else None)
        command = " ".join(["python -m benchmarks", *shareable(arguments)])
        name = "growth" if options.growth else "speed"
        write(options.results, name, command, about, found.tables, found.lines)
        print(f"written to {options.results / name}.md and {name}.json")
    return 0


def measured(workload: Workload, settings: Settings, options: argparse.Namespace, found: Found) -> None:
    """Measure one workload, print its lines, keep them; competitors that are left out say so."""
    if workload is quality.QUALITY:
        if options.train:
            quality.train(ROOT)
        new = quality.lines(ROOT)
    else:
        only = options.only
        late = settings.quick and time.monotonic() - found.start > QUICK
        taken = [one for one in workload.competitors
                 if (one.name in only if only else one.quick or not settings.quick) and not late]
        print(f"{workload.name}: {len(taken)} competitors", file=sys.stderr, flush=True)
        results = {one.competitor: one for one in race(workload, settings, taken)}
        why = {"left_out": "out of time" if late else "not named by --only" if only else "not part of --quick"}
        new = lines(workload, [results.get(one, Result(one, problem=why)) for one in workload.competitors])
        for one in results.values():
            found.versions |= one.versions
    for one in new if options.json else []:
        print(json.dumps(one), flush=True)
    found.lines += new
    if all("left_out" in one for one in new):
        found.tables.append(f"{workload.name}: left out, {new[0]['left_out']}\n")
        return
    found.tables.append(table(workload, new, full=not settings.quick))
    if options.growth:
        growth.plot(workload.name.removeprefix("growth-"), new, options.results)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = found.add_argument
    add("workloads", nargs="*", help=f"which of {', '.join(KNOWN)} (W6 names all of W6-*); all by default")
    add("--json", action="store_true", help="print one JSON line a competitor before the tables")
    add("--quick", action="store_true", help="a look within 60 seconds: few competitors, small sizes, short repetitions")
    add("--growth", action="store_true", help="tokens/s against k, S, T and vocabulary in place of workloads; makes the plots")
    add("--train", action="store_true", help="with `quality`: run the default hull recipe first (ten minutes and more)")
    add("--write", action="store_true", help="write speed.md and speed.json (growth.* with --growth)")
    add("--results", type=Path, default=ROOT / "results", metavar="DIR", help="where to write (default: results/)")
    add("--only", nargs="+", default=[], metavar="NAME", help="these competitors alone")
    add("--repetitions", type=int, default=0, help="of each competitor; 5 by default")
    add("--seconds", type=float, default=0.5, help="least length of a repetition")
    add("--foreign", type=float, default=0.05,
        help="a repetition is run again, up to twice, where others took more than this share of the CPUs")
    add("--threads", type=int, default=2)
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--data", default="", help="folder of Multi30k; without it a synthetic corpus of the same lengths")
    add("--python", action="append", default=[], metavar="PEER=PATH", help="interpreter of a peer")
    return found


def named(workload: str, name: str) -> bool:
    """Whether W6 or W6-bleu names the workload W6-bleu."""
    return workload == name or workload.startswith(f"{name}-")


def checked(options: argparse.Namespace) -> tuple[Settings, list[Workload]]:
    """Settings and workloads; raises ValueError for what there is not."""
    for name in options.workloads:
        if not any(named(one, name) for one in KNOWN):
            raise ValueError(f"no workload {name!r}; there are: {', '.join(KNOWN)}")
    chosen = [one for key, one in KNOWN.items() if not options.workloads or any(named(key, n) for n in options.workloads)]
    if options.growth:
        if options.workloads:
            raise ValueError(f"--growth takes no workloads, got {' '.join(options.workloads)}; run them apart")
        chosen = growth.workloads(options.quick)
    if options.train and options.workloads != ["quality"]:
        raise ValueError("--train belongs to `quality` alone: python -m benchmarks quality --train")
    names = {one.name for workload in chosen for one in workload.competitors}
    for name in options.only:
        if name not in names:
            raise ValueError(f"no competitor {name!r} in {', '.join(one.name for one in chosen)}; "
                             f"there are: {', '.join(sorted(names))}")
    if options.write and options.quick:
        raise ValueError("--write keeps results of full runs; leave out --quick")
    return checked_settings(options), chosen


def checked_settings(options: argparse.Namespace) -> Settings:
    """How to measure; raises ValueError for numbers and interpreters that cannot be."""
    if options.threads < 1 or options.repetitions < 0 or options.seconds < 0 or options.foreign < 0:
        raise ValueError(f"--threads {options.threads} must be 1 or more, --repetitions {options.repetitions}, --seconds "
                         f"{options.seconds} and --foreign {options.foreign} 0 or more")
    if options.data and not all((Path(options.data) / f"train.{side}.gz").is_file() for side in ("en", "de")):
        raise ValueError(f"--data {options.data} lacks train.en.gz or train.de.gz; name the folder of Multi30k, or leave "
                         "it out for a synthetic corpus of the same lengths")
    known = sorted({one.python for workload in WORKLOADS.values() for one in workload.competitors if one.python})
    pythons = dict(one.split("=", 1) if "=" in one else (one, "") for one in options.python)
    for name, path in pythons.items():
        if name not in known or not path:
            raise ValueError(f"--python {name}={path} is not PEER=PATH with a peer of: {', '.join(known)}")
    repetitions = options.repetitions or (2 if options.quick else 5)
    seconds, foreign = (0.05, 1.0) if options.quick else (options.seconds, options.foreign)
    data = str(Path(options.data).resolve()) if options.data else ""
    return Settings(data, options.threads, options.device, repetitions, seconds, options.quick, foreign, pythons)


def shareable(arguments: list[str]) -> list[str]:
    """The command line without the places of this machine."""
    found, hide = [], False
    for word in arguments:
        found.append(("DIR" if "=" not in word else word.split("=")[0] + "=PATH") if hide else word)
        hide = word in ("--data", "--python", "--results")
    return found


if __name__ == "__main__":
    sys.exit(main())
