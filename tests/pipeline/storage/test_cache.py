"""The cache folder: verified, complete files, of bounded size, private, shared by processes."""

import hashlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.storage.cache import Cache, NoRoomError


def named(content: bytes) -> tuple[str, int]:
    return hashlib.sha256(content).hexdigest(), len(content)


def put(cache: Cache, content: bytes) -> None:
    cache.store(*named(content), lambda out: out.write(content)).close()


def holds(cache: Cache, content: bytes) -> bool:
    """Look without using: what is looked at is the most recently used."""
    return (cache.folder / "files" / named(content)[0][:2] / named(content)[0]).exists()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "locks"]


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache", 1000)


def test_what_is_stored_is_found_whole_and_private(cache) -> None:
    os.umask(before := os.umask(0))
    content = b"abc" * 100
    try:
        os.umask(0)
        with cache.store(*named(content), lambda out: out.write(content)) as file:
            assert file.read() == content
    finally:
        os.umask(before)
    with cache.find(*named(content)) as file:
        assert file.read() == content
    assert cache.find(*named(b"other")) is None
    for path in [cache.folder, *cache.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_least_recently_used_goes_first(cache) -> None:
    contents = [bytes([n]) * 300 for n in range(5)]
    for n, content in enumerate(contents[:3]):
        put(cache, content)
        os.utime(cache.folder / "files" / named(content)[0][:2] / named(content)[0], (n, n))
    cache.find(*named(contents[0])).close()
    put(cache, contents[3])
    assert [holds(cache, content) for content in contents] == [True, False, True, True, False]
    put(cache, contents[4])
    assert [holds(cache, content) for content in contents] == [True, False, False, True, True]


@given(sizes=st.lists(st.integers(1, 600), max_size=25))
@settings(max_examples=20, deadline=None)
def test_the_size_is_never_exceeded(tmp_path_factory, sizes) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"), 1000)
    for n, size in enumerate(sizes):
        put(cache, bytes([n]) * size)
        assert sum(path.stat().st_size for path in files(cache.folder)) <= 1000
        assert holds(cache, bytes([n]) * size)


def test_what_is_mapped_is_never_removed(cache) -> None:
    """A memory map keeps the file in the cache until the map is deleted, although the file is closed."""
    content = b"x" * 400
    put(cache, content)
    with cache.find(*named(content)) as file:
        mapped = np.memmap(file, np.uint8, mode="r")
    rows = mapped.view(np.ndarray)[100:200]
    del mapped
    for n in range(4):
        put(cache, bytes([n]) * 400)
        assert holds(cache, content)
    with pytest.raises(
        NoRoomError, match=r"no room for another 700 bytes: the rest of --cache-size 1,000 is in use"
    ):
        put(cache, b"y" * 700)
    assert bytes(rows) == content[100:200]
    del rows
    put(cache, b"y" * 700)
    assert not holds(cache, content)


def test_what_another_process_holds_is_never_removed_until_it_dies(cache) -> None:
    content = b"x" * 600
    put(cache, content)
    code = f"""
from pathlib import Path
from skelpipe.storage.cache import Cache
file = Cache(Path({str(cache.folder)!r}), 1000).find({named(content)[0]!r}, 600)
print("held", flush=True)
import time; time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(NoRoomError):
            put(cache, b"y" * 500)
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        put(cache, b"y" * 500)
        assert not holds(cache, content)
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("damage", [lambda c: c[:-1] + b"?", lambda c: c[:-1], lambda c: c + b"?", lambda _: b""])
def test_a_damaged_file_is_not_found_and_is_stored_anew(cache, damage) -> None:
    content = bytes(range(200))
    put(cache, content)
    path = cache.folder / "files" / named(content)[0][:2] / named(content)[0]
    path.write_bytes(damage(content))
    other = Cache(cache.folder, 1000)  # as in another process: this one has already hashed it
    assert other.find(*named(content)) is None
    assert not path.exists()
    put(other, content)
    with other.find(*named(content)) as file:
        assert file.read() == content


def test_a_failed_store_leaves_nothing(cache) -> None:
    def fail(out) -> None:
        out.write(b"half")
        raise SkelpipeError("the server failed")

    with pytest.raises(SkelpipeError, match="the server failed"):
        cache.store("ab" * 32, 400, fail)
    assert files(cache.folder) == []
    put(cache, b"x" * 900)


def test_a_killed_fetch_leaves_nothing_that_counts(cache) -> None:
    code = f"""
from pathlib import Path
from skelpipe.storage.cache import Cache
import os
cache = Cache(Path({str(cache.folder)!r}), 1000)
with cache.filling("{"ab" * 32}"):
    cache.store("{"ab" * 32}", 800, lambda out: os.kill(os.getpid(), 9))
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert [path.suffix for path in files(cache.folder)] == [".part"]
    with cache.filling("ab" * 32):
        put(cache, b"x" * 900)
    assert [path.name for path in files(cache.folder)] == [named(b"x" * 900)[0]]


def test_one_fetches_while_others_wait(cache) -> None:
    content = b"abc" * 100
    fetched = []

    def use(own: Cache) -> None:
        with own.filling(named(content)[0]):
            if (file := own.find(*named(content))) is None:
                fetched.append(1)
                time.sleep(0.05)
                put(own, content)
            else:
                file.close()

    threads = [threading.Thread(target=use, args=(Cache(cache.folder, 1000),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(fetched) == 1


def full_disk(cache: Cache, limit: int, body: str) -> str:
    """Run a process in which no file may grow beyond `limit` bytes, as if the disk ended there."""
    code = f"""
import hashlib, resource
from pathlib import Path
from skelpipe.storage.cache import Cache, NoRoomError
cache = Cache(Path({str(cache.folder)!r}), {cache.size})
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
{textwrap.dedent(body)}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_full_disk_is_noticed_before_fetching_and_leaves_nothing(tmp_path) -> None:
    cache = Cache(tmp_path / "cache", 1 << 20)
    said = full_disk(
        cache,
        4096,
        """
        try:
            cache.store("ab" * 32, 8192, lambda out: print("fetching"))
        except NoRoomError as error:
            print(error)
        """,
    )
    assert said == f"{cache.folder}: the cache cannot be written: File too large\n"
    assert files(cache.folder) == []


def test_a_full_disk_removes_the_least_recently_used_files(cache, monkeypatch) -> None:
    """posix_fallocate fails, as on a full disk, until two files are removed."""
    contents = [bytes([n]) * 100 for n in range(4)]
    for n, content in enumerate(contents):
        put(cache, content)
        os.utime(cache.folder / "files" / named(content)[0][:2] / named(content)[0], (n, n))

    def allocate(descriptor: int, start: int, size: int) -> None:
        if sum(holds(cache, content) for content in contents) > 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    put(cache, b"y" * 100)
    assert [holds(cache, content) for content in contents] == [False, False, True, True]


def test_where_nothing_can_be_allocated_ahead_files_are_stored_all_the_same(cache, monkeypatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    put(cache, b"x" * 900)
    assert holds(cache, b"x" * 900)


def test_cards_are_kept_for_a_day(cache, monkeypatch) -> None:
    assert cache.card("ab") is None
    cache.keep_card("ab", b"{}")
    assert cache.card("ab") == b"{}"
    path = cache.folder / "cards" / "ab"
    for age, found in ((3600, b"{}"), (25 * 3600, None), (-3600, None)):
        os.utime(path, (time.time() - age,) * 2)
        assert cache.card("ab") == found


def test_only_files_of_its_own_are_removed(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_bytes(b"x" * 5000)
    cache = Cache(tmp_path, 1000)
    for n in range(5):
        put(cache, bytes([n]) * 900)
    assert (tmp_path / "thesis.txt").stat().st_size == 5000


def test_a_folder_that_cannot_be_used(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        SkelpipeError, match=r"/file: the cache cannot be used as a cache: (File exists|Not a dir)"
    ):
        Cache(tmp_path / "file", 1000)
    Cache(tmp_path / "mine", 1000)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="the cache of another user"):
        Cache(tmp_path / "mine", 1000)


def test_many_processes_fill_and_empty_one_cache(tmp_path) -> None:
    """Three of them use files at random, more than fit: each always gets the bytes it asked for."""
    cache = Cache(tmp_path / "cache", 5000)
    code = f"""
import hashlib, random, sys
from pathlib import Path
from skelpipe.storage.cache import Cache, NoRoomError
cache = Cache(Path({str(cache.folder)!r}), 5000)
random.seed(int(sys.argv[1]))
contents = [bytes([n]) * 900 for n in range(12)]
for _ in range(40):
    content = random.choice(contents)
    sha = hashlib.sha256(content).hexdigest()
    file = cache.find(sha, 900)
    if file is None:
        with cache.filling(sha):
            file = cache.find(sha, 900)
            if file is None:
                try:
                    file = cache.store(sha, 900, lambda out: out.write(content))
                except NoRoomError:
                    continue
    with file:
        assert file.read() == content
print("done")
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(n)], stdout=subprocess.PIPE) for n in range(3)]
    assert [run.communicate(timeout=120)[0] for run in runs] == [b"done\n"] * 3
    left = files(cache.folder)
    assert sum(path.stat().st_size for path in left) <= 5000
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in left)
