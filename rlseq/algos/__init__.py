"""The algorithms. `conf/algo/*.yaml` is their registry; `kind` there names a module here (or one of your package)."""

import importlib

from ..build import build
from .base import Algorithm


def make(options: dict[str, object]) -> Algorithm:
    """An algorithm from its options; `kind` names the module that holds the one class derived from Algorithm."""
    given = {name: value for name, value in options.items() if name != "kind"}
    return build(kind_of(str(options.get("kind", ""))), given, where="algo")


def kind_of(kind: str) -> type[Algorithm]:
    """The one class derived from Algorithm in a module; raises KeyError where there is none."""
    name = kind if "." in kind else f"{__name__}.{kind}"
    missing = KeyError(f"no algorithm module {kind!r}; algo.kind names a file of rlseq/algos or a module of yours")
    if not all(part.isidentifier() for part in name.split(".")):
        raise missing
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing from error
    found = [one for one in vars(module).values()
             if isinstance(one, type) and issubclass(one, Algorithm) and one is not Algorithm and one.__module__ == name]
    if len(found) != 1:
        raise KeyError(f"{name} must hold exactly one class derived from Algorithm, it holds {len(found)}")
    return found[0]
