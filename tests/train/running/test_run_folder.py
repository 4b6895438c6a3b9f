from pathlib import Path

import pytest

from skelpipe.errors import UsageError
from skelpipe.train.running.run_folder import RunFolder


def a_run(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / "epoch-0001.pt").write_text("x")
    for file in (folder.recipe, folder.log, folder.weights):
        file.write_text("x")
    (path / "notes.txt").write_text("mine")
    return folder


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "a")
    folder.open(resume=False, overwrite=False)
    assert folder.path.is_dir()


def test_an_earlier_run_is_refused(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    with pytest.raises(UsageError, match="--resume to go on, --overwrite to start anew"):
        folder.open(resume=False, overwrite=False)
    folder.open(resume=True, overwrite=False)
    assert folder.log.read_text() == "x"


def test_overwrite_takes_only_the_runs_own_files(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.open(resume=False, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_somebody_elses_folder_is_refused(tmp_path: Path, resume: bool, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds files but no run"):
        RunFolder(tmp_path).open(resume=resume, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").is_file()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(path).open(resume=False, overwrite=True)
