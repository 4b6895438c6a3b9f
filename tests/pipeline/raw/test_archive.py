"""Recordings inside .zip archives: the same bytes as from a folder; damaged and malicious archives."""

import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from skelpipe.errors import RawError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.raw.source import TextBuffer, find_raw_files

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=16, shard_size=5)


def pack(folder: Path, archive: Path, names: list[str] | None = None, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", method) as opened:
        for path in sorted(folder.glob("*.skeleton")):
            if names is None or path.stem in names:
                opened.write(path, f"nturgb+d_skeletons/{path.name}")
    return archive


def read_all(path: Path) -> dict[str, bytes]:
    buffer = TextBuffer()
    return {file.path: bytes(buffer.read_raw(file)[:-1]) for file in find_raw_files([path])}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_members_are_read_as_zipfile_reads_them(raw_folder, ntu_names, tmp_path, method) -> None:
    raw = raw_folder(ntu_names())
    archive = pack(raw, tmp_path / "skeletons.zip", method=method)
    with zipfile.ZipFile(archive) as opened:
        wanted = {f"{archive}/{name}": opened.read(name) for name in opened.namelist()}
    assert read_all(archive) == wanted
    assert sorted(wanted.values()) == sorted(path.read_bytes() for path in raw.glob("*.skeleton"))


def test_archives_and_folders_give_the_same_dataset(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    whole = prepare(NTU60, [raw], tmp_path / "a", SMALL, quiet=True).card
    first, second = pack(raw, tmp_path / "1.zip", names[:9]), pack(raw, tmp_path / "2.zip", names[9:])
    assert prepare(NTU60, [first, second], tmp_path / "b", SMALL, quiet=True).card["digest"] == whole["digest"]
    mixed = tmp_path / "mixed" / "deep"  # an archive beside plain files
    mixed.mkdir(parents=True)
    shutil.copy(first, mixed / "part one.ZIP")
    for name in names[9:]:
        shutil.copy(raw / f"{name}.skeleton", mixed.parent)
    assert (
        prepare(NTU60, [mixed.parent], tmp_path / "c", SMALL, quiet=True, workers=2).card["digest"]
        == whole["digest"]
    )


def test_a_recording_in_folder_and_archive_is_reported_with_both_paths(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names())
    archive = pack(raw, tmp_path / "skeletons.zip", ntu_names()[:1])
    with pytest.raises(RawError, match=r"skeletons\.zip/nturgb.*found twice, first as .*raw/S001C001P001R001A001"):
        prepare(NTU60, [raw, archive], tmp_path / "ds", SMALL, quiet=True)


def test_damage_inside_an_archive(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names())
    archive = pack(raw, tmp_path / "skeletons.zip")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RawError, match=r"skeletons\.zip: cannot be read as a \.zip archive"):
        find_raw_files([archive])
    with zipfile.ZipFile(pack(raw, archive)) as opened:
        info = opened.infolist()[1]
    flipped = bytearray(whole)
    flipped[info.header_offset + 200] ^= 0xFF
    archive.write_bytes(flipped)
    with pytest.raises(RawError, match=rf"skeletons\.zip/nturgb\+d_skeletons/{ntu_names()[1]}\.skeleton: damaged"):
        prepare(NTU60, [archive], tmp_path / "ds", SMALL, quiet=True)
    card = prepare(NTU60, [archive], tmp_path / "ds", SMALL, quiet=True, skip_bad=True).card
    assert sum(card["dropped"].values()) == 1
    moved = bytearray(whole)
    moved[info.header_offset : info.header_offset + 4] = b"none"
    archive.write_bytes(moved)
    with pytest.raises(RawError, match="no member starts where its directory says"):
        read_all(archive)


@pytest.mark.parametrize(
    "name", ["../S1.skeleton", "/etc/S1.skeleton", "a/../../S1.skeleton", "..\\S1.skeleton", "C:\\S1"]
)
def test_members_that_lead_outside_are_refused(tmp_path, name) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as opened:
        opened.writestr(name, "1")
    with pytest.raises(RawError, match=r"evil\.zip: member .* leads outside"):
        find_raw_files([tmp_path / "evil.zip"])


def test_encrypted_and_oddly_packed_members_are_refused(tmp_path) -> None:
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("S001C001P001R001A001.skeleton", "1\n0\n")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1  # bit 0 of the flags
    path.write_bytes(content)
    with pytest.raises(RawError, match=r"locked\.zip/S001C001P001R001A001\.skeleton: is encrypted"):
        read_all(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("S1.skeleton", "1\n0\n" * 99)
    with pytest.raises(RawError, match="compression method 12 is not read"):
        read_all(path)


def test_zip_bombs_are_refused(tmp_path) -> None:
    """A member that declares a huge size is refused unread; one that declares too little is cut one byte later."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("S1.skeleton", b"0" * 50_000_000)
    with pytest.raises(RawError, match="say they inflate to 50000000: no recording does"):
        read_all(path)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    struct.pack_into("<L", content, directory + 24, 5000)  # the uncompressed size
    path.write_bytes(content)
    with pytest.raises(RawError, match="damaged: its size or CRC is not what the archive says"):
        read_all(path)


def test_members_that_lie_over_each_other_are_refused(tmp_path) -> None:
    """An archive of a few kilobytes could otherwise stand for any number of recordings."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("S1.skeleton", b"0" * 50_000)
        first = opened.filelist[0]
        for number in range(2, 20):
            other = zipfile.ZipInfo(f"S{number}.skeleton")
            other.header_offset, other.CRC = first.header_offset, first.CRC
            other.file_size = other.compress_size = first.file_size
            opened.filelist.append(other)
    with pytest.raises(RawError, match=r"a\.zip: its members are larger than the archive"):
        find_raw_files([path])
