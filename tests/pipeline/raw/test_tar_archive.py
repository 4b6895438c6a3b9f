"""Recordings inside .tar and .tar.gz archives: the same bytes as tarfile gives; damaged and malicious archives."""

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from skelpipe.errors import RawError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.raw.source import TextBuffer, find_raw_files

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=16, shard_size=5)
MODES = {"a.tar": "w", "a.tar.gz": "w:gz", "a.TGZ": "w:gz"}


def pack(folder: Path, archive: Path, mode: str) -> Path:
    with tarfile.open(archive, mode) as opened:
        for path in sorted(folder.iterdir()):
            opened.add(path, f"./skeletons/{path.name}")
    return archive


def read_all(path: Path) -> dict[str, bytes]:
    buffer = TextBuffer()
    return {file.relative: bytes(buffer.read_raw(file)[:-1]) for file in find_raw_files([path])}


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_as_tarfile_reads_them(tmp_path, name, kind) -> None:
    wanted = {f"{'deep/' * 30}{number}.skeleton": b"%d\n" % number * number for number in range(40)}
    if kind == tarfile.USTAR_FORMAT:
        wanted = {key.replace("deep/", ""): value for key, value in wanted.items()}
    with tarfile.open(tmp_path / name, MODES[name], format=kind) as opened:
        for member, content in wanted.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    assert read_all(tmp_path / name) == {f"{name}/{member}": content for member, content in wanted.items()}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_archives_and_folders_give_the_same_dataset(raw_folder, ntu_names, tmp_path, name, workers) -> None:
    raw = raw_folder(ntu_names())
    whole = prepare(NTU60, [raw], tmp_path / "a", SMALL, quiet=True).card
    archive = pack(raw, tmp_path / name, MODES[name])
    card = prepare(NTU60, [archive], tmp_path / "b", SMALL, quiet=True, workers=workers).card
    assert card["digest"] == whole["digest"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_archives_that_were_cut_off_or_changed(tmp_path, name) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.skeleton").write_text(f"{number}\n" * 900)
    archive = pack(tmp_path / "in", tmp_path / name, MODES[name])
    content = archive.read_bytes()
    for part in (0.3, 0.7):
        archive.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(RawError, match=r"a\.tar.* \(cut off in download\?\)"):
            find_raw_files([archive])
    archive.write_bytes(b"no archive at all, but long enough to be one" * 50)
    with pytest.raises(RawError, match=r"a\.tar"):
        find_raw_files([archive])


def test_a_damaged_header_does_not_hide_the_rest(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.skeleton").write_text("1\n")
    content = bytearray(pack(tmp_path / "in", tmp_path / "a.tar", "w:").read_bytes())
    content[2 * 1024 + 10] ^= 0xFF  # in the header of the third member
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RawError, match=r"a\.tar: damaged: no member starts at byte 2048"):
        find_raw_files([tmp_path / "a.tar"])
    (tmp_path / "a.tar").write_bytes(content[:2048])
    with pytest.raises(RawError, match="ends without a tar's end mark"):
        find_raw_files([tmp_path / "a.tar"])


@pytest.mark.parametrize("name", ["../S1.skeleton", "/etc/S1.skeleton", "a/../../S1.skeleton", "C:\\S1"])
def test_members_that_lead_outside_are_refused(tmp_path, name) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as opened:
        opened.addfile(tarfile.TarInfo(name))
    with pytest.raises(RawError, match=r"evil\.tar: member .* leads outside"):
        find_raw_files([tmp_path / "evil.tar"])


def test_a_member_too_long_for_a_recording_is_refused(tmp_path) -> None:
    info = tarfile.TarInfo("S1.skeleton")
    info.size = 1 << 29
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + info.size + 1024)  # a hole: no room on disk
    with pytest.raises(RawError, match=r"a\.tar/S1\.skeleton: 536870912 bytes: no recording is so long"):
        read_all(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_of_many_megabytes_is_refused_unread(tmp_path, kind) -> None:
    info = tarfile.TarInfo("name")
    info.type, info.size = kind, 64 << 20
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + info.size + 2048)
    tracemalloc.start()
    with pytest.raises(RawError, match=r"a\.tar: cannot be read as a \.tar archive"):
        find_raw_files([tmp_path / "a.tar"])
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_member_of_less_than_no_bytes_ends_the_listing(tmp_path) -> None:
    """Older Pythons step back over it, and list the archive for ever."""
    info = tarfile.TarInfo("S1.skeleton")
    info.size = -1024
    content = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    (tmp_path / "a.tar").write_bytes(bytes(content) + bytes(10240))
    with pytest.raises(RawError, match=r"a\.tar: (damaged|cannot be read as a \.tar archive)"):
        find_raw_files([tmp_path / "a.tar"])
