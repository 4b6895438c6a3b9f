"""One process writes a folder or file; the lock of one that has ended is told from that of one that lives."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from skelpipe import ownership
from skelpipe.cli import main as skelpipe
from skelpipe.cli.command import Command
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.ownership import LOCK, Owner, check_owned, hold, owned
from skelpipe.prepare import Options, prepare

ME = rf"pretrain: process {os.getpid()} on {re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\d \S+ UTC"
ELSEWHERE = Owner("pretrain", 77, "node7", "another-boot", "2026-11-30 10:00:00 UTC", "word")


def leave(folder: Path, owner: Owner, age: float = 0.0) -> Path:
    """Leave the lock file of an owner, renewed `age` seconds ago, as a kill or another machine does."""
    folder.mkdir(exist_ok=True)
    lock = folder / LOCK
    lock.write_text(json.dumps(asdict(owner)))
    os.utime(lock, (time.time() - age, time.time() - age))
    return lock


@contextmanager
def renewed(lock: Path) -> Iterator[None]:
    """Renew the time of a lock file, as its owner on another machine does."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.02):
            os.utime(lock)

    thread = threading.Thread(target=renew)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("file", [True, False])
def test_a_second_one_is_refused_and_nothing_stays(file: bool, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a"
    with owned(path, "pretrain", file=file):
        with (
            pytest.raises(UsageError, match=f"^{path}: another {ME} is writing there$"),
            owned(path, "knn", file=file),
        ):
            pass
        with owned(path.with_name("b"), "knn", file=file):
            check_owned(path, file=file)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
    with owned(path, "knn", file=file):
        pass


def test_the_lock_of_a_killed_process_is_taken_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 1000.0)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom skelpipe.ownership import owned\n"
        "with owned(Path(sys.argv[1]), 'pretrain'):\n    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(UsageError, match=f"process {process.pid} on "), owned(tmp_path, "pretrain"):
            pass
        os.kill(process.pid, signal.SIGKILL)
    said: list[str] = []
    with owned(tmp_path, "pretrain", say=said.append):
        pass
    (line,) = said
    assert line.startswith(f"{tmp_path}: taken over from pretrain: process {process.pid} on ")


def test_an_owner_on_another_machine_that_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock of the system may reach from there to here: the time of the file tells."""
    monkeypatch.setattr(ownership, "LOOK_SECONDS", 0.05)
    with (
        renewed(leave(tmp_path, ELSEWHERE)),
        pytest.raises(UsageError, match="another pretrain: process 77 on node7, since .* is writing there"),
        owned(tmp_path, "pretrain"),
    ):
        pass
    assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize(("age", "watch", "lines"), [(5.0, 0.2, 2), (3600.0, 1000.0, 1)])
def test_an_owner_on_another_machine_that_has_ended(
    age: float, watch: float, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(ownership, "WATCH_SECONDS", watch)
    leave(tmp_path, ELSEWHERE, age)
    said: list[str] = []
    with owned(tmp_path, "pretrain", say=said.append):
        pass
    assert len(said) == lines
    assert said[-1].endswith(
        "taken over from pretrain: process 77 on node7, since 2026-11-30 10:00:00 UTC, which has ended"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes among its files")
@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", None)])
def test_a_lock_that_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / LOCK)
    with (
        pytest.raises(
            SkelpipeError, match=rf"^{re.escape(str(tmp_path))}: cannot be written: {re.escape(LOCK)} in it: "
        ),
        owned(tmp_path, "pretrain"),
    ):
        pass


@pytest.mark.skipif(ownership.fcntl is None, reason="Windows locks its files in another way")
def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(ownership, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.02)
    with (
        owned(tmp_path, "pretrain"),
        pytest.raises(UsageError, match=f"another {ME} is writing there"),
        owned(tmp_path, "knn"),
    ):
        pass
    leave(tmp_path, Owner.myself("pretrain"))
    with owned(tmp_path, "knn"):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x00\xff", b'{"command": {}}', b"[" * 5000])
def test_a_lock_file_that_names_nobody_holds_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with owned(tmp_path, "knn"):
        pass


def test_names_in_a_lock_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    said: list[str] = []
    leave(tmp_path, replace(ELSEWHERE, host="\x1b[2J"), 3600)
    with owned(tmp_path, "knn", say=said.append):
        pass
    assert r"on \x1b[2J, since" in said[-1]


def test_a_folder_that_was_removed_or_taken_over_meanwhile(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with owned(run, "pretrain"):
        (run / LOCK).unlink()
        with pytest.raises(SkelpipeError, match=f"{run}: was removed while it was written"):
            check_owned(run)
        leave(run, ELSEWHERE)
        with pytest.raises(SkelpipeError, match=f"{run}: was taken over .* by pretrain: process 77 on node7"):
            check_owned(run)
    assert (run / LOCK).exists()  # not ours to remove


def test_where_no_lock_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SkelpipeError, match="file/run: cannot be written: Not a directory"),
        owned(tmp_path / "file" / "run", "pretrain"),
    ):
        pass


def test_a_command_holds_until_it_ends(tmp_path: Path) -> None:
    @click.command("fit.py", cls=Command)
    @click.option("--fail", is_flag=True)
    def command(fail: bool) -> None:
        hold(tmp_path)
        hold(tmp_path)
        with pytest.raises(UsageError, match="another fit: process"), owned(tmp_path, "knn"):
            pass
        if fail:
            raise SkelpipeError("no")

    for words, code in (([], 0), (["--fail"], 1)):
        result = CliRunner().invoke(command, words)
        assert result.exit_code == code, result.output
        assert list(tmp_path.iterdir()) == []
    hold(tmp_path)
    assert list(tmp_path.iterdir()) == []


TINY = ["--set", "encoder.width=2", "--set", "encoder.out_channels=8"]


@pytest.fixture(scope="module")
def lock_ds(
    tmp_path_factory: pytest.TempPathFactory, skeleton_text: Any, moving_bodies: Any, ntu_names: Any
) -> Path:
    """A dataset of a few clips."""
    root = tmp_path_factory.mktemp("owned")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=2)):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 8)))
    options = Options(split="xsub", frames=8, bodies=1)
    prepare(load_manifest("ntu60"), [root / "raw"], root / "set", options, quiet=True)
    return root / "set"


def refused(words: list[str], path: Path, *, file: bool) -> None:
    """Expect that a command ends with one line, and changes nothing, while another process writes `path`."""
    with owned(path, "other", file=file):
        before = {each: each.stat().st_mtime_ns for each in path.parent.rglob("*")}
        result = CliRunner().invoke(skelpipe, words)
        assert result.exit_code == 2, result.output
        assert re.search(
            rf"{re.escape(str(path))}: another other: process \d+ on .* is writing there", result.stderr
        )
        assert before == {each: each.stat().st_mtime_ns for each in path.parent.rglob("*")}


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["pretrain", "--shards", "DS", "--recipe", "demo", "--device", "cpu", *TINY, "--out", "OUT"], False),
        (["finetune", "--shards", "DS", *TINY, "--device", "cpu", "--out", "OUT"], False),
        (["knn", "--shards", "DS", "--baseline", "raw", "--out", "OUT"], False),
        (["linear", "--shards", "DS", "--baseline", "raw", "--out", "OUT"], False),
        (["cost", "--recipe", "demo", "--out", "OUT"], False),
        (["synth", "--dataset", "ntu60", "--subjects", "1", "--actions", "1", "--out", "OUT"], False),
        (["report", "RUN"], True),
        (["browse", "DS", "--out", "OUT"], True),
        (["embed", "DS", "--checkpoint", "RUN", "--out", "OUT"], True),
        (["export-model", "RUN", "--to", "onnx", "--out", "OUT"], True),
        (["export", "DS", "--to", "npy", "--out", "OUT"], True),
        (["copy", "DS", "OUT"], True),
        (["map", "--shards", "DS", "--baseline", "raw", "--out", "OUT"], False),
        (["demo", "--out", "OUT"], True),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_every_writer_refuses_what_another_writes(
    words: list[str], file: bool, lock_ds: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kept" / ("out.npz" if words[0] == "embed" else "out")
    out.parent.mkdir()
    (out.parent / "recipe.yaml").touch()
    save_file({"weight": torch.zeros(1)}, out.parent / "encoder.safetensors")  # what is looked at before the lock
    names = {"DS": str(lock_ds), "OUT": str(out), "RUN": str(out.parent)}
    path = out.parent / "report.html" if words[0] == "report" else out
    refused([names.get(word, word) for word in words], path, file=file)
