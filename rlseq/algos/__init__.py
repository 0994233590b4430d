"""The algorithms. `conf/algo/*.yaml` is their registry; `kind` there names a module here (or one of your package)."""

import importlib

from ..build import build
from .base import Algorithm


def make(options: dict[str, object]) -> Algorithm:
    """An algorithm from its options; `kind` names the module that holds the one class derived from Algorithm."""
    kind = str(options.get("kind", ""))
    name = kind if "." in kind else f"{__name__}.{kind}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise KeyError(f"no algorithm module {kind!r}; algo.kind names a file of rlseq/algos or a module of yours") from error
    found = [one for one in vars(module).values()
             if isinstance(one, type) and issubclass(one, Algorithm) and one.__module__ == name]
    if len(found) != 1:
        raise KeyError(f"{name} must hold exactly one class derived from Algorithm, it holds {len(found)}")
    return build(found[0], {name: value for name, value in options.items() if name != "kind"}, where="algo")
