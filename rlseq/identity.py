"""What a run is, by its configuration: where its checkpoints and results lie, and what `resume` makes of those found there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from . import __version__, dist, files, locks, results
from .checkpoint import differences, numbered, read_facts
from .provenance import flat, revision
from .setup import Setup
from .stage import Stage

YOUNG = ("subword_dropout", "consistency")      # options of a stage that results which stand here do not know


def pretraining(setup: Setup) -> dict[str, object]:
    """Everything that the pretrained weights depend on; MLE does not see the reward."""
    task = {key: value for key, value in setup.config["task"].items() if key != "reward"}
    return {"task": task, "data": setup.task.fingerprint, "policy": setup.shape.facts, "seeded": setup.seed,
            "pretrain": _options(setup.pretrain), "precision": setup.config["precision"], "rlseq": __version__}


def finetuning(setup: Setup, pretrained: str) -> dict[str, object]:
    """Everything that the fine-tuned weights depend on but the seed; `pretrained` is the hash of what they start from."""
    control = {} if setup.control == "own" else {"control": setup.control}
    return control | {
        "config": {key: setup.config[key] for key in ("policy", "task", "algo", "precision")},
        "finetune": _options(setup.finetune), "pretrained": pretrained, "data": setup.task.fingerprint,
        "task_version": setup.task.version, "rlseq": __version__}


def _options(stage: Stage) -> dict[str, object]:
    """A stage's options; one that is younger than results that stand here counts where it is on, so that they are found."""
    return {key: value for key, value in asdict(stage).items() if key not in YOUNG or value}


def named(identity: Mapping[str, object]) -> dict[str, object]:
    """An identity, flat, by the names that options have on the command line."""
    own = {"config": "", "finetune": "plan.finetune.", "pretrain": "plan.pretrain."}
    found = flat({"seed" if key == "seeded" else key: value for key, value in identity.items() if key not in own})
    for part, prefix in own.items():
        found |= flat(identity.get(part, {}), prefix)
    return found


def run_hash(setup: Setup, pretrained: str) -> str:
    """Identity of a result: what was trained and how it was evaluated."""
    return results.config_hash({"trained": results.config_hash(finetuning(setup, pretrained)), "test": setup.test,
                                "decode": setup.config["decode"], "tests": setup.tests})


def pretrained_folder(setup: Setup) -> Path:
    """Where the pretrained checkpoint of this configuration lies; its name ends with the identity."""
    identity = results.config_hash(pretraining(setup))
    return setup.runs / "pretrained" / f"{setup.task.name}-v{setup.task.version}-{identity}"


def start_of(setup: Setup) -> str:
    """Hash of the checkpoint that fine-tuning starts from, also where it is not made yet. Raises ValueError where the user's
    is not there."""
    given = setup.config["pretrained"]
    if given:
        notes = Path(str(given)) / "model.json"
        if not notes.is_file():
            raise ValueError(f"no checkpoint file {notes}; name a folder that a run wrote")
        return str(read_facts(notes)["sha256"])[:12]
    return pretrained_folder(setup).name.rpartition("-")[2]


def checkpoint_folder(setup: Setup, pretrained: str) -> Path:
    """Where the fine-tuned checkpoint lies."""
    return (setup.runs / setup.task.name / setup.names["policy"] / setup.names["algo"]
            / f"{setup.seed}-{results.config_hash(finetuning(setup, pretrained))[:8]}")


def finished(setup: Setup, pretrained: str) -> results.Result | None:
    """The result of the same configuration, seed and pretrained checkpoint, if it was written before."""
    identity = run_hash(setup, pretrained)
    home = Path(setup.config["results"]) / f"{setup.task.name}-v{setup.task.version}" / setup.names["policy"] / \
        setup.names["algo"]
    for path in (home / f"{setup.seed}.json", home / f"{setup.seed}-{identity[:8]}.json"):
        try:
            found = results.read(path) if path.is_file() else None
        except ValueError as error:
            print(f"{error}; it is made again")
            continue
        if found is not None and found.hash == identity:
            print(f"{setup.names['algo']}: taken from {path} (commit {found.commit})")
            return found
    return None


def tags(setup: Setup) -> dict[str, str]:
    """What MLflow should find the run by."""
    commit, dirty = revision()
    named = {"algorithm" if key == "algo" else key: str(value) for key, value in setup.names.items()}
    return {**named, "seed": str(setup.seed), "stage": "finetune",
            "rlseq": __version__, "commit": commit + ("-dirty" if dirty else ""), "reward": setup.task.reward_name,
            "signature": results.signature({"task": f"{setup.task.name}-v{setup.task.version}",
                                            "data": setup.task.fingerprint, "decode": setup.decoding})}


def under_way(folder: Path) -> bool:
    """Whether a run in this folder was begun, got as far as a checkpoint, and has not ended."""
    return bool(numbered(folder, "last")) and not (folder / "model.json").is_file()


def must_resume(own: Path, others: Sequence[Path], identity: Mapping[str, object]) -> None:
    """Raises ValueError where nothing of a command was begun: its own run neither ended nor is it under way, nor is one of
    `others` (pretraining, what it is compared with); it says what the run that is most alike differs in."""
    if (own / "model.json").is_file() or any(map(under_way, (own, *others))):
        return
    near = nearest_run(own, identity)
    said = f"the nearest, {near[0]}, has {'; '.join(near[1])}" if near else "no run of this seed lies beside it"
    raise ValueError(f"resume=must finds nothing to resume in {own}; {said}: give the same options, or resume=auto to begin")


def nearest_run(own: Path, identity: Mapping[str, object]) -> tuple[Path, list[str]] | None:
    """The folder beside a run's own whose run differs in the fewest options, the seed not among them, and in what."""
    found = []
    for folder in own.parent.glob(f"{own.name.partition('-')[0]}-*"):
        last = [f"last-{number}" for number in numbered(folder, "last")[:1]]
        for notes in (folder / f"{name}.json" for name in (*last, "model")):
            if folder == own or "~" in folder.name or not notes.is_file():
                continue
            try:
                there = read_facts(notes).get("identity") or {}
            except (OSError, ValueError):              # damaged, or gone by now: it is another run's, and no reason to stop
                continue
            if there and there.get("seed") == named(identity).get("seed"):
                found.append((folder, differences(there, named(identity))))
                break
    return min(found, key=lambda one: (len(one[1]), one[0].name), default=None)


@contextmanager
def working_in(folder: Path, setup: Setup, identity: Mapping[str, object], anew: bool) -> Iterator[None]:
    """One process (or group of ranks) at a time works in a run's folder. With `anew` what lies there is moved aside first.

    Says so; and where a run is begun beside one that was left under way with other options, what those are.
    """
    new = not folder.is_dir()
    with locks.alone(folder, setup.device):
        if dist.rank() == 0:
            if anew and (there := files.aside(folder, but=locks.NAME)):
                print(f"rlseq: resume=never: what lay in {folder} is now in {there}", file=sys.stderr)
            near = nearest_run(folder, identity) if new else None
            if near and under_way(near[0]) and not locks.busy(near[0]):
                print(f"rlseq: begun anew; the run under way in {near[0]} has {'; '.join(near[1])}", file=sys.stderr)
        dist.barrier()
        yield
