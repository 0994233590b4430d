"""One run from a composed configuration: pretrain or load, fine-tune, evaluate, write the result, say what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml

from . import __version__, controls, dist, files, locks, resampling, results, stats, tracking
from .checkpoint import drop_numbered, read_checkpoint
from .diagnostics import Probe
from .env import SequenceEnv
from .evaluate import Evaluation, lower_is_better, measure
from .explorer import sampled_groups
from .identity import (
    checkpoint_folder,
    finetuning,
    finished,
    must_resume,
    named,
    pretrained_folder,
    run_hash,
    start_of,
    tags,
    under_way,
    working_in,
)
from .nn.policy import Policy
from .pictures import best_median_worst
from .pretrain import Pretrained, keep, kept_candidates, pretrain
from .provenance import flat, hardware, now, revision
from .report_text import main_table
from .setup import Setup, check, fresh, judge, test
from .train import Cost, Trainer, precision_context
from .variants import Also, also
from .verdicts import course, verdicts

ALIKE, MOST_ALIKE = 0.8, 0.95          # how two systems' scores correlate over problems: before any were seen, and at most


def run(config: dict[str, object], names: Mapping[str, str],
        baselines: Mapping[str, dict[str, object]] | None = None) -> list[results.Result]:
    """Run a configuration, and before it the baselines {algorithm: its configuration} that it is compared with, after it
    its controls, unless they were done; returns the results, the configuration's own last, and prints them."""
    planned = planned_of(config, names, baselines or {})
    setup, kinds, beside, paid = planned.own, planned.kinds, planned.beside, planned.paid
    setup.algorithm.prepare(fresh(setup))                  # an algorithm that does not fit the policy says so before work
    for name in ("results", "runs"):
        files.check_writable(Path(config[name]), name)
    dist.start(setup.device)
    try:
        if config["resume"] == "must":
            check_begun(setup, [*beside.values(), *paid])
        pretrained, mle = pretrain(setup), beside.get("mle") if "temperature" in kinds else None
        if dist.rank() == 0 and (kinds or config["controls"] not in ("auto", False, None, [])):
            print(announced(names["algo"], kinds))
        found = [done(one, pretrained, weights=one is mle) for one in beside.values()]
        if dist.rank() == 0:
            print(least_gain(setup, pretrained, next((one for one in found if one.algo == "mle"), None)))
        rival = None if mle is None else checkpoint_folder(mle, pretrained.hash)
        own = done(setup, pretrained, own=True, mle=rival)
        found += [*(done(one, pretrained) for one in paid), own]
        if dist.rank() == 0:
            print("\n" + main_table(found, {name: measure(setup.task, name).score for name in [*setup.task.metrics, "nll"]}))
            _where(setup, found, checkpoint_folder(setup, pretrained.hash))
    finally:
        dist.stop()
        resampling.forget()                                # the next run of a sweep may need the memory
    return found


@dataclass(frozen=True)
class Planned:
    """All that a command runs."""

    own: Setup
    kinds: list[str]                     # of its controls
    beside: dict[str, Setup]             # the baselines that it is compared with, by algorithm
    paid: list[Setup]                    # controls that are runs of their own

    def finished(self) -> list[results.Result] | None:
        """The results that `run` would return, where all of them were written before; nothing is trained for it."""
        pretrained = start_of(self.own)
        found = [finished(one, pretrained) for one in (*self.beside.values(), *self.paid, self.own)]
        return found if all(found) else None


def planned_of(config: dict[str, object], names: Mapping[str, str], baselines: Mapping[str, dict[str, object]]) -> Planned:
    """What a configuration asks for, checked; raises as `check` does."""
    setup = check(config, names)
    kinds = controls.wanted(setup)
    beside = {name: replace(check(one, {**names, "algo": name}), task=setup.task)      # same task, same tokenizer
              for name, one in baselines.items() if name == config["compare"] or name == "mle" and kinds}
    return Planned(setup, kinds, beside, [controls.controlled(setup, kind) for kind in kinds if kind in controls.PAID])


def announced(algo: str, kinds: Sequence[str]) -> str:
    """Which controls will run; none is said where they were asked for, and no reward reaches the algorithm."""
    said = f"{', '.join(kinds)} (controls=false leaves them out)" if kinds else "none, for no reward reaches it"
    return f"controls of {algo}: {said}"


def least_gain(setup: Setup, pretrained: Pretrained, mle: results.Result | None, counts: tuple[int, ...] = (1, 3, 5)) -> str:
    """What gain a sweep over so many seeds can see on the headline split, and below it what that assumes."""
    split, metric = setup.tests[0], next(iter(setup.task.metrics))
    score, rows = measure(setup.task, metric).score, pretrained.before[split].rows[metric]
    if stats.detectable(rows, score) < 1e-9:
        return f"every resample of {split} has the pretrained policy at the same {metric}: what gain it shows is not known yet"
    alike, how = ALIKE, "assumed"
    if mle is not None and mle.rows[f"after/{split}/{metric}"].shape == rows.shape:
        measured = stats.correlation(rows, mle.rows[f"after/{split}/{metric}"], score)
        if measured == measured:                           # not NaN, which it is where one of them has a flat score
            alike, how = min(max(measured, 0.0), MOST_ALIKE), "measured: pretrained and MLE continued"
    seen = [f"{stats.detectable(rows, score, count, alike):.2g} by {count} seed{'s' * (count > 1)} x {len(rows)} problems"
            + " (of that seed alone)" * (count == 1) for count in counts]
    return (f"the least gain in {metric} on {split} that shows at 80 % power: {', '.join(seen)}\n  if two systems correlate by "
            f"{alike:.2f} over problems ({how}) and seeds differ in nothing else")


def check_begun(setup: Setup, others: Sequence[Setup]) -> None:
    """Raises ValueError where nothing of this command was begun, as far as that is known before pretraining."""
    pretrained = start_of(setup)
    beside = [pretrained_folder(setup), *(checkpoint_folder(one, pretrained) for one in others)]
    must_resume(checkpoint_folder(setup, pretrained), beside, finetuning(setup, pretrained))


def done(setup: Setup, pretrained: Pretrained, own: bool = False, weights: bool = False, mle: Path | None = None
         ) -> results.Result:
    """The result of a configuration: made, or taken from its file unless it is the command's `own`; with `weights` its
    checkpoint must lie there too. `mle` is the folder of MLE continued where samples are to be compared with its own."""
    folder = checkpoint_folder(setup, pretrained.hash)

    def written() -> results.Result | None:
        looked = dist.rank() == 0 and not own and (not weights or (folder / "model.json").is_file())
        return dist.told(finished(setup, pretrained.hash) if looked else None)     # ranks may see a new file at other times
    found = written()
    if found is None:
        anew = setup.config["resume"] == "never" and (own or under_way(folder))
        with working_in(folder, setup, finetuning(setup, pretrained.hash), anew):
            found = written() or finetune(setup, pretrained, folder, mle)      # another job of a sweep may have made it
    return found


def finetune(setup: Setup, pretrained: Pretrained, folder: Path, mle: Path | None) -> results.Result:
    """Fine-tune from the checkpoint, evaluate, write the result and record it."""
    started, names = now(), setup.names
    policy = fresh(setup)
    policy.load_state_dict(read_checkpoint(pretrained.folder, "model")[0])
    uri = setup.config["tracking"]["uri"] if dist.rank() == 0 else "none"
    tracker = tracking.open_tracker(uri, f"rlseq/{setup.task.name}-v{setup.task.version}")
    tracker.start(folder, f"{setup.task.name}/{names['policy']}/{names['algo']}/{setup.seed}", flat(setup.config), tags(setup),
                  yaml.safe_dump(setup.config, sort_keys=False))
    try:
        tracker.points([(point["updates"], {f"pretrain/{key}": point[key] for key in ("loss", "dev")})
                        for point in pretrained.curve])
        trainer, commit = trained(setup, pretrained, policy, folder, tracker)
        after = test(setup, policy)
        rival = None if mle is None else fresh(setup)
        if rival is not None:
            rival.load_state_dict(read_checkpoint(mle, "model")[0])
        extra = also(setup, policy, after[setup.tests[0]], trainer.candidates, rival)
        result = judged(setup, pretrained, after, extra, trainer, started, commit)
        if dist.rank() == 0:
            record(setup, result, after[setup.tests[0]].shown, tracker, folder)
    except BaseException as error:
        tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        raise
    tracker.finish()
    return result


def trained(setup: Setup, pretrained: Pretrained, policy: Policy, folder: Path, tracker: tracking.Tracker
            ) -> tuple[Trainer, tuple[str, bool]]:
    """Train the policy, or give it the weights that lie in the folder; its trainer, and the commit of the code that did it."""
    env = SequenceEnv(setup.task, setup.device, static=setup.config["cuda_graphs"], reward=setup.control)
    name = setup.names["algo"].removesuffix(f"+{setup.control}")          # a control draws the same random numbers
    trainer = Trainer(policy, setup.algorithm, env, setup.finetune, name, setup.seed,
                      judge(setup, setup.finetune), folder, setup.config["precision"], tracker.follow,
                      probe=Probe(setup.task, setup.device), identity=named(finetuning(setup, pretrained.hash)),
                      accumulate=setup.config["accumulate"], shard=setup.config["shard"])
    if dist.told(not (folder / "model.json").is_file()):
        trainer.run()
        keep(setup, trainer, folder, candidates=True)
        return trainer, revision()
    tensors, facts = read_checkpoint(folder, "model")
    policy.load_state_dict(tensors)
    trainer.candidates = kept_candidates(folder)
    trainer.cost, trainer.curve, commit = Cost(**facts["cost"]), facts["curve"], tuple(facts["commit"])
    trainer.diagnostics = facts.get("diagnostics", {})                    # older checkpoints have none
    if dist.rank() == 0:
        drop_numbered(folder, "last")                                     # a run killed at its very end left them
        print(f"{setup.names['algo']}: already trained (commit {commit[0]}), weights from {folder}; resume=never trains again")
    return trainer, commit


def judged(setup: Setup, pretrained: Pretrained, after: dict[str, Evaluation], extra: Also, trainer: Trainer,
           started: str, commit: tuple[str, bool]) -> results.Result:
    """Write down everything about the run; `commit` is of the code that trained it."""
    task = setup.task
    common = {"task": f"{task.name}-v{task.version}", "data": task.fingerprint, "decode": setup.decoding,
              "reward": task.reward_name, "head": setup.shape.head, "pretrained": f"updates={pretrained.cost.updates}",
              "budget": f"updates={trainer.cost.updates}", "seed": setup.seed, "rlseq": __version__, "commit": commit[0]}

    def metric(name: str, score: float) -> dict[str, object]:
        exact = task.reward_name if name == "reward" else measure(task, name).signature
        return {"score": score, "signature": exact} | ({"lower": True} if lower_is_better(task, name) else {})

    def said(stage: dict[str, Evaluation]) -> dict[str, object]:
        return {split: {
            "signature": results.signature({"split": split, "n": one.n} | common), "n": one.n,
            "metrics": {name: metric(name, score) for name, score in one.scores.items()}} for split, one in stage.items()}

    result = results.Result(
        task=task.name, task_version=task.version, policy=setup.names["policy"], algo=setup.names["algo"], seed=setup.seed,
        plan=setup.names["plan"], data=task.fingerprint, reward=task.reward_name,
        hash=run_hash(setup, pretrained.hash), rlseq=__version__, commit=commit[0], dirty=commit[1], torch=torch.__version__,
        hardware=hardware(setup.device), device=setup.device.type, precision=setup.config["precision"], started=started,
        finished=now(), config=setup.config, task_options=dict(setup.config["task"]),
        pretrained={"hash": pretrained.hash, "weights": pretrained.weights, "commit": pretrained.commit,
                    "cost": asdict(pretrained.cost)},
        cost=asdict(trainer.cost),
        before=said(pretrained.before), after=said(after), curve=[*pretrained.curve, *trainer.curve],
        samples=after[setup.tests[0]].shown if task.public else [], pictures=[], primary=next(iter(task.metrics)),
        tests=setup.tests, diagnostics=trainer.diagnostics, control="" if setup.control == "own" else setup.control,
        variants=extra.variants, beams=extra.beams, matched=extra.matched)
    rows = {f"{stage}/{split}/{name}": value for stage, found in (("before", pretrained.before), ("after", after))
            for split, one in found.items() for name, value in one.rows.items()} | extra.rows
    if dist.rank() > 0:
        return replace(result, rows=rows)
    home = Path(setup.config["results"])
    result = replace(result, groups=explored(setup, pretrained, trainer.policy))
    with locks.alone(results.place(result, home).parent):    # so that two configurations do not take the same place
        pictures = draw(setup, trainer.policy, after[setup.tests[0]], results.place(result, home).with_suffix(".png"))
        return results.read(results.write(replace(result, pictures=[one.name for one in pictures]), rows, home))


def draw(setup: Setup, policy: Policy, found: Evaluation, path: Path) -> list[Path]:
    """The best, the median and the worst answer of the headline split, where the task has pictures."""
    if not setup.task.has_plot:
        return []
    reward = found.rows["reward"][:, 0]
    order = np.argsort(-reward, kind="stable")
    env = SequenceEnv(setup.task, setup.device)
    with precision_context(setup.device, setup.config["precision"]):
        return [best_median_worst(setup.task, policy, env, setup.decoding, found.split, order, path)]


def explored(setup: Setup, pretrained: Pretrained, policy: Policy) -> list[dict[str, object]]:
    """Answers to a few problems before and after fine-tuning, for the report's explorer."""
    start = fresh(setup)
    start.load_state_dict(read_checkpoint(pretrained.folder, "model")[0])
    with precision_context(setup.device, setup.config["precision"]):
        return sampled_groups(setup.task, {"before": start, "after": policy}, setup.device, setup.seed)


def record(setup: Setup, result: results.Result, shown: list[dict[str, object]], tracker: tracking.Tracker,
           folder: Path) -> None:
    """Everything about a finished run that MLflow should hold."""
    path = results.place(result, Path(setup.config["results"]))
    tracker.points([(result.cost["updates"], {f"{split}/{name}{end}": stage[split]["metrics"][name]["score"]
                                              for split in result.tests for name in result.after[split]["metrics"]
                                              for end, stage in (("", result.after), ("/before", result.before))})])
    tracker.table("predictions", shown)
    for picture in result.pictures:
        tracker.picture(path.parent / picture)
    for file in (path, path.with_suffix(".npz")):
        tracker.artifact(file, tracking.RESULT)
    for name in ("model.safetensors", "model.json"):
        tracker.artifact(folder / name, "checkpoint")


def _where(setup: Setup, found: list[results.Result], folder: Path) -> None:
    result = found[-1]
    path = results.place(result, Path(setup.config["results"]))
    width = max(11, *(len(one.algo) for one in found))
    for one in found:
        options = " ".join(f"{key}={value}" for key, value in flat(one.config["algo"]).items() if key != "kind")
        print(f"{one.algo:<{width}} {options or 'defaults'}")
    print(f"result      {path}")
    for picture in result.pictures:
        print(f"pictures    {path.parent / picture}")
    print(f"checkpoint  {folder}")
    print(f"report      python -m rlseq.report --results {setup.config['results']}")
    print(f"doctor      python -m rlseq.doctor {path}")
    if command := tracking.ui_command(setup.config["tracking"]["uri"]):
        print(f"MLflow      {command}")
    if result.plan == "smoke":                             # four updates sicken any policy
        print("smoke       this combination runs to its end, which is all that plan=smoke shows: its numbers mean nothing")
        return
    for one in verdicts(course(str(path), result.curve, result.diagnostics)):
        if one.sick:
            print(f"ALARM       {one.name}: {one.says}")
