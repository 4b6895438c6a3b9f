"""What `prepare --check` sees in recordings whose units, direction and faults the test decides."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.skeleton import layout

HEAD = {
    "name": "my",
    "reader": "npy",
    "layout": "kinect-v2-25",
    "axes": "T,V,C",
    "suffix": ".npy",
    "name_pattern": r"r(?P<n>\d+)",
    "splits": {"all": {"train": "all"}},
}


@pytest.fixture
def upright() -> np.ndarray:
    """A standing body of 1.7 m that sways, in metres, y up: [T,V,3]."""
    body = layout("kinect-v2-25")
    height = dict.fromkeys(body.joints, 1.0)
    for joint in body.joints:
        for word, metres in (
            ("head", 1.7),
            ("neck", 1.5),
            ("hip", 0.9),
            ("knee", 0.5),
            ("ankle", 0.1),
            ("foot", 0.0),
        ):
            if word in joint:
                height[joint] = metres
    pose = np.array(
        [
            [0.2 * joint.startswith("right") - 0.2 * joint.startswith("left"), height[joint], 3]
            for joint in body.joints
        ]
    )
    return pose + 0.01 * np.sin(np.arange(30))[:, None, None]


def run(folder: Path, recordings: list[np.ndarray], **keys: object) -> dict:
    (folder / "raw").mkdir()
    for number, array in enumerate(recordings):
        np.save(folder / "raw" / f"r{number}.npy", array)
    (folder / "my.yaml").write_text(yaml.safe_dump({**HEAD, **keys}))
    words = ["prepare", "--dataset", str(folder / "my.yaml"), "--split", "all", "--raw", str(folder / "raw")]
    outcome = CliRunner().invoke(main, [*words, "--out", str(folder / "ds"), "--check", "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert not (folder / "ds").exists()
    return json.loads(outcome.stdout)


@pytest.mark.parametrize(("scale", "units"), [(1, "metres"), (100, "centimetres"), (1000, "millimetres")])
def test_units_are_guessed_from_the_height_of_bodies(tmp_path, upright, scale, units) -> None:
    report = run(tmp_path, [upright * scale] * 3)
    assert report["units"] == units
    assert report["y"] == "up"
    warned = [line for line in report["checks"] if f"write `units: {units}`" in line]
    assert bool(warned) == (units != "metres")
    assert report["ranges"]["y"] == pytest.approx([upright[..., 1].min() * scale, upright[..., 1].max() * scale])
    assert [(row["frames"], row["bodies"], row["joints"]) for row in report["recordings"]] == [(30, 1, 25)] * 3


@pytest.mark.parametrize("said", ["up", "down"])
@pytest.mark.parametrize("real", ["up", "down"])
def test_the_direction_of_y_is_that_of_the_files(tmp_path, upright, real, said) -> None:
    array = upright * [1, -1 if real == "down" else 1, 1]
    report = run(tmp_path, [array] * 3, y=said)
    assert (report["y"], report["said_y"]) == (real, said)


@pytest.mark.parametrize(("scale", "units"), [(0.5, "0..1 of the picture"), (500, "pixels")])
def test_units_of_2d_poses(tmp_path, upright, scale, units) -> None:
    array = (upright[..., :2] + [0.3, 0.1]) * scale
    assert run(tmp_path, [array] * 2, units="pixels")["units"] == units


def test_an_undeclared_score_says_nothing_of_units(tmp_path, upright) -> None:
    array = upright * 60 + 300
    array[..., 2] = np.random.default_rng(0).random(array.shape[:2])
    report = run(tmp_path, [array] * 3, units="pixels")
    assert report["units"] == "pixels"
    assert not any("write `units" in line for line in report["checks"])
    assert any("channels: [x, y, score]" in line for line in report["checks"])


def test_joints_at_the_origin_are_counted(tmp_path, upright) -> None:
    array = upright.copy()
    array[:, 1] = 0  # the origin of centred poses: no fault
    array[::3, 5] = 0
    report = run(tmp_path, [array] * 3)
    line = next(line for line in report["checks"] if "missing_value: 0" in line)
    assert line.startswith("30 of 2,160 joints")


def test_one_joint_that_always_is_the_origin_is_no_fault(tmp_path, upright) -> None:
    array = upright.copy()
    array[:, 1] = 0
    assert "missing_value" not in str(run(tmp_path, [array] * 3)["checks"])


def test_what_would_be_dropped_and_what_is_odd(tmp_path, upright) -> None:
    broken = np.zeros_like(upright)
    report = run(tmp_path, [upright, broken, upright[:1].repeat(9, axis=0)])
    assert any("r1" in line and "no body" in line for line in report["refused"])
    assert any("nothing moves in 1 of the recordings, such as r2" in line for line in report["checks"])
    page = Path(report["picture"])
    assert page == tmp_path / "ds-check.html"
    assert "<html" in page.read_text().lower()


def test_nothing_that_can_be_read_is_an_error(tmp_path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "r1.npy").write_bytes(b"nothing")
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(HEAD))
    words = ["--dataset", str(tmp_path / "my.yaml"), "--split", "all", "--raw", str(tmp_path / "raw")]
    outcome = CliRunner().invoke(main, ["prepare", *words, "--out", str(tmp_path / "ds"), "--check"])
    assert outcome.exit_code == 1
    assert "none of the 1 recordings looked at can be read" in outcome.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.yaml", "raw"]
