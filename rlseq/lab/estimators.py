"""Which estimators are measured: every algorithm of conf/algo, its options varied, and what each claims to be.

An algorithm says itself why it is biased, if it is by design (`Algorithm.bias`); what options do to it stands here.
What claims to be unbiased is held to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args, get_type_hints

import yaml

from .. import algos
from ..build import names
from ..paths import CONF

Options = dict[str, object]
Kind = Literal["unbiased", "biased by design", "another objective"]

OTHER = {                      # what these descend is no expected reward, or that of something else than the answers
    "mle": "the likelihood of references", "attention_reg": "the likelihood of references and even attention",
    "coverage": "the likelihood of references and attention that does not return",
    "scheduled_sampling": "the likelihood of references, fed own guesses", "raml": "", "best_of_n": "", "dagger": "",
    "mixer": "the likelihood of reference prefixes and the reward of what follows them"}
MORE = {"entropy": "that of the entropy", "mle_weight": "that of the references' likelihood", "kl": "that of the KL"}
CROSSED = ("baseline", "normalise", "k")       # every combination of these is measured
VARIED: tuple[Options, ...] = (                # and one of these at a time
    {"alpha": 0.05}, {"alpha": 1.0}, {"reference": False}, {"unique": False}, {"std": False}, {"payoff": "reward"},
    {"beat": "greedy"}, {"rate": 0.3}, {"critic": {"trace": 1.0}}, {"critic": {"trace": 0.5}}, {"reuse": {"clip": 0.05}},
    {"std": False, "normalise": "constant"}, {"reference": False, "unique": False, "alpha": 1.0})
SAMPLED: tuple[Options, ...] = (               # and of these, on the plain policy gradient
    {"signal": {"shaping": "prefix"}}, {"signal": {"scale": "batch"}}, {"signal": {"clip": 0.5}}, {"temperature": 0.7},
    {"temperature": 1.5, "off_policy": "allow"}, {"entropy": 0.05}, {"mle_weight": 0.1})


@dataclass(frozen=True)
class Estimator:
    """An algorithm with its options; `stale` where answers were drawn by the policy of one step before."""

    name: str                  # of the YAML
    options: Mapping[str, object]
    claim: Kind
    reason: str
    stale: bool = False

    @property
    def label(self) -> str:
        """What differs from the YAML's own kind: `reinforce k=2 baseline=greedy normalise=sum`."""
        words = [f"{name}={_said(value)}" for name, value in self.options.items() if name not in ("kind", "constant")]
        return " ".join([self.name, *words, *(["stale"] if self.stale else [])])

    def make(self) -> algos.Algorithm:
        return algos.make(dict(self.options))


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{_said(one)}" for name, one in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def registry() -> dict[str, Options]:
    """conf/algo: name -> options."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((CONF / "algo").glob("*.yaml"))}


@dataclass(frozen=True)
class Grid:
    """What of it is measured: numbers of answers, normalisations (none: the algorithm's own), whether options are varied."""

    ks: tuple[int, ...]
    normalise: tuple[str, ...]
    varied: bool
    steps: int                 # of the longest answer: what normalise=constant divides by


def estimators(grid: Grid, wanted: Mapping[str, Options]) -> list[Estimator]:
    """All that can be built, each once. Presets of a kind (a YAML that is not named for it) are taken as they are."""
    found: dict[str, Estimator] = {}
    ordered = sorted(wanted.items(), key=lambda one: (str(one[1]["kind"]).split(".")[-1] != one[0], one[0]))
    for name, options in ordered:
        own = str(options["kind"]).split(".")[-1] == name
        for changed in _variants(options, grid) if own else [options]:
            if one := _built(name, changed, grid.steps):
                found.setdefault(_key(one), one)
    fresh = list(found.values())
    again = [one for one in fresh if one.make().passes > 1 and one.options.get("normalise") in (None, "sum")]
    return fresh + [replace(one, claim="biased by design", reason="on answers of the policy one step before, by clipped ratios",
                            stale=True) for one in again]


def _variants(options: Options, grid: Grid) -> Iterator[Options]:
    """Combinations of k, baseline and normalisation, then other options around the YAML's own."""
    kind = algos.kind_of(str(options["kind"]))
    known = names(kind)
    choices = {"baseline": get_args(get_type_hints(kind.__init__).get("baseline")), "normalise": grid.normalise, "k": grid.ks}
    if options["kind"] in OTHER:                               # how its length is normalised says nothing of grad J
        choices["normalise"] = ()
    crossed = [name for name in CROSSED if name in known and choices[name]]
    for values in itertools.product(*(choices[name] for name in crossed)) if crossed else ():
        yield _sized({**options, **dict(zip(crossed, values))}, known, grid)
    middle = {**options, **({"k": grid.ks[len(grid.ks) // 2]} if "k" in known else {})}
    yield middle
    if grid.varied:
        for change in VARIED + (SAMPLED if "baseline" in known and options["kind"] not in OTHER else ()):
            if set(change) <= set(known):
                yield _sized({**middle, **change}, known, grid)


def _sized(options: Options, known: list[str], grid: Grid) -> Options:
    by_constant = options.get("normalise") == "constant" and "constant" in known
    return {**options, "constant": grid.steps} if by_constant else options


def _built(name: str, options: Options, steps: int) -> Estimator | None:
    """The estimator; None where the algorithm refuses these options."""
    try:
        algorithm = algos.make(dict(options))
    except ValueError:
        return None
    if options.get("normalise") == "constant" and not hasattr(algorithm, "constant"):
        return None
    return Estimator(name, options, *claim(str(options["kind"]).split(".")[-1], options, algorithm))


def _key(one: Estimator) -> str:
    """Equal for estimators that are the same algorithm with the same options, said or by default."""
    algorithm = one.make()
    own = {name: value for name, value in vars(algorithm).items() if not name.startswith("_")}
    return repr((type(algorithm).__name__, own, getattr(getattr(algorithm, "sampler", None), "options", None)))


def claim(kind: str, options: Mapping[str, object], algorithm: algos.Algorithm) -> tuple[Kind, str]:
    """Whether the expected update is grad J, and if not, why."""
    if kind in OTHER:
        return "another objective", OTHER[kind] or algorithm.bias
    signal, normalise = options.get("signal") or {}, getattr(algorithm, "normalise", "sum")
    reasons = [algorithm.bias] if algorithm.bias else []
    if normalise == "token":
        reasons.append("divided by the tokens of the batch, which the answers themselves decide")
    if normalise == "sequence" and "length" not in algorithm.bias:
        reasons.append("each answer divided by its length")
    if normalise == "constant":
        reasons.append("divided by a constant length")
    if options.get("temperature"):
        reasons.append("weights cut at most_weight" if options.get("off_policy") == "allow" else "J of the tempered policy")
    if signal.get("scale"):
        reasons.append("divided by a standard deviation that holds the answers themselves")
    if signal.get("clip"):
        reasons.append("clipped rewards")
    reasons += [f"grad J and {more}" for name, more in MORE.items() if options.get(name)]
    return ("biased by design", "; ".join(reasons)) if reasons else ("unbiased", "")
