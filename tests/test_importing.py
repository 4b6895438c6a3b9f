"""docs/importing.md: each command of its table is run on a file that the test makes before."""

import json
import pickle
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset

PAGE = Path(__file__).resolve().parents[1] / "docs" / "importing.md"
RNG = np.random.default_rng(0)


def commands() -> list[str]:
    """Return the commands of the page's first table."""
    found: list[str] = []
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("| ") and "`skelpipe " in line.rpartition(" | ")[2]:
            found.append(line.rpartition(" | ")[2].split("`")[1])
        elif found and not line.startswith("|"):
            break
    return found


def poses(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def synthesise(dataset: str, archive: str) -> None:
    words = ["synth", "--dataset", dataset, "--out", "raw", "--subjects", "2", "--actions", "2", "--repeats", "1"]
    assert CliRunner().invoke(main, words).exit_code == 0
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(Path("raw").rglob("*")):
            packed.write(path, path.name)


def ctrgcn(name: str, width: int, classes: int) -> None:
    np.savez(
        name,
        x_train=poses(3, 20, width),
        y_train=np.eye(classes)[[0, 1, 2]],
        x_test=poses(2, 20, width),
        y_test=np.eye(classes)[[1, 2]],
    )


def stgcn(folder: str, *names: str, joints: int = 25, frames: int = 20) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        array = poses(2, 3, frames, joints, 2)
        if joints == 18:
            array[:, 2] = 0.5
        np.save(f"{folder}/{name}.npy", array)
        ids = [f"{name}-{n}" for n in range(2)]
        Path(f"{folder}/{name.partition('_')[0]}_label.pkl").write_bytes(pickle.dumps((ids, [0, 1])))


def pyskl(name: str, lists: tuple[str, str], *, flat: bool) -> None:
    annotations = []
    for n in range(4):
        keypoint = (poses(1, 20, 17, 2) * 100 + 300 if flat else poses(1, 20, 25, 3)).astype(np.float16)
        annotation = {"frame_dir": f"v{n}", "label": n % 2, "total_frames": 20, "keypoint": keypoint}
        if flat:
            annotation |= {"keypoint_score": np.ones((1, 20, 17), np.float16), "img_shape": (720, 1280)}
        annotations.append(annotation)
    split = {lists[0]: ["v0", "v1"], lists[1]: ["v2", "v3"]}
    Path(name).write_bytes(pickle.dumps({"split": split, "annotations": annotations}, 2))


def folders(root: str, *shape: int) -> None:
    for name in ("train/squat/a", "train/lunge/b", "test/squat/c"):
        Path(root, name).parent.mkdir(parents=True, exist_ok=True)
        np.save(f"{root}/{name}.npy", poses(*shape))


def hub() -> None:
    rows = []
    for n, subset in enumerate(("train", "train", "test")):
        Path("poses", subset).mkdir(parents=True, exist_ok=True)
        np.save(f"poses/{subset}/{n}.npy", poses(20, 33, 4))
        rows.append(json.dumps({"file_name": f"{subset}/{n}.npy", "label": n % 2}))
    Path("poses/metadata.jsonl").write_text("\n".join(rows))


def every_frame(xy: np.ndarray) -> list[list[float]]:
    """x, y and a score per joint, flat, of each frame."""
    return np.concatenate([xy, np.full((*xy.shape[:2], 1), 0.9)], axis=2).reshape(len(xy), -1).tolist()


def pixels(joints: int) -> np.ndarray:
    return RNG.uniform(50, 150, (1, joints, 2)) + RNG.uniform(0, 3, (20, joints, 2))


def write_json(path: str, content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def openpose() -> None:
    for name in ("ada", "bob"):
        for t, numbers in enumerate(every_frame(pixels(25))):
            people = [{"person_id": [-1], "pose_keypoints_2d": numbers}]
            write_json(f"output_jsons/{name}_{t:012d}_keypoints.json", {"version": 1.3, "people": people})


def alphapose() -> None:
    for name in ("ada", "bob"):
        entries = [{"image_id": f"{t}.jpg", "keypoints": one} for t, one in enumerate(every_frame(pixels(17)))]
        write_json(f"alphapose/{name}/alphapose-results.json", entries)


def instances(xy: np.ndarray) -> list[list[dict]]:
    return [[{"keypoints": one.tolist(), "keypoint_scores": [0.9] * len(one)}] for one in xy]


def mmpose() -> None:
    for name in ("ada", "bob"):
        frames = [{"frame_id": t, "instances": one} for t, one in enumerate(instances(pixels(17)))]
        write_json(f"predictions/{name}.json", {"meta_info": {}, "instance_info": frames})


def mmpose_pictures() -> None:
    for name in ("ada", "bob"):
        for t, one in enumerate(instances(pixels(17))):
            write_json(f"pictures/{name}_{t:04d}.json", one)


def ultralytics() -> None:
    Path("labels").mkdir()
    for name in ("ada", "bob"):
        for t, numbers in enumerate(every_frame(pixels(17) / 200), 1):
            Path(f"labels/{name}_{t}.txt").write_text(" ".join(map(str, [0, 0.5, 0.5, 0.2, 0.2, *numbers])))


def ultralytics_json() -> None:
    for name in ("ada", "bob"):
        for t, one in enumerate(pixels(17), 1):
            keypoints = {"x": one[:, 0].tolist(), "y": one[:, 1].tolist(), "visible": [0.9] * 17}
            write_json(f"yolo/{name}_{t}.json", [{"name": "person", "class": 0, "keypoints": keypoints}])


def landmarks(folder: str, *, world: bool) -> None:
    Path(folder).mkdir()
    for name in ("ada", "bob"):
        array = RNG.uniform(0.1, 0.9, (20, 33, 4))
        if world:  # about the middle of the hips
            array[..., :3] -= array[:, 23:25, :3].mean(axis=1, keepdims=True)
        np.save(f"{folder}/{name}.npy", array)


def azure_kinect() -> None:
    for name in ("ada", "bob"):
        frames = [
            {"frame_id": t, "num_bodies": 1, "bodies": [{"body_id": 1, "joint_positions": one}]}
            for t, one in enumerate((poses(20, 32, 3) * 1000).tolist())
        ]
        write_json(f"azure/{name}.json", {"frames": frames})


def utkinect() -> None:
    Path("UTKinect/joints").mkdir(parents=True)
    for name in ("s01_e01", "s02_e01"):
        rows = [" ".join(map(str, [t, *one])) for t, one in enumerate(poses(40, 60).tolist(), 1)]
        Path(f"UTKinect/joints/joints_{name}.txt").write_text("\n".join(rows))
    Path("UTKinect/actionLabel.txt").write_text("s01_e01\nwalk: 2 20\ns02_e01\nwalk: 1 19\nsitDown: 21 40\n")


def tables() -> None:
    Path("tables").mkdir()
    header = ",".join(f"{axis}_{joint}" for joint in range(17) for axis in "xy")
    for name in ("ada", "bob"):
        np.savetxt(f"tables/{name}.csv", pixels(17).reshape(20, -1), delimiter=",", header=header, comments="")


def own_axes() -> None:
    Path("mine").mkdir()
    for subset in ("train", "test"):
        np.save(f"mine/X_{subset}.npy", poses(2, 20, 25, 3))
        np.save(f"mine/y_{subset}.npy", np.array([0, 1]))


# What makes the files of a command.
MAKERS: dict[str, Callable[[], None]] = {
    "skelpipe prepare --dataset ntu60 --split xsub --raw nturgbd_skeletons_s001_to_s017.zip": lambda: synthesise(
        "ntu60", "nturgbd_skeletons_s001_to_s017.zip"
    ),
    "skelpipe prepare --dataset nw-ucla --split xview --raw all_sqe.zip": lambda: synthesise(
        "nw-ucla", "all_sqe.zip"
    ),
    "skelpipe import NTU60_CS.npz": lambda: ctrgcn("NTU60_CS.npz", 150, 60),
    "skelpipe import ucla.npz --layout kinect-v1-20": lambda: ctrgcn("ucla.npz", 60, 10),
    "skelpipe import NTU-RGB-D/xview": lambda: stgcn("NTU-RGB-D/xview", "train_data", "val_data"),
    "skelpipe import val_data_joint.npy --split xsub": lambda: stgcn(".", "val_data_joint"),
    "skelpipe import kinetics-skeleton": lambda: stgcn("kinetics-skeleton", "train_data", "val_data", joints=18),
    "skelpipe import NTU60_frame50/xview": lambda: stgcn(
        "NTU60_frame50/xview", "train_position", "val_position", frames=50
    ),
    "skelpipe import ntu60_3danno.pkl --split xsub": lambda: pyskl(
        "ntu60_3danno.pkl", ("xsub_train", "xsub_val"), flat=False
    ),
    "skelpipe import gym_hrnet.pkl": lambda: pyskl("gym_hrnet.pkl", ("train", "val"), flat=True),
    "skelpipe import poses --channels x,y,z,visibility": hub,
    "skelpipe import gym --layout coco-17": lambda: folders("gym", 20, 17, 3),
    "skelpipe import mine --axes N,T,V,C": own_axes,
    "skelpipe import output_jsons": openpose,
    "skelpipe import alphapose": alphapose,
    "skelpipe import predictions": mmpose,
    "skelpipe import pictures": mmpose_pictures,
    "skelpipe import labels --image-size 1920x1080": ultralytics,
    "skelpipe import yolo": ultralytics_json,
    "skelpipe import world": lambda: landmarks("world", world=True),
    "skelpipe import landmarks --image-size 1280x720": lambda: landmarks("landmarks", world=False),
    "skelpipe import azure": azure_kinect,
    "skelpipe import UTKinect": utkinect,
    "skelpipe import tables --layout coco-17 --y down": tables,
}


def test_every_command_of_the_page_is_run_here() -> None:
    assert commands() == list(MAKERS)


@pytest.mark.parametrize("command", MAKERS)
def test_a_command_of_the_page_makes_a_dataset(command: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    MAKERS[command]()
    program, *words = shlex.split(command)
    assert program == "skelpipe"
    result = CliRunner().invoke(main, [*words, "--workers", "1"])
    assert result.exit_code == 0, result.output
    (card,) = Path("data").glob("*/dataset.json")
    dataset = Dataset.open(card.parent)
    assert dataset.count("train") + dataset.count("test") > 1
    subset = "train" if dataset.count("train") else "test"
    assert np.isfinite(dataset.reader(subset, "joint").gather(np.arange(1))).all()
