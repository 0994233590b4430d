"""The checkpoint that every algorithm of a comparison starts from: trained with MLE, found, or named by the user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from . import __version__, algos, dist, locks, results
from .checkpoint import read_checkpoint, write_checkpoint
from .env import SequenceEnv
from .evaluate import Evaluation
from .setup import Setup, about, fresh, judge, test
from .train import Cost, Trainer


@dataclass(frozen=True)
class Pretrained:
    """The checkpoint that every algorithm of a comparison starts from, and how well it does."""

    hash: str
    folder: Path
    cost: Cost
    curve: list[dict[str, object]]
    commit: str                          # of the code that trained it
    before: dict[str, Evaluation]


def pretrain(setup: Setup) -> Pretrained:
    """Train with MLE, or find the checkpoint that the same configuration made, or take the one that the user names."""
    config, given = setup.config, setup.config["pretrained"]
    if given:
        folder = Path(str(given))
        tensors, facts = read_checkpoint(folder, "model")
        adopt(setup, facts, folder)
        identity = facts["sha256"][:12]
    else:
        task = {key: value for key, value in config["task"].items() if key != "reward"}      # MLE does not see it
        identity = results.config_hash({
            "task": task, "data": setup.task.fingerprint, "policy": asdict(setup.shape), "seeded": setup.seed,
            "pretrain": asdict(setup.pretrain), "precision": config["precision"], "rlseq": __version__})
        folder = setup.runs / "pretrained" / f"{setup.task.name}-v{setup.task.version}-{identity}"
        if not (folder / "model.json").is_file():
            with locks.alone(folder, setup.device):
                if not (folder / "model.json").is_file():         # another job may have made it meanwhile
                    _pretrain(setup, folder)
        tensors, facts = read_checkpoint(folder, "model")
    policy = fresh(setup)
    try:
        policy.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {folder} does not fit policy={setup.names['policy']}; take the policy options it was "
                         f"made with ({str(error).splitlines()[-1].strip()})") from None
    return Pretrained(identity, folder, Cost(**facts["cost"]), facts["curve"], facts["commit"][0], test(setup, policy))


def adopt(setup: Setup, facts: dict[str, object], folder: Path) -> None:
    """Check that a checkpoint of the user's answers this task, and take over its tokenizer.

    Raises ValueError naming what differs.
    """
    mine = about(setup)
    for key in ("task", "task_version", "shape"):
        if facts[key] != mine[key]:
            raise ValueError(f"pretrained={folder} has {key}={facts[key]}, this run has {mine[key]}; they must agree")
    if facts["task_state"]:
        setup.task.restore(facts["task_state"])
    sizes = asdict(setup.task.sizes)
    if any(sizes.get(name) != value for name, value in facts["sizes"].items()):          # an older one states less
        raise ValueError(f"pretrained={folder} has sizes={facts['sizes']}, this run has {asdict(setup.task.sizes)}; "
                         "they must agree")


def _pretrain(setup: Setup, folder: Path) -> None:
    policy = fresh(setup)
    algorithm = algos.make({"kind": "mle", "label_smoothing": setup.pretrain.label_smoothing})
    trainer = Trainer(policy, algorithm, SequenceEnv(setup.task, setup.device), setup.pretrain, "pretrain", setup.seed,
                      judge(setup, setup.pretrain), folder, setup.config["precision"],
                      accumulate=setup.config["accumulate"])
    trainer.run()
    keep(setup, trainer, folder)


def keep(setup: Setup, trainer: Trainer, folder: Path) -> None:
    """Write the finished checkpoint; the one of the run under way has served."""
    if dist.rank() == 0:
        write_checkpoint(folder, "model", trainer.policy.state_dict(), about(setup) | {
            "cost": asdict(trainer.cost), "curve": trainer.curve, "diagnostics": trainer.diagnostics})
        for name in ("last.json", "last.safetensors"):
            (folder / name).unlink(missing_ok=True)
    dist.barrier()


def keep_candidates(trainer: Trainer, folder: Path) -> None:
    """Write the last, best and averaged weights, for a report on all three."""
    if dist.rank() == 0:
        write_checkpoint(folder, "candidates", {f"{name}/{key}": value for name, state in trainer.candidates.items()
                                                for key, value in state.items()}, {})


def kept_candidates(folder: Path) -> dict[str, dict[str, Tensor]]:
    """What `keep_candidates` wrote; nothing for a run of a version that did not."""
    if not (folder / "candidates.json").is_file():
        return {}
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in read_checkpoint(folder, "candidates")[0].items():
        name, _, rest = key.partition("/")
        found.setdefault(name, {})[rest] = value
    return found
