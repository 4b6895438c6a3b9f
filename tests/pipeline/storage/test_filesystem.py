"""Files of a local folder: complete or absent, with names that stay inside, and errors that name the file."""

import errno
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.door.refusals import why
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.storage import open_filesystem
from skelpipe.storage.deadlines import StoppedError, give_up_when


def test_files_of_a_folder(tmp_path) -> None:
    filesystem = open_filesystem(tmp_path / "new" / "deep")
    assert filesystem.names() == []
    assert filesystem.size("train/a") is None
    filesystem.write("train/a", (bytes([byte]) * 3 for byte in b"abcd"))
    filesystem.child("train").child("b").write("c", [])
    assert (tmp_path / "new/deep/train/a").read_bytes() == b"aaabbbcccddd"
    assert filesystem.names() == ["train/a", "train/b/c"]
    assert filesystem.child("train").names() == ["a", "b/c"]
    assert filesystem.size("train/a") == 12
    assert filesystem.size("train") is None
    assert list(filesystem.stream("train/a", 5)) == [b"aaabb", b"bcccd", b"dd"]
    assert filesystem.read("train/b/c") == b""
    filesystem.remove("train/a")
    assert filesystem.names() == ["train/b/c"]


@pytest.mark.parametrize("before", [None, b"as before"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, before) -> None:
    filesystem = open_filesystem(tmp_path)
    if before is not None:
        (tmp_path / "a").write_bytes(before)

    def pieces():
        yield b"half"
        raise KeyError("the source failed")

    with pytest.raises(KeyError):
        filesystem.write("a", pieces())
    assert filesystem.names() == ([] if before is None else ["a"])
    assert before is None or filesystem.read("a") == before


@given(name=st.lists(st.sampled_from(["..", ".", "", "a", "~", "b c"]), min_size=1, max_size=4).map("/".join))
def test_a_name_never_leads_out_of_the_folder(tmp_path, name) -> None:
    """Accepted are only normalised names that stay inside by the arithmetic of `os.path`."""
    filesystem = open_filesystem(tmp_path / "inside")
    plain = all(part in ("a", "~", "b c") for part in name.split("/"))
    for call in (filesystem.size, filesystem.child):
        if plain:
            call(name)
        else:
            with pytest.raises(UsageError, match="is not the name of a file inside"):
                call(name)
    if plain:
        assert Path(os.path.normpath(tmp_path / "inside" / name)).is_relative_to(tmp_path / "inside")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "a\0b"])
def test_every_method_checks_names(tmp_path, name) -> None:
    bucket = open_filesystem("s3://bucket/ds?endpoint_override=127.0.0.1:1")
    for filesystem in (open_filesystem(tmp_path), bucket):
        calls = (
            filesystem.read,
            lambda n, p=filesystem: list(p.stream(n)),
            filesystem.size,
            filesystem.remove,
            filesystem.child,
        )
        for call in (*calls, lambda n, p=filesystem: p.write(n, [b""])):
            with pytest.raises(UsageError, match="is not the name of a file inside"):
                call(name)


def test_errors_of_a_folder_name_the_file(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    filesystem = open_filesystem(tmp_path)
    with pytest.raises(SkelpipeError, match=r"/none/a: cannot be read: No such file or directory$"):
        filesystem.read("none/a")
    with pytest.raises(SkelpipeError, match=r"/none: cannot be read: No such file"):
        list(filesystem.stream("none"))
    with pytest.raises(SkelpipeError, match=r"/none: cannot be removed: No such file"):
        filesystem.remove("none")
    with pytest.raises(SkelpipeError, match=r"/file/a: cannot be written: (Not a directory|File exists)"):
        filesystem.write("file/a", [b""])
    with pytest.raises(UsageError, match=r"/file: is a file, not a folder"):
        open_filesystem(tmp_path / "file").names()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path) -> None:
    """A limit on the size of files stands for a disk without room: the kernel refuses a write half way."""
    code = f"""
import resource
from skelpipe.errors import SkelpipeError
from skelpipe.storage import open_filesystem
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    open_filesystem({str(tmp_path)!r}).write("a", [bytes(3000)] * 3)
except SkelpipeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{tmp_path}/a: cannot be written: {why(OSError(errno.EFBIG, ''))}\n"
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_permissions_others_get(tmp_path) -> None:
    open_filesystem(tmp_path).write("a", [b""])
    (tmp_path / "plain").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "plain")}
    assert len(modes) == 1


def test_a_thread_that_is_no_longer_needed_stops_within_a_file(tmp_path: Path) -> None:
    """Ctrl-C must not wait until a file of a hundred gigabytes is hashed."""
    (tmp_path / "a").write_bytes(b"abcdef")
    stop = threading.Event()

    def read() -> None:
        give_up_when(stop.is_set)
        for piece in open_filesystem(tmp_path).stream("a", 2):
            pieces.append(piece)
            stop.set()

    pieces: list[bytes] = []
    with pytest.raises(StoppedError), ThreadPoolExecutor(1) as pool:
        pool.submit(read).result()
    assert pieces == [b"ab"]
