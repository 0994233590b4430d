"""`python -m rlseq.tune sort`: which options do best for fine-tuning, on dev; no test problem is answered.

A sweep is a file conf/sweep/NAME.yaml, or one of your own: NAME may be its path. It holds

    base   words of rlseq.run
    vary   {option: [values]}, each tried alone in the place of the base's
    also   lists of words, each tried together (another algo leaves out the base's algo.* options)
    dev    {label: [task.NAME=value, ...]}, the dev sets that all weights are scored on; the first is compared on

    python -m rlseq.tune sort                             train and score, or find; results/sweeps/sort.md, .json and .npz
    python -m rlseq.tune sort --list                      its settings
    python -m rlseq.tune sort seed=0,1 runs=FOLDER        options of rlseq.run, for all settings; over two seeds
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import stopping
from .command import Parser, exit_code
from .printable import printable
from .run import continues, one_line
from .tune_file import names, shown, sweep_of


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 for a user's mistake, which is one line on stderr."""
    return exit_code(lambda: _heard(sys.argv[1:] if arguments is None else arguments))


def _heard(arguments: Sequence[str]) -> None:
    with one_line(), stopping.signals(continues()):
        wanted = options(arguments)
        sweep = sweep_of(wanted.name, wanted.words)
        if wanted.list:
            for number, one in enumerate(sweep.settings, 1):
                print(f"{number:>3} {printable(one.label, 0)}\n      {printable(' '.join(one.words), 0)}")
            return
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("rlseq.tune is one process; leave torchrun out, or run several sweeps beside each other")
        from .tune_run import run  # imports torch: not for --help and --list

        run(sweep, f"python -m rlseq.tune {shlex.join([Path(wanted.name).name, *map(shown, wanted.words)])}")


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """`name`, `words` (overrides) and `list`."""
    parser = Parser(prog="python -m rlseq.tune", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help=", ".join(names()))
    parser.add_argument("words", nargs="*", metavar="name=value", help="options of rlseq.run for all settings")
    parser.add_argument("--list", action="store_true", help="print the settings and run nothing")
    found = parser.parse_intermixed_args(arguments)
    for one in found.words:
        if "=" not in one:
            raise ValueError(f"{one!r} is not of the form name=value, such as seed=1; --help says more")
    return found


if __name__ == "__main__":
    sys.exit(main())
