"""Finding raw files, and the buffer that reads them."""

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
    with pytest.raises(UsageError, match=r"notes\.txt: is neither a folder nor a \.zip archive"):
        find_raw_files([tmp_path / "notes.txt"])
