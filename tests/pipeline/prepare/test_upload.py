"""The scratch folders of uploads: none stays, however a worker ends, and none in use is taken away."""

import shutil
from pathlib import Path

import pytest

from skelpipe.errors import SkelpipeError
from skelpipe.prepare.upload import scratch_cleared, scratch_folder


def test_a_scratch_folder_goes_with_its_context(tmp_path) -> None:
    with scratch_folder(tmp_path / "work") as folder:
        (folder / "train").mkdir()
        (folder / "train" / "000000.tar").write_bytes(b"shard")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("at", ["mkdir", "rmtree"])
def test_what_an_interrupted_worker_leaves_goes_after_all(tmp_path, monkeypatch, at) -> None:
    """Ctrl-C reaches a worker from the terminal and from the command: the second may come while it cleans up."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with scratch_cleared(tmp_path), monkeypatch.context() as patched:
        patched.setattr(*{"mkdir": (Path, "mkdir"), "rmtree": (shutil, "rmtree")}[at], interrupted)
        with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path) as folder:
            (folder / "000000.tar").write_bytes(b"shard")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_workers_folder_goes_before_and_after(tmp_path) -> None:
    def leave() -> Path:
        with scratch_folder(tmp_path) as folder:
            shutil.copytree(folder.parent, tmp_path / f"{folder.parent.name}-killed")  # its lock is nobody's
        return tmp_path / f"{folder.parent.name}-killed"

    before = leave()
    with scratch_cleared(tmp_path):
        assert not before.exists()
        leave()
    assert list(tmp_path.iterdir()) == []


def test_folders_in_use_and_those_of_others_stay(tmp_path) -> None:
    (tmp_path / "thesis").mkdir()
    with scratch_folder(tmp_path) as folder:
        (folder / "000000.tar").write_bytes(b"shard")
        with scratch_cleared(tmp_path):
            pass
        assert (folder / "000000.tar").read_bytes() == b"shard"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_place_that_takes_no_folder_is_named(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(SkelpipeError, match=r"file: cannot create a work folder here: "),
        scratch_folder(tmp_path / "file"),
    ):
        pass
