"""The settings of a sweep, trained or found, and scored on dev: what `rlseq.tune` does once it knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from . import experiment, files, identity, resampling, results, tasks, tracking, tune_table
from .checkpoint import read_checkpoint
from .command import said as told
from .evaluate import measure
from .nn.policy import Policy
from .patience import limited
from .pretrain import pretrain
from .printable import printable
from .provenance import flat, hardware, revision
from .resampling import Score
from .run import Arranged, read
from .setup import Setup, check, decoded, fresh
from .task import Task
from .tune_file import ALONE, Setting, Sweep, shown
from .tune_table import Entry, Sheet

LOOKED_AT = 32       # dev problems, to tell whether two settings answer the same


@dataclass(frozen=True)
class Ready:
    """One setting with one seed, checked; `tasks` are those that it is scored on, by column."""

    setting: Setting
    setup: Setup
    tasks: Mapping[str, Task]
    identity: str


def run(sweep: Sweep, command: str) -> None:
    """Train and score what no entry is there for, and write the table after every setting."""
    planned = ready(sweep)
    first = planned[0].setup
    metric, home, limit = next(iter(first.task.metrics)), Path(first.config["results"]) / "sweeps", first.finetune.dev
    for name in ("results", "runs"):
        files.check_writable(Path(first.config[name]), name)
    again = first.config["resume"] == "never"
    entries = {} if again else tune_table.read(home, sweep.name)
    entries = {one.identity: entries[one.identity] for one in planned if one.identity in entries}
    for number, one in enumerate(planned, 1):
        known = one.identity in entries
        if not known:
            with limited(one.setup.config["reward_limit"]):
                entries[one.identity] = entry(one, metric, limit)
            tune_table.keep(home, sweep.name, entries[one.identity])
        found = entries[one.identity]
        reached = found.failed or ", ".join(f"{column} {own[metric]:.2f}" for column, own in found.columns.items())
        print(f"{number}/{len(planned)} {printable(one.setting.label)}, seed {found.seed}: {metric} {reached}"
              + " (taken from the table)" * known, flush=True)
        if not known or number == len(planned):
            sheet = sheet_of(sweep, command, planned, entries, measure(first.task, metric).score)
            files.write_whole(home / f"{sweep.name}.md", tune_table.text(sheet))
    print(f"table       {home / f'{sweep.name}.md'}")
    resampling.forget()


def ready(sweep: Sweep) -> list[Ready]:
    """Every setting with every seed, checked before anything is trained. Raises ValueError naming the setting that is wrong."""
    found, shared = [], {}
    for setting in sweep.settings:
        for seed in sweep.seeds:
            arranged = read([*setting.words, f"seed={seed}"])
            try:
                setup, scored = _checked(arranged, sweep.dev, shared)
                setup.algorithm.prepare(fresh(setup))
            except (KeyError, ValueError) as error:
                raise ValueError(f"setting {setting.label}: {told(error)}") from None
            limit = (found[0].setup if found else setup).finetune.dev
            found.append(Ready(setting, setup, scored, _identity(setup, scored, limit)))
            for column, task in scored.items():
                if not _same(task.examples("dev"), found[0].tasks[column].examples("dev")):
                    raise ValueError(f"setting {setting.label} has other dev problems in {column!r} than the base, so the two "
                                     "cannot be compared; give the options that shape problems under dev:")
    return found


def _checked(arranged: Arranged, dev: Mapping[str, Mapping[str, object]], shared: dict[str, Task]
             ) -> tuple[Setup, dict[str, Task]]:
    """A configuration without test splits, and the tasks of its dev sets; `shared` holds what was made of the same options,
    for texts take a while to read and to cut."""
    config, names, _ = arranged
    setup = check(config, names, tested=False, made=shared.get(repr(config["task"])))
    shared[repr(config["task"])] = setup.task
    scored = {}
    for label, own in dev.items():
        options = {**config["task"], **own}
        if (key := repr(options)) not in shared:
            shared[key] = tasks.make(str(options.pop("name")), options)
            shared[key].restore(setup.task.state())
        scored[label] = shared[key]
    return setup, scored


def _same(dev: Sequence, other: Sequence) -> bool:
    """Whether two dev splits hold the same problems, as far as the first tell."""
    return dev is other or len(dev) == len(other) and all(dev[i] == other[i] for i in range(min(len(dev), LOOKED_AT)))


def _identity(setup: Setup, scored: Mapping[str, Task], limit: int) -> str:
    """What an entry follows from: the weights, their seed, and the dev problems that they answer."""
    trained = identity.finetuning(setup, identity.start_of(setup))
    return results.config_hash({"trained": trained, "seeded": setup.seed, "decode": setup.config["decode"], "n": limit,
                                "dev": {label: task.fingerprint for label, task in scored.items()}})


def entry(one: Ready, metric: str, limit: int) -> Entry:
    """A setting trained, or its weights found, and scored on the first `limit` problems of its dev sets (0: all)."""
    setup = one.setup
    facts = {"identity": one.identity, "words": [shown(word) for word in one.setting.words], "seed": setup.seed,
             "metric": metric, "hardware": hardware(setup.device)}
    try:
        policy, cost, seconds, commit = trained(setup)
    except FloatingPointError as error:                     # too high a rate, say: that, too, is what a sweep is to tell
        return tune_table.Entry(columns={}, cost={}, pretraining=0.0, commits=[_commit(revision())],
                                failed=printable(f"not finite: {error}", 200), **facts)
    scored = {column: decoded(replace(setup, task=task, test=limit), policy, "dev", setup.decoding)
              for column, task in one.tasks.items()}
    return tune_table.Entry(
        columns={column: found.scores for column, found in scored.items()}, cost=cost, pretraining=seconds,
        commits=list(dict.fromkeys([_commit(commit), _commit(revision())])),
        rows={column: found.rows[metric].astype(np.float32) for column, found in scored.items()}, **facts)


def trained(setup: Setup) -> tuple[Policy, dict[str, float], float, tuple[str, bool]]:
    """The policy fine-tuned as rlseq.run would, or found; its cost, seconds of pretraining, commit of the code that did it."""
    pretrained, policy = pretrain(setup), fresh(setup)
    policy.load_state_dict(read_checkpoint(pretrained.folder, "model")[0])
    folder, name = identity.checkpoint_folder(setup, pretrained.hash), setup.names["algo"]
    tracker = tracking.open_tracker(setup.config["tracking"]["uri"], f"rlseq/{setup.task.name}-v{setup.task.version}")
    with identity.working_in(folder, setup, identity.finetuning(setup, pretrained.hash), setup.config["resume"] == "never"):
        tracker.start(folder, f"{setup.task.name}/{setup.names['policy']}/{name}/{setup.seed}", flat(setup.config),
                      identity.tags(setup), yaml.safe_dump(setup.config, sort_keys=False))
        try:
            trainer, commit = experiment.trained(setup, pretrained, policy, folder, tracker)
        except BaseException as error:
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
            raise
        tracker.finish()
    return policy, asdict(trainer.cost), pretrained.cost.seconds, commit


def _commit(found: tuple[str, bool]) -> str:
    return found[0] + "-dirty" * found[1]


def sheet_of(sweep: Sweep, command: str, planned: Sequence[Ready], entries: Mapping[str, Entry], score: Score) -> Sheet:
    """The table of a sweep as far as its entries go; a setting counts once all of its seeds are there."""
    lines = []
    for setting in sweep.settings:
        own = [one for one in planned if one.setting == setting]
        done = [entries[one.identity] for one in own if one.identity in entries]
        lines.append(tune_table.Line(setting.label, own[0].setup.names["algo"], done if len(done) == len(own) else ()))
    first = planned[0].setup
    base = " ".join(shown(word) for word in sweep.settings[0].words if word not in ALONE)
    return tune_table.Sheet(
        name=sweep.name, aim=sweep.aim, command=command, base=base,
        seeds=[one.setup.seed for one in planned if one.setting == sweep.settings[0]],
        metric=next(iter(first.task.metrics)), columns=list(sweep.dev), score=score, lines=lines)
