import json
from pathlib import Path

import pytest

from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console, RunLog, read_log


def write(folder: RunFolder, done: int, epochs: range) -> None:
    with RunLog(folder, done) as log:
        for epoch in epochs:
            log.write(epoch, {"loss": 1 / epoch, "knn@20": 50.0 + epoch}, {"epoch_s": 0.1 * epoch})
            log.sync()


def test_one_object_an_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, 0, range(1, 4))
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert lines == [{"epoch": e, "loss": 1 / e, "knn@20": 50.0 + e} for e in (1, 2, 3)]
    assert [record["epoch"] for record in read_log(folder.speed)] == [1, 2, 3]


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    for folder in (whole, broken):
        folder.path.mkdir()
    write(whole, 0, range(1, 8))
    write(broken, 0, range(1, 6))  # its last checkpoint was that of epoch 3
    with open(broken.log, "a") as file:
        file.write('{"epoch": 6, "lo')  # where the kill struck
    write(broken, 3, range(4, 8))
    assert broken.log.read_bytes() == whole.log.read_bytes()
    assert [record["epoch"] for record in read_log(broken.speed)] == list(range(1, 8))


def test_starting_anew_empties_the_log(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, 0, range(1, 4))
    write(folder, 0, range(1, 2))
    assert [record["epoch"] for record in read_log(folder.log)] == [1]


def test_a_cut_line_ends_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}')
    assert read_log(path) == [{"epoch": 1}]
    assert read_log(tmp_path / "none") == []


def test_console_is_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.working("too soon to say")
    console.say("a line")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "a line\n"
