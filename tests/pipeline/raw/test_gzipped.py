"""Files kept as `.gz`, against Python's gzip; damaged ones, and ones that inflate to more than any recording."""

import gzip
from pathlib import Path

import pytest

from skelpipe.errors import RawError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.raw import gzipped
from skelpipe.raw.gzipped import gunzip, inflated_archive

TEXT = b"".join(b"%d 0.25 0.5\n" % number for number in range(5000))


@pytest.mark.parametrize("content", [TEXT, b"", b"1\n0\n"])
def test_inflates_what_gzip_wrote(content) -> None:
    assert gunzip(gzip.compress(content), "x.gz") == content
    assert gunzip(gzip.compress(content) * 2 + b"\0" * 512, "x.gz") == content * 2
    assert gunzip(content, "x.gz") == content  # a browser inflated it and kept the name


def test_damage_is_named() -> None:
    packed = gzip.compress(TEXT)
    with pytest.raises(RawError, match=r"x\.gz: the gzip stream ends early \(cut off in download\?\)"):
        gunzip(packed[: len(packed) // 2], "x.gz")
    with pytest.raises(RawError, match=r"x\.gz: damaged: it does not inflate"):
        gunzip(packed[:-8] + b"12345678", "x.gz")
    with pytest.raises(RawError, match=r"x\.gz: damaged: 4 bytes follow"):
        gunzip(packed + b"text", "x.gz")
    with pytest.raises(RawError, match="no recording does, refused"):
        gunzip(gzip.compress(bytes(50_000_000)), "x.gz")


def test_a_folder_of_gzipped_recordings_gives_the_same_dataset(raw_folder, ntu_names, tmp_path) -> None:
    ntu60, small = load_manifest("ntu60"), Options("xsub", frames=16, shard_size=5)
    raw = raw_folder(ntu_names())
    whole = prepare(ntu60, [raw], tmp_path / "a", small, quiet=True).card
    for path in list(raw.iterdir()):
        (raw / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    card = prepare(ntu60, [raw], tmp_path / "b", small, quiet=True).card
    assert [card["splits"][subset]["samples"] for subset in ("train", "test")] == [
        whole["splits"][subset]["samples"] for subset in ("train", "test")
    ]
    for subset in ("train", "test"):
        shards = [[shard["views"] for shard in each["splits"][subset]["shards"]] for each in (whole, card)]
        assert shards[0] == shards[1]


def test_an_archive_is_inflated_once_and_bounded(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(TEXT) + gzip.compress(TEXT))
    inflated = inflated_archive(path)
    assert inflated.read_bytes() == TEXT * 2
    assert inflated_archive(path) == inflated
    path.write_bytes(gzip.compress(bytes(9_000_000)))
    with pytest.raises(RawError, match=r"a\.tar\.gz: inflates to more than 200 times"):
        inflated_archive(path)
    path.write_bytes(gzip.compress(TEXT)[:-9])
    with pytest.raises(RawError, match=r"a\.tar\.gz: the gzip stream ends early"):
        inflated_archive(path)
    path.write_bytes(gzip.compress(TEXT) + b"more")
    with pytest.raises(RawError, match="other bytes follow"):
        inflated_archive(path)
    path.write_bytes(gzip.compress((b"1" * 90 + TEXT) * 20))
    monkeypatch.setattr(gzipped, "PIECE", 1000)  # far less than what one piece of it inflates to
    assert inflated_archive(path).read_bytes() == (b"1" * 90 + TEXT) * 20
