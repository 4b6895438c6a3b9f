"""Notes and cards elsewhere that come cut, because they are replaced just then, or are damaged for good."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage.filesystem import LocalFilesystem
from skelpipe.storage.reread import read_parsed

OPTIONS = Options("xsub", frames=8, bodies=2, shard_size=5)
NTU60 = load_manifest("ntu60")
NOTES = (".prepare-train-000000.json", ".prepare-train-000000.npy")


class Elsewhere(LocalFilesystem):
    """A folder taken for a bucket. `torn` are files whose next read comes cut; writing stops before the `stop`."""

    is_local = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.torn: set[str] = set()
        self.stop = ""
        self.written: list[str] = []

    def read(self, name: str) -> bytes:
        content = super().read(name)
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
def halfway(raw, tmp_path) -> Iterator[Elsewhere]:
    """A place with all shards and notes of a prepare, but no card."""
    place = Elsewhere(tmp_path / "place")
    place.stop = "dataset.json"
    with pytest.raises(SkelpipeError, match="stopped"):
        make(place, raw)
    place.stop = ""
    place.written.clear()
    assert set(NOTES) <= set(place.names())
    yield place
    assert "dataset.json" in place.names()
    assert not [name for name in place.names() if name.startswith(".prepare-")]


def make(place: LocalFilesystem, raw: Path) -> str:
    return str(prepare(NTU60, [raw], place, OPTIONS, quiet=True).card["digest"])


def shards(place: Elsewhere) -> set[str]:
    return {name for name in place.written if name.endswith(".tar")}


def test_notes_that_come_cut_once_are_read_again(halfway, raw, tmp_path) -> None:
    digest = make(LocalFilesystem(tmp_path / "here"), raw)
    halfway.torn = {*NOTES, ".prepare-settings.json"}
    assert make(halfway, raw) == digest
    assert not halfway.torn
    assert not shards(halfway)


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_the_shard_of_a_damaged_note_is_made_again(halfway, raw, tmp_path, note, damage) -> None:
    digest = make(LocalFilesystem(tmp_path / "here"), raw)
    path = halfway.local_path / note
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-9], "empty": b""}[damage])
    assert make(halfway, raw) == digest
    assert shards(halfway) == {f"train/{view}/000000.tar" for view in ("joint", "bone", "motion")}


def test_cards_that_come_cut_once_are_read_again(raw, tmp_path) -> None:
    place = Elsewhere(tmp_path / "place")
    digest = make(place, raw)
    place.torn = {"dataset.json"}
    assert make(place, raw) == digest
    place.torn = {"dataset.json"}
    assert copy_dataset(place, LocalFilesystem(tmp_path / "copy"), quiet=True).digest == digest
    assert not place.torn


def test_what_stays_damaged_is_an_error(raw, tmp_path) -> None:
    place = Elsewhere(tmp_path / "place")
    make(place, raw)
    (place.local_path / "dataset.json").write_bytes(b"{")
    for deed in (
        lambda: make(place, raw),
        lambda: copy_dataset(place, LocalFilesystem(tmp_path / "copy"), quiet=True),
    ):
        with pytest.raises(DatasetError, match=r"place/dataset\.json"):
            deed()
    (place.local_path / ".prepare-settings.json").write_bytes(b"{")
    with pytest.raises(SkelpipeError, match="is damaged: remove it") as caught:
        make(place, raw)
    assert not isinstance(caught.value, UsageError)


def test_a_file_is_read_once_where_once_is_enough(tmp_path) -> None:
    place = Elsewhere(tmp_path)
    (tmp_path / "a").write_bytes(b"[1]")
    place.torn = {"b"}
    assert read_parsed(place, "a", json.loads) == (b"[1]", [1])
