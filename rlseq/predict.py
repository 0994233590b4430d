"""`python -m rlseq.predict checkpoint=runs/... < input > output`: a trained policy on new input, one answer a line.

Options, each as name=value:

    checkpoint       folder that a run wrote (it holds model.safetensors and model.json)
    beam             width of the beam (default 0: greedy); length_penalty, no_repeat as in `rlseq.run decode.*`
    scores           true writes "log-probability TAB answer"
    batch            lines decoded together (default 64)
    device           auto, cpu or cuda
    precision        fp32 or bf16
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Literal

from .build import build


@dataclass(frozen=True)
class Options:
    """The command's options."""

    checkpoint: str
    beam: int = 0
    length_penalty: float = 1.0
    no_repeat: int = 0
    scores: bool = False
    batch: int = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch} must be 1 or more")


class Predictor:
    """A checkpoint, ready to answer lines; needs no training data."""

    def __init__(self, options: Options) -> None:
        from . import tasks  # imports torch: not for --help
        from .checkpoint import read_checkpoint
        from .evaluate import Decoding
        from .nn.policy import Shape, make_policy
        from .setup import pick_device
        from .types import Sizes

        self.options, self.device = options, pick_device(options.device)
        self.decoding = Decoding(options.beam, options.length_penalty, options.no_repeat)
        tensors, facts = read_checkpoint(Path(options.checkpoint), "model")
        self.task = tasks.make(facts["task"], facts["task_options"])
        if self.task.version != facts["task_version"]:
            raise ValueError(f"{options.checkpoint} answers {facts['task']}-v{facts['task_version']}, this rlseq has "
                             f"v{self.task.version}; install rlseq {facts['rlseq']} or train again")
        self.task.restore(facts["task_state"])
        try:
            self.policy = make_policy(Sizes(**facts["sizes"]), Shape(**facts["shape"]))
            self.policy.load_state_dict(tensors)
        except (RuntimeError, TypeError):
            raise ValueError(f"checkpoint {options.checkpoint} was made by rlseq {facts['rlseq']} and does not fit this one; "
                             "install that version or train again") from None
        self.policy.to(self.device).eval()

    def __call__(self, lines: Iterable[str]) -> Iterator[str]:
        """Answers in the order of the lines; an empty line gets an empty answer.

        Raises ValueError with the line's number where a line is no problem of this task.
        """
        numbered = enumerate(lines, 1)
        while chunk := list(islice(numbered, self.options.batch * 8)):
            problems = {}
            for number, line in chunk:
                if line.strip():
                    try:
                        problems[number] = self.task.parse(line)
                    except ValueError as error:
                        raise ValueError(f"line {number}: {error}") from None
            answers = self._answers(problems)
            yield from (answers.get(number, "") for number, _ in chunk)

    def _answers(self, problems: dict[int, object]) -> dict[int, str]:
        import torch  # as above

        from .env import SequenceEnv
        from .train import precision_context

        order = sorted(problems, key=lambda number: self.task.length(problems[number]))
        env, found = SequenceEnv(self.task, self.device), {}
        for start in range(0, len(order), self.options.batch):
            part = order[start:start + self.options.batch]
            env.load(self.task.collate([problems[number] for number in part]))
            with torch.no_grad(), precision_context(self.device, self.options.precision):
                rollout = self.decoding(self.policy, env)
                logp = self.policy(self.policy.encode(env.batch), rollout.actions, rollout.mask,
                                   env.legal_along(rollout.actions)).logp
            total = (logp * rollout.mask).sum(1).tolist()
            for row, number in enumerate(part):
                text = " ".join(self.task.answer(env.batch, rollout.actions, row).splitlines())
                found[number] = f"{total[row]:.4f}\t{text}" if self.options.scores else text
        return found


def options(arguments: list[str]) -> Options:
    """`name=value` words -> Options; raises ValueError for anything else."""
    found: dict[str, object] = {}
    kinds = {one.name: one.type for one in fields(Options)}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument!r} is not of the form name=value; python -m rlseq.predict --help lists the options")
        kind = kinds.get(name.removeprefix("decode."), "str")
        try:
            found[name.removeprefix("decode.")] = {"int": int, "float": float, "bool": _truth}.get(kind, str)(value)
        except ValueError:
            wanted = "true or false" if kind == "bool" else f"a {kind}"
            raise ValueError(f"{argument}: {value!r} is not {wanted}") from None
    return build(Options, found, "predict")


def text(number: int, line: bytes) -> str:
    """A line of input as text; raises ValueError naming the line that is not UTF-8."""
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"line {number} is not UTF-8; convert the input first, such as with iconv") from None


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def main() -> None:
    """The command. A user's mistake is one line on stderr and exit code 2."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(__doc__)
        return
    try:
        predictor = Predictor(options(sys.argv[1:]))
        lines = (text(number, line) for number, line in enumerate(sys.stdin.buffer, 1))
        for answer in predictor(lines):
            sys.stdout.buffer.write(answer.encode("utf-8", "replace") + b"\n")
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise SystemExit(0) from None
    except (ValueError, KeyError, OSError) as error:
        said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print("rlseq: " + " ".join(said.split()), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
