"""`python -m rlseq.run task=hull algo=reinforce`: compose the configuration, run it, write one result.

Nothing here imports torch, so that `--help` answers at once; `experiment` does, when there is something to run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from . import command, stopping
from .build import nearest
from .paths import CONF
from .patience import limited
from .printable import printable
from .say import speaks
from .sweeps import Failed, going_on, launched

APPLIED = ("recipe", "tuned", "sized", "fitted", "limit")      # groups that task, algo, experiment and plan choose
LITERAL = ("task.path", "pretrained", "results", "runs", "tracking.uri")     # their commas and braces are no grammar
GROUPS = ("task", "policy", "algo", "plan", "tracking", "experiment")
HYDRA = ("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info",
         "--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun")
Arranged = tuple[dict[str, object], dict[str, str], dict[str, dict[str, object]]]    # configuration, names, baselines
PLAIN = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)=(?P<value>.*)$", re.DOTALL)


def choices(group: str) -> list[str]:
    """The names that a config group holds."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def checked(arguments: list[str]) -> list[str]:
    """Arguments with every plain `name=value` allowed to add an option that no YAML states.

    A default lives in a constructor, not in YAML, so `algo.k=4` may name what the YAML does not; whether the option
    exists is checked when it is built. Raises KeyError for an unknown choice of a group, with the nearest one.
    """
    for one in arguments:
        _readable(one)
    sweep = [one for one in arguments if one in ("-m", "--multirun")]
    result = sweep[:1]                                       # Hydra wants it first
    rest = [one for one in arguments if one not in sweep]
    _apart([found for found in map(PLAIN.match, rest) if found])
    for before, argument in zip(["", *rest], rest, strict=False):
        found = PLAIN.match(argument)
        if found is None:
            if argument.startswith("--") and argument.split("=")[0] not in HYDRA:
                name = argument.lstrip("-").partition("=")[0]
                raise ValueError(f"{argument} is not known: options are name=value, such as {name}=VALUE; --help lists them")
            words = argument.startswith(("-", "~")) or before.startswith("-")       # Hydra's own: --cfg job, ~algo.k
            if not words and "=" not in argument:
                raise ValueError(f"{argument!r} is not of the form name=value, such as task=hull; --help lists what there is")
            result.append(argument)
            continue
        name, value = found["name"], found["value"]
        if name in APPLIED:
            raise KeyError(f"{name} is not chosen by hand: task, algo, experiment and plan choose it; override its options")
        if name == "sweep":
            raise KeyError(f"{argument} is no option of a run; python -m rlseq.tune {value or 'NAME'} runs such a sweep")
        if not sweep and name not in LITERAL and "," in value and not re.match(r"[\[{\"']|\w+\(", value):
            raise ValueError(f"{argument} is several values: for a run of each put -m first"
                             + ("" if name in GROUPS else f"; one list is {name}=[{value}]"))
        if name in LITERAL and not value.startswith(("'", '"')) and value != "null":
            argument = f"{name}={json.dumps(value, ensure_ascii=False)}"
        if name in GROUPS:
            for one in [] if re.match(r"\w+\([^\[{]*$", value) else value.split(","):     # Hydra's sweeps: glob(*), choice(...)
                if one not in [*choices(name), *(["null"] if name == "experiment" else [])]:
                    raise KeyError(f"no {name} {one!r}{nearest(one, choices(name))}; there are: {', '.join(choices(name))}")
            result.append(argument)
        else:
            result.append(argument if name.startswith("hydra") else "++" + argument)
    return result


def _readable(argument: str) -> None:
    """Raises ValueError for what no file can hold, or what would bring in more than the command line says."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{argument} is not UTF-8; write names and paths in UTF-8") from None
    if re.search(r"\$\{\s*oc\.env\b", argument):
        raise ValueError(f"{argument}: a configuration is kept in results and MLflow, so it takes nothing from the environment "
                         "by itself; let the shell fill it in, such as task.path=$HOME/data")
    if re.search(r"=range\([^)]*(\d{6}|e\+?\d)", argument):
        raise ValueError(f"{argument} is a run for each of its numbers, and so many are held in memory; sweep over fewer")


def _apart(given: list[re.Match]) -> None:
    """Raises ValueError for `algo.kl=0.05 algo.kl.where=both`: of the two, the later takes the other's place."""
    plain = [one for one in given if one["name"] not in GROUPS and not one["value"].startswith("{")]
    for one in plain:
        inner = next((other[0] for other in given if other["name"].startswith(one["name"] + ".")), None)
        if inner:
            name = "weight" if one["name"].endswith((".kl", ".entropy")) else "start"
            raise ValueError(f"{one[0]} and {inner} do not add up, the later takes the other's place; write "
                             f"{one['name']}.{name}={one['value']} {inner}")


def composed(config: DictConfig) -> dict[str, object]:
    """A plain dictionary, references resolved."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    plain.pop("hydra", None)
    return plain


def baselines(config: DictConfig, algorithm: str, words: Sequence[str]) -> dict[str, dict[str, object]]:
    """The algorithms to compare with, each with the configuration of the same command line, its overrides, but for `algo`; MLE
    is among them where controls may be wanted."""
    known = choices("algo")
    if config.compare and config.compare not in known:
        raise KeyError(f"compare={config.compare} is no algorithm{nearest(str(config.compare), known)}; "
                       f"there are: {', '.join(known)}, or null")
    asked = config.controls if config.controls != "auto" else config.compare
    wanted = dict.fromkeys(filter(None, [config.compare, "mle" if asked else None]))
    kept = [one for one in words if not re.match(r"\+*algo[.=]", one)]
    return {name: composed(hydra.compose("config", overrides=[*kept, f"algo={name}"])) for name in wanted if name != algorithm}


def arranged(config: DictConfig, around: DictConfig) -> Arranged:
    """What `experiment.run` takes, of a composed configuration and of Hydra's own part beside it."""
    names = {group: str(around.runtime.choices[group]) for group in GROUPS if group in around.runtime.choices}
    return composed(config), names, baselines(config, names["algo"], around.overrides.task)


def read(words: Sequence[str]) -> Arranged:
    """The same of the words of a command line, for another command that runs what they say; it is no sweep."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", overrides=checked(list(words)), return_hydra_config=True)
        return arranged(OmegaConf.masked_copy(config, [one for one in config if one != "hydra"]), config.hydra)


def sweeping() -> str:
    """The overrides of this run of a sweep; empty for one that is alone."""
    return " ".join(HydraConfig.get().overrides.task) if HydraConfig.get().mode == RunMode.MULTIRUN else ""


def continues() -> str:
    """How to go on with this command after it was stopped."""
    words = sys.orig_argv
    if "rlseq.run" not in words:                                # a sweep's worker: its own command line is not the user's
        return "the same command continues"
    words = [one for one in words if one != "resume=never"]     # that would begin anew
    if "TORCHELASTIC_RUN_ID" in os.environ:
        ranks = ["torchrun", "--standalone", "--nproc-per-node", os.environ["LOCAL_WORLD_SIZE"]]
        words = [*ranks, *words[words.index("rlseq.run") - 1:]]
    return f"this continues: {shlex.join(words)}"


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def launch(config: DictConfig) -> None:
    with going_on(sweeping()), one_line(), stopping.signals(continues()):
        from . import experiment  # imports torch: not for --help

        ready = arranged(config, HydraConfig.get())
        with limited(config.reward_limit):
            experiment.run(*ready)


@contextmanager
def one_line() -> Iterator[None]:
    """As every command has it; Hydra's complaints are about the command line, and a stopped run says how it goes on."""
    try:
        with command.one_line(more=(HydraException, OmegaConfBaseException, Failed)):
            try:
                yield
            except OverrideParseException as error:
                raise ValueError(f"{printable(error.override)} cannot be read ({str(error).splitlines()[0]}); close what is "
                                 "open, and put quotes around what is text: name='\"a [text\"'") from None
    except KeyboardInterrupt as error:
        if speaks():
            print(f"rlseq: stopped; {continues()}", file=sys.stderr)
        raise SystemExit(getattr(error, "code", 130)) from None


def main() -> None:
    """The command."""
    os.environ["HYDRA_FULL_ERROR"] = "1"                   # let errors come here instead of Hydra's own traceback
    usual, argparse.ArgumentParser.error = argparse.ArgumentParser.error, command.Parser.error     # for Hydra's flags too
    try:
        with one_line():
            sys.argv[1:] = checked(sys.argv[1:])
            with launched():
                launch()
    finally:
        argparse.ArgumentParser.error = usual


if __name__ == "__main__":
    main()
