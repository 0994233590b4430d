"""The house has floors and walls : a file imports only from lower floors or its own, and few have doors out."""

import ast
from functools import cache
from pathlib import Path

import pytest

from rlseq.paths import PACKAGE, TASKS

FLOORS = (                                             # a folder stands for all files in it
    {"memory", "parts", "paths", "types", "build", "files", "printable", "progress", "say", "schedule", "stopping",
     "sweeps", "__init__"},
    {"text", "reading", "resampling", "stats", "results", "rewards", "dist", "provenance", "journal", "verdicts",
     "record", "patience", "locks", "command", "kept", "table", "subwords"},
    {"task", "nn", "tasks"},                           # `tasks` here is the registry, rlseq/tasks/__init__.py
    {"env", "decode", "worth"},
    {"algos"},
    {"batches", "evaluate", "checkpoint", "server", "delivery", "tracking", "stage", "diagnostics", "descent", "shards",
     "train", "exact", "recovery"},
    {"report_groups", "report_scores", "report_svg", "report_style", "report_text", "report_tables",
     "report_figures", "report_explorer", "report_exposure", "report_html", "pictures", "setup", "identity",
     "pretrain", "controls", "variants", "comparisons", "experiment", "explorer", "published", "tune_table"},
    {"run", "replicate", "report", "predict", "doctor", "sync", "exposure", "tune", "tune_file", "tune_run", "lab",
     "__main__"},                                      # the commands
)
APART = {"task": {"nn"}, "tasks": {"nn"}, "nn": {"task", "tasks"}}         # on one floor, but never each other
FOR_TASKS = FLOORS[0] | FLOORS[1] | {"task"}           # what the folders of tasks/ may see
DOORS = {                                              # library -> the only files that may import it
    "hydra": {"run"}, "omegaconf": {"run"}, "mlflow": {"server", "delivery"}, "gymnasium": {"env"}, "transformers": set(),
    "sacrebleu": {"rewards/text"}, "rouge_score": {"rewards/rouge"}, "stable_baselines3": set(),
}
LONGEST = 300                                          # lines of a file
FILES = {path.relative_to(PACKAGE.parent).with_suffix("").as_posix(): path
         for root in (PACKAGE, TASKS) for path in sorted(root.rglob("*.py"))}


def room(module: str) -> str:
    """rlseq.nn.heads -> nn; rlseq itself -> __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__version__" else "__init__"


def floor(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    raise AssertionError(f"rlseq/{name} has no floor; give it one in {Path(__file__).name}")


def dotted(name: str) -> str:
    """The import name of a file: tasks/hull/data is rlseq.tasks.hull.data."""
    return ("rlseq." if name.startswith("tasks/") else "") + name.replace("/", ".").removesuffix(".__init__")


@cache
def tree(name: str) -> ast.AST:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported(name: str, parsed: ast.AST) -> set[str]:
    """Full names of the modules that a file imports, at the top or inside functions."""
    package = dotted(name).split(".")
    package = package if name.endswith("/__init__") else package[:-1]
    found = set()
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[:len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "rlseq" else {module}
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_from_lower_floors_or_its_own(name):
    modules = {module for module in imported(name, tree(name)) if module.split(".")[0] == "rlseq"}
    if name.startswith("tasks/"):
        own = ".".join(dotted(name).split(".")[:3])
        for module in modules:
            assert module.startswith(own) or room(module) in FOR_TASKS, f"{name} sees {module}"
        return
    own = room(dotted(name))
    for module in modules:
        there = room(module)
        assert floor(there) <= floor(own), f"{name} on floor {floor(own)} imports {module} on floor {floor(there)}"
        assert there not in APART.get(own, ()), f"{name} imports {module}"


@pytest.mark.parametrize("name", FILES)
def test_libraries_enter_by_one_door(name):
    for module in imported(name, tree(name)):
        library = module.split(".")[0]
        if library in DOORS:
            assert name.removeprefix("rlseq/") in DOORS[library], f"{name} imports {library}"


@pytest.mark.parametrize("name", FILES)
def test_files_are_short_and_hide_no_arguments(name):
    text = FILES[name].read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST, f"{name} has {text.count(chr(10))} lines"
    assert Path(name).name != "utils"
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert node.args.kwarg is None, f"{name}:{node.lineno} takes **{node.args.kwarg.arg}"


def test_class_chains_are_at_most_two_deep():
    # counted inside the house: a class that derives from one of ours, which derives from one of ours, is too deep
    parents = {node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
               for name in FILES if not name.startswith("tasks/") for node in ast.walk(tree(name))
               if isinstance(node, ast.ClassDef)}
    for name in FILES:
        for node in ast.walk(tree(name)):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                above = parents.get(base.id, set()) if isinstance(base, ast.Name) else set()
                assert not above & set(parents), f"{name}: {node.name} is three classes deep"


def test_a_breach_is_seen():
    # the reader of imports knows relative ones of every depth, and those inside functions
    source = "from ..nn.heads import Head\nfrom . import dist\ndef f():\n    import mlflow.pytorch\nfrom rlseq import tasks\n"
    assert imported("rlseq/algos/mle", ast.parse(source)) == {"rlseq.nn.heads", "rlseq.algos", "mlflow.pytorch", "rlseq.tasks"}
    assert "rlseq.algos" in imported("rlseq/algos/__init__", ast.parse(source))
    assert floor("run") > floor("train") > floor("algos") > floor("env") > floor("nn") > floor("dist") > floor("types")
