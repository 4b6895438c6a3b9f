"""The server itself: it is S3 enough to find our faults, and ends with its tests."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from skelpipe.errors import SkelpipeError
from skelpipe.storage import open_filesystem

PART = 6 << 20  # more than S3's least part: an upload of two goes up in parts


def test_it_keeps_files_and_serves_ranges(store) -> None:
    filesystem = store.filesystem()
    content = os.urandom(2 * PART + 1)
    filesystem.write("big/a.tar", [content[:PART], content[PART : 2 * PART], content[2 * PART :]])
    filesystem.write("b", [b""])
    assert filesystem.names() == ["b", "big/a.tar"]
    assert (filesystem.size("big/a.tar"), filesystem.size("b"), filesystem.size("c")) == (len(content), 0, None)
    assert b"".join(filesystem.stream("big/a.tar", 1 << 20)) == content
    filesystem.remove("b")
    assert filesystem.names() == ["big/a.tar"]


def test_it_knows_its_users(store) -> None:
    good = open_filesystem(store.url(user="lab:reader"))
    good.write("a", [b"1"])
    for refused in ({"user": "lab:reader", "secret": "wrong"}, {"user": "lab:nobody"}):
        with pytest.raises(SkelpipeError, match="access is refused"):
            open_filesystem(store.url(**refused)).read("a")
    assert good.read("a") == b"1"


def test_its_programs_end_with_the_process_that_started_them() -> None:
    """However that ends: here it is killed outright."""
    tied = Path(__file__).with_name("tied.py")
    code = f"""
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, {str(tied)!r}, str(os.getpid()), "/bin/sleep", "600"])
        while not open(f"/proc/{{child.pid}}/cmdline").read().startswith("/bin/sleep"):
            time.sleep(0.02)
        print(child.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        child = Path("/proc") / program.stdout.readline().decode().strip()
        assert child.exists()
        program.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.exists()
