"""Finding raw files, and the buffer that reads them."""

import zipfile
from pathlib import Path

import pytest

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.source import TextBuffer, find_raw_files


def test_buffer_is_aligned_and_reused(tmp_path: Path) -> None:
    buffer = TextBuffer()
    for size in (10, 3_000_000, 20, 0):
        path = tmp_path / str(size)
        path.write_bytes(b"7" * size)
        text = buffer.read(str(path))
        assert bytes(text) == b"7" * size + b"\n"
        assert text.ctypes.data % 64 == 0


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("link", "absent", "."):
        with pytest.raises(RawError, match=r"cannot be read"):
            TextBuffer().read(str(tmp_path / name))


def test_paths_that_are_neither_folder_nor_archive(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for name in ("absent", "absent.zip"):
        with pytest.raises(UsageError, match="there is no such folder or archive"):
            find_raw_files([tmp_path / name])
    with pytest.raises(UsageError, match=r"notes\.txt: is neither a folder nor an archive \(\.zip, \.tar"):
        find_raw_files([tmp_path / "notes.txt"])


def test_what_systems_write_beside_files_is_counted_and_not_listed(tmp_path) -> None:
    names = [
        "a/S1.skeleton",
        "a/._S1.skeleton",
        "a/.DS_Store",
        "Thumbs.db",
        "Desktop.ini",
        "b/__MACOSX/._S1.skeleton",
    ]
    for name in [*names, "__MACOSX/x.skeleton", "__MACOSX_notes.txt"]:
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_text("1\n")
    with zipfile.ZipFile(tmp_path / "raw" / "a.zip", "w") as opened:
        for name in ("S2.skeleton", "__MACOSX/._S2.skeleton"):
            opened.writestr(name, "1\n")
    (tmp_path / "raw" / "._a.zip").write_bytes(b"no archive")
    found = find_raw_files([tmp_path / "raw"])
    assert [file.relative for file in found] == ["__MACOSX_notes.txt", "a.zip/S2.skeleton", "a/S1.skeleton"]
    assert found.clutter == 8
