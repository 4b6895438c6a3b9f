"""Locks between processes, and files that are kept from being removed."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest

from skelpipe.locks import keep, locked, remove_folder, remove_unused

HOLD = """
import sys
from pathlib import Path
from skelpipe.locks import keep, locked
place = Path(sys.argv[1])
with locked(place / "lock"), open(place / "file", "rb") as file:
    keep(file)
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_the_lock_and_the_files_of_a_process_are_free_once_it_is_killed(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
            pass
        assert not remove_unused(tmp_path / "file")
        os.kill(holder.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        holder.wait(60)
    with locked(tmp_path / "lock", wait=False):
        assert remove_unused(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_mapped_file_is_kept_until_the_map_is_gone(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with open(path, "rb") as file:
        keep(file)
        mapped = np.memmap(file, np.uint8, mode="r")
    assert not remove_unused(path)
    del mapped
    assert remove_unused(path)
    assert not remove_unused(path)  # it is gone


def test_two_locks_of_one_process_exclude_each_other(tmp_path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
        pass
    with locked(tmp_path / "lock", wait=False, private=True):
        pass


def test_a_folder_goes_with_the_lock_inside(tmp_path) -> None:
    held, folder = ExitStack(), tmp_path / "folder"
    (folder / "more").mkdir(parents=True)
    held.enter_context(locked(folder / "lock", wait=False))
    remove_folder(folder, held)
    assert not folder.exists()
    folder.mkdir()
    with locked(folder / "lock", wait=False):
        assert folder.exists()
