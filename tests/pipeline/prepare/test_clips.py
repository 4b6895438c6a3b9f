"""Recordings with gaps, through `prepare`: what is stored, counted, noted, said and refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

OWN: dict[str, Any] = {
    **{"name": "own", "reader": "npy", "layout": "coco-17", "suffix": ".npy", "classes": ["a", "b"]},
    "name_pattern": r"p(?P<subject>\d)_a(?P<action>\d)",
    "splits": {"xsub": {"field": "subject", "train": [1]}},
}
STANDING = {  # a layout of the user's own, of which nobody knows whether it lies in a picture
    **{"joints": [f"j{v}" for v in range(17)], "centre": "j0", "shoulders": {"left": "j1", "right": "j2"}},
    **{"bones": {f"j{v}": "j0" for v in range(1, 17)}, "mirror": [["j1", "j2"]]},
    "parts": {"one": [f"j{v}" for v in range(9)], "two": [f"j{v}" for v in range(9, 17)]},
}
NAMES = ("p1_a1", "p1_a2", "p2_a1", "p2_a2")


def poses(seed: int, frames: int = 60, numbers: int = 3) -> np.ndarray:
    """One walking body in pixels, [T,17,C]."""
    rng = np.random.default_rng(seed)
    return 200 + rng.normal(size=(17, numbers)) * 40 + rng.normal(size=(frames, 17, numbers)).cumsum(axis=0)


@pytest.fixture
def own(tmp_path: Path):
    """Writes a manifest and arrays; returns a call of `skelpipe prepare` there, as (exit code, stdout, stderr)."""

    def write(arrays: dict[str, np.ndarray], **keys: Any) -> str:
        (tmp_path / "raw").mkdir(exist_ok=True)
        for name, array in arrays.items():
            np.save(tmp_path / "raw" / f"{name}.npy", array)
        (tmp_path / "own.yaml").write_text(yaml.safe_dump({**OWN, **keys}, sort_keys=False))
        return str(tmp_path / "own.yaml")

    def run(arrays: dict[str, np.ndarray], *words: str, **keys: Any) -> tuple[int, str, str]:
        fixed = [
            "--split",
            "xsub",
            "--raw",
            str(tmp_path / "raw"),
            "--out",
            str(tmp_path / "ds"),
            "--workers",
            "1",
        ]
        result = CliRunner().invoke(
            main, ["prepare", "--dataset", write(arrays, **keys), *fixed, "--frames", "16", *words]
        )
        return result.exit_code, result.stdout, result.stderr

    return run


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(folder / "ds" / "samples.parquet").to_pylist()}


def clip(folder: Path, identity: str) -> np.ndarray:
    dataset = Dataset.open(folder / "ds")
    subset = "train" if identity in dataset.ids("train") else "test"
    return dataset.reader(subset, "joint").gather(np.array([dataset.ids(subset).index(identity)]))[0]


def resized(frames: np.ndarray, length: int = 16) -> np.ndarray:
    """[F,...] to [length,...], by numpy's interpolation."""
    at = np.clip((np.arange(length) + 0.5) * len(frames) / length - 0.5, 0, len(frames) - 1)
    flat = frames.reshape(len(frames), -1)
    columns = [np.interp(at, np.arange(len(frames)), column) for column in flat.T]
    return np.stack(columns, axis=1).reshape(length, *frames.shape[1:])


def centred(frames: np.ndarray) -> np.ndarray:
    return frames - frames[:, :1]  # the centre of coco-17 is its first joint


def test_a_person_who_enters_half_way(own, tmp_path) -> None:
    arrays = {name: poses(k, numbers=2) for k, name in enumerate(NAMES)}
    late = arrays["p1_a1"].copy()
    late[:30] = np.nan
    code, out, _ = own({**arrays, "p1_a1": late})
    assert code == 0
    np.testing.assert_allclose(
        clip(tmp_path, "p1_a1")[:2, :, :, 0].transpose(1, 2, 0), resized(centred(late[30:])), atol=1e-3
    )
    row = rows(tmp_path)["p1_a1"]
    assert (row["frames"], row["real_frames"], row["joints"], row["real_joints"]) == (60, 30, 30 * 17, 30 * 17)
    assert row["note"] is None
    assert "real: 87.5 % of frames, 100.0 % of joints; worst: p1_a1 30 of 60 frames\n" in out
    for policy, wanted in (("held", late[[30] * 30 + list(range(30, 60))]), ("interpolated", None)):
        code, _, error = own({}, "--empty-frames", policy, "--overwrite")
        assert code == 0, error
        if wanted is not None:
            got = clip(tmp_path, "p1_a1")[:2, :, :, 0].transpose(1, 2, 0)
            np.testing.assert_allclose(got, resized(centred(wanted)), atol=1e-3)
        card = json.loads((tmp_path / "ds" / "dataset.json").read_text())
        assert (card["options"]["empty_frames"], card["options"]["body_choice"]) == (policy, "motion")
    code, _, error = own({}, "--empty-frames", "as-authors", "--overwrite")
    assert code == 1
    assert "30 of its 60 frames show a body, but none of the first 30" in error
    assert "throughout" not in error


def test_a_clip_that_is_mostly_empty_is_noted_whatever_the_policy(own, tmp_path) -> None:
    arrays = {name: poses(k, numbers=2) for k, name in enumerate(NAMES)}
    arrays["p1_a1"][5:50] = 0
    code, out, _ = own(arrays, "--empty-frames", "as-authors")
    assert code == 0
    note = rows(tmp_path)["p1_a1"]["note"]  # of the first 15 frames, 5 show the body
    shown = np.count_nonzero(clip(tmp_path, "p1_a1").any(axis=(0, 2, 3)))
    assert note == f"{16 - shown} of 16 stored frames show no body"
    assert shown < 8
    assert f"noted p1_a1: {note}" in out


NTU = "S002C001P001R001A001"


def test_ntu_files_whose_first_half_is_empty(tmp_path, skeleton_text, moving_bodies) -> None:
    frames = moving_bodies(1, 60, 1)
    (tmp_path / "raw").mkdir()
    for name, empty in ((NTU, 29), ("S002C002P001R001A001", 0)):
        text = skeleton_text([*([[]] * empty), *frames[empty:]])
        (tmp_path / "raw" / f"{name}.skeleton").write_text(text)
    ntu, size = load_manifest("ntu60"), {"frames": 31, "bodies": 2}
    # L is 31, and the first 31 frames show the body twice.
    for policy, shown, note in (("as-authors", 2, "29 of 31 stored frames show no body"), ("dropped", 31, None)):
        chosen = Options("xview", **size, empty_frames=None if shown == 2 else policy)
        prepare(ntu, [tmp_path / "raw"], tmp_path / "ds", chosen, quiet=True, overwrite=True)
        row = rows(tmp_path)[NTU]
        assert (row["frames"], row["real_frames"], row["note"]) == (60, 31, note)
        assert np.count_nonzero(clip(tmp_path, NTU).any(axis=(0, 2, 3))) == shown
        assert Dataset.open(tmp_path / "ds").card["options"]["empty_frames"] == policy


def test_joints_that_were_not_found(own, tmp_path) -> None:
    arrays = {name: poses(k, numbers=2) for k, name in enumerate(NAMES)}
    gaps = arrays["p2_a1"].copy()
    gaps[10:14, 9] = np.nan
    gaps[20, 0] = -1
    code, _, error = own({**arrays, "p2_a1": gaps})
    assert code == 1
    assert "p2_a1.npy: frame 11, body 1, joint 10 (left wrist): was not found" in error
    assert "missing_joints" in error
    code, out, error = own({}, "--missing-joints", "interpolated", "--overwrite", missing_value=-1)
    assert code == 0, error
    filled = arrays["p2_a1"].copy()
    for joint, lost in ((9, range(10, 14)), (0, [20])):
        known = [t for t in range(60) if t not in lost]
        filled[:, joint] = np.stack(
            [np.interp(np.arange(60), known, arrays["p2_a1"][known, joint, c]) for c in range(2)], axis=1
        )
    got = clip(tmp_path, "p2_a1")[:2, :, :, 0].transpose(1, 2, 0)
    np.testing.assert_allclose(got, resized(centred(filled)), atol=1e-3)
    row = rows(tmp_path)["p2_a1"]
    assert (row["joints"], row["real_joints"]) == (60 * 17, 60 * 17 - 5)
    assert "real: 100.0 % of frames, 99.9 % of joints; worst: p2_a1 1,015 of 1,020 joints\n" in out
    assert Dataset.open(tmp_path / "ds").card["options"]["missing_joints"] == "interpolated"


def test_scores_beside_positions(own, tmp_path) -> None:
    """(x, y, score): as z they are a warning that names the key; declared they are channel 3, and z is 0."""
    arrays = {}
    for k, name in enumerate(NAMES):
        arrays[name] = poses(k)
        arrays[name][..., 2] = np.random.default_rng(k).random((60, 17))
    code, _, error = own(arrays)
    assert code == 0
    assert "channels: [x, y, score]" in error
    code, _, error = own({}, "--overwrite", channels=["x", "y", "confidence"], y="down")
    assert code == 0
    assert "channels:" not in error
    dataset = Dataset.open(tmp_path / "ds")
    assert (dataset.shape, dataset.channels) == ((4, 16, 17, 1), ("x", "y", "z", "score"))
    got = clip(tmp_path, "p1_a2")[..., 0].transpose(1, 2, 0)
    positions = centred(arrays["p1_a2"][..., :2]) * [1, -1]
    np.testing.assert_allclose(got[..., :2], resized(positions), atol=1e-3)
    assert not got[..., 2].any()
    np.testing.assert_allclose(got[..., 3], resized(arrays["p1_a2"][..., 2]), atol=1e-6)
    assert dataset.anchor("joint").shape == dataset.shape


def test_depth_is_no_score(own) -> None:
    arrays = {name: poses(k) for k, name in enumerate(NAMES)}
    arrays["p1_a1"][..., 2] = 0.5
    assert "channels" not in own(arrays)[2]  # of the others z exceeds 1
    metres = {name: (array - 200) / 100 + 0.5 for name, array in arrays.items()}
    for array in metres.values():
        array[..., 2] = array[..., 2].clip(0, 1)
    assert "channels" not in own(metres, "--overwrite", layout=STANDING)[2]  # x and y look like metres


@pytest.mark.parametrize("kind", ["constant", "a little above 1", "visibility"])
def test_scores_of_other_kinds_are_noticed(own, kind: str) -> None:
    arrays = {name: poses(k) for k, name in enumerate(NAMES)}
    for k, array in enumerate(arrays.values()):
        random = np.random.default_rng(k)
        array[..., 2] = {"constant": np.ones((60, 17)), "visibility": random.integers(0, 3, (60, 17))}.get(
            kind, random.random((60, 17))
        )
    if kind == "a little above 1":
        arrays["p1_a1"][3, 4, 2] = 1.02
    assert "channels: [x, y, score]" in own(arrays, units="pixels", y="down")[2]
    assert "channels: [x, y, score]" in own({}, "--overwrite", layout=STANDING)[2]


def test_flat_poses_have_no_score(own) -> None:
    arrays = {name: poses(k) * [1, 1, 0] for k, name in enumerate(NAMES)}
    assert "channels" not in own(arrays, units="pixels", y="down")[2]


def test_a_score_beside_shares_of_a_picture_is_noticed(own) -> None:
    arrays = {name: poses(k) / 1000 for k, name in enumerate(NAMES)}
    for k, array in enumerate(arrays.values()):
        array[..., 2] = np.random.default_rng(k).random((60, 17))
    assert "channels: [x, y, score]" in own(arrays)[2]
    assert "channels: [x, y, score]" in own({}, "--overwrite", layout=STANDING)[2]  # it jumps, x and y do not
    assert "channels" not in own({}, "--overwrite", channels=["x", "y", "unused"])[2]


def test_bodies_that_are_left_out_are_counted(own, tmp_path) -> None:
    arrays = {name: np.stack([poses(10 * k + m, numbers=2) for m in range(3)]) for k, name in enumerate(NAMES)}
    arrays["p2_a2"] = arrays["p2_a2"] * [[[[1.0]]], [[[0.0]]], [[[1.0]]]][:3]
    code, _, error = own(arrays, axes="M,T,V,C", bodies=1)
    assert code == 0, error
    assert {name: row["bodies_left_out"] for name, row in rows(tmp_path).items()} == {
        **dict.fromkeys(NAMES, 2),
        "p2_a2": 1,
    }
    code, out, _ = own({}, "--bodies", "2", "--body-choice", "first", "--overwrite", axes="M,T,V,C", bodies=1)
    assert code == 0
    assert "bodies: 4 left out of 4 clips, which hold 2: the first that a frame lists are kept" in out
    code, out, _ = own({}, "--bodies", "9", "--overwrite", axes="M,T,V,C", bodies=1)
    assert "left out" not in out
    assert Dataset.open(tmp_path / "ds").shape == (3, 16, 17, 9)
    got = clip(tmp_path, "p1_a1")
    expected = [resized(centred(body)) for body in arrays["p1_a1"]]
    np.testing.assert_allclose(got[:2, ..., :3].transpose(3, 1, 2, 0), expected, atol=1e-3)


def test_a_person_first_is_refused_with_the_line_to_write(own, tmp_path) -> None:
    arrays = {name: poses(k, numbers=2)[None] for k, name in enumerate(NAMES)}
    code, _, error = own(arrays)
    assert code == 1
    assert "p1_a1.npy: the shape [1, 60, 17, 2]" in error
    assert "`axes: M,T,V,C`" in error
    assert own({}, "--overwrite", axes="M,T,V,C")[0] == 0
    assert rows(tmp_path)["p1_a1"]["frames"] == 60


NOTHING = {
    "a body that is a point": (np.full((60, 17, 2), 7.0), "all joints of a body lie in one point"),
    "nothing but zeros": (np.zeros((60, 17, 2)), "no body in any of its 60 frames"),
    "nothing but NaN": (np.full((60, 17, 2), np.nan), "no body in any of its 60 frames"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_why_nothing_is_left(own, case: str) -> None:
    array, message = NOTHING[case]
    code, _, error = own({**{name: poses(1, numbers=2) for name in NAMES}, "p1_a1": array})
    assert code == 1
    assert message in error
    assert "throughout" not in error


@pytest.mark.parametrize("policy", ["dropped", "held", "interpolated", "as-authors"])
def test_a_recording_of_mostly_nobody_is_noted(own, tmp_path, policy: str) -> None:
    arrays = {name: poses(k, numbers=2) for k, name in enumerate(NAMES)}
    arrays["p1_a1"][1:] = 0
    code, _, error = own(arrays, empty_frames=policy)
    assert code == 0, error
    notes = {name: row["note"] for name, row in rows(tmp_path).items()}
    assert "frames show no body" in notes.pop("p1_a1")
    assert not any(notes.values())


def test_a_rule_for_bodies_that_the_profile_does_not_obey_is_refused(own) -> None:
    arrays = {name: poses(k, numbers=2) for k, name in enumerate(NAMES)}
    code, _, error = own(arrays, "--profile", "ctrgcn", "--body-choice", "motion")
    assert code == 2
    assert "profile ctrgcn chooses bodies by its own rule" in error
    assert own({}, "--profile", "ctrgcn", "--check")[0] == 0
