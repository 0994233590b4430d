"""Gates: a long run does not grow. Hours are not for every day: RLSEQ_LOAD=1 runs what is left out by default."""

import os
from pathlib import Path

import pytest

from tests.unit.test_train import trainer

STEPS = 200_000
LONG = bool(os.environ.get("RLSEQ_LOAD"))


def resident():
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not LONG, reason="takes a quarter of an hour; RLSEQ_LOAD=1 python -m pytest tests/gates/test_load.py -s")
@pytest.mark.parametrize("algorithm", ["mle", "reinforce"])
def test_memory_stays_flat_over_200_000_steps(tmp_path, algorithm):
    # RSS after the first 2 % of the steps, when all is loaded and the allocator has settled, and at the end: within 2 %
    held = {}

    def log(step, values):
        if step % 1000 == 0 and "loss" in values:
            held[step] = resident()
    one = trainer(tmp_path, algorithm={"kind": algorithm}, updates=STEPS, every=1000)
    one.log = log
    one.run()
    early, late = held[STEPS // 50], held[STEPS]
    print(f"{algorithm}: {early / 2**20:.1f} MiB at step {STEPS // 50}, {late / 2**20:.1f} MiB at {STEPS}")
    assert late < 1.02 * early
