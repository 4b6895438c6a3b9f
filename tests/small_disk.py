"""Disks that are full, or read-only, for tests.

Where tests run as root on Linux, a disk is a small tmpfs. Elsewhere a limit on the size of files stands for a full
disk, since both end a write with an OSError, and permissions stand for a read-only one; so no test is skipped.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 64 << 20  # bytes of the tmpfs
NOBODY = 65534
LIMITED = "SKELPIPE_TEST_LIMITS"  # if set, limits and permissions stand for disks though a tmpfs is possible


class SmallDisk:
    """A folder on a disk that can be filled and freed."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        self.folder, self._mounted = folder, mounted
        self.words = "the disk is full" if mounted else "the file would be larger than this process may write"
        self.read_only_words = "the disk is read-only" if mounted else "Permission denied"

    @contextmanager
    def full(self, left: int, largest: int | None = None) -> Iterator[None]:
        """Leave room for `left` bytes in all, or where there is no tmpfs for files up to `largest`."""
        if not self._mounted:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (left if largest is None else largest, hard))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return
        ballast = self.folder.parent / f"{self.folder.name}-ballast"  # on the same disk, out of the way
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.folder).free - left))
        try:
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nothing be written."""
        if self._mounted:
            self._remount("ro")
            try:
                yield
            finally:
                self._remount("rw")
            return
        modes = {each: each.stat().st_mode for each in (self.folder, *self.folder.rglob("*")) if each.is_dir()}
        for each in modes:
            each.chmod(0o500)
        mine = os.geteuid()
        if mine == 0:  # whom permissions do not stop
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(mine)
            for each, mode in modes.items():
                each.chmod(mode)

    def _remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder.parent)], check=True)


@contextmanager
def small_disk(at: Path) -> Iterator[SmallDisk]:
    """Make a disk at a new folder, and take it away."""
    at.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(at)]
    mounted = not os.environ.get(LIMITED) and shutil.which("mount") is not None and os.getuid() == 0
    mounted = mounted and subprocess.run(words, capture_output=True, check=False).returncode == 0
    (at / "disk").mkdir()
    try:
        yield SmallDisk(at / "disk", mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(at)], check=True)
