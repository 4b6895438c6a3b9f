"""Who writes to a bucket: a second one is refused where the first lives, and goes on where it has ended."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.ownership import Owner
from skelpipe.prepare import remote_owner
from skelpipe.prepare.remote_lock import lock_filesystem
from skelpipe.prepare.remote_owner import owned_remotely
from skelpipe.storage.filesystem import LocalFilesystem

NAME = ".prepare-owner.json"
ELSEWHERE = Owner("prepare", 77, "node7", "another-boot", "2026-11-30 10:00:00 UTC", "word")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFilesystem:
    """A folder in place of a bucket; all waits are short."""
    for name, seconds in {"BEAT": 0.02, "WATCH": 0.4, "LOOK": 0.02}.items():
        monkeypatch.setattr(remote_owner, f"{name}_SECONDS", seconds)
    return LocalFilesystem(tmp_path)


def test_a_second_one_is_refused_and_nothing_stays(target: LocalFilesystem) -> None:
    said: list[str] = []
    me = rf"prepare: process {os.getpid()} on {re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\d \S+ UTC"
    with owned_remotely(target, NAME, "prepare") as first:
        with (
            pytest.raises(UsageError, match=f"^{target}: another {me} is writing there$"),
            owned_remotely(target, NAME, "prepare", said.append),
        ):
            pass
        first.check()
    assert len(said) == 1
    assert re.fullmatch(f"{target}: looking for 0 s whether {me} still writes there", said[0])
    assert target.names() == []
    with owned_remotely(target, NAME, "prepare"):
        assert Owner.parsed(target.read(NAME)) is not None


def test_one_that_does_not_answer_is_taken_over_and_told(
    target: LocalFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_owner, "BEAT_SECONDS", 100.0)
    said: list[str] = []
    with owned_remotely(target, NAME, "prepare") as first:
        with owned_remotely(target, NAME, "prepare", said.append) as second:
            second.check()
            with pytest.raises(SkelpipeError, match="another prepare is writing there, by prepare: process"):
                first.check()
        assert said[1].endswith(", which has ended")
        assert target.names() == []
        with pytest.raises(SkelpipeError, match="another prepare is writing there: let one finish"):
            first.check()


@pytest.mark.parametrize("here", [True, False])
def test_a_killed_process_of_this_machine_is_not_waited_for(here: bool, target: LocalFilesystem) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = replace(Owner.myself("prepare"), process=child.pid) if here else ELSEWHERE
    target.write(NAME, [json.dumps(asdict(gone)).encode()])
    said: list[str] = []
    begun = time.monotonic()
    with owned_remotely(target, NAME, "prepare", said.append):
        pass
    assert (time.monotonic() - begun < 0.3) == here
    assert said[-1] == f"{target}: taken over from {gone}, which has ended"
    assert len(said) == (1 if here else 2)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 9000, b'{"process": "x"}', b"\xff"])
def test_a_damaged_file_counts_for_nothing(content: bytes, target: LocalFilesystem) -> None:
    target.write(NAME, [content[:4096]])
    with owned_remotely(target, NAME, "prepare"):
        pass
    assert target.names() == []


def test_a_dataset_that_somebody_may_be_replacing_is_not_called_complete(target: LocalFilesystem) -> None:
    """Between the owner's file and the removal of the card that it replaces."""
    target.write("dataset.json", [b"{}"])
    with owned_remotely(target, NAME, "prepare") as first:

        def acquire() -> None:
            with owned_remotely(target, NAME, "prepare"):
                pass

        with pytest.raises(UsageError, match="another prepare: process .* is writing there"):
            lock_filesystem(target, {}, overwrite=False, acquire=acquire)
        first.check()
    assert target.names() == ["dataset.json"]
