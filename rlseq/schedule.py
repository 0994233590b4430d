"""A number that changes in the course of training: every rate, weight and temperature of an algorithm is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from .build import Within

SLOPE = 10.0          # of the inverse sigmoid over progress: it falls from 0.99 to 0.01 before it is stretched


@dataclass(frozen=True)
class Schedule:
    """From `start` at progress p = 0 to `end` at p = 1; in options a bare number stands for a constant.

        constant         start
        linear           start + (end - start) p
        exponential      start (end / start)^p                       both above 0, or both below
        inverse_sigmoid  start + (end - start) f(p),  f(p) = (s(0) - s(p)) / (s(0) - s(1)),  s(p) = 1 / (1 + exp(10 (p - 1/2)))
        steps            `levels` equal stretches, from start on the first to end on the last in equal jumps

    The names are of Bengio et al. 2015, section 2.4. Departs from it: decay is over progress instead of updates, so
    that it fits any budget, and the inverse sigmoid is stretched to meet its ends. Every value lies between the ends.
    """

    bare: ClassVar[str] = "start"        # the option that a bare value sets

    start: float
    end: float | None = None
    kind: Literal["constant", "linear", "exponential", "inverse_sigmoid", "steps"] = "constant"
    levels: Annotated[int, Within(2, 10**6)] = 5

    def __post_init__(self) -> None:
        if (self.end is None) != (self.kind == "constant"):
            raise ValueError("a constant schedule has no end; give its kind: linear, exponential, inverse_sigmoid or steps"
                             if self.end is not None else f"a schedule of kind {self.kind} needs its end")
        if not all(math.isfinite(one) for one in self.ends):
            raise ValueError(f"a schedule from {self.start} to {self.end} must have finite ends")
        if self.kind == "exponential" and self.start * self.end <= 0:
            raise ValueError(f"an exponential schedule from {self.start} to {self.end} never gets there; take ends of one "
                             "sign, neither 0, or another kind")
        if self.levels < 2:
            raise ValueError(f"levels={self.levels} must be 2 or more")

    @property
    def ends(self) -> tuple[float, float]:
        return self.start, self.start if self.end is None else self.end

    @property
    def off(self) -> bool:
        """Whether it is 0 throughout."""
        return self.ends == (0, 0)

    def __call__(self, progress: float) -> float:
        """The value at a progress in [0, 1]; exactly `start` at 0 and `end` at 1."""
        start, end = self.ends
        if self.kind == "constant" or progress <= 0:
            return float(start)
        if progress >= 1:
            return float(end)
        if self.kind == "exponential":
            return start * (end / start)**progress
        return start + (end - start) * self._share(progress)

    def _share(self, progress: float) -> float:
        if self.kind == "linear":
            return progress
        if self.kind == "steps":
            return math.floor(progress * self.levels) / (self.levels - 1)

        def s(p: float) -> float:
            return 1 / (1 + math.exp(SLOPE * (p - 0.5)))
        return (s(0) - s(progress)) / (s(0) - s(1))

    def within(self, name: str, least: float, most: float = math.inf) -> Schedule:
        """Itself; raises ValueError that names the option unless all its values lie in [least, most]."""
        if not all(least <= one <= most for one in self.ends):
            said = f"from {self.start} to {self.end}" if self.end is not None else f"{self.start}"
            raise ValueError(f"{name}: {said} must " + (f"lie in [{least:g}, {most:g}]" if math.isfinite(most)
                                                       else f"be {least:g} or more"))
        return self
