"""`skelpipe import` of pose estimators' files and of tables, written here by hand, to the stored clip."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.dataset.card import SAMPLES
from skelpipe.raw.collections.poses import POSE_IMPORTS
from skelpipe.raw.poses.formats import POSE_FORMATS
from skelpipe.skeleton import layout

FRAMES = 5
COCO = layout("coco-17")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `skelpipe import` in a folder of its own; return what it says, after the exit code that is expected."""
    monkeypatch.chdir(tmp_path)

    def call(*words: Any, code: int = 0) -> str:
        arguments = ["import", *map(str, words), "--workers", "1", "--frames", str(FRAMES)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == code, result.output
        return result.output

    return call


def clips(folder: str, subset: str = "train") -> dict[str, np.ndarray]:
    dataset = Dataset.open(folder)
    rows = dataset.reader(subset, "joint").gather(np.arange(dataset.count(subset)))
    return dict(zip(dataset.ids(subset), rows, strict=True))


def track(seed: int, joints: int = 17) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    xy = rng.uniform([50, 50], [550, 400], (joints, 2)) + rng.uniform(0, 3, (FRAMES, joints, 2))
    return xy.round(2), rng.uniform(0.2, 0.9, (FRAMES, joints)).round(3)


def centred(xy: np.ndarray, name: str = "coco-17") -> np.ndarray:
    """[2,T,V], each frame about its centre, y up."""
    about = (xy - xy[:, layout(name).centre][:, None]) * [1, -1]
    return about.transpose(2, 0, 1)


def flat(xy: np.ndarray, scores: np.ndarray) -> list[float]:
    return np.column_stack([xy, scores]).reshape(-1).tolist()


def write(path: str, content: Any) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def alphapose(path: str, seed: int) -> None:
    xy, scores = track(seed)
    write(path, [{"image_id": f"{t}.jpg", "keypoints": flat(xy[t], scores[t])} for t in range(FRAMES)])


def test_every_reader_of_poses_can_be_imported() -> None:
    assert [each.name for each in POSE_IMPORTS] == list(POSE_FORMATS)
    (option,) = [one for one in main.commands["import"].params if one.name == "format_name"]
    assert set(option.type.choices) >= set(POSE_FORMATS)


def test_recordings_without_labels(run) -> None:
    alphapose("poses/ada.json", 0)
    alphapose("poses/bob.json", 1)
    said = run("poses", "--out", "data")
    assert "alphapose: AlphaPose's JSON of a video" in said
    assert "all recordings are for training" in said
    assert "the clips have no labels" in said
    dataset, found = Dataset.open("data"), clips("data")
    assert not dataset.labelled
    assert (dataset.layout.name, dataset.channels) == ("coco-17", ("x", "y", "z", "score"))
    for seed, name in enumerate(["ada", "bob"]):
        xy, scores = track(seed)
        np.testing.assert_allclose(found[name][:2, ..., 0], centred(xy), atol=1e-3)
        np.testing.assert_allclose(found[name][3, ..., 0], scores, atol=1e-6)
        assert not found[name][..., 1].any()


def test_a_folder_per_class_and_subset(run) -> None:
    for n, place in enumerate(["train/run/a", "train/walk/b", "test/walk/c"]):
        alphapose(f"poses/{place}.json", n)
    run("poses", "--out", "data")
    dataset = Dataset.open("data")
    assert dataset.classes == ("run", "walk")
    assert (dataset.ids("train"), dataset.labels("train").tolist()) == (["a", "b"], [0, 1])
    assert (dataset.ids("test"), dataset.labels("test").tolist()) == (["c"], [1])


def test_a_folder_per_recording_is_no_class(run) -> None:
    for n, place in enumerate(["run/clip1", "walk/clip2", "walk/clip3"]):
        alphapose(f"poses/{place}/alphapose-results.json", n)
    run("poses", "--out", "data")
    dataset = Dataset.open("data")
    assert (dataset.ids("train"), dataset.classes) == (["clip1", "clip2", "clip3"], ("run", "walk"))
    assert dataset.labels("train").tolist() == [0, 1, 1]


def test_labels_from_a_file(run) -> None:
    alphapose("poses/ada.json", 0)
    alphapose("poses/bob.json", 1)
    write("poses/metadata.csv", "file_name,label,split\nada.json,walk,train\nbob.json,run,test\n")
    run("poses", "--out", "data")
    dataset = Dataset.open("data")
    assert (dataset.ids("train"), dataset.ids("test"), dataset.classes) == (["ada"], ["bob"], ("run", "walk"))
    assert dataset.labels("train").tolist() == [1]


@pytest.mark.parametrize("joints", [18, 25])
@pytest.mark.parametrize("packed", [False, True])
def test_openpose_with_two_people_in_changing_order(run, joints: int, packed: bool) -> None:
    """The layout is the one of as many joints; whoever moves most is in the clip, in every frame the same."""
    name = f"openpose-{joints}"
    (still, sure), (moving, _) = track(0, joints), track(1, joints)
    still, moving = still * 0.2 + [900, 0], moving * 0.2 + 8.0 * np.arange(FRAMES)[:, None, None]
    for t in range(FRAMES):
        people = [{"person_id": [-1], "pose_keypoints_2d": flat(xy[t], sure[t])} for xy in (still, moving)]
        write(f"raw/ada_{t:012d}_keypoints.json", {"version": 1.3, "people": people[:: 1 - 2 * (t % 2)]})
    if packed:
        with zipfile.ZipFile("raw.zip", "w") as archive:
            for path in sorted(Path("raw").iterdir()):
                archive.write(path, path.name)
    run("raw.zip" if packed else "raw", "--out", "data", "--bodies", 1)
    assert Dataset.open("data").layout.name == name
    np.testing.assert_allclose(clips("data")["ada"][:2, ..., 0], centred(moving, name), atol=1e-3)


def test_joints_that_were_not_found_are_interpolated(run) -> None:
    xy, scores = track(0)
    entries = [{"image_id": f"{t}.jpg", "keypoints": flat(xy[t], scores[t])} for t in range(FRAMES)]
    entries[2]["keypoints"][27:30] = [0, 0, 0]
    write("ada.json", entries)
    run("ada.json", "--out", "data")
    clip = clips("data")["ada"][..., 0]
    xy[2, 9] = (xy[1, 9] + xy[3, 9]) / 2
    np.testing.assert_allclose(clip[:2], centred(xy), atol=1e-3)
    assert clip[3, 2, 9] == 0


def test_mmpose_in_two_and_three_dimensions(run) -> None:
    xy, scores = track(4)
    for name, axes in {"flat": 2, "solid": 3}.items():
        points = np.concatenate([xy / 100, xy[..., :1] / 70], axis=2)[..., :axes]
        frames = [
            {
                "frame_id": t,
                "instances": [{"keypoints": points[t].tolist(), "keypoint_scores": scores[t].tolist()}],
            }
            for t in range(FRAMES)
        ]
        write(f"{name}.json", {"meta_info": {}, "instance_info": frames})
        run(f"{name}.json", "--out", name)
    np.testing.assert_allclose(clips("flat")["flat"][:2, ..., 0], centred(xy / 100), atol=1e-5)
    assert Dataset.open("flat").layout.name == "coco-17"
    assert Dataset.open("solid").layout.name == "h36m-17"
    height = np.array(xy[..., 0] / 70)  # the third number
    want = height - height[:, layout("h36m-17").centre][:, None]
    np.testing.assert_allclose(clips("solid")["solid"][1, ..., 0], want, atol=1e-5)


def test_fractions_need_the_size_of_the_pictures(run) -> None:
    xy, scores = track(2)
    for t in range(FRAMES):
        row = [0, 0.5, 0.5, 0.1, 0.1, *flat(xy[t] / [640, 480], scores[t])]
        write(f"labels/ada_{t + 1}.txt", " ".join(f"{value:.9g}" for value in row) + "\n")
    said = run("labels", "--out", "data", code=2)
    assert "fractions of the picture's width and height: say --image-size, such as 1920x1080" in said
    assert "--image-size 640: width and height" in run("labels", "--out", "data", "--image-size", "640", code=2)
    run("labels", "--out", "data", "--image-size", "640x480")
    np.testing.assert_allclose(clips("data")["ada"][:2, ..., 0], centred(xy), atol=1e-3)


def test_mediapipe_arrays_and_tables(run) -> None:
    rng = np.random.default_rng(0)
    world = rng.normal(0, 0.3, (FRAMES, 33, 4)).round(4)
    hips = layout("mediapipe-33").joints.index("left hip"), layout("mediapipe-33").joints.index("right hip")
    world[:, hips[1], :3] = -world[:, hips[0], :3]
    Path("arrays").mkdir()
    np.save("arrays/ada.npy", world)
    np.save("arrays/bob.npy", world)
    Path("tables").mkdir()
    with open("tables/ada.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"{axis}_{v}" for v in range(33) for axis in ("x", "y", "z", "visibility")])
        writer.writerows(world.reshape(FRAMES, -1).tolist())
    run("arrays", "--out", "one")
    run("tables", "--out", "two")
    assert Dataset.open("one").layout.name == Dataset.open("two").layout.name == "mediapipe-33"
    want = -(world[..., 1] - world[:, layout("mediapipe-33").centre, 1][:, None])  # y up
    for folder in ("one", "two"):
        np.testing.assert_allclose(clips(folder)["ada"][1, ..., 0], want, atol=1e-6)


@pytest.mark.parametrize(
    ("joints", "each", "name"), [(25, 3, "kinect-v2-25"), (25, 2, "openpose-25"), (17, 2, "coco-17")]
)
def test_tables_by_the_number_of_columns(run, joints: int, each: int, name: str) -> None:
    rows = np.random.default_rng(3).normal(size=(FRAMES, joints * each)).round(4)
    write("ada.csv", "\n".join(",".join(map(str, row)) for row in rows))
    run("ada.csv", "--out", "data")
    assert Dataset.open("data").layout.name == name
    y = rows.reshape(FRAMES, joints, each)[..., 1]
    want = y - y[:, layout(name).centre][:, None]
    np.testing.assert_allclose(clips("data")["ada"][1, ..., 0], want, atol=1e-6)
    run("ada.csv", "--out", "down", "--y", "down")
    np.testing.assert_allclose(clips("down")["ada"][1, ..., 0], -want, atol=1e-6)


def test_a_table_of_twenty_joints_may_be_in_two_orders(run) -> None:
    write("ada.csv", "\n".join(",".join(map(str, row)) for row in np.random.default_rng(0).normal(size=(5, 60))))
    said = run("ada.csv", "--out", "data", code=2)
    assert "say --layout" in said
    assert "kinect-v1-20" in said
    assert "msr-action3d-20" in said
    run("ada.csv", "--out", "data", "--layout", "kinect-v1-20")


def utkinect() -> np.ndarray:
    """Two sequences of the pictures 1 to 40, every second one, with labels; the position says the picture."""
    poses = np.random.default_rng(9).normal(size=(20, 20, 3)).round(4)
    for sequence in ("s01_e01", "s02_e01"):
        rows = [[1 + 2 * t, *poses[t].reshape(-1)] for t in range(20)]
        write(f"ut/joints/joints_{sequence}.txt", "\n".join(" ".join(map(str, row)) for row in rows) + "\n")
    write("ut/actionLabel.txt", "s01_e01\nwalk: 1 9\nsitDown: 21 29\ns02_e01\nwalk: 3 11 \nsitDown: NaN NaN\n")
    return poses


def test_utkinect_with_its_labels(run) -> None:
    poses = utkinect()
    run("ut", "--out", "data", "--layout", "kinect-v1-20")
    dataset, found = Dataset.open("data"), clips("data")
    assert dataset.classes == ("walk", "sitDown")
    assert dict(zip(dataset.ids("train"), dataset.labels("train").tolist(), strict=True)) == {
        "s01_e01_walk": 0,
        "s01_e01_sitDown": 1,
        "s02_e01_walk": 0,
    }
    centre = layout("kinect-v1-20").centre
    for name, first in {"s01_e01_walk": 0, "s01_e01_sitDown": 10, "s02_e01_walk": 1}.items():
        y = poses[first : first + FRAMES, :, 1]  # five pictures of each piece show somebody
        np.testing.assert_allclose(found[name][1, ..., 0], y - y[:, centre][:, None], atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("walk: 1 9\n", r"actionLabel.txt:1: the name of a sequence, or a row"),
        ("s01_e01\nwalk: 1\n", r"actionLabel.txt:2: the name of a sequence, or a row"),
        ("s01_e01\nwalk: 9 1\n", r"actionLabel.txt:2: frames 9 1 are no piece of a sequence"),
        ("s01_e01\nwalk: one 9\n", r"actionLabel.txt:2: frames one 9 are no piece of a sequence"),
        ("s01_e01\nwalk: 900 990\n", r"actionLabel.txt:2: frames 900 to 990 lie outside of the video"),
    ],
)
def test_damaged_labels_of_utkinect(run, labels: str, message: str) -> None:
    utkinect()
    write("ut/actionLabel.txt", labels)
    assert message in run("ut", "--out", "data", code=1)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ('[{"image_id": "1.jpg"', 1, "ada.json: ends in the middle of its JSON (cut off in download?)"),
        (
            [{"image_id": "1.jpg", "keypoints": [1, 2]}],
            2,
            "entry 1 (1.jpg): 51 numbers are expected for 17 joints",
        ),
        ([], 2, "no file of a known format is found"),
        ({"answer": 42}, 2, "no file of a known format is found"),
    ],
)
def test_damage_is_one_line(run, content: Any, code: int, message: str) -> None:
    write("ada.json", content)
    said = run("ada.json", "--out", "data", code=code)
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not Path("data").exists()


def test_a_damaged_recording_can_be_skipped(run) -> None:
    alphapose("poses/ada.json", 0)
    write("poses/bob.json", '[{"image_id"')
    run("poses", "--out", "data", code=1)
    run("poses", "--out", "data", "--on-error", "skip")
    assert Dataset.open("data").ids("train") == ["ada"]
    assert Path("data", SAMPLES).exists()
