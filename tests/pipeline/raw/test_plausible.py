"""Bodies that do not look like bodies: hand-made ones with known faults, and real ones in wrong orders."""

from pathlib import Path

import numpy as np
import pytest

from skelpipe.manifest_file import load_manifest
from skelpipe.raw.plausible import implausible, longest_track
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import find_raw_files
from skelpipe.skeleton import layout, parse_layout
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.plan import plan_dataset

STICK = parse_layout(
    {
        "name": "stick",
        "joints": ["chest", "head", "left hip", "right hip", "left foot", "right foot"],
        "centre": "chest",
        "shoulders": {"left": "left hip", "right": "right hip"},
        "bones": {
            **{"head": "chest", "left hip": "chest", "right hip": "chest"},
            **{"left foot": "left hip", "right foot": "right hip"},
        },
        "mirror": [["left hip", "right hip"], ["left foot", "right foot"]],
        "parts": {"all": ["chest", "head", "left hip", "right hip", "left foot", "right foot"]},
    }
)
STANDING = np.array([(0, 1.4, 3), (0, 1.7, 3), (-0.1, 1, 3), (0.1, 1, 3), (-0.1, 0, 3), (0.1, 0, 3)], float)
ORDER = "is the order of the joints that of layout"
DOWN = "does y grow downwards in the files? Then write `y: down` in the manifest"


def still(pose: np.ndarray, frames: int = 10) -> np.ndarray:
    return np.repeat(pose[None], frames, axis=0)


def test_a_standing_body_is_one() -> None:
    assert implausible([still(STANDING)], STICK) == []
    assert implausible([still(STANDING * [1, 1, 0])], STICK) == []
    assert implausible([], STICK) == []
    assert implausible([np.zeros((4, 6, 3)), np.full((4, 6, 3), np.nan), np.zeros((0, 6, 3))], STICK) == []


def test_legs_of_different_length() -> None:
    """Of two mirrored bones one is as long as on the other side, one is 1.96 times as long: 40 % in the median."""
    pose = STANDING.copy()
    pose[5, 1] = 1 - 1.96
    said = implausible([still(pose)], STICK)
    assert said[0] == "left and right are unlike: bones that mirror each other differ by 40 % in length"
    assert said[1].startswith(ORDER)
    assert len(said) == 2


def test_bones_that_change_their_length() -> None:
    """Sizes spread evenly from 0.5 to 1.5 lie from 0.6 to 1.4 between the 10th and the 90th percentile: 80 %."""
    sizes = np.linspace(0.5, 1.5, 101)[:, None, None]
    said = implausible([STANDING * sizes], STICK)
    assert said[0] == "bones change their length: within a recording by 80 %"
    assert said[1].startswith(ORDER)
    assert implausible([STANDING * sizes * [1, 1, 0]], STICK) == []  # a camera may come nearer


def test_heads_below_hips() -> None:
    upside_down = still(STANDING * [1, -1, 1])
    assert implausible([upside_down], STICK) == ["the head is below the hips in 1 of 1 recording", DOWN]
    assert implausible([upside_down, still(STANDING), still(STANDING)], STICK) == []
    said = implausible([upside_down, upside_down, still(STANDING)], STICK, y_down=True)
    assert said == [
        "the head is below the hips in 2 of 3 recordings",
        "does y grow upwards in the files? Then leave out `y: down` in the manifest",
    ]


def test_joints_that_were_not_found_do_not_count() -> None:
    track = still(STANDING)
    track[:4, 5] = 0
    track[4:8, 4] = np.nan
    track[:, 1] = 0
    assert implausible([track], STICK) == []


def test_noise_is_no_body() -> None:
    rng = np.random.default_rng(0)
    for name in ("kinect-v2-25", "smpl-24", "mediapipe-33"):
        body = layout(name)
        said = implausible(list(rng.normal(size=(8, 40, len(body), 3))), body)
        assert said[0].startswith("bones change their length")


def test_the_longest_track_is_the_body_of_most_frames() -> None:
    xyz = np.arange(4 * 6 * 3, dtype=float).reshape(4, 6, 3)
    recording = Recording(np.array([2, 1, 1], np.int32), np.array([7, 3, 3, 3]), xyz)
    np.testing.assert_array_equal(longest_track(recording), xyz[1:])


def tracks(dataset: str, folder: Path, most: int = 10) -> list[np.ndarray]:
    manifest = load_manifest(dataset)
    reader = RecordingReader(manifest)
    files = [file for file in find_raw_files([folder]) if file.relative.endswith(manifest.suffixes)]
    step = max(len(files) // most, 1)
    return [longest_track(reader.read(file)).copy() for file in files[::step][:most]]


def check(found: list[np.ndarray], right: str, wrong: str) -> None:
    """Silence in the right order; words where the order is another, shuffled, or y is reversed; also in 2D."""
    for depth in (1, 0):
        seen = [track * [1, 1, depth] for track in found]
        assert implausible(seen, layout(right)) == []
        assert f"write `layout: {right}`" in implausible(seen, layout(wrong))[-1]
        assert implausible([track * [1, -1, 1] for track in seen], layout(right))[-1] == DOWN
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(layout(right)))
        assert implausible([track[:, order] for track in found], layout(right))[-1].startswith(ORDER)


CASES = [
    ("ntu60", "kinect-v2-25", "openpose-25"),
    ("msr-action3d", "msr-action3d-20", "kinect-v1-20"),
    ("nw-ucla", "kinect-v1-20", "msr-action3d-20"),
]


@pytest.mark.parametrize(("dataset", "right", "wrong"), CASES)
@pytest.mark.parametrize("difficulty", [0.0, 3.0])
def test_synthetic_bodies(tmp_path, dataset, right, wrong, difficulty) -> None:
    for job in plan_dataset(SynthOptions(dataset, 1, difficulty, 30), 2, 5, 1).jobs:
        for name, content in job.render().files.items():
            (tmp_path / name).write_bytes(content)
    check(tracks(dataset, tmp_path), right, wrong)


@pytest.mark.parametrize(
    ("dataset", "folder", "right", "wrong"),
    [
        (*case[:1], folder, *case[1:])
        for case, folder in zip(CASES, ("ntu", "msr_action3d", "nw_ucla"), strict=True)
    ],
)
def test_real_bodies(shared: Path, dataset, folder, right, wrong) -> None:
    found = tracks(dataset, shared / "data" / folder, most=20)
    check(found, right, wrong)
    assert [implausible([track], layout(right)) for track in found] == [[]] * len(found)
