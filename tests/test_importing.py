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


def own_axes() -> None:
    Path("mine").mkdir()
    for subset in ("train", "test"):
        np.save(f"mine/{subset}_data.npy", poses(2, 20, 25, 3))
        np.save(f"mine/{subset}_label.npy", np.array([0, 1]))


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
