"""Training and evaluation on a full or read-only disk, or in a folder that goes: one line, then --resume."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from small_disk import SmallDisk

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.train.running import run as running
from skelpipe.train.running.run_log import RunLog
from skelpipe.train.training import pretraining

AS_FINISHED = ("--epochs", "6", "--save-every", "2", "--knn-every", "3")


def last_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    return result.stderr.splitlines()[-1]


def at_call(number: int, function: Callable[..., Any], around: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, whose call of that number, from 1, is made within the context `around(*arguments)`."""
    calls = []

    def wrapped(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) != number:
            return function(*arguments, **more)
        with around(*arguments):
            return function(*arguments, **more)

    return wrapped


@pytest.mark.parametrize(
    ("place", "name", "call", "file"),
    [
        (running, "save_checkpoint", 2, "checkpoints/epoch-0004.pt: cannot be written"),
        (pretraining, "export", 2, "best/encoder.safetensors: cannot be written"),
        (pretraining, "write_report", 1, "report.html: cannot be written"),
    ],
)
def test_a_full_disk_then_resumed(
    place: Any,
    name: str,
    call: int,
    file: str,
    tiny_dataset: Dataset,
    finished: Path,
    pretrain_small: Callable[..., Result],
    same_run: Callable[..., None],
    disk: SmallDisk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = disk.folder / "run"
    with monkeypatch.context() as patch:
        patch.setattr(place, name, at_call(call, getattr(place, name), lambda *_: disk.full(4096, 1000)))
        said = last_line(pretrain_small(tiny_dataset, out, *AS_FINISHED))
    assert said.startswith(f"Error: {out}/{file}: {disk.words}"), said
    if name == "save_checkpoint":
        assert "the file needs " in said
    assert not list(out.rglob("*.part"))
    result = pretrain_small(tiny_dataset, out, *AS_FINISHED, "--resume")
    assert result.exit_code == 0, result.output
    same_run(finished, out)
    assert not (out / ".skelpipe.lock").exists()


def test_a_log_that_cannot_grow_then_resumed(
    tiny_dataset: Dataset,
    finished: Path,
    pretrain_small: Callable[..., Result],
    same_run: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line is cut in its middle; a tmpfs has room for whole pages only, so a limit stands for the disk."""
    out, disk = tmp_path / "run", SmallDisk(tmp_path, mounted=False)

    def around(*_: Any) -> Any:
        return disk.full((out / "log.jsonl").stat().st_size + 7)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", at_call(4, RunLog.write, around))
        said = last_line(pretrain_small(tiny_dataset, out, *AS_FINISHED))
    assert said.startswith(f"Error: {out}/log.jsonl: cannot be written: {disk.words}")
    assert pretrain_small(tiny_dataset, out, *AS_FINISHED, "--resume").exit_code == 0
    same_run(finished, out)


def test_a_folder_that_is_removed_meanwhile(
    tiny_dataset: Dataset,
    pretrain_small: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    set_rate = running.set_rate

    def removing(*arguments: Any) -> None:
        shutil.rmtree(out)
        set_rate(*arguments)

    monkeypatch.setattr(running, "set_rate", removing)
    said = last_line(pretrain_small(tiny_dataset, out, "--epochs", "2"))
    assert said == f"Error: {out}: was removed while it was written"
    assert not out.exists()


def test_a_read_only_disk(tiny_dataset: Dataset, pretrain_small: Callable[..., Result], disk: SmallDisk) -> None:
    with disk.read_only():
        said = last_line(pretrain_small(tiny_dataset, disk.folder / "run", "--epochs", "1"))
    assert said.startswith(f"Error: {disk.folder}/run: cannot be ")
    assert said.endswith(disk.read_only_words)


def test_what_evaluations_write_on_a_full_disk(tiny_dataset: Dataset, finished: Path, disk: SmallDisk) -> None:
    shards = ["--shards", str(tiny_dataset.path)]
    run = disk.folder / "run"
    shutil.copytree(finished, run)
    page = (run / "report.html").read_bytes()
    commands = {
        "embedded.npz": ["embed", *shards, "--checkpoint", str(finished), "--device", "cpu", "--out"],
        "knn": ["knn", *shards, "--baseline", "raw", "--device", "cpu", "--out"],
        "page.html": ["browse", str(run), "--out"],
    }
    for name, words in commands.items():
        with disk.full(4096, 500):
            said = last_line(CliRunner().invoke(main, [*words, str(disk.folder / name)]))
        assert said.startswith(f"Error: {disk.folder / name}"), said
        assert disk.words in said
        assert not list(disk.folder.rglob("*.part"))
        assert CliRunner().invoke(main, [*words, str(disk.folder / name)]).exit_code == 0
    with disk.full(0, 500):
        said = last_line(CliRunner().invoke(main, ["report", str(run), *shards]))
    assert said.startswith(f"Error: {run}/report.html: cannot be written: {disk.words}")
    assert (run / "report.html").read_bytes() == page
