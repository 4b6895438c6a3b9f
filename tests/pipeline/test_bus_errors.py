"""The handler of SIGBUS, in a process of its own: other faults end it as before."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SIGBUS is an error on 64-bit Linux only")

PROGRAM = """
import faulthandler, mmap, os, sys
faulthandler.enable()
import numpy as np
from skelpipe.bus_errors import END, FAULT, START, FaultTable

def mapped(name):
    with open(name, "wb+") as file:
        file.write(b"x" * 10000)
        file.flush()
        found = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
        os.ftruncate(file.fileno(), 0)
    return found

table, other, listed = FaultTable(3), mapped(sys.argv[1] + "/other"), mapped(sys.argv[1] + "/listed")
table.rows[1, START : END + 1] = listed.ctypes.data, listed.ctypes.data + len(listed)
print(listed[5000], listed[9999], table.rows[1, FAULT] - table.rows[1, START], table.faults)
print(listed[0], table.faults, flush=True)
print(other[0])
"""


def test_listed_memory_reads_as_zeros_and_other_memory_ends_the_process(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.stdout.splitlines() == ["0 0 5000 1", "0 2"]
    assert ended.returncode == -7
    assert "Bus error" in ended.stderr
