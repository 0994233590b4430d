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

from ..build import build


@dataclass(frozen=True)
class Options:
    """The command's options."""

    plan: Literal["smoke", "default"] = "default"
    algo: str = ""
    seed: int = 0
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
        print(__doc__)
        return 0
    try:
        wanted = options(sys.argv[1:])
        from .course import chosen, run  # imports torch: not for --help

        folder = Path(wanted.results or ("runs/smoke" if wanted.plan == "smoke" else "results"))
        return run(wanted.plan, wanted.seed, chosen(wanted.algo), folder)
    except (ValueError, KeyError, OSError) as error:
        said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print("rlseq: " + " ".join(said.split()), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
