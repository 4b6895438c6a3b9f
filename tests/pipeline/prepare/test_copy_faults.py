"""Copies with damage, kills and failing filesystems: no card without all files, and a rerun completes the copy."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from skelpipe.dataset.card import card_digest
from skelpipe.errors import SkelpipeError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage import open_filesystem
from skelpipe.storage.filesystem import LocalFilesystem


def prepared(raw_folder: Callable[..., Path], names: Sequence[str], out: Path) -> Path:
    """A dataset of recordings with these names."""
    raw = raw_folder(names, folder=f"raw-{out.name}")
    prepare(load_manifest("ntu60"), [raw], out, Options("xsub", 8, 2, 5), quiet=True)
    return out


@pytest.fixture
def source(raw_folder, ntu_names, tmp_path) -> Path:
    return prepared(raw_folder, ntu_names(), tmp_path / "source")


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "target"


def copied(source: Path, target: Path, **options) -> int:
    return copy_dataset(open_filesystem(source), open_filesystem(target), quiet=True, **options).copied


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class CutOffError(Exception):
    pass


class Failing(LocalFilesystem):
    """A folder that accepts `files` files and then fails in the middle of one."""

    def __init__(self, folder: Path, files: int) -> None:
        super().__init__(folder)
        self.left = files

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        self.left -= 1
        super().write(name, chunks if self.left >= 0 else self._cut(chunks))

    def _cut(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            raise CutOffError


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("files", [0, 1, 7, -2, -1])
def test_an_interrupted_copy_is_continued(source, target, files, workers) -> None:
    total = len(files_under(source))
    with pytest.raises(CutOffError):
        copy_dataset(open_filesystem(source), Failing(target, files % total), workers=workers, quiet=True)
    before = files_under(target)
    assert "dataset.json" not in before
    assert len(before) == files % total or (workers > 1 and len(before) < files % total)
    assert all(content == (source / name).read_bytes() for name, content in before.items())
    assert copied(source, target, workers=workers) == total - len(before)
    assert files_under(target) == files_under(source)


KILLED = """
import os, signal, sys
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage.filesystem import LocalFilesystem
from skelpipe.storage import open_filesystem

class Killed(LocalFilesystem):
    left = int(sys.argv[3])
    def write(self, name, chunks):
        self.left -= 1
        super().write(name, chunks if self.left >= 0 else self.killed(chunks))
    def killed(self, chunks):
        for chunk in chunks:
            yield chunk[:len(chunk) // 2]
            os.kill(os.getpid(), signal.SIGKILL)

copy_dataset(open_filesystem(sys.argv[1]), Killed(open_filesystem(sys.argv[2]).local_path), workers=2, quiet=True)
"""


@pytest.mark.parametrize("files", [1, 9, -1])
def test_a_killed_copy_is_continued(source, target, files) -> None:
    total = len(files_under(source))
    words = [sys.executable, "-c", KILLED, str(source), str(target), str(files % total)]
    done = subprocess.run(words, check=False, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    left = files_under(target)
    assert any(name.endswith(".part") for name in left), "it was not killed in the middle of a file"
    whole = {name: content for name, content in left.items() if not name.endswith(".part")}
    assert "dataset.json" not in whole
    assert all(content == (source / name).read_bytes() for name, content in whole.items())
    assert copied(source, target) == total - len(whole)
    assert files_under(target) == files_under(source)


@pytest.mark.parametrize("name", ["train/joint/000001.tar", "test/bone/000000.idx", "samples.parquet"])
@pytest.mark.parametrize("damage", ["flip", "shorten", "lengthen", "remove"])
def test_damage_at_the_source_is_reported_and_not_copied(source, target, name, damage) -> None:
    content = bytearray((source / name).read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    content = content[:-1] if damage == "shorten" else content + b"x" if damage == "lengthen" else content
    (source / name).write_bytes(content)
    reason = "damaged at the source: the sha256 of its"
    if damage == "remove":
        (source / name).unlink()
        reason = "cannot be read: No such file"
    with pytest.raises(SkelpipeError, match=rf"^{source}/{name}: {reason}") as caught:
        copied(source, target, workers=2)
    assert "\n" not in str(caught.value)
    assert not (target / name).exists()
    assert not (target / "dataset.json").exists()
    assert not list(target.rglob("*.part"))


@pytest.mark.parametrize("finished", [False, True])
def test_damage_at_the_target_is_repaired(source, target, finished) -> None:
    shutil.copytree(source, target)
    if not finished:
        (target / "dataset.json").unlink()
    for name in ("train/joint/000000.tar", "train/motion/000001.idx"):
        content = bytearray((target / name).read_bytes())
        content[0] ^= 1
        (target / name).write_bytes(content)
    (target / "test/joint/000000.tar").write_bytes(b"short")
    (target / "anchors/bone.npy").unlink()
    (target / "README.md").write_text("half a re")
    assert copied(source, target) == (5 if finished else 6)
    assert files_under(target) == files_under(source)


class Rotten(LocalFilesystem):
    """A folder that stores wrong bytes for one file."""

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        super().write(name, [b"rotten"] if name == self.rotten else chunks)


@pytest.mark.parametrize("name", ["train/joint/000001.tar", "anchors/joint.npy", "README.md", "dataset.json"])
def test_what_is_written_is_read_back(source, target, name) -> None:
    filesystem = Rotten(target)
    filesystem.rotten = name
    with pytest.raises(SkelpipeError, match=rf"^{target}/{name}: does not read back as it was written"):
        copy_dataset(open_filesystem(source), filesystem, quiet=True)
    assert not (target / name).exists()
    assert not (target / "dataset.json").exists()


def test_the_old_card_is_removed_before_its_files(raw_folder, source, target) -> None:
    prepared(raw_folder, ["S001C001P001R001A001", "S001C001P003R001A001"], target)
    with pytest.raises(CutOffError):
        copy_dataset(open_filesystem(source), Failing(target, 3), overwrite=True, quiet=True)
    assert not (target / "dataset.json").exists()
    copied(source, target, overwrite=True)
    assert files_under(target) == files_under(source)


def test_memory_does_not_grow_with_the_size_of_a_file(source, target) -> None:
    """Four files of 96 MiB are copied at the same time in pieces of 8 MiB."""
    size, names = 96 << 20, ("000000", "000001", "000002", "000003")
    sha256 = hashlib.sha256(bytes(size)).hexdigest()
    for name in names:
        path = source / "untrimmed/train" / f"{name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size)
    card = json.loads((source / "dataset.json").read_text())
    shards = [{"name": name, "bytes": size, "sha256": sha256} for name in names]
    card["untrimmed"] = {
        "train": {"videos": 0, "frames": 0, "shards": [{"videos": [], **shard} for shard in shards]},
        "test": {"videos": 0, "frames": 0, "shards": []},
    }
    (source / "dataset.json").write_text(json.dumps({**card, "digest": card_digest(card)}))
    code = f"""
import resource
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage import open_filesystem
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
copy_dataset(open_filesystem({str(source)!r}), open_filesystem({str(target)!r}), workers=4, quiet=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 128 << 10  # KiB; the files are three times that
