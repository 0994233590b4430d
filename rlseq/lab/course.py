"""The course of the laboratory: which problems, how much effort, and all of it done."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .. import __version__, algos
from ..build import nearest
from ..files import write_whole
from ..provenance import hardware, now, revision
from .estimators import Estimator, Grid, Options, estimators, registry
from .figure import figure
from .kl import pulls, values
from .measure import Bench, Effort, Measured, measure
from .page import Lab, head, heading, line, write
from .problems import SHAPES, Problem, Scene, make_scene
from .rows import broken, make_row
from .slopes import Slopes

PAIR = Problem("pair", actions=3, steps=3, rule=True, sources=1)
RULE = Problem("rule", actions=5, steps=5, rule=True, sources=3)
LARGE = Problem("large", actions=11, steps=4, rule=False, sources=1)
ALL = ("sum", "constant", "sequence", "token")


@dataclass(frozen=True)
class Part:
    """A problem, what is measured on it, and with which effort."""

    problem: Problem
    grid: Grid
    effort: Effort
    shapes: tuple[str, ...] = tuple(SHAPES)


PLANS: Mapping[str, tuple[Part, ...]] = {
    "smoke": (Part(PAIR, Grid((1, 2), ("sum",), False, 3), Effort(200, 24, 10, 1), ("transformer",)),
              Part(PAIR, Grid((2,), ("sum",), False, 3), Effort(200, 24, 10, 1), ("lstm",))),
    "default": (Part(PAIR, Grid((1, 2, 4, 8), ALL, True, 3), Effort(500, 50, 50, 2)),
                Part(RULE, Grid((1, 8), ("sum", "token"), True, 5), Effort(600, 50, 50, 2)),
                Part(LARGE, Grid((1, 4), ("sum",), False, 4), Effort(300, 30, 50, 2)))}


def chosen(names: str) -> dict[str, Options]:
    """The algorithms named, separated by commas; all of conf/algo for none. Raises KeyError for an unknown one."""
    known = registry()
    wanted = [one.strip() for one in names.split(",") if one.strip()]
    for one in wanted:
        if one not in known:
            raise KeyError(f"no algorithm {one!r}{nearest(one, list(known))}; there are: {', '.join(known)}")
    return {name: known[name] for name in wanted} if wanted else known


def aloud(said: str) -> None:
    """Seen at once, also through a pipe."""
    print(said, flush=True)


def run(plan: str, seed: int, wanted: Mapping[str, Options], folder: Path,
        say: Callable[[str], None] = aloud) -> int:
    """Measure and write; 0, or 1 where what claims to be unbiased is not."""
    start, parts = time.perf_counter(), PLANS[plan]
    torch.set_num_threads(1)                                     # the tensors are tiny
    lab = Lab({}, [], [], [], [], [])
    for part in parts:
        for shape in part.shapes:
            scene = make_scene(part.problem, shape, seed)
            study(part, scene, estimators(part.grid, wanted), seed, lab, say)
    lab.broken.extend(broken(lab.rows, lab.pulls))
    commit, changed = revision()
    lab.about.update({
        "command": f"python -m rlseq.lab plan={plan}" + (f" seed={seed}" if seed else ""),
        "commit": commit + (" with changes" if changed else ""), "date": now(), "seed": seed,
        "versions": f"rlseq {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": hardware(torch.device("cpu")), "precision": "float64; rewards and weights of tokens float32",
        "seconds": round(time.perf_counter() - start)})
    write(folder, lab)
    write_whole(folder / "lab.svg", figure(lab.rows))
    say(f"\n{len(lab.rows)} measurements in {lab.about['seconds']} s -> {folder / 'lab.md'}, lab.json and lab.svg")
    for one in lab.broken:
        print(f"BIASED {one}", file=sys.stderr)
    return int(bool(lab.broken))


def study(part: Part, scene: Scene, ones: list[Estimator], seed: int, lab: Lab, say: Callable[[str], None]) -> None:
    """All estimators on one scene."""
    facts = {"problem": scene.problem.name, "policy": scene.shape, **asdict(scene.problem), **scene.facts}
    lab.scenes.append({name: value for name, value in facts.items() if name != "name"})
    say(f"\n{heading(facts)}\n{head()}")
    slopes = Slopes(scene.policy, scene.env)
    for one in ones:
        lab.rows.append(make_row(scene, one, examined(part, scene, slopes, one, seed)))
        say(line(lab.rows[-1]))
    few = scene.problem.sources == 1 and scene.facts["answers"] <= 100 and 1 in part.grid.ks         # for KL's exact tables
    if few and "reinforce" in {one.name for one in ones}:
        where = f"{scene.problem.name}, {scene.shape}"
        lab.values.extend((where, one) for one in values(scene))
        lab.pulls.extend((where, one) for one in pulls(scene, slopes))


def examined(part: Part, scene: Scene, slopes: Slopes, one: Estimator, seed: int) -> Measured:
    """One estimator; its anchor, if it has one, is the pretrained policy."""
    torch.manual_seed(seed)
    algorithm: algos.Algorithm = one.make()
    algorithm.prepare(scene.anchor)
    return measure(Bench(scene, slopes, algorithm.double(), scene.behind if one.stale else scene.policy), part.effort, seed)
