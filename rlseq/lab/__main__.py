"""`python -m rlseq.lab`: bias, variance and cost of every estimator, on problems small enough to count all answers.

J, grad J and KL are exact there, and the algorithms are those of training: their own `collect` and `loss`. Prints a line
for every algorithm x baseline x normalisation x k, and writes lab.md, lab.json and lab.svg. Ends with exit code 1 where
an estimator that claims to be unbiased is measured biased.

Options, each as name=value:

    plan       smoke (seconds) or default (minutes)
    algo       names of conf/algo, separated by commas (default: all)
    seed       of the policies and of the draws (default 0)
    results    folder to write to (default: results; runs/smoke for plan=smoke)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..build import Seed, build
from ..command import exit_code


@dataclass(frozen=True)
class Options:
    """The command's options."""

    plan: Literal["smoke", "default"] = "default"
    algo: str = ""
    seed: Seed = 0
    results: str = ""


def options(arguments: list[str]) -> Options:
    """`name=value` words -> Options; raises ValueError for anything else."""
    found: dict[str, object] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument!r} is not of the form name=value; python -m rlseq.lab --help lists the options")
        if name == "seed" and not value.removeprefix("-").isdecimal():
            raise ValueError(f"seed={value!r} is not a whole number")
        found[name] = int(value) if name == "seed" else value
    return build(Options, found, "lab")


def main() -> int:
    """The command; a user's mistake is one line on stderr and exit code 2."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        return exit_code(lambda: print(__doc__))
    return exit_code(_measure)


def _measure() -> int:
    wanted = options(sys.argv[1:])
    from .course import chosen, run  # imports torch: not for --help

    folder, algorithms = Path(wanted.results or ("runs/smoke" if wanted.plan == "smoke" else "results")), chosen(wanted.algo)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"results={folder} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)                    # before the minutes that it is measured for
    return run(wanted.plan, wanted.seed, algorithms, folder)


if __name__ == "__main__":
    sys.exit(main())
