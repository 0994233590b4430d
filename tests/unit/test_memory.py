"""Kept memory, in a process of its own: the setting stays for good."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from rlseq import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(2**20).fill_(1.0)              # 4 MiB are 1024 pages of 4 KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults(), memory.keep(), (faults(), faults())[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc gives large blocks back at once")
def test_kept_memory_is_not_taken_from_the_system_again():
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    before, kept, after = int(said[0]), said[1], int(said[2])
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert after < 100, (before, after)
