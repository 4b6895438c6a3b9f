"""Files appear together and only when all are complete; none is replaced unasked."""

import os
from pathlib import Path

import pytest

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.export.target import filled_folder


def fill(out: Path, text: str, *, overwrite: bool = False) -> None:
    with filled_folder(out, ["a.txt", "b"], overwrite=overwrite) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "b").mkdir()
        (folder / "b" / "c.txt").write_text(text)


def test_files_and_folders_appear_in_the_end(tmp_path: Path) -> None:
    out = tmp_path / "x" / "out"
    with filled_folder(out, ["a.txt"]) as folder:
        (folder / "a.txt").write_text("whole")
        assert not out.exists()
    assert (out / "a.txt").read_text() == "whole"
    assert os.listdir(out.parent) == ["out"]


def test_what_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    (out / "b" / "mine.txt").write_text("part of b")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.txt: is there already: pass --overwrite"):
        fill(out, "new")
    assert (out / "a.txt").read_text() == "old"
    fill(out, "new", overwrite=True)
    assert (out / "a.txt").read_text() == (out / "b" / "c.txt").read_text() == "new"
    assert (out / "mine.txt").read_text() == "mine"
    assert os.listdir(out / "b") == ["c.txt"]
    assert sorted(os.listdir(tmp_path)) == ["out"]


@pytest.mark.parametrize("fault", [ValueError("x"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, fault: BaseException) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    kind = SkelpipeError if isinstance(fault, OSError) else type(fault)

    def fail() -> None:
        with filled_folder(out, ["a.txt", "b"], overwrite=True) as folder:
            (folder / "a.txt").write_text("half")
            raise fault

    with pytest.raises(kind) as raised:
        fail()
    if isinstance(fault, OSError):
        assert str(raised.value).startswith(f"{out}: cannot be written: the disk is full: ")
    assert (out / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, and a folder is needed"):
        fill(tmp_path / "file", "new")
    with pytest.raises(SkelpipeError, match="cannot be written: Not a directory"):
        fill(tmp_path / "file" / "out", "new")


def test_a_file_gives_way_to_a_folder_and_a_folder_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "a.txt").mkdir(parents=True)
    (out / "b").write_text("a file")
    fill(out, "new", overwrite=True)
    assert (out / "a.txt").read_text() == (out / "b" / "c.txt").read_text() == "new"
