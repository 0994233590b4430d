"""`python -m rlseq.exposure CHECKPOINT [CHECKPOINT ...]`: how well policies recover when their prefix went wrong.

    python -m rlseq.exposure runs/hull/pointer/{mle,scheduled_sampling,reinforce}/0-*
    python -m rlseq.exposure mle=FOLDER mle=FOLDER mixer=FOLDER task.path=FOLDER --write multi30k

A CHECKPOINT is a folder that a run wrote, or LABEL=FOLDER; equal labels are seeds of one system (by default the label is the
algorithm). All must be of one task with the same options and tokenizer; task.NAME=VALUE takes the place of an option, such as
task.path of where texts lie. Greedy answers after right and after wrong beginnings of the references are compared, on dev:
rlseq/recovery.py says how. Losses are compared with those of the policy named `mle`, else of the first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, resampling, results
from .build import build, nearest
from .command import Parser, exit_code
from .files import check_writable
from .predict import NEEDED, Options, Predictor
from .printable import printable
from .progress import progress
from .report_exposure import Findings, Systems, compared, lasting, said_place, text, write
from .tune_file import shown

if TYPE_CHECKING:
    from .recovery import Trial
    from .task import Task

BASE, START = "mle", "mle pretrained"
HOME = Path("results/exposure")
UNKNOWN = "?"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that a run wrote, what its notes say, and what it is called."""

    label: str
    folder: Path
    facts: Mapping[str, object]

    @property
    def identity(self) -> Mapping[str, object]:
        """What was trained, as far as the notes say."""
        return known if isinstance(known := self.facts.get("identity"), Mapping) else {}

    @property
    def seed(self) -> str:
        """Of its training; UNKNOWN where nothing says it."""
        kept, named = self.facts.get("kept"), re.fullmatch(r"(\d+)-[0-9a-f]{8}", self.folder.resolve().name)
        told = kept.get("seed") if isinstance(kept, Mapping) else self.identity.get("seed", named[1] if named else None)
        return UNKNOWN if told is None else printable(str(told))

    @property
    def start(self) -> str:
        """The checkpoint that it was fine-tuned from, its own hash if it was pretrained itself; UNKNOWN as above."""
        own = self.folder.resolve()
        return own.name.rpartition("-")[2] if own.parent.name == "pretrained" else printable(
            str(self.identity.get("pretrained", UNKNOWN)))

    def said(self) -> dict[str, str]:
        """For the head of a page."""
        commit = self.facts.get("commit")
        return {"checkpoint": self.label, "seed": self.seed, "start": self.start, "sha256": str(self.facts["sha256"])[:12],
                "trained by": printable(f"rlseq {self.facts['rlseq']}, {commit[0] if isinstance(commit, list) else UNKNOWN}")}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 for a user's mistake, which is one line on stderr."""
    return exit_code(lambda: _measure(sys.argv[1:] if arguments is None else arguments))


def _measure(arguments: Sequence[str]) -> None:
    wanted = options(arguments)
    if wanted.write:
        results.check_name(wanted.write)
        check_writable(HOME, "--write")
    from . import recovery  # imports torch: not for --help
    from .setup import pick_device

    plan = build(recovery.Plan, {name: getattr(wanted, name) for name in (
        "split", "problems", "places", "wrong", "kinds", "seed")}, "exposure")
    base, checkpoints = ordered(wanted)
    device, task = pick_device(wanted.device), task_of(checkpoints, wanted.overrides)
    policies = [Predictor(Options(str(one.folder), device=wanted.device)).policy for one in checkpoints]
    notes, trial = cautions(base, checkpoints, task), recovery.Trial(task, plan, device)
    systems: Systems = {}
    with progress(len(policies) * len(trial.batches), "recovery", "batches") as bar:
        for (label, seed), policy in zip(named(checkpoints), policies):
            systems.setdefault(label, {})[seed] = trial(policy, bar.update)
    found = findings(systems, base, trial, checkpoints, notes, {
        "command": shlex.join(["python", "-m", "rlseq.exposure", *map(shown, arguments)]), **circumstances(trial, device)})
    resampling.forget()
    print(text(found))
    if wanted.write:
        write(found, HOME, wanted.write)
        print(f"\n{HOME / wanted.write}.md, .json and .svg")


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line says, `words` parted into `folders` and `overrides`; raises ValueError for what cannot be."""
    parser = Parser(prog="python -m rlseq.exposure", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="[LABEL=]CHECKPOINT", help="folders that runs wrote, and task.NAME=VALUE")
    parser.add_argument("--split", default="dev", help="default: dev, for test is reported once")
    parser.add_argument("--problems", type=int, default=200, metavar="N", help="the first N of the split (default: 200)")
    parser.add_argument("--places", default="0,1/4,1/2,3/4", metavar="SHARES",
                        help="where mistakes are, as shares of the reference (default: 0,1/4,1/2,3/4)")
    parser.add_argument("--wrong", type=int, default=1, metavar="N", help="wrong actions in a row (default: 1)")
    parser.add_argument("--kinds", default="random,shared,own", help="of mistakes (default: random,shared,own)")
    parser.add_argument("--base", default="", metavar="LABEL", help=f"compare with this one (default: {BASE}, else the first)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of random mistakes (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--write", default="", metavar="NAME", help=f"write {HOME}/NAME.md, NAME.json and NAME.svg")
    found = parser.parse_intermixed_args(arguments)
    try:
        found.places = tuple(float(Fraction(one)) for one in found.places.split(","))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--places {found.places} must be shares from 0 to below 1, parted by commas, such as 0,1/2") from None
    found.kinds = tuple(found.kinds.split(","))
    found.overrides = dict(_override(one) for one in found.words if one.startswith("task.") and "=" in one)
    found.folders = [one for one in found.words if not (one.startswith("task.") and "=" in one)]
    if not found.folders:
        raise ValueError("name one checkpoint or more: folders that rlseq.run wrote, such as runs/hull/pointer/mle/0-*")
    return found


def _override(word: str) -> tuple[str, object]:
    """`task.NAME=VALUE` -> NAME and the value."""
    name, _, value = word.removeprefix("task.").partition("=")
    try:
        return name, value if name == "path" else json.loads(value)
    except ValueError:
        return name, value


def read(word: str) -> Checkpoint:
    """The checkpoint of a word, [LABEL=]FOLDER; raises ValueError where the folder holds none."""
    from .checkpoint import read_facts  # imports torch

    label, equals, place = word.partition("=")
    folder = Path(place if equals and not Path(word).is_dir() else word)
    if not (folder / "model.json").is_file():
        raise ValueError(f"no checkpoint in {folder}: it holds no model.json; name a folder that rlseq.run wrote")
    facts = read_facts(folder / "model.json")
    if missing := [name for name in (*NEEDED, "sha256") if name not in facts]:
        raise ValueError(f"checkpoint {folder} does not say its {', '.join(missing)}, so rlseq.run did not write it")
    if folder == Path(word):
        kept, above = facts.get("kept"), folder.resolve().parent.name
        label = str(kept["algo"]) if isinstance(kept, Mapping) and "algo" in kept else START if above == "pretrained" else above
    try:
        results.check_name(label.replace(" ", "_"))
    except ValueError:
        raise ValueError(f"{printable(repr(label))} is no name for {folder}; give it one: LABEL={folder}") from None
    return Checkpoint(label, folder, facts)


def ordered(wanted: argparse.Namespace) -> tuple[str, list[Checkpoint]]:
    """The label that is compared with, and all checkpoints, its own first; raises ValueError where they do not fit together."""
    from .checkpoint import differences  # imports torch
    from .provenance import flat

    checkpoints = [read(one) for one in wanted.folders]
    labels = list(dict.fromkeys(one.label for one in checkpoints))
    base = wanted.base or (BASE if BASE in labels else labels[0])
    if base not in labels:
        raise ValueError(f"--base {printable(base)} is none of the checkpoints{nearest(base, labels)}; there are: "
                         f"{', '.join(labels)}")

    def told(one: Checkpoint) -> dict[str, object]:
        facts = {name: one.facts[name] for name in ("task", "task_version", "sizes")}
        shaped = {name: value for name, value in dict(one.facts["task_options"]).items()
                  if name != "path" and name not in wanted.overrides}
        state = hashlib.sha256(json.dumps(one.facts["task_state"], sort_keys=True).encode()).hexdigest()[:8]
        return flat({**facts, "task": {"name": one.facts["task"], **shaped}, "tokenizer": state})
    for one in checkpoints[1:]:
        if differ := differences(told(one), told(checkpoints[0])):
            raise ValueError(f"{one.folder} and {checkpoints[0].folder} do not answer the same task: {'; '.join(differ)}; "
                             "compare checkpoints of one task, or give task.NAME=VALUE for an option that does not matter")
    return base, sorted(checkpoints, key=lambda one: one.label != base)


def task_of(checkpoints: Sequence[Checkpoint], overrides: Mapping[str, object]) -> Task:
    """The task that all checkpoints answer, with their tokenizer; raises ValueError where its data are not known."""
    from . import tasks  # imports torch

    facts = checkpoints[0].facts
    chosen = {**dict(facts["task_options"]), **overrides}
    if chosen.get("path") == "FOLDER":                     # what `replicate --keep` leaves of a path
        raise ValueError(f"{checkpoints[0].folder} does not say where its data lie; add task.path= and their place")
    task = tasks.make(str(facts["task"]), chosen)
    task.restore(facts["task_state"])
    if asdict(task.sizes) != facts["sizes"]:
        raise ValueError(f"with these options task {task.name} has {asdict(task.sizes)}, and the checkpoints were trained for "
                         f"{facts['sizes']}; leave the task's options out")
    return task


def named(checkpoints: Sequence[Checkpoint]) -> list[tuple[str, str]]:
    """Label and seed of each, `#1`, `#2` ... of those that do not say theirs. Raises ValueError where two are the same."""
    found: list[tuple[str, str]] = []
    for one in checkpoints:
        number = 1 + sum(label == one.label for label, _ in found)
        key = (one.label, f"#{number}" if one.seed == UNKNOWN else one.seed)
        if key in found:
            raise ValueError(f"two checkpoints are {one.label} with seed {one.seed}, {one.folder} the second; leave one out "
                             f"or tell them apart: LABEL={one.folder}")
        found.append(key)
    return found


def cautions(base: str, checkpoints: Sequence[Checkpoint], task: Task) -> list[str]:
    """What a reader must be warned of, known before anything is measured."""
    found, systems = [], {}
    for (label, seed), one in zip(named(checkpoints), checkpoints):
        systems.setdefault(label, {})[seed] = one
    for label, own in systems.items():
        if not set(own) & set(systems[base]):
            found.append(f"{label} is compared with nothing, for {base} has no checkpoint of the same seed")
        elif not set(own) <= set(systems[base]):
            found.append(f"{label} is compared with {base} over their common seeds only")
        for seed, one in own.items():
            other = systems[base].get(seed, one).start
            if UNKNOWN not in (one.start, other) and one.start != other:
                found.append(f"beware: {label} and {base}, seed {seed}, did not start from the same checkpoint")
    data = {str(one.identity["data"]) for one in checkpoints if "data" in one.identity}
    if data and data != {task.fingerprint}:
        found.append("beware: these are not the data that all of the checkpoints were trained on")
    return found


def findings(systems: Systems, base: str, trial: Trial, checkpoints: Sequence[Checkpoint], notes: Sequence[str],
             about: Mapping[str, object]) -> Findings:
    """All that can be said of what was measured."""
    from .evaluate import measure  # imports torch, as below
    from .recovery import DISTANCES

    plan, task, metrics = trial.plan, trial.task, ("reward", *trial.metrics)
    scores = {name: measure(task, name).score for name in metrics}
    left_out = " (other references are too short or too long)" * (len(trial.numbers) < trial.asked)
    title = (f"{task.name}-v{task.version}, {plan.split}: {len(trial.numbers)} of the first {trial.asked} problems{left_out}, "
             f"{plan.wrong} wrong action{'s' * (plan.wrong > 1)}; [ends of 95 %]")
    spared = {(label, kind): sum(run["unharmed", kind].sum(0) for run in runs.values())
              for label, runs in systems.items() for kind in plan.kinds}
    rare = [f"{label}, {kind}: no wrong action was legal after {count:.0f} of {prefixes:.0f} prefixes"
            for (label, kind), (count, prefixes) in spared.items() if count]
    return Findings(title, base, metrics, compared(systems, base, plan, scores), lasting(systems, plan, DISTANCES), about,
                    [one.said() for one in checkpoints], [*notes, *rare])


def circumstances(trial: Trial, device: object) -> dict[str, object]:
    """When, where and by what it was measured."""
    import torch  # as above

    from .provenance import hardware, now, revision

    commit, changed = revision()
    plan = trial.plan
    return {"commit": commit + (" with changes" if changed else ""), "date": now(), "hardware": hardware(device),
            "versions": f"rlseq {__version__}, torch {torch.__version__}", "seed": plan.seed,
            "problems": f"{len(trial.numbers)} of the first {trial.asked} of {plan.split}",
            "data": trial.task.fingerprint, "decoding": "greedy", "wrong actions": plan.wrong, "kinds": ", ".join(plan.kinds),
            "places": ", ".join(map(said_place, plan.places))}


if __name__ == "__main__":
    sys.exit(main())
