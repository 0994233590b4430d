"""`python -m rlseq.predict checkpoint=runs/... < input > output`: a trained policy on new input, one answer a line.

Options, each as name=value:

    checkpoint       folder that a run wrote (it holds model.safetensors and model.json)
    beam             width of the beam (default 0: greedy); length_penalty, no_repeat as in `rlseq.run decode.*`
    scores           true writes "log-probability TAB answer"
    batch            lines decoded together (default 64)
    device           auto, cpu or cuda
    precision        fp32 or bf16
    pictures         folder for a picture of each answer, LINE.png, where the task has pictures (hull)

Lines end at line feeds only. An empty line gets an empty answer, and so does one that is too long for any memory; that, and
whatever else was cut, is said on stderr at the end.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from .build import Within, build
from .command import exit_code
from .printable import printable

LONGEST = 10_000         # positions of a problem: what attends to more needs more memory than there is
TOGETHER = 2**17         # padded positions that are decoded together, over all rows of a beam
SIGNS = 2**20            # of a line; a longer one is not even cut into words
NEEDED = ("rlseq", "task", "task_version", "task_options", "task_state", "sizes", "shape")       # of a checkpoint's notes
UNREAD = "longer than this checkpoint reads; its end was left out"
UNANSWERED = f"more than {LONGEST} positions, which got an empty answer; cut it into parts"
UNENDED = "an answer that did not end by itself; it stops after the most steps that this checkpoint takes"


@dataclass(frozen=True)
class Options:
    """The command's options."""

    checkpoint: str
    beam: Annotated[int, Within(0, 4096)] = 0
    length_penalty: Annotated[float, Within(-10, 10)] = 1.0
    no_repeat: Annotated[int, Within(0, 1000)] = 0
    scores: bool = False
    batch: Annotated[int, Within(1, 2**16)] = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    pictures: str = ""


class Predictor:
    """A checkpoint, ready to answer lines; needs no training data. `notes` says what was cut, and in which lines."""

    def __init__(self, options: Options) -> None:
        from . import tasks  # imports torch: not for --help
        from .checkpoint import read_checkpoint
        from .evaluate import Decoding
        from .setup import pick_device

        self.options, self.device, self.notes = options, pick_device(options.device), {}
        self.decoding = Decoding(options.beam, options.length_penalty, options.no_repeat)
        tensors, facts = read_checkpoint(Path(options.checkpoint), "model")
        missing = [name for name in NEEDED if name not in facts]
        if missing or not isinstance(facts["task_state"], Mapping):
            raise ValueError(f"checkpoint {options.checkpoint} does not say its {', '.join(missing) or 'task_state'}, so "
                             "rlseq.run did not write it; name a folder that it did")
        self.task = tasks.make(str(facts["task"]), facts["task_options"])
        if self.task.version != facts["task_version"]:
            raise ValueError(f"{options.checkpoint} answers {facts['task']}-v{facts['task_version']}, this rlseq has "
                             f"v{self.task.version}; install rlseq {facts['rlseq']} or train again")
        if options.pictures and not self.task.has_plot:
            raise ValueError(f"pictures={options.pictures}, but answers of {facts['task']} are text; leave pictures out")
        self.task.restore(facts["task_state"])
        self.policy = self._policy(tensors, facts).to(self.device).eval()

    def _policy(self, tensors: Mapping[str, object], facts: Mapping[str, object]):
        """The policy that the notes describe, if the file holds its weights: notes alone never take memory."""
        import torch  # as above

        from .nn.policy import Shape, make_policy
        from .types import Sizes

        try:
            shape, sizes = build(Shape, facts["shape"], "shape"), build(Sizes, facts["sizes"], "sizes")
            if sizes != self.task.sizes:
                raise ValueError(f"its task has {asdict(self.task.sizes)}, it has {asdict(sizes)}")
            with torch.device("meta"):
                described = make_policy(sizes, shape).state_dict()
            if {name: one.shape for name, one in described.items()} != {name: one.shape for name, one in tensors.items()}:
                raise ValueError("its weights have other names or shapes")
            policy = make_policy(sizes, shape)
            policy.load_state_dict(tensors)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"checkpoint {self.options.checkpoint} was made by rlseq {facts['rlseq']} and does not fit this "
                             f"one; install that version or train again ({error})") from None
        return policy

    def __call__(self, lines: Iterable[str]) -> Iterator[str]:
        """Answers in the order of the lines; an empty line gets an empty answer, and so does one that is too long.

        Raises ValueError with the line's number where a line is no problem of this task.
        """
        numbered = enumerate(lines, 1)
        while chunk := list(islice(numbered, self.options.batch * 8)):
            problems = {}
            for number, line in chunk:
                if (problem := self._problem(number, line)) is not None:
                    problems[number] = problem
            answers = self._answers(problems)
            yield from (answers.get(number, "") for number, _ in chunk)

    def _problem(self, number: int, line: str) -> object | None:
        """The problem of a line; None where it gets an empty answer."""
        if not line.strip():
            return None
        try:
            problem = self.task.parse(line) if len(line) <= SIGNS else None
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if problem is None or self.task.length(problem) > LONGEST:
            self._note(UNANSWERED, number)
            return None
        if self.task.unread(problem):
            self._note(UNREAD, number)
        return problem

    def _note(self, what: str, number: int) -> None:
        self.notes.setdefault(what, []).append(number)

    def _parts(self, problems: Mapping[int, object]) -> Iterator[list[int]]:
        """Numbers of problems that are decoded together: of like length, and no more than memory holds."""
        part, rows = [], max(1, self.options.beam)
        lengths = {number: self.task.length(problem) for number, problem in problems.items()}
        for number in sorted(lengths, key=lengths.get):
            if part and (len(part) == self.options.batch or (len(part) + 1) * lengths[number] * rows > TOGETHER):
                yield part
                part = []
            part.append(number)
        if part:
            yield part

    def _answers(self, problems: Mapping[int, object]) -> dict[int, str]:
        import torch  # as above

        from .env import SequenceEnv
        from .train import precision_context
        from .types import STOP

        env, found = SequenceEnv(self.task, self.device), {}
        for part in self._parts(problems):
            env.load(self.task.collate([problems[number] for number in part]))
            with torch.no_grad(), precision_context(self.device, self.options.precision):
                rollout = self.decoding(self.policy, env)
                scores = self._scores(env, rollout) if self.options.scores else None
            ended = ((rollout.actions == STOP) & rollout.mask).any(1).tolist()
            for row, number in enumerate(part):
                text = " ".join(self.task.answer(env.batch, rollout.actions, row).splitlines())
                found[number] = text if scores is None else f"{scores[row]:.4f}\t{text}"
                if not ended[row]:
                    self._note(UNENDED, number)
                if self.options.pictures:
                    self._draw(env.batch, rollout.actions, row, number)
        return found

    def _draw(self, batch, actions, row: int, number: int) -> None:
        from .pictures import picture  # imports torch

        picture(self.task, batch, actions, {row: ""}, Path(self.options.pictures) / f"{number}.png")

    def _scores(self, env, rollout) -> list[float]:
        """Log-probabilities of the answers, in nats."""
        legal = env.legal_along(rollout.actions)
        logp = self.policy(self.policy.encode(env.batch), rollout.actions, rollout.mask, legal).logp
        return (logp * rollout.mask).sum(1).tolist()


def options(arguments: list[str]) -> Options:
    """`name=value` words -> Options; raises ValueError for anything else."""
    found: dict[str, object] = {}
    kinds = {one.name: re.search(r"\b(int|float|bool)\b", str(one.type)) for one in fields(Options)}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument!r} is not of the form name=value; python -m rlseq.predict --help lists the options")
        kind = found_kind[0] if (found_kind := kinds.get(name.removeprefix("decode."))) else "str"
        try:
            found[name.removeprefix("decode.")] = {"int": int, "float": float, "bool": _truth}.get(kind, str)(value)
        except ValueError:
            wanted = "true or false" if kind == "bool" else f"a {kind}"
            raise ValueError(f"{argument}: {value!r} is not {wanted}") from None
    return build(Options, found, "predict")


def text(number: int, line: bytes) -> str:
    """A line of input as text, without a byte-order mark before the first; raises ValueError naming one that is not UTF-8."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"line {number} is not UTF-8; convert the input first, such as with iconv") from None


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def main() -> int:
    """The command; returns its exit code. A user's mistake is one line on stderr and exit code 2."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        return exit_code(lambda: print(__doc__))
    return exit_code(_answer)


def _answer() -> None:
    """Answer stdin. A terminal sees no control characters, which a policy may have learned from its data."""
    predictor = Predictor(options(sys.argv[1:]))
    terminal = sys.stdout.isatty()
    for answer in predictor(text(number, line) for number, line in enumerate(sys.stdin.buffer, 1)):
        if terminal:
            answer = "\t".join(printable(part, 0) for part in answer.split("\t"))
        sys.stdout.buffer.write(answer.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()
    for what, lines in predictor.notes.items():
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        print(f"rlseq: line {min(lines)}{more}: {what}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
