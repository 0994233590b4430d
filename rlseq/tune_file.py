"""A sweep as a file says it: a base, what is varied around it, and the dev sets that tell. `rlseq.tune` says how it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from .build import nearest
from .paths import CONF
from .printable import printable
from .run import LITERAL

FOLDER = CONF / "sweep"
KEYS = ("base", "vary", "also", "dev")
ALONE = ("tracking=none", "compare=null", "controls=false", "beams=[]")      # unless the sweep or the user says otherwise


@dataclass(frozen=True)
class Setting:
    """A command line of rlseq.run, and what of it differs from the base."""

    label: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """A file of settings; the base is the first. `dev` holds options of the task by column."""

    name: str
    aim: str
    settings: Sequence[Setting]
    dev: Mapping[str, Mapping[str, object]]
    seeds: Sequence[str]


def names() -> list[str]:
    """The sweeps of conf/sweep."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shown(word: str) -> str:
    """A word without the place that it names, for files that are passed on."""
    name = word.partition("=")[0]
    return f"{name}=FOLDER" if name in LITERAL else word


def sweep_of(name: str, words: Sequence[str] = ()) -> Sweep:
    """The sweep of this name or path, with the user's words in its base. Raises KeyError where there is none, ValueError for
    what cannot be read."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        unknown = f"no sweep {printable(repr(name))}{nearest(name, names())}" if name else "name a sweep"
        raise KeyError(f"{unknown}; there are: {', '.join(names())}; or give a file, such as mine.yaml")
    content = path.read_text(encoding="utf-8", errors="replace")       # no word of rlseq.run holds what is replaced
    found = _mapping(path, content)
    base = merged(merged(ALONE, found["base"]), words)
    seeds = next((one.partition("=")[2].strip("[]").split(",") for one in base if one.startswith("seed=")), ["0"])
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seed={','.join(seeds)} names a seed twice, which says nothing of other seeds; give each once")
    if "resume=must" in base:
        raise ValueError("resume=must is for one run; a sweep takes what its table holds and trains the rest, so leave it out")
    base = [one for one in base if not one.startswith("seed=")]
    settings = [Setting("base", tuple(base))]
    for changed in [*([f"{option}={_word(value)}"] for option, values in found["vary"].items() for value in values),
                    *found["also"]]:
        settings.append(Setting(" ".join(changed), tuple(merged(base, changed))))
    if any(one.startswith("seed=") for setting in settings for one in setting.words):
        raise ValueError(f"{path}: seeds are averaged, not tried one by one; give seed=0,1 in the base or on the command line")
    if len({one.label for one in settings}) < len(settings):
        twice = next(one.label for one in settings if sum(one.label == other.label for other in settings) > 1)
        raise ValueError(f"{path}: the setting {twice} stands there twice")
    aim = " ".join(line.lstrip("# ") for line in content.splitlines() if line.startswith("#"))
    dev = {str(label): _options(path, label, own) for label, own in found["dev"].items()}
    return Sweep(path.stem, aim, settings, dev, seeds)


def merged(words: Sequence[str], more: Sequence[str]) -> list[str]:
    """The words with `more` in the place of those of the same name; another algorithm takes none of the old one's options."""
    given = {one.partition("=")[0] for one in more}
    old = "algo." if "algo" in given else "="                       # no word begins so
    return [*(one for one in words if one.partition("=")[0] not in given and not one.startswith(old)), *more]


def _mapping(path: Path, content: str) -> dict:
    """What a sweep's file holds; raises ValueError with its name and what is wrong."""
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as YAML ({error})") from None
    form = f"a sweep holds {', '.join(KEYS)}, and base is a list of words of rlseq.run, such as [task=sort, algo=reinforce]"
    if not isinstance(found, dict) or not _words(found.get("base")):
        raise ValueError(f"{path}: {form}")
    for name in found:
        if name not in KEYS:
            raise ValueError(f"{path}: unknown {printable(str(name))!r}{nearest(str(name), list(KEYS))}; {form}")
    found = {"vary": {}, "also": [], "dev": {"dev": []}} | {name: one for name, one in found.items() if one is not None}
    vary, also, dev = found["vary"], found["also"], found["dev"]
    if not isinstance(vary, dict) or not all(isinstance(one, list) and one for one in vary.values()):
        raise ValueError(f"{path}: vary holds a list of values by option, such as {{algo.k: [2, 4]}}")
    if not isinstance(also, list) or not all(one and _words(one) for one in also):
        raise ValueError(f"{path}: also holds lists of words, such as [[algo=mle], [algo=mle, plan.finetune.lr=3e-4]]")
    if not isinstance(dev, dict) or not dev or not all(map(_words, dev.values())):
        raise ValueError(f"{path}: dev holds lists of words by label, such as {{n = 100: [task.n_min=100, task.n_max=100]}}")
    return found


def _words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and "=" in one for one in value)


def _word(value: object) -> str:
    """A value of YAML as the command line has it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_word(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_word, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def _options(path: Path, label: object, words: Sequence[str]) -> dict[str, object]:
    """Options of the task for one dev set."""
    wrong = [one for one in words if not one.startswith("task.")]
    if wrong:
        raise ValueError(f"{path}: dev {label!r} takes options of the task, such as task.n_max=100, not {printable(wrong[0])}")
    return {name.removeprefix("task."): yaml.safe_load(value) for name, _, value in (one.partition("=") for one in words)}
