"""SIGTERM, from a scheduler or from torchrun: noted by a training, else reported, whatever the process does."""

import signal
import subprocess
import sys

import pytest

BEGIN = """
import ctypes, os, signal, sys, threading, time
from skelpipe.train.running.sigterm import ending_on_sigterm
reports_first = sys.argv[1] == "True"
def hang():
    "In C, where no handler of Python runs: a mutex that this thread holds already."
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
with ending_on_sigterm(lambda: "rank 1 was told to end" if reports_first else None) as ending:
    print("ready", flush=True)
"""
FORK = """
    child = os.fork()
    if child == 0:
        hang()
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
OWN = """
    ending()
    print(-15, flush=True)
    time.sleep(0.5)
    print("its own message", file=sys.stderr, flush=True)
"""

NOTING = """
    from skelpipe.train.running import sigterm
    sigterm.STEP_SECONDS = 0.2
    with sigterm.noting_signals() as came:
        print(-15, flush=True)
"""
STOPPING = """
        while not came.number:
            time.sleep(0.01)
        time.sleep(0.5)
        raise sigterm.Stopped
"""
ALONE = """
from skelpipe.train.running.sigterm import Stopped, noting_signals
with noting_signals() as came:
    child = os.fork()
    if child == 0:
        hang()
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    while not came.number:
        time.sleep(0.01)
    raise Stopped
"""


def ended(body: str, *, reports_first: bool = True, after: int = 0) -> tuple[int, str]:
    """Send SIGTERM to a process once it said "ready" and `after` numbers; return exit code and messages."""
    command = [sys.executable, "-c", BEGIN + body, str(reports_first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(after):
            assert process.stdout.readline() == f"{-signal.SIGTERM}\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize("reports_first", [True, False])
def test_a_process_in_the_middle_of_a_call_reports(reports_first) -> None:
    line = "Error: rank 1 was told to end\n"
    assert ended("    hang()", reports_first=reports_first) == (143, line if reports_first else "")


def test_what_a_process_forks_ends_alone_and_silently() -> None:
    assert ended(FORK + "    hang()", after=1) == (143, "Error: rank 1 was told to end\n")


def test_a_message_of_its_own_comes_first() -> None:
    assert ended(OWN, after=1) == (0, "its own message\n")


def test_a_training_that_notes_signals_stops_by_itself() -> None:
    assert ended(NOTING + STOPPING, after=1) == (143, "")
    assert ended("    pass\n" + ALONE, after=1) == (143, "")


def test_a_training_that_hangs_is_ended_nevertheless() -> None:
    """Whether the signal comes before the call that hangs, so that it is noted, or in the middle of it."""
    hangs = "        sigterm.SAVE_SECONDS = 0.2\n        hang()"
    assert ended(NOTING + hangs, after=1) == (143, "Error: rank 1 was told to end\n")


def test_afterwards_a_signal_is_what_it_was() -> None:
    assert ended("    pass\nprint(-15, flush=True)\nhang()", after=1) == (-signal.SIGTERM, "")
