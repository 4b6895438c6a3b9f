"""Ctrl-C while a server does not answer: the command ends at once, with one line."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

SOON = 20.0  # seconds to end in, on a busy machine; a server may be silent for half a minute
CARD, SHARD = "/bucket/ds/dataset.json", "/bucket/ds/test/joint/000001.tar"
GATHER = """
import sys
import numpy as np
from skelpipe.dataset import Dataset
from skelpipe.door.answer import program
program(lambda: lambda: Dataset.open(sys.argv[1]).reader("test", "joint").gather(np.arange(12)))
"""
INFO = ["-m", "skelpipe", "info", "--shards"]
VERIFY = ["-m", "skelpipe", "verify", "--workers", "2", "--shards"]
COPY = ["-m", "skelpipe", "copy", "--workers", "2"]
BUSY = {"Retry-After": "60"}


def interrupted(server: Any, path: str, words: list[str], wait_until: Callable[..., None]) -> tuple[int, str]:
    """Run a command until `path` is asked for, send it Ctrl-C; return its exit code and what it said."""
    begun = time.monotonic()
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: process.poll() is not None or path in server.gets())
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert time.monotonic() - begun < SOON
    return process.returncode, errors


@pytest.mark.parametrize(
    ("path", "words"),
    [(CARD, INFO), (SHARD, ["-c", GATHER]), (SHARD, VERIFY), (SHARD, COPY)],
    ids=["card", "shard", "verify", "copy"],
)
def test_a_hanging_server_does_not_hold_a_command(url, server, fault, wait_until, path, words, tmp_path) -> None:
    target = [str(tmp_path)] if words is COPY else []
    server.faults[path] = [fault("hang", 99)]
    code, said = interrupted(server, path, [*words, url, *target], wait_until)
    assert code == 130
    lines = [line for line in said.splitlines() if not line.startswith(("verify ", "copy "))]  # their progress
    assert len(lines) == 1
    assert lines[0].startswith("Interrupted: ")


def test_a_wait_before_another_try_does_not_hold_a_command(url, server, fault, wait_until) -> None:
    server.faults[CARD] = [fault("status", 99, headers=BUSY)]
    code, said = interrupted(server, CARD, [*INFO, url], wait_until)
    assert (code, said.count("\n")) == (130, 1)
    assert said.startswith("Interrupted: ")
