"""`python -m rlseq.replicate vinyals2015.table1`: a published table beside ours, with intervals.

The recipes that belong to it are run as `rlseq.run` runs them, for all their seeds; what was run before is found, what was cut
short goes on. Names, numbers, recipes and what differs stand in rlseq/published.py.

    python -m rlseq.replicate vinyals2015.table1                        train and evaluate, or find
    python -m rlseq.replicate vinyals2015.table1 --from-checkpoint      evaluate the checkpoints of results/checkpoints: minutes
    python -m rlseq.replicate multi30k.tiny task.path=FOLDER seed=0     any option of rlseq.run, for all recipes
    python -m rlseq.replicate vinyals2015.table1 --keep                 then copy the first seed's checkpoints there
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import stopping
from .build import nearest
from .command import Parser, exit_code
from .patience import limited
from .printable import printable
from .published import REPLICATIONS, Recipe, Replication
from .run import Arranged, continues, one_line, read

if TYPE_CHECKING:
    from .results import Result
    from .setup import Setup
    from .stats import Interval

CHECKPOINTS = Path("results/checkpoints")
LARGEST = 10_000_000         # bytes of a checkpoint that is kept


@dataclass(frozen=True)
class Column:
    """One of our systems: its name, and its scores by row."""

    label: str
    cells: Mapping[str, Interval | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 for a user's mistake, which is one line on stderr."""
    return exit_code(lambda: _heard(sys.argv[1:] if arguments is None else arguments))


def _heard(arguments: Sequence[str]) -> None:
    with one_line(), stopping.signals(continues()):
        wanted = options(arguments)
        found = REPLICATIONS[wanted.name]
        print(f"{wanted.name}: {found.title}")
        if wanted.from_checkpoint:
            from_checkpoints(found, wanted.words, Path(wanted.from_checkpoint))
        else:
            for recipe in found.recipes:
                print("\n" + table(found, recipe, wanted.words, ours(found, recipe, wanted)))
        print("\n" + remarks(found))


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """`name`, `words` (overrides), `from_checkpoint` and `keep`; raises KeyError for a name that is not there."""
    parser = Parser(prog="python -m rlseq.replicate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help=", ".join(REPLICATIONS))
    parser.add_argument("words", nargs="*", metavar="name=value", help="overrides, as of rlseq.run; seed=0,1 for some seeds")
    parser.add_argument("--from-checkpoint", nargs="?", const=str(CHECKPOINTS), metavar="FOLDER",
                        help=f"evaluate checkpoints instead of training (default: {CHECKPOINTS})")
    parser.add_argument("--keep", nargs="?", const=str(CHECKPOINTS), metavar="FOLDER",
                        help=f"copy each recipe's checkpoint of the first seed there (default: {CHECKPOINTS})")
    found = parser.parse_intermixed_args(arguments)
    for flag in ("from_checkpoint", "keep"):
        if "=" in (getattr(found, flag) or ""):                        # the override behind a flag is not its folder
            found.words.append(getattr(found, flag))
            setattr(found, flag, str(CHECKPOINTS))
    if found.name not in REPLICATIONS:
        unknown = f"no replication {printable(repr(found.name))}{nearest(found.name, list(REPLICATIONS))}"
        raise KeyError(f"{unknown if found.name else 'name one'}; there are: {', '.join(REPLICATIONS)}")
    if found.from_checkpoint and found.keep:
        raise ValueError("--keep copies what was trained, --from-checkpoint trains nothing; give one of them")
    return found


def command(recipe: Recipe, words: Sequence[str]) -> list[str]:
    """The recipe's overrides and the user's, which take the place of those of the same name."""
    given = {one.partition("=")[0] for one in words}
    return [*(one for one in recipe.words if one.partition("=")[0] not in given), *words]


def seeds_of(found: Replication, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The seeds that are asked for, by default the replication's, and the other overrides; ValueError for what is no seed."""
    asked = [one.removeprefix("seed=").strip("[]") for one in words if one.startswith("seed=")]
    seeds = asked[-1].split(",") if asked else [str(one) for one in range(found.seeds)]
    wrong = [one for one in seeds if not (one.isascii() and one.isdigit())]
    if wrong:
        raise ValueError(f"seed={wrong[0]!r} is no whole number of 0 or more; give one seed or several: seed=0,1")
    return seeds, [one for one in words if not one.startswith("seed=")]


def ours(found: Replication, recipe: Recipe, wanted: argparse.Namespace) -> list[Column]:
    """The recipe's results, run or found, by system."""
    seeds, words = seeds_of(found, wanted.words)
    results, setup = [], None
    for number, seed in enumerate(seeds):
        arranged = read([*command(recipe, words), f"seed={seed}"])
        print(f"\n{recipe.name}, seed {seed} ({number + 1} of {len(seeds)})")
        done, setup = result(arranged, Path(wanted.keep) / recipe.name if wanted.keep and not number else None)
        results += done
    for line in older(found, results):
        print(line)
    return columns(found, results, setup)


def older(found: Replication, results: Sequence[Result]) -> list[str]:
    """A line for every result that was written before a metric of the table was there, and what to do about it."""
    lines = []
    for one in results:
        lacks = [row.metric for row in found.rows
                 if row.split in one.after and row.metric not in one.after[row.split]["metrics"]]
        if lacks:
            place = f"{one.task}-v{one.task_version}/{one.policy}/{one.algo}/{one.seed}.json (or {one.seed}-*.json)"
            lines.append(f"older       the result of {one.algo}, seed {one.seed}, lacks {', '.join(lacks)}: move {place} away "
                         "and give the command again; nothing that lies in runs is trained anew")
    return lines


def result(arranged: Arranged, kept: Path | None) -> tuple[list[Result], Setup]:
    """The results of a command, found or made; with `kept` its checkpoint is copied there, and made where it is missing."""
    from . import experiment, identity  # import torch: not for --help

    config, names, _ = arranged
    with limited(config["reward_limit"]):
        planned = experiment.planned_of(*arranged)
        folder = identity.checkpoint_folder(planned.own, identity.start_of(planned.own))
        lacking = kept is not None and not (folder / "model.json").is_file()
        done = (None if lacking else planned.finished()) or experiment.run(*arranged)
    if kept is not None:
        keep(folder, kept, {"policy": names["policy"], "algo": names["algo"], "seed": config["seed"]})
    return done, planned.own


def keep(folder: Path, place: Path, told: Mapping[str, object]) -> None:
    """Copy a run's checkpoint to a place that is passed on: notes of what it is go in, the place of the data does not.

    Raises ValueError where it is larger than LARGEST bytes.
    """
    from .checkpoint import read_checkpoint, write_checkpoint  # imports torch

    size = sum((folder / f"model.{ending}").stat().st_size for ending in ("safetensors", "json"))
    if size > LARGEST:
        raise ValueError(f"{folder} has {size:,} bytes, more than {LARGEST:,}; a checkpoint that is passed on must be smaller: "
                         "lower policy.width or task.vocabulary")
    tensors, facts = read_checkpoint(folder, "model")
    options = {name: "FOLDER" if name == "path" and one else one for name, one in facts["task_options"].items()}
    known = {name: one for name, one in facts.get("identity", {}).items() if name in ("seed", "data", "pretrained")}
    write_checkpoint(place, "model", tensors, {**facts, "task_options": options, "kept": dict(told), "identity": known})
    print(f"checkpoint  {place} ({size / 1e6:.1f} MB)")


def columns(found: Replication, results: Sequence[Result], setup: Setup) -> list[Column]:
    """Mean over seeds with its interval, of the pretrained checkpoints, of MLE continued, of each algorithm and control."""
    from .evaluate import measure  # import torch
    from .report_groups import Judge, groups

    known = {name: measure(setup.task, name).score for name in [*setup.task.metrics, "nll"]}
    made = []
    for group in groups(results):
        judge = Judge(group, known)
        for entry in group.entries:
            made.append(Column(entry.label, {
                row.label: judge.interval(entry, row.split, row.metric) for row in found.rows
                if row.split in group.tests and row.metric in group.metrics}))
    return made


def from_checkpoints(found: Replication, words: Sequence[str], home: Path) -> None:
    """Print the table of each recipe whose checkpoint lies in the folder, or which has the shape of the one that the folder is.

    Raises ValueError where there is none.
    """
    from .checkpoint import read_facts  # import torch
    from .setup import check

    if len(seeds_of(found, words)[0]) > 1 and any(one.startswith("seed=") for one in words):
        raise ValueError("--from-checkpoint evaluates one checkpoint of each recipe; leave seed out")
    alone, seen = (home / "model.json").is_file(), 0
    for recipe in found.recipes:
        place = home if alone else home / recipe.name
        if not (place / "model.json").is_file():
            continue
        config, names, _ = read([*command(recipe, words), "compare=null", "controls=false"])
        facts = read_facts(place / "model.json")
        with limited(config["reward_limit"]):
            setup = check({**config, "pretrained": str(place)}, names)
            if alone and setup.shape.weighty(facts.get("shape", {})) != setup.shape.weighty(setup.shape.facts):
                continue
            print("\n" + table(found, recipe, words, [evaluated(found, setup, facts)]))
        seen += 1
    if not seen:
        folders = ", ".join(str(home / one.name) for one in found.recipes)
        raise ValueError(f"no checkpoint of these recipes in {home}: neither {folders} nor the folder itself; leave "
                         "--from-checkpoint out to train, with --keep to keep what was trained")


def evaluated(found: Replication, setup: Setup, facts: Mapping[str, object]) -> Column:
    """The checkpoint that `setup.config` names as pretrained, scored on the test splits; intervals over problems."""
    from . import stats
    from .evaluate import measure  # import torch
    from .pretrain import pretrain

    scored = pretrain(setup).before
    kept = facts.get("kept")
    told = isinstance(kept, Mapping) and {"algo", "seed"} <= set(kept)
    label = f"{kept['algo']}, seed {kept['seed']}" if told else "checkpoint"
    return Column(printable(label), {
        row.label: stats.bootstrap(scored[row.split].rows[row.metric], measure(setup.task, row.metric).score)
        for row in found.rows if row.split in scored and row.metric in scored[row.split].rows})


def table(found: Replication, recipe: Recipe, words: Sequence[str], shown: Sequence[Column]) -> str:
    """Paper, replications and ours, side by side; `words` are the user's overrides."""
    from .report_text import columns as aligned  # import torch
    from .report_text import said

    paper = found.sources[0]

    def cell(one: Interval | None, label: str) -> str:
        above = one is not None and one.low > paper.numbers.get(label, float("inf"))
        return said(one) + ("*" if above else " ")
    lines = [["", *(one.label for one in found.sources), *(one.label for one in shown)]]
    for row in found.rows:
        theirs = [f"{one.numbers[row.label]:g}" if row.label in one.numbers else "-" for one in found.sources]
        lines.append([row.label, *theirs, *(cell(one.cells.get(row.label), row.label) for one in shown)])
    head = f"{recipe.name}: {printable(' '.join(command(recipe, words)), 1000)}\n  {recipe.told}"
    foot = f"[ends of 95 %]; * the whole interval lies above {paper.label}"
    return "\n".join([head, "", *aligned(lines), "", foot])


def remarks(found: Replication) -> str:
    """Whose the numbers are, and what differs."""
    return "\n".join([*(f"{one.label}: {one.told}" for one in found.sources),
                      "Intervals over several seeds cover other seeds and problems, those of one seed other problems alone.",
                      "What differs:", *(f"- {one}" for one in found.notes)])


if __name__ == "__main__":
    sys.exit(main())
