"""Remote receipts and cards that arrive cut, because they are just being replaced, or that stay damaged."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.files import MOST_READ
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage.filesystem import LocalFilesystem
from skelpipe.storage.reread import read_parsed

OPTIONS = Options("xsub", frames=8, bodies=2, shard_size=5)
NTU60 = load_manifest("ntu60")
RECEIPTS = (".prepare-train-000000.json", ".prepare-train-000000.npy")


class RemoteFolder(LocalFilesystem):
    """A folder in the role of a bucket. The next read of a file in `torn` is cut; writing `stop` fails."""

    is_local = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.torn: set[str] = set()
        self.stop = ""
        self.written: list[str] = []

    def read(self, name: str, most: int = MOST_READ) -> bytes:
        content = super().read(name, most)
        if name in self.torn:
            self.torn.remove(name)
            return content[: len(content) // 2]
        return content

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        if name == self.stop:
            raise SkelpipeError("stopped")
        self.written.append(name)
        super().write(name, chunks)


@pytest.fixture
def raw(raw_folder, ntu_names) -> Path:
    return raw_folder(ntu_names())


@pytest.fixture
def halfway(raw, tmp_path) -> Iterator[RemoteFolder]:
    """A dataset folder with all shards and receipts of a prepare, but no card."""
    filesystem = RemoteFolder(tmp_path / "remote")
    filesystem.stop = "dataset.json"
    with pytest.raises(SkelpipeError, match="stopped"):
        make(filesystem, raw)
    filesystem.stop = ""
    filesystem.written.clear()
    assert set(RECEIPTS) <= set(filesystem.names())
    yield filesystem
    assert "dataset.json" in filesystem.names()
    assert not [name for name in filesystem.names() if name.startswith(".prepare-")]


def make(filesystem: LocalFilesystem, raw: Path) -> str:
    return str(prepare(NTU60, [raw], filesystem, OPTIONS, quiet=True).card["digest"])


def shards(filesystem: RemoteFolder) -> set[str]:
    return {name for name in filesystem.written if name.endswith(".tar")}


def test_receipts_that_arrive_cut_once_are_read_again(halfway, raw, tmp_path) -> None:
    digest = make(LocalFilesystem(tmp_path / "here"), raw)
    halfway.torn = {*RECEIPTS, ".prepare-settings.json"}
    assert make(halfway, raw) == digest
    assert not halfway.torn
    assert not shards(halfway)


@pytest.mark.parametrize("receipt", RECEIPTS)
@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_the_shard_of_a_damaged_receipt_is_made_again(halfway, raw, tmp_path, receipt, damage) -> None:
    digest = make(LocalFilesystem(tmp_path / "here"), raw)
    path = halfway.local_path / receipt
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-9], "empty": b""}[damage])
    assert make(halfway, raw) == digest
    assert shards(halfway) == {f"train/{view}/000000.tar" for view in ("joint", "bone", "motion")}


def test_cards_that_arrive_cut_once_are_read_again(raw, tmp_path) -> None:
    filesystem = RemoteFolder(tmp_path / "remote")
    digest = make(filesystem, raw)
    filesystem.torn = {"dataset.json"}
    assert make(filesystem, raw) == digest
    filesystem.torn = {"dataset.json"}
    assert copy_dataset(filesystem, LocalFilesystem(tmp_path / "copy"), quiet=True).digest == digest
    assert not filesystem.torn


def test_what_stays_damaged_is_an_error(raw, tmp_path) -> None:
    filesystem = RemoteFolder(tmp_path / "remote")
    make(filesystem, raw)
    (filesystem.local_path / "dataset.json").write_bytes(b"{")
    for call in (
        lambda: make(filesystem, raw),
        lambda: copy_dataset(filesystem, LocalFilesystem(tmp_path / "copy"), quiet=True),
    ):
        with pytest.raises(DatasetError, match=r"remote/dataset\.json"):
            call()
    (filesystem.local_path / ".prepare-settings.json").write_bytes(b"{")
    with pytest.raises(SkelpipeError, match="is damaged: remove it") as caught:
        make(filesystem, raw)
    assert not isinstance(caught.value, UsageError)


def test_a_file_is_read_once_where_once_is_enough(tmp_path) -> None:
    filesystem = RemoteFolder(tmp_path)
    (tmp_path / "a").write_bytes(b"[1]")
    filesystem.torn = {"b"}
    assert read_parsed(filesystem, "a", json.loads) == (b"[1]", [1])
