"""A decode step as one CUDA graph: on a GPU its hundred small kernels take less time than their launches.

A graph repeats what it saw: the same kernels on the same memory. So shapes are fixed, the place is a tensor and every
result is written back to where the next step reads it. Off by default (`cuda_graphs=true`). **The tests have not run the
capture itself on a GPU**; on a CPU they hold the rest, and record a step's operations and run them again in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from .policy import Policy, State

_latest: dict[torch.device, torch.cuda.CUDAGraph] = {}      # keeps the memory that the next graph takes over


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def capture(warm: Callable[[], object], run: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph | None:
    """What `run` does on a GPU, recorded and not yet done; None on a CPU, where it can only be called again.

    `warm` makes libraries set themselves up before, on the same side stream, and must change nothing. Every roll-out
    captures anew, so this leaves out the emptying of all caches with which `torch.cuda.graph` begins. Graphs of one device
    share their memory: the last one captured is the only one to replay. Raises ValueError for what cannot be captured.
    """
    if device.type == "cpu":
        return None
    graph, before, side = torch.cuda.CUDAGraph(), _latest.get(device), _side_stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        warm()
        try:
            graph.capture_begin(None if before is None else before.pool(), capture_error_mode="thread_local")
            try:
                run()
            finally:
                graph.capture_end()
        except RuntimeError as error:                               # the first one names the operation
            reason = str(error.__context__ or error).strip().partition("\n")[0]
            raise ValueError(f"this policy's step cannot become a CUDA graph ({reason}); set cuda_graphs=false") from error
    torch.cuda.current_stream(device).wait_stream(side)
    _latest[device] = graph
    return graph


class StepGraph:
    """`policy.logits` along one roll-out of at most `room` steps, without gradient, from a state before the first action.

    The first step is fed no action and settles dtypes: it runs as it is. The second is captured, and replayed from then
    on: what it returns lives in the same memory at every step, so take what you need before the next.
    """

    def __init__(self, policy: Policy, room: int) -> None:
        self.policy, self.room, self.state, self.graph = policy, room, None, None

    @torch.no_grad()
    def logits(self, state: State, action: Tensor | None, legal: Tensor | None = None) -> tuple[Tensor, State]:
        """The actions just taken [N] (None at first), what may follow [N, A] -> logits [N, A] and the next state."""
        if action is None:
            return self.policy.logits(self.policy.with_room(state, self.room), None, legal)
        if self.state is None:
            self.state, self.action, self.legal = state, action.clone(), None if legal is None else legal.clone()
            self.graph = capture(self._next, self._run, action.device)
        else:
            assert state is self.state, "a graph continues from the state that it returned"
            self.action.copy_(action)
            if legal is not None:
                self.legal.copy_(legal)
        self._run() if self.graph is None else self.graph.replay()
        return self.found, self.state

    def _next(self) -> tuple[Tensor, State]:
        return self.policy.logits(self.state, self.action, self.legal)

    def _run(self) -> None:
        self.found, after = self._next()
        for old, new in zip(moving(self.state), moving(after), strict=True):
            if old is not new:
                old.copy_(new)


def moving(state: State) -> tuple[Tensor, ...]:
    """What a step changes of a state."""
    return (*state.past, state.place) if state.said is None else (*state.past, state.place, state.said)
