"""The checkpoint that every algorithm of a comparison starts from: trained with MLE, found, or named by the user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from . import __version__, algos, dist
from .checkpoint import (
    differences,
    drop_numbered,
    left_numbered,
    packed,
    read_checkpoint,
    unpacked,
    write_checkpoint,
)
from .env import SequenceEnv
from .evaluate import Evaluation
from .identity import named, pretrained_folder, pretraining, under_way, working_in
from .provenance import flat
from .setup import Setup, about, fresh, judge, test
from .train import Cost, Trainer


@dataclass(frozen=True)
class Pretrained:
    """The checkpoint that every algorithm of a comparison starts from, and how well it does."""

    hash: str                            # of the configuration, or of the weights that the user named
    weights: str                         # hash of the weights: code changes, and with it what a configuration makes
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
        folder = pretrained_folder(setup)
        identity = folder.name.rpartition("-")[2]
        if dist.told(not (folder / "model.json").is_file() or bool(left_numbered(folder, "last"))):
            with working_in(folder, setup, pretraining(setup), config["resume"] == "never" and under_way(folder)):
                if dist.told(not (folder / "model.json").is_file()):               # another job may have made it meanwhile
                    _pretrain(setup, folder)
                elif dist.rank() == 0:
                    drop_numbered(folder, "last")                 # a run killed at its very end left them
        tensors, facts = read_checkpoint(folder, "model")
    policy = fresh(setup)
    try:
        policy.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {folder} of rlseq {facts['rlseq']} does not fit policy={setup.names['policy']} of rlseq "
                         f"{__version__}; take the policy options it was made with ({str(error).splitlines()[-1].strip()})"
                         ) from None
    return Pretrained(identity, facts["sha256"][:12], folder, Cost(**facts["cost"]), facts["curve"], facts["commit"][0],
                      test(setup, policy))


def adopt(setup: Setup, facts: dict[str, object], folder: Path) -> None:
    """Check that a checkpoint of the user's answers this task, and take over its tokenizer.

    Raises ValueError naming what differs.
    """
    if missing := {"task", "task_version", "task_state", "shape", "sizes", "cost", "curve", "commit", "rlseq"} - set(facts):
        raise ValueError(f"pretrained={folder} is no checkpoint of a run: its notes lack {', '.join(sorted(missing))}")
    kinds = [flat({"task": one["task"], "task_version": one["task_version"], "shape": setup.shape.weighty(one["shape"])})
             for one in (facts, about(setup))]
    if differ := differences(*kinds):
        raise ValueError(f"pretrained={folder} is of another kind: {'; '.join(differ)}; they must agree")
    if facts["task_state"]:
        setup.task.restore(facts["task_state"])
    mine = asdict(setup.task.sizes)
    if differ := differences(facts["sizes"], {key: mine[key] for key in facts["sizes"] if key in mine}):   # older: says less
        raise ValueError(f"pretrained={folder} is of other sizes: {'; '.join(differ)}; they must agree")


def _pretrain(setup: Setup, folder: Path) -> None:
    policy = fresh(setup)
    algorithm = algos.make({"kind": "mle", "label_smoothing": setup.pretrain.label_smoothing,
                            "consistency": setup.pretrain.consistency})
    trainer = Trainer(policy, algorithm, SequenceEnv(setup.task, setup.device), setup.pretrain, "pretrain", setup.seed,
                      judge(setup, setup.pretrain), folder, setup.config["precision"], identity=named(pretraining(setup)),
                      accumulate=setup.config["accumulate"], shard=setup.config["shard"])
    trainer.run()
    keep(setup, trainer, folder)


def keep(setup: Setup, trainer: Trainer, folder: Path, candidates: bool = False) -> None:
    """Write the finished checkpoint; with `candidates`, before it, the last, best and averaged weights for a report on all
    three. Those of the run under way have served; cut short before they are gone, the run ends again from them, as it did."""
    if dist.rank() == 0:
        if candidates:
            write_checkpoint(folder, "candidates", packed(trainer.candidates), {})
        write_checkpoint(folder, "model", trainer.policy.state_dict(), about(setup) | {
            "cost": asdict(trainer.cost), "curve": trainer.curve, "diagnostics": trainer.diagnostics,
            "identity": trainer.identity})
        drop_numbered(folder, "last")
    dist.barrier()


def kept_candidates(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The last, best and averaged weights; nothing for a run of a version that did not write them."""
    if not (folder / "candidates.json").is_file():
        return {}
    found = unpacked(read_checkpoint(folder, "candidates")[0])
    return {name: found[name] for name in ("last", "best", "averaged") if name in found}
