"""Files of pose estimators and tables, written here by hand, through `prepare` to the stored clip."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from skelpipe.dataset import Dataset
from skelpipe.errors import RawError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.raw.poses.formats import POSE_FORMATS, reads_frame_files
from skelpipe.skeleton import layout

FRAMES = 6
SIZE = (640, 480)
IDS = ("ada-wave", "bob-jump")


def track(joints: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [T,V,3] of a body that moves a little in every frame, and scores [T,V]; no joint is at 0."""
    rng = np.random.default_rng(seed)
    body = rng.uniform([100, 100, 40], [500, 400, 90], (joints, 3))
    return (body + rng.uniform(0, 5, (FRAMES, joints, 3))).round(3), rng.uniform(0.1, 1, (FRAMES, joints)).round(3)


Files = dict[str, bytes]
Writer = Callable[[str, np.ndarray, np.ndarray], Files]


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode()


def flat(points: np.ndarray, scores: np.ndarray) -> list[float]:
    return np.column_stack([points[:, :2], scores]).reshape(-1).tolist()


def openpose(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    return {
        f"{name}_{t:012d}_keypoints.json": as_json(
            {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": flat(xyz[t], scores[t])}]}
        )
        for t in range(FRAMES)
    }


def alphapose(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    entries = [
        {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": flat(xyz[t], scores[t]), "score": 3, "idx": 1}
        for t in range(FRAMES)
    ]
    return {f"{name}.json": as_json(entries)}


def instance(points: np.ndarray, scores: np.ndarray) -> dict:
    return {"keypoints": points.tolist(), "keypoint_scores": scores.tolist()}


def mmpose(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    frames = [{"frame_id": t, "instances": [instance(xyz[t, :, :2], scores[t])]} for t in range(FRAMES)]
    return {f"{name}.json": as_json({"meta_info": {}, "instance_info": frames})}


def mmpose_frames(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    return {f"{name}_{t}.json": as_json([instance(xyz[t, :, :2], scores[t])]) for t in range(FRAMES)}


def ultralytics(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    rows = [[0, 0.5, 0.5, 0.1, 0.1, *flat(xyz[t] / [*SIZE, 1], scores[t])] for t in range(FRAMES)]
    return {f"{name}_{t + 1}.txt": " ".join(f"{v:.9g}" for v in rows[t]).encode() for t in range(FRAMES)}


def ultralytics_video(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    frames = [
        [{"keypoints": {"x": xyz[t, :, 0].tolist(), "y": xyz[t, :, 1].tolist(), "visible": scores[t].tolist()}}]
        for t in range(FRAMES)
    ]
    return {f"{name}.json": as_json(frames)}


def mediapipe(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    file = io.BytesIO()
    np.save(file, np.concatenate([xyz / [SIZE[0], SIZE[1], SIZE[0]], scores[..., None]], axis=2))
    return {f"{name}.npy": file.getvalue()}


def azure_kinect(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    frames = [
        {"frame_id": t, "num_bodies": 1, "bodies": [{"body_id": 1, "joint_positions": (1000 * xyz[t]).tolist()}]}
        for t in range(FRAMES)
    ]
    return {f"{name}.json": as_json({"frames": frames})}


def utkinect(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    rows = [" ".join(f"{v:.9g}" for v in (10 + 2 * t, *xyz[t].reshape(-1))) for t in range(FRAMES)]
    return {f"{name}.txt": "\n".join(rows).encode()}


def table(name: str, xyz: np.ndarray, scores: np.ndarray) -> Files:
    rows = [";".join(f"{v:.9g}" for v in pose.reshape(-1)) for pose in xyz]
    return {f"{name}.csv": "\n".join(rows).encode()}


# reader, layout, suffix, writer, more keys of the manifest
FORMATS: dict[str, tuple[str, str, Writer, dict[str, Any]]] = {
    "openpose": ("openpose-25", "_keypoints.json", openpose, {}),
    "alphapose": ("coco-17", ".json", alphapose, {}),
    "mmpose": ("coco-17", ".json", mmpose, {}),
    "mmpose-frames": ("coco-17", ".json", mmpose_frames, {}),
    "ultralytics": ("coco-17", ".txt", ultralytics, {"image_size": list(SIZE)}),
    "ultralytics-video": ("coco-17", ".json", ultralytics_video, {}),
    "mediapipe": ("mediapipe-33", ".npy", mediapipe, {"image_size": list(SIZE)}),
    "azure-kinect": ("azure-kinect-32", ".json", azure_kinect, {}),
    "utkinect-text": ("kinect-v1-20", ".txt", utkinect, {}),
    "table": ("kinect-v2-25", ".csv", table, {}),
}


def test_every_format_is_tried() -> None:
    assert set(FORMATS) == set(POSE_FORMATS)


def write_manifest(folder: Path, reader: str, **keys: Any) -> str:
    layout_name, suffix, _, more = FORMATS[reader]
    content = {
        "name": "own",
        "reader": reader,
        "layout": layout_name,
        "name_pattern": r"(?P<who>[a-z]+)-(?P<action>[a-z]+)",
        "suffix": suffix,
        "classes": ["jump", "wave"],
        "splits": {"xsub": {"field": "who", "test": ["bob"]}},
        **more,
        **keys,
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def write_raw(folder: Path, reader: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write two recordings; return their positions and scores."""
    layout_name, _, writer, _ = FORMATS[reader]
    tracks = {name: track(len(layout(layout_name)), seed) for seed, name in enumerate(IDS)}
    folder.mkdir(exist_ok=True)
    for name, (xyz, scores) in tracks.items():
        for file, content in writer(name, xyz, scores).items():
            (folder / file).write_bytes(content)
    return tracks


def clips_of(tmp_path: Path, reader: str, raw: Path, **keys: Any) -> dict[str, np.ndarray]:
    manifest = load_manifest(write_manifest(tmp_path, reader, **keys))
    options = Options("xsub", frames=FRAMES, bodies=1)
    prepare(manifest, [raw], tmp_path / "out", options, overwrite=True, quiet=True)
    dataset = Dataset.open(tmp_path / "out")
    return {
        name: dataset.reader(subset, "joint").gather(np.arange(1))[0, ..., 0]
        for subset in ("train", "test")
        for name in dataset.ids(subset)
    }


def expected(reader: str, xyz: np.ndarray) -> np.ndarray:
    """Each frame about its centre, y up; without depth nothing is turned."""
    used = xyz * [1, -1 if POSE_FORMATS[reader].y_down else 1, 1]
    channels = POSE_FORMATS[reader].channels
    if channels and "z" not in channels[0]:
        used[..., 2] = 0
    centred = used - used[:, layout(FORMATS[reader][0]).centre][:, None]
    return centred.transpose(2, 0, 1)


@pytest.mark.parametrize("reader", FORMATS)
def test_to_the_stored_clip(tmp_path: Path, reader: str) -> None:
    tracks = write_raw(tmp_path / "raw", reader)
    clips = clips_of(tmp_path, reader, tmp_path / "raw")
    assert sorted(clips) == sorted(IDS)
    scored = bool(POSE_FORMATS[reader].channels) and "score" in POSE_FORMATS[reader].channels[0]
    for name, (xyz, scores) in tracks.items():
        want = expected(reader, xyz)
        assert clips[name].shape[0] == 3 + scored
        if want[2].any():  # turned about y: heights and distances from that axis stay
            np.testing.assert_allclose(clips[name][1], want[1], rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(
                np.hypot(clips[name][0], clips[name][2]), np.hypot(want[0], want[2]), rtol=1e-4, atol=1e-3
            )
        else:
            np.testing.assert_allclose(clips[name][:3], want, rtol=1e-4, atol=1e-3)
        if scored:
            np.testing.assert_allclose(clips[name][3], scores, rtol=1e-5)


@pytest.mark.parametrize("reader", [name for name in FORMATS if reads_frame_files(name)])
def test_frames_in_an_archive_are_the_same_dataset(tmp_path: Path, reader: str) -> None:
    """Whatever the order of files, and where they lie."""
    write_raw(tmp_path / "raw", reader)
    (tmp_path / "packed").mkdir()
    with zipfile.ZipFile(tmp_path / "packed" / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "raw").iterdir(), reverse=True):
            archive.write(path, f"inside/{path.name}")
    manifest = load_manifest(write_manifest(tmp_path, reader))
    options = Options("xsub", frames=FRAMES, bodies=1)
    digests = [
        prepare(manifest, [tmp_path / raw], tmp_path / f"out-{raw}", options, quiet=True).card["digest"]
        for raw in ("raw", "packed")
    ]
    assert digests[0] == digests[1]


def test_a_frame_that_changed_or_is_new_makes_another_dataset(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", "openpose")
    manifest = load_manifest(write_manifest(tmp_path, "openpose"))
    options = Options("xsub", frames=FRAMES, bodies=1)
    prepare(manifest, [tmp_path / "raw"], tmp_path / "out", options, quiet=True)
    assert prepare(manifest, [tmp_path / "raw"], tmp_path / "out", options, quiet=True).was_complete
    frame = tmp_path / "raw" / f"{IDS[0]}_000000000002_keypoints.json"
    frame.rename(frame.with_name(frame.name.replace("2_key", "9_key")))  # the same bytes, another frame
    with pytest.raises(UsageError, match="raw"):
        prepare(manifest, [tmp_path / "raw"], tmp_path / "out", options, quiet=True)


def test_a_damaged_frame_is_named_or_skipped_with_its_recording(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", "openpose")
    broken = tmp_path / "raw" / f"{IDS[0]}_000000000002_keypoints.json"
    broken.write_bytes(broken.read_bytes()[:-9])
    manifest = load_manifest(write_manifest(tmp_path, "openpose"))
    options = Options("xsub", frames=FRAMES, bodies=1)
    with pytest.raises(RawError, match=rf"^{broken}: ends in the middle of its JSON \(cut off in download\?\)"):
        prepare(manifest, [tmp_path / "raw"], tmp_path / "out", options, quiet=True)
    card = prepare(
        manifest, [tmp_path / "raw"], tmp_path / "out", options, skip_bad=True, quiet=True, overwrite=True
    ).card
    assert card["dropped"] == {f"{broken.name}: ends in the middle of its JSON (cut off in download?)": 1}


def test_joints_that_were_not_found_follow_the_manifest(tmp_path: Path) -> None:
    tracks = write_raw(tmp_path / "raw", "openpose")
    for t in range(FRAMES):
        path = tmp_path / "raw" / f"{IDS[0]}_{t:012d}_keypoints.json"
        content = json.loads(path.read_text())
        if t in (2, 3):
            content["people"][0]["pose_keypoints_2d"][12:15] = [0, 0, 0]  # the right wrist
        path.write_text(json.dumps(content))
    with pytest.raises(RawError, match=r"ada-wave_\*_keypoints\.json: frame 3, body 1, joint 5 .*missing_joints"):
        clips_of(tmp_path, "openpose", tmp_path / "raw")
    clip = clips_of(tmp_path, "openpose", tmp_path / "raw", missing_joints="interpolated")[IDS[0]]
    xyz = tracks[IDS[0]][0].copy()
    for axis in range(3):
        xyz[2:4, 4, axis] = np.interp([2, 3], [1, 4], xyz[[1, 4], 4, axis])
    np.testing.assert_allclose(clip[:3], expected("openpose", xyz), rtol=1e-4, atol=1e-3)
    assert clip[3, 2:4, 4].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("reader", "keys", "message"),
    [
        ("alphapose", {"y": "up"}, r"y: in the files of reader alphapose y grows downwards"),
        ("utkinect-text", {"y": "down"}, r"y: in the files of reader utkinect-text y grows upwards"),
        ("azure-kinect", {"units": "millimetres"}, r"units: the positions that reader .* are in metres"),
        ("alphapose", {"channels": ["x", "y", "z"]}, r"channels: the files of reader alphapose hold"),
        ("alphapose", {"axes": "T,V,C"}, r"axes: "),
        ("ultralytics", {"image_size": [640]}, r"image_size: the pictures' width and height are expected"),
        ("ultralytics", {"image_size": [640, True]}, r"image_size: the pictures' width and height are expected"),
        ("ultralytics", {"image_size": [640, 0]}, r"image_size: the pictures' width and height are expected"),
    ],
)  # fmt: skip
def test_a_manifest_that_contradicts_the_format(tmp_path: Path, reader: str, keys: dict, message: str) -> None:
    with pytest.raises(UsageError, match=rf"own\.yaml: {message}"):
        load_manifest(write_manifest(tmp_path, reader, **keys))


def test_scores_can_be_left_out(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", "alphapose")
    clips = clips_of(tmp_path, "alphapose", tmp_path / "raw", channels=["x", "y"])
    assert clips[IDS[0]].shape[0] == 3
