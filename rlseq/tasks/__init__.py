"""The task registry: every folder of `tasks/`, and every entry point of the group `rlseq.tasks`.

A package may live elsewhere: `rlseq.tasks.hull` is the folder `tasks/hull` of the checkout (or of the wheel).
"""

import importlib
import pkgutil
import re
from importlib.metadata import entry_points

from ..build import build
from ..paths import TASKS
from ..task import Task

__path__ = [str(TASKS)]


def names() -> list[str]:
    """Names of all tasks, our own and those of installed packages."""
    own = {module.name for module in pkgutil.iter_modules(__path__) if module.ispkg}
    return sorted(own | {entry.name for entry in entry_points(group="rlseq.tasks")})


def task_class(name: str) -> type[Task]:
    """The class behind a name; raises KeyError naming what there is."""
    if name not in names():
        raise KeyError(f"no task {name!r}; there are: {', '.join(names())}. Put a new one in {TASKS}/<name>/.")
    for entry in entry_points(group="rlseq.tasks"):
        if entry.name == name:
            return entry.load()
    found = importlib.import_module(f"{__name__}.{name}").Task
    assert issubclass(found, Task), f"tasks/{name}/__init__.py must hold a `class Task(rlseq.task.Task)`"
    return found


def version(name: str) -> int:
    """The version of a task, read from its source: importing every task to list them would take seconds."""
    path = TASKS / name / "__init__.py"
    if not path.is_file():
        return task_class(name).version
    found = re.search(r"^    version\b.*=\s*(\d+)\s*(#.*)?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def make(name: str, options: dict[str, object] | None = None) -> Task:
    """A task built from its options, each checked against the constructor's signature."""
    return build(task_class(name), options or {}, where="task")
