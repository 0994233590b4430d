"""Steps of fixed shapes, for graphs to replay. A CPU has none: there a step's operations are recorded and run again."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from rlseq import decode
from rlseq.env import SequenceEnv
from rlseq.nn import graphs, lstm
from rlseq.nn.graphs import StepGraph
from rlseq.nn.policy import Shape
from rlseq.types import STOP
from tests.toys import TINY, Table, configured, fits, loaded, task_for, tiny_policy, tiny_shape

PAIRS = [(name, task) for name, options in configured("policy").items()
         for task in ("sort", "hull") if fits(options, task)]


class Recorded(TorchDispatchMode):
    """Operations with the tensors they took and made; `replay` does them again on the same memory, as a CUDA graph."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, given=(), named=None):
        waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operation.tags)
        assert not waits, f"{operation} needs the numbers themselves: a GPU would have to be waited for"
        made = operation(*given, **(named or {}))
        if torch.Tag.inplace_view not in operation.tags:              # those change shapes, no memory
            self.operations.append(tree_map_only(torch.Tensor, torch.Tensor.detach, (operation, given, named or {}, made)))
        return made

    def replay(self):
        for operation, given, named, made in self.operations:
            for old, new in zip(tree_leaves(made), tree_leaves(operation(*given, **named)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():            # no view
                    old.copy_(new)


def record(warm, run, device):
    """In the place of `graphs.capture`: like a capture, it leaves every number as it was."""
    warm()
    player = run.__self__
    memory = graphs.moving(player.state)
    before = [one.clone() for one in memory]
    with Recorded() as recorded:
        run()
    for one, number in zip(memory, before, strict=True):
        one.copy_(number)
    player.found.fill_(torch.nan)
    return recorded


@pytest.fixture(params=["called again", "recorded"])
def replayed(request, monkeypatch):
    """Both ways in which a step is repeated without a GPU, with the cells that a GPU would take."""
    monkeypatch.setattr(lstm, "fits", lambda cell, x: False)
    monkeypatch.setattr(decode, "LOOK", 2)
    if request.param == "recorded":
        monkeypatch.setattr(graphs, "capture", record)


def problems(name, task_name, device="cpu"):
    """A policy of conf/policy at a small width in float64, and four short training problems of a task."""
    options = configured("policy")[name]
    task = task_for(task_name, options["head"])
    examples = task.examples("train")
    batch = task.collate(sorted((examples[i] for i in range(40)), key=task.length)[:12:3])
    if batch.source.is_floating_point():
        batch = replace(batch, source=batch.source.double())
    return tiny_policy(tiny_shape(options), task.sizes).to(device), task, batch.to(torch.device(device))


def sampled(policy, task, batch, static, device="cpu"):
    env = SequenceEnv(task, device, static=static)
    env.load(batch)
    if static:
        env.narrow = lambda share: pytest.fail("a row left")
    torch.manual_seed(1)
    return decode.sample(policy, env, 3)


def assert_equal(plain, fixed):
    assert plain.actions.shape[1] > 3, "too short: nothing was replayed"
    assert torch.equal(plain.actions, fixed.actions) and torch.equal(plain.mask, fixed.mask)
    assert (plain.logp - fixed.logp).abs().max() < 1e-12              # float64: the same sums with zeros among them
    assert torch.equal(plain.reward, fixed.reward) and (plain.legal is None) == (fixed.legal is None)
    if plain.legal is not None:
        assert torch.equal(plain.legal[plain.mask], fixed.legal[plain.mask])


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_static_roll_out_equals_a_plain_one(name, task, replayed):
    given = problems(name, task)
    assert_equal(sampled(*given, False), sampled(*given, True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: this is the only test of the capture itself")
@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_captured_roll_out_equals_a_plain_one(name, task):
    given = problems(name, task, "cuda")
    for _ in range(2):                                                # the second takes over the memory of the first
        assert_equal(sampled(*given, False, "cuda"), sampled(*given, True, "cuda"))


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_static_steps_along_a_row_equal_forward(name, task, replayed):
    policy, task, batch = problems(name, task)
    env = SequenceEnv(task)
    env.load(batch)
    actions, legal = batch.target.repeat_interleave(2, 0), env.legal_along(batch.target)
    legal = None if legal is None else legal.repeat_interleave(2, 0)
    memory = policy.encode(batch)
    whole = policy.log_probs(memory, actions, legal).exp()
    player, state, last = StepGraph(policy, actions.shape[1]), policy.start(memory, 2), None
    for t in range(actions.shape[1]):
        logits, state = player.logits(state, last, None if legal is None else legal[:, t])
        last, real = actions[:, t], batch.target_mask[:, t].repeat_interleave(2, 0)
        assert (logits.softmax(1) - whole[:, t])[real].abs().max() < 1e-12
    assert state.place.tolist() == [actions.shape[1]]


def test_caches_take_the_precision_of_the_first_step(replayed):
    table = Table(words=6, steps=6)
    policy = tiny_policy(Shape(head="vocabulary", **TINY), table.sizes).float()
    batch = table.collate([0, 1, 2])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = policy.start(policy.encode(batch), 1)
        fixed, player, last = plain, StepGraph(policy, 6), None
        for t in range(6):
            one, plain = policy.logits(plain, last)
            other, fixed = player.logits(fixed, last)
            assert (one - other).abs().max() < 0.05                   # bf16 keeps 8 bits: 0.4 % of numbers near 3
            last = torch.tensor([1, 2, 3]) + t % 3
    assert {cache.dtype for cache in fixed.past} == {torch.bfloat16}


def test_a_static_roll_out_looks_rarely_for_its_end():
    policy = tiny_policy(Shape(head="vocabulary", **TINY), Table().sizes)
    policy.head.bias.data[STOP] = 50.0                                # every answer ends at once
    env = loaded(Table(), [0, 1, 2])
    env.static, env.horizon = True, 40
    rollout = decode.greedy(policy, env)
    assert rollout.actions.shape == (3, 1) and env.steps == decode.LOOK


@pytest.fixture
def cuda(monkeypatch):
    """Words of torch.cuda that only write down what was said."""
    said = []

    class Graph:
        capture_begin = lambda self, pool, capture_error_mode: said.append(f"begin in {pool}")
        capture_end = lambda self: said.append("end")
        pool = lambda self: "the memory of the first"
    main, side = SimpleNamespace(), SimpleNamespace()
    main.wait_stream, side.wait_stream = (lambda other: said.append("main waits"), lambda other: said.append("side waits"))
    monkeypatch.setattr(graphs, "_latest", {})
    monkeypatch.setattr(graphs, "_side_stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return said


def test_a_capture_warms_up_beside_and_takes_over_the_memory_of_the_last(cuda):
    for _ in range(2):
        graphs.capture(lambda: cuda.append("warm"), lambda: cuda.append("run"), torch.device("cuda", 0))
    first = ["side waits", "warm", "begin in None", "run", "end", "main waits"]
    assert cuda == first + [one.replace("None", "the memory of the first") for one in first]


def test_what_cannot_be_captured_is_one_line_that_says_how_to_go_on(cuda):
    def run():
        raise RuntimeError("operation not permitted\nwhen stream is capturing")
    with pytest.raises(ValueError, match=r"CUDA graph \(operation not permitted\); set cuda_graphs=false"):
        graphs.capture(lambda: None, run, torch.device("cuda", 0))
    assert cuda[-1] == "end", "the stream is left as it was"
