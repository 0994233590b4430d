"""Signals: a step is finished first, a second signal waits for nothing, and nothing outlives its time."""

import os
import signal
import time

import pytest

from rlseq import stopping
from rlseq.run import continues
from rlseq.stopping import Stopped, held, later, signals


def forked(action):
    """Exit code and stderr of a forked process that does something; 99 where it comes back."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(into, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            action()
            os._exit(99)
        except Stopped as stopped:
            os._exit(stopped.code)
        finally:
            os._exit(1)
    os.close(into)
    with os.fdopen(out) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once_where_nothing_is_under_way(number, code):
    def action():
        with signals(""):
            send(number)
            os._exit(98)
    assert forked(action)[0] == code


def test_what_is_under_way_is_finished_first():
    def action():
        with signals(""):
            try:
                with later():
                    with later():
                        send()
                    os.write(2, b"finished\n")
                os._exit(98)
            finally:
                with later():                                  # saving: the signal was heard, it is not raised twice
                    os.write(2, b"saved\n")
    code, said = forked(action)
    assert code == 143 and said.strip().splitlines()[-2:] == ["finished", "saved"] and "SIGTERM" in said


def test_a_second_signal_leaves_at_once_even_in_a_step():
    def action():
        with signals("this continues: make coffee"), later():
            send()
            send(signal.SIGINT)
            os._exit(98)
    code, said = forked(action)
    assert code == 130 and said.strip().endswith("rlseq: left at once; this continues: make coffee")


def test_torchrun_hands_a_ctrl_c_on_as_sigterm_and_that_is_no_second_signal():
    def action():
        os.environ["TORCHELASTIC_RUN_ID"] = "none"
        with signals(""), later():
            send(signal.SIGINT)
            send(signal.SIGTERM)
            os.write(2, b"finished\n")
    code, said = forked(action)
    assert code == 130 and said.endswith("finished\n")


def test_who_does_not_come_to_an_end_is_cut_off_with_the_command_that_continues(monkeypatch):
    monkeypatch.setattr(stopping, "LIMIT", 0.2)

    def action():
        with signals("this continues: make coffee"):
            try:
                send()
            finally:
                time.sleep(30)                                 # a tracking server that does not answer
    start = time.monotonic()
    code, said = forked(action)
    assert code == 143 and time.monotonic() - start < 5 and said.strip().endswith("this continues: make coffee")


def test_a_step_that_outlasts_the_limit_is_waited_for(monkeypatch):
    monkeypatch.setattr(stopping, "LIMIT", 0.1)

    def action():
        with signals(""), later():
            send()
            time.sleep(0.5)
            os.write(2, b"finished\n")
    code, said = forked(action)
    assert code == 143 and "finished" in said


def test_ranks_stop_together():
    def action():
        with signals(""):
            with later(lambda asked: asked):
                pass
            with later(lambda asked: True):                    # another rank was asked
                os.write(2, b"finished\n")
            os._exit(98)
    assert forked(action) == (143, "finished\n")


def test_ranks_that_are_held_leave_only_where_they_agree():
    def action():
        with signals(""), held():
            with later():
                send()
            os.write(2, b"held\n")
            with later(lambda asked: asked):
                pass
            os._exit(98)
    code, said = forked(action)
    assert code == 143 and said.endswith("held\n")


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals(""):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_continues_is_the_command_itself_quoted_for_the_shell(monkeypatch):
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "rlseq.run", "task=sort", "resume=never", "results='my results'"])
    assert continues() == """this continues: python -m rlseq.run task=sort 'results='"'"'my results'"'"''"""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert continues().startswith("this continues: torchrun --standalone --nproc-per-node 2 -m rlseq.run task=sort ")
