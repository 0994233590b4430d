"""Laws of slices and parts: how a batch is cut, by option or for want of memory, changes what is learnt by rounding alone."""

from pathlib import Path

import pytest
import torch

from rlseq import dist
from rlseq.evaluate import Decoding, evaluate, reference_nll
from tests.laws.test_ranks import CASES, alike, exact, kept, titled
from tests.ranks import together
from tests.toys import setting


@pytest.mark.parametrize("case", CASES, ids=titled)
def test_slices_add_up_to_the_whole_batch(case, tmp_path):
    found = []
    for slices in (1, 3):
        one = exact(case, tmp_path / str(slices), log := [])
        one.accumulate = slices
        one.run()
        found.append({"weights": one.learner.state_dict(), "log": log})
    alike(*found, titled(case))


def short_of_memory(module, most, when):
    """Lets a module fail as torch does when it is handed more than `most` rows, where `when()`; counts how often it did."""
    failed = []

    def refuse(_, given):
        if len(given[0]) > most and when():
            failed.append(len(given[0]))
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                               "tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)")
    module.register_forward_pre_hook(refuse)
    return failed


@pytest.mark.parametrize("case", CASES, ids=titled)
def test_what_does_not_fit_memory_is_done_in_parts_with_the_same_result(case, tmp_path, capsys):
    found = []
    for most in (99, 2):
        one = exact(case, tmp_path / str(most), log := [])
        one.judge = lambda policy: 0.0
        failed = short_of_memory(one.policy.encoder, most, lambda: True)
        one.run()
        found.append({"weights": one.learner.state_dict(), "log": log})
    alike(*found, titled(case))
    said = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert len(failed) == len(said) <= 4 and any("scoring" in line for line in said), "once a doubling, and no more"
    if one.cost.sampled_tokens and case[0] not in ("mle", "raml"):
        assert any("collecting" in line for line in said) and one.parts == 4


def test_a_collection_that_ran_out_leaves_no_trace(tmp_path):
    # the anchor is scored last, when the moments of rewards have been taken into the moving ones already
    found = []
    for most in (99, 3):
        one = exact(("reinforce", {}), tmp_path / str(most), log := [])
        prepare = one.algorithm.prepare
        one.algorithm.prepare = lambda policy, prepare=prepare, one=one, most=most: (
            prepare(policy), short_of_memory(one.algorithm.sampler.regular.anchor.encoder, most, lambda: True))
        one.run()
        found.append({"weights": one.learner.state_dict(), "log": log})
    alike(*found, "reinforce")
    again = exact(("reinforce", {}), tmp_path / "3", [])
    again.run()
    assert again.parts == one.parts == 4, "a run that resumes does not try in vain what did not fit"


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(beam=2), Decoding(temperature=1.0)], ids=str)
def test_an_evaluation_that_ran_out_of_memory_finds_the_same(decoding, capsys):
    found = []
    for most in (99, 2):
        task, _, policy = setting()
        failed = short_of_memory(policy.encoder, most, lambda: True)
        torch.manual_seed(0)
        one = evaluate(policy, task, "test", torch.device("cpu"), decoding)
        found.append((one.rows | {"nll": reference_nll(policy, task, "test", torch.device("cpu"))}, torch.rand(1)))
    assert set(found[0][0]) == set(found[1][0]) and torch.equal(found[0][1], found[1][1]), "nor are other numbers drawn later"
    for name, rows in found[0][0].items():
        assert rows == pytest.approx(found[1][0][name], abs=1e-9), name
    said = capsys.readouterr().err
    assert failed == [4, 4] and "test, answering: out of memory" in said and "test, scoring references: out of memory" in said


def test_without_memory_for_a_single_problem_the_run_ends_in_one_line(tmp_path):
    one = exact(("reinforce", {}), tmp_path, [])
    short_of_memory(one.policy.encoder, 0, torch.is_grad_enabled)
    with pytest.raises(MemoryError, match="update 0, scoring: no memory for a single problem .*take a smaller model"):
        one.run()


def train_short(folder):
    """Two ranks, of which one alone runs out of memory, first while it collects and then while it scores."""
    one = exact(("reinforce", {}), Path(folder) / str(dist.world()), log := [])
    one.judge = lambda policy: 0.0
    if dist.world() == 2 and dist.rank() == 1:
        short_of_memory(one.policy.encoder, 2, lambda: True)
    one.run()
    kept(one, log, Path(folder) / f"{dist.world()}.pt")


def test_one_rank_may_run_out_of_memory_alone(tmp_path):
    together(2, train_short, str(tmp_path))
    train_short(tmp_path)
    alike(*(torch.load(tmp_path / f"{world}.pt") for world in (1, 2)), "reinforce")
