"""`prepare` of untrimmed recordings (PKU-MMD): clips by label files, split files, videos with frame labels."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import card_digest
from skelpipe.dataset.verify import damages, verify
from skelpipe.errors import DatasetError, RawError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.split_file import read_split_file
from skelpipe.preprocess import crosclr
from skelpipe.raw import Recording
from skelpipe.skeleton import layout

PART1 = load_manifest("pkummd1")
SMALL = Options("xsub", frames=10, shard_size=4)
ROWS = "5,1,30,2\n51,25,60,1\n7,61,100,2\n"  # the first two overlap


def video(seed: int, frames: int = 120, second: slice = slice(0, 0)) -> np.ndarray:
    """Two bodies [F,2,25,3]; the second is present in the frames `second` only."""
    rng = np.random.default_rng(seed)
    xyz = np.zeros((frames, 2, 25, 3))
    walk = np.cumsum(rng.normal(0, 0.01, (frames, 2, 25, 3)), axis=0) + rng.normal(0, 0.4, (2, 25, 3)) + [0, 0, 3]
    xyz[:, 0] = walk[:, 0]
    xyz[second, 1] = walk[second, 1]
    return xyz.round(6)


@pytest.fixture
def pku(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of videos, `{id: (positions, label rows)}`, with file names as in the download."""

    def make(videos: dict[str, tuple[np.ndarray, str]], folder: str = "raw", alike: bool = True) -> Path:
        root = tmp_path / folder
        for kind in ("skeleton", "label"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        for name, (xyz, rows) in videos.items():
            lines = [" ".join(f"{value:.6f}" for value in frame.ravel()) for frame in xyz]
            (root / "skeleton" / f"{name}{'.txt' if alike else '.skeleton'}").write_text("\n".join(lines) + "\n")
            (root / "label" / f"{name}{'.txt' if alike else '.label'}").write_text(rows)
        return root

    return make


def two_videos() -> dict[str, tuple[np.ndarray, str]]:
    return {"0002-L": (video(1), ROWS), "0291-M": (video(2, second=slice(70, 90)), ROWS)}


def rows_of(folder: Path) -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(folder / "samples.parquet").to_pylist()}


def expected_clip(xyz: np.ndarray, start: int, end: int) -> np.ndarray:
    """The clip of frames start to end (from 1, both inclusive) by profile crosclr, from the arrays."""
    piece = xyz[start - 1 : end]
    counts = np.where(piece[:, 1].reshape(len(piece), -1).sum(1) != 0, 2, 1).astype(np.int32)
    bodies = np.concatenate([frame[:count] for frame, count in zip(piece, counts, strict=True)])
    out = np.empty((3, 10, 25, 2), np.float32)
    crosclr(Recording(counts, np.zeros(len(bodies), np.int64), bodies), layout("kinect-v2-25"), 10, 2, out)
    return out


@pytest.mark.parametrize("alike", [True, False])
def test_clips_are_the_rows_of_the_label_files(pku, tmp_path, alike) -> None:
    raw = pku(two_videos(), alike=alike)
    prepare(PART1, [raw], tmp_path / "ds", SMALL, quiet=True)
    dataset = Dataset.open(tmp_path / "ds")
    assert dataset.ids("train") == ["0002-L_001", "0002-L_002", "0002-L_003"]
    assert dataset.ids("test") == ["0291-M_001", "0291-M_002", "0291-M_003"]  # 0291 is on the built-in test list
    assert dataset.labels("train").tolist() == [4, 50, 6]
    assert len(dataset.classes) == 51
    for subset, name in (("train", "0002-L"), ("test", "0291-M")):
        clips = dataset.reader(subset, "joint").gather(np.arange(3))
        for clip, (start, end) in zip(clips, [(1, 30), (25, 60), (61, 100)], strict=True):
            np.testing.assert_allclose(clip, expected_clip(two_videos()[name][0], start, end), atol=1e-6)
    rows = rows_of(tmp_path / "ds")
    one = rows["0291-M_003"]
    assert (one["recording"], one["start"], one["end"], one["frames"], one["bodies"]) == ("0291-M", 61, 100, 40, 2)
    assert (one["camera"], one["video"]) == ("M", 291)
    assert rows["0002-L_001"]["note"] == "overlaps 0002-L_002"
    assert rows["0002-L_003"]["note"] is None
    assert rows["0291-M_001"]["bodies"] == 1
    assert damages(dataset, quiet=True) == []


def test_the_middle_300_frames_of_a_long_clip_are_kept(pku, tmp_path) -> None:
    long = video(3, frames=420)
    raw = pku({"0002-L": (long, "3,5,405,2\n")})
    prepare(PART1, [raw], tmp_path / "ds", SMALL, quiet=True)
    clip = Dataset.open(tmp_path / "ds").reader("train", "joint").gather(np.arange(1))[0]
    np.testing.assert_allclose(
        clip, expected_clip(long, 55, 354), atol=1e-6
    )  # 401 frames: 50 removed, 300 kept, 51 removed
    assert rows_of(tmp_path / "ds")["0002-L_001"]["frames"] == 300


def test_rows_beyond_the_video_are_cut_and_noted(pku, tmp_path) -> None:
    raw = pku({"0002-L": (video(1), "1,-3,20,2\n2,100,125,1\n")})
    prepare(PART1, [raw], tmp_path / "ds", SMALL, quiet=True)
    rows = rows_of(tmp_path / "ds")
    assert rows["0002-L_001"]["note"] == "frames -3 to 20: cut at the video's first"
    assert rows["0002-L_002"]["note"] == "frames 100 to 125: cut at the video's last, 120"
    assert [rows[f"0002-L_00{n}"]["frames"] for n in (1, 2)] == [20, 21]


FAULTS = {
    "outside": ("4,121,130,1\n", r"0002-L\.txt:1: frames 121 to 130 lie outside of the video, which has 120"),
    "class 52": ("1,1,9,1\n52,10,20,1\n", r"0002-L\.txt:2: class 52 is not one of 1 to 51"),
    "backwards": ("4,30,20,1\n", r"0002-L\.txt:1: frames 30 to 20 are no piece of a video"),
    "words": ("4,1,20,1\nfive,1,2,1\n", r"0002-L\.txt:2: .*'five'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_label_rows_fail_or_are_skipped(pku, tmp_path, fault) -> None:
    labels, message = FAULTS[fault]
    raw = pku({**two_videos(), "0002-L": (video(1), labels)})
    with pytest.raises(RawError, match=message):
        prepare(PART1, [raw], tmp_path / "ds", SMALL, quiet=True)
    assert not (tmp_path / "ds" / "dataset.json").exists()
    card = prepare(PART1, [raw], tmp_path / "ds", SMALL, quiet=True, skip_bad=True).card
    assert card["splits"]["test"]["samples"] == 3
    reasons = [row["reason"] for row in rows_of(tmp_path / "ds").values() if row["reason"]]
    assert len(reasons) == 1
    assert reasons[0].startswith("0002-L.txt:")
    assert str(tmp_path) not in reasons[0]


def test_videos_and_label_files_without_each_other(pku, tmp_path) -> None:
    raw = pku(two_videos())
    lone = raw / "label" / "0002-L.txt"
    lone.rename(tmp_path / "aside.txt")
    with pytest.raises(RawError, match=r"skeleton/0002-L\.txt: there is no label file of this video"):
        prepare(PART1, [raw], tmp_path / "a", SMALL, quiet=True)
    (tmp_path / "aside.txt").rename(lone)
    (raw / "skeleton" / "0002-L.txt").unlink()
    with pytest.raises(RawError, match=r"label/0002-L\.txt: there is no video of this label file"):
        prepare(PART1, [raw], tmp_path / "b", SMALL, quiet=True)
    card = prepare(PART1, [raw], tmp_path / "b", SMALL, quiet=True, skip_bad=True).card
    assert card["dropped"] == {"there is no video of this label file": 1}
    (raw / "more").mkdir()
    (raw / "more" / "0291-M.label").write_text(ROWS)
    with pytest.raises(RawError, match="the label file is found twice"):
        prepare(PART1, [raw], tmp_path / "c", SMALL, quiet=True)


def test_a_line_of_149_columns_is_refused(pku, tmp_path) -> None:
    raw = pku(two_videos())
    path = raw / "skeleton" / "0291-M.txt"
    lines = path.read_text().splitlines()
    lines[40] = lines[40].rpartition(" ")[0]
    path.write_text("\n".join(lines))
    with pytest.raises(RawError, match=r"0291-M\.txt:41: frame 41: 150 columns are expected, found 149"):
        prepare(PART1, [raw], tmp_path / "ds", SMALL, quiet=True)
    card = prepare(
        PART1,
        [raw],
        tmp_path / "ds",
        SMALL,
        quiet=True,
        skip_bad=True,
    ).card
    assert card["splits"]["test"]["samples"] == 0
    assert sum(card["dropped"].values()) == 3  # every clip of the video has the reason


def test_archives_and_folders_are_the_same_dataset(pku, tmp_path) -> None:
    raw = pku(two_videos())
    (raw / "readme.txt").write_text("PKU-MMD")
    digest = prepare(PART1, [raw], tmp_path / "a", SMALL, quiet=True, workers=2).card["digest"]
    archives = []
    for kind in ("skeleton", "label"):
        archives.append(tmp_path / f"{kind}.zip")
        with zipfile.ZipFile(archives[-1], "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((raw / kind).iterdir()):
                archive.write(path, f"PKU/{path.name}")
    assert prepare(PART1, archives, tmp_path / "b", SMALL, quiet=True).card["digest"] == digest


def test_a_split_that_is_not_built_in_needs_a_split_file(pku, tmp_path) -> None:
    raw = pku(two_videos())
    with pytest.raises(UsageError, match=r"--split-file with the file cross-view\.txt of the dataset's download"):
        prepare(PART1, [raw], tmp_path / "ds", Options("xview", frames=10), quiet=True)
    file = tmp_path / "cross-view.txt"
    file.write_text("Training videos:\n0291-M, 0003-R,\nValidataion videos:\n0002-L,\n")
    lists = read_split_file(file)
    assert lists == (frozenset({"0291-M", "0003-R"}), frozenset({"0002-L"}))
    manifest = PART1.with_split_file("xview", *lists)
    card = prepare(manifest, [raw], tmp_path / "ds", Options("xview", frames=10), quiet=True).card
    assert Dataset.open(tmp_path / "ds").ids("train")[0] == "0291-M_001"
    assert card["published"] == {"train": 14357, "test": 7188}
    other = PART1.with_split_file("xview", frozenset({"0002-L"}), frozenset({"0003-R"}))
    with pytest.raises(UsageError, match="its split's lists have changed since"):
        prepare(other, [raw], tmp_path / "ds", Options("xview", frames=10), quiet=True)
    outcome = prepare(other, [raw], tmp_path / "new", Options("xview", frames=10), quiet=True)
    assert outcome.outside == {"on neither list of the split": 1}


def test_untrimmed_videos_are_stored_with_one_label_per_frame(pku, tmp_path) -> None:
    raw = pku(two_videos())
    options = Options("xsub", frames=10, shard_size=4, untrimmed=True)
    card = prepare(PART1, [raw], tmp_path / "ds", options, quiet=True, workers=2).card
    plain = prepare(PART1, [raw], tmp_path / "plain", SMALL, quiet=True).card
    assert card["digest"] != plain["digest"]
    assert card["splits"] == plain["splits"]
    dataset = Dataset.open(tmp_path / "ds")
    assert damages(dataset, quiet=True) == []
    expected = np.zeros(120, int)
    expected[0:30], expected[24:60], expected[60:100] = 5, 51, 7  # in a frame of two rows the later row counts
    xyz = two_videos()["0291-M"][0].transpose(3, 0, 2, 1)
    videos = dataset.videos("test")
    assert videos.ids == ["0291-M"]
    np.testing.assert_allclose(videos.joint(0), xyz, atol=1e-6)
    assert videos.label(0).tolist() == expected.tolist()
    with tarfile.open(tmp_path / "ds" / "untrimmed" / "test" / "000000.tar") as tar:
        members = {member.name: np.load(io.BytesIO(tar.extractfile(member).read())) for member in tar}
    np.testing.assert_allclose(members["0291-M.joint.npy"], xyz, atol=1e-6)
    assert members["0291-M.label.npy"].tolist() == expected.tolist()
    with pytest.raises(DatasetError, match="prepare it with --untrimmed"):
        Dataset.open(tmp_path / "plain").videos("test")
    with pytest.raises(UsageError, match="--untrimmed: the recordings of ntu60 are single actions"):
        prepare(load_manifest("ntu60"), [raw], tmp_path / "x", options, quiet=True)


def test_deep_compares_frame_labels_with_the_clips(pku, tmp_path) -> None:
    """All hashes and the digest are made anew: nothing but the comparison with the sample table can see it."""
    options = Options("xsub", frames=10, shard_size=4, untrimmed=True)
    prepare(PART1, [pku(two_videos())], tmp_path / "ds", options, quiet=True)
    dataset = Dataset.open(tmp_path / "ds")
    assert verify(dataset, deep=True, quiet=True).damages == []
    card = json.loads((tmp_path / "ds" / "dataset.json").read_text())
    shard = card["untrimmed"]["test"]["shards"][0]
    path = tmp_path / "ds" / "untrimmed" / "test" / "000000.tar"
    content = bytearray(path.read_bytes())
    np.frombuffer(content, "<i2", 120, shard["videos"][0]["label_offset"])[[40, 110]] = 5
    path.write_bytes(content)
    shard["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "ds" / "dataset.json").write_text(json.dumps({**card, "digest": card_digest(card)}))
    dataset = Dataset.open(tmp_path / "ds")
    assert verify(dataset, quiet=True).damages == []
    said = "0291-M: the labels of 2 frames, the first is frame 41, are not those of the sample table"
    assert verify(dataset, deep=True, quiet=True).damages == [f"{tmp_path}/ds/untrimmed/test: {said}"]
    assert verify(dataset, ["train"], deep=True, quiet=True).damages == []
    assert verify(dataset, ["untrimmed/test"], deep=True, quiet=True).damages == [
        f"{tmp_path}/ds/untrimmed/test: {said}"
    ]
