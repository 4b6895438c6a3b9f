"""The reader of MSR Action3D text, its layout and its manifest."""

from pathlib import Path

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import RawError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.raw.msr import read_msr
from skelpipe.skeleton import layout

MSR = load_manifest("msr-action3d")


def as_text(content: str) -> np.ndarray:
    return np.frombuffer(content.encode() + b"\n", np.uint8)


def random_recording(frames: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Random joints [F,20,3] and the lines of their file."""
    xyz = np.random.default_rng(seed).normal(size=(frames, 20, 3)).round(6)
    return xyz, [f"{x:.6f} {y:.6f} {z:.6f} 1.000000" for x, y, z in xyz.reshape(-1, 3)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_what_was_written(end) -> None:
    xyz, lines = random_recording(7)
    recording = read_msr(as_text(end.join(lines) + end), "a.txt")
    assert np.array_equal(recording.xyz, xyz)
    assert recording.counts.tolist() == [1] * 7
    assert recording.bodies == 1


def test_frames_the_tracker_lost_are_left_out() -> None:
    xyz, lines = random_recording(5)
    lines[40:60] = ["0 0 0 0"] * 20
    recording = read_msr(as_text("\n".join(lines)), "a.txt")
    assert np.array_equal(recording.xyz, xyz[[0, 1, 3, 4]])
    with pytest.raises(RawError, match=r"a\.txt: no body in any of its 5 frames"):
        read_msr(as_text("0 0 0 0\n" * 100), "a.txt")


DAMAGES = {
    "empty": (lambda lines: [], r"a\.txt: the file is empty"),
    "cut off": (lambda lines: lines[:-3], r"a\.txt:57: frame 3 announces 20 joints, 17 follow"),
    "three columns": (
        lambda lines: [*lines[:21], "1 2 3", *lines[22:]],
        r"a\.txt:22: frame 2, joint 2: 4 columns",
    ),
    "a word": (lambda lines: ["1 x 3 4", *lines[1:]], r"a\.txt:1: frame 1, joint 1: .*'x' is not a number"),
    "infinity": (lambda lines: ["1 inf 3 4", *lines[1:]], r"a\.txt:1: .* not finite"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_reported_with_file_and_line(case) -> None:
    change, message = DAMAGES[case]
    with pytest.raises(RawError, match=message):
        read_msr(as_text("\n".join(change(random_recording(3)[1]))), "a.txt")


def test_layout_is_a_whole_skeleton() -> None:
    kinect = layout("msr-action3d-20")
    assert len(kinect) == 20
    assert len(kinect.edges) == 19
    assert [kinect.mirror[v] for v in kinect.mirror] == list(range(20))
    assert all(len(part) == 4 for part in kinect.parts.values())
    swapped = {kinect.joints[v].replace("left", "right") for v in range(20) if "left" in kinect.joints[v]}
    assert swapped == {kinect.joints[kinect.mirror[v]] for v in range(20) if "left" in kinect.joints[v]}


def test_synthetic_recordings_become_a_dataset(tmp_path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    names = [f"a{a:02}_s{s:02}_e01" for a in (1, 20) for s in (1, 2)]
    for seed, name in enumerate([*names, "a13_s09_e02"]):
        (raw / f"{name}_skeleton3D.txt").write_text("\n".join(random_recording(9, seed)[1]))
    (raw / "readme.txt").write_text("no recording")
    card = prepare(MSR, [raw], tmp_path / "ds", Options("xsub", frames=16, bodies=1), quiet=True).card
    dataset = Dataset.open(tmp_path / "ds")
    assert dataset.shape == (3, 16, 20, 1)
    assert dataset.ids("train") == ["a01_s01_e01", "a20_s01_e01"]
    assert dataset.labels("test").tolist() == [0, 19]
    assert list(card["dropped"].values()) == [1]  # a13_s09_e02 is on the missing list
    clips = dataset.reader("train", "joint").gather(np.arange(2))
    assert not clips[:, :, :, dataset.layout.centre].any()


def test_the_real_recordings(shared: Path, tmp_path) -> None:
    """292 training and 275 test files, without the one that has no body; the correct limbs move."""
    raw = shared / "data" / "msr_action3d"
    card = prepare(MSR, [raw], tmp_path / "ds", Options("xsub", frames=50, bodies=1), quiet=True).card
    assert (card["splits"]["train"]["samples"], card["splits"]["test"]["samples"]) == (291, 275)
    dataset = Dataset.open(tmp_path / "ds")
    joints = dataset.layout.joints
    clips = dataset.reader("train", "joint").gather(np.arange(291))[..., 0]  # [N,3,T,V]
    reach = np.ptp(clips, axis=2).sum(axis=1)  # [N,V]
    labels = dataset.labels("train")
    waves, kicks = reach[np.isin(labels, [0, 1])].mean(axis=0), reach[np.isin(labels, [13, 14])].mean(axis=0)
    assert waves[joints.index("right hand")] > 2 * waves[joints.index("left hand")]
    assert kicks[joints.index("right foot")] > 1.5 * kicks[joints.index("left foot")]
    assert (
        clips[:, 1, :, joints.index("head")].mean() > 0.1 > -0.5 > clips[:, 1, :, joints.index("left foot")].mean()
    )
