"""The clock on the wall may jump: it labels what happened, and no duration is taken from it."""

import itertools
import re
import time

import pytest
import tqdm.std

from rlseq import journal
from rlseq.paths import ROOT
from rlseq.progress import progress
from tests.unit.test_train import trainer

AGES = {"rlseq/kept.py"}                                             # of files: the system stamps them by the wall clock
LABELS = {"rlseq/journal.py", "rlseq/locks.py", "rlseq/tracking.py", "rlseq/provenance.py", "benchmarks/written.py"}


@pytest.fixture
def jumping(monkeypatch):
    """A clock that leaps days forwards and back at every look."""
    leaps, plain = itertools.cycle([0.0, 3e6, -7e6, 1e5]), time.time

    def clock():
        return plain() + next(leaps)
    clock.__wrapped__ = plain
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(tqdm.std, "time", clock)


def test_costs_and_the_diary_of_a_run_stay_sane_while_the_clock_jumps(tmp_path, jumping, capsys):
    begun = time.perf_counter()
    one = trainer(tmp_path, algorithm={"kind": "reinforce"}, updates=8, every=2)
    one.run()
    taken = time.perf_counter() - begun
    seconds = [point["seconds"] for point in one.curve]
    assert 0 < seconds[0] and seconds == sorted(seconds) and one.cost.seconds == seconds[-1] < taken
    lines = journal.read(tmp_path / journal.NAME)
    stamps = [line["time"] for line in lines]
    assert stamps == sorted(stamps) and stamps[-1] - time.time.__wrapped__() > 1e6, "the clock did jump"
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert [look["updates"] for look in journal.looks(lines)[1]] == [2, 4, 6, 8]
    ends = re.findall(r"\[(\d+):(\d\d)<(\d+):(\d\d)", capsys.readouterr().err.split("8/8")[-1])
    assert ends and all(int(hours) == int(left) == 0 for hours, _, left, _ in ends), "elapsed and remaining: under a minute"


def test_the_bar_tells_speed_and_remaining_time_by_a_clock_that_does_not_jump(jumping):
    bar = progress(10, "work", "piece")
    for _ in range(5):
        time.sleep(0.02)
        bar.update()
    known = bar.format_dict
    bar.close()
    assert 0.1 <= known["elapsed"] < 5


def test_the_clock_on_the_wall_is_read_for_labels_alone():
    found = set()
    for folder in ("rlseq", "tasks", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if re.search(r"\btime\.time\(|\bdatetime\.(now|utcnow|today)\(|from time import time\b", path.read_text()):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == LABELS | AGES, "durations come from time.perf_counter or time.monotonic"
