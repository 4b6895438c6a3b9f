"""Every format by the reading conventions of the programs that read it, and imported again.

The readers below are what the feeders of CTR-GCN, st-gcn and pyskl do, in a few lines of numpy and pickle.
"""

import csv
import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli.import_ import import_
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.export import EXPORT_FORMATS, export
from skelpipe.export import clips as export_clips
from skelpipe.export.formats import Wishes

Datasets = dict[str, Dataset]
Joints = Callable[..., np.ndarray]
SUBSETS = ("train", "test")


def wrote(dataset: Dataset, to: str, out: Path, **options: Any) -> Path:
    wishes = Wishes(**{name: options.pop(name) for name in ("pad_to", "dtype", "zipped") if name in options})
    found = export(dataset, to, out, wishes=wishes, quiet=True, **options)
    assert found.bytes == sum(path.stat().st_size for path in found.files)
    assert all(path.is_file() for path in found.files)
    assert {path for path in out.rglob("*") if path.is_file()} == set(found.files)
    return out


def imported(out: Path, *arguments: object) -> Dataset:
    result = CliRunner().invoke(import_, [*map(str, arguments), "--out", str(out), "--workers", "1"])
    assert result.exit_code == 0, result.output
    return Dataset.open(out)


def without_z(clips: np.ndarray) -> np.ndarray:
    """Channels x, y (, score) of clips of 2D poses."""
    return np.delete(clips, 2, axis=1)


@pytest.mark.parametrize("pad_to", [None, 0, 12])
def test_ctrgcn_feeder(datasets: Datasets, joints: Joints, tmp_path: Path, pad_to: int | None) -> None:
    dataset = datasets["solid"]
    out = wrote(dataset, "ctrgcn-npz", tmp_path / "out", pad_to=pad_to)
    frames = {None: 300, 0: 10, 12: 12}[pad_to]
    with np.load(out / "NTU60_CS.npz") as file:
        assert sorted(file) == ["x_test", "x_train", "y_test", "y_train"]
        for subset in SUBSETS:
            x, y = file[f"x_{subset}"], file[f"y_{subset}"]
            assert x.dtype == np.float32
            n, t, _ = x.shape
            data = x.reshape((n, t, 2, 25, 3)).transpose(0, 4, 1, 3, 2)
            assert t == frames
            assert np.array_equal(data[:, :, :10], joints(dataset, subset))
            assert not data[:, :, 10:].any()
            assert y.shape == (n, 60)
            assert np.array_equal(np.where(y > 0)[1], dataset.labels(subset))
            assert (y.sum(axis=1) == 1).all()
    with open(out / "samples.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["id"] for row in rows if row["array"] == "x_test"] == dataset.ids("test")
    assert [row["row"] for row in rows if row["array"] == "x_test"] == [
        str(n) for n in range(dataset.count("test"))
    ]
    assert rows[0]["class"] == dataset.classes[int(rows[0]["label"])]


def test_the_same_clips_give_the_same_bytes(datasets: Datasets, tmp_path: Path) -> None:
    for to in EXPORT_FORMATS:
        one, other = (wrote(datasets["solid"], to, tmp_path / f"{to}-{n}", **ZIPPED.get(to, {})) for n in "ab")
        for path in one.rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path


ZIPPED = {"csv": {"zipped": True}}


@pytest.mark.parametrize(
    ("view", "array"), [("joint", "data"), ("bone", "data_bone"), ("motion", "data_joint_motion")]
)
def test_stgcn_feeder(datasets: Datasets, joints: Joints, tmp_path: Path, view: str, array: str) -> None:
    dataset = datasets["solid"]
    out = wrote(dataset, "stgcn-npy", tmp_path / "out", view=view)
    for part, subset in (("train", "train"), ("val", "test")):
        data = np.load(out / "xsub" / f"{part}_{array}.npy", mmap_mode="r")
        with open(out / "xsub" / f"{part}_label.pkl", "rb") as file:
            names, labels = pickle.load(file)
        assert data.dtype == np.float32
        n, c, t, v, m = data.shape
        assert (n, c, t, v, m) == (dataset.count(subset), 3, 300, 25, 2)
        assert np.array_equal(data[:, :, :10], joints(dataset, subset, view))
        assert not data[:, :, 10:].any()
        assert names == [f"{identity}.skeleton" for identity in dataset.ids(subset)]
        assert labels == dataset.labels(subset).tolist()
        assert type(labels) is list
        assert all(type(label) is int for label in labels)


def test_stgcn_of_scored_clips(datasets: Datasets, joints: Joints, tmp_path: Path) -> None:
    """2D poses as Kinetics-skeleton has them, x, y, score; 3D poses have four channels."""
    flat, solid = datasets["flat-scored"], datasets["solid-scored"]
    wrote(flat, "stgcn-npy", tmp_path / "flat", pad_to=0)
    assert np.array_equal(np.load(tmp_path / "flat/xsub/val_data.npy"), without_z(joints(flat, "test")))
    wrote(solid, "stgcn-npy", tmp_path / "solid", pad_to=0)
    assert np.array_equal(np.load(tmp_path / "solid/xsub/val_data.npy"), joints(solid, "test"))
    wrote(flat, "stgcn-npy", tmp_path / "bare", pad_to=0, scores=False)
    assert np.array_equal(np.load(tmp_path / "bare/xsub/val_data.npy"), joints(flat, "test")[:, :3])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["solid", "flat", "flat-scored"])
def test_pyskl_dataset(datasets: Datasets, joints: Joints, tmp_path: Path, kind: str, dtype: str) -> None:
    dataset = datasets[kind]
    out = wrote(dataset, "pyskl-pkl", tmp_path / "out", dtype=dtype)
    (path,) = out.glob("*danno.pkl")
    assert path.name == ("ntu60-xsub_3danno.pkl" if kind == "solid" else "street-xsub_2danno.pkl")
    with open(path, "rb") as file:
        content = pickle.load(file)
    assert list(content) == ["split", "annotations"]
    assert list(content["split"]) == ["xsub_train", "xsub_val"]
    by_name = {each["frame_dir"]: each for each in content["annotations"]}
    for split, subset in (("xsub_train", "train"), ("xsub_val", "test")):
        assert content["split"][split] == dataset.ids(subset)
        clips = joints(dataset, subset)
        for identity, label, clip in zip(dataset.ids(subset), dataset.labels(subset), clips, strict=True):
            found = by_name[identity]
            assert found["label"] == label
            assert type(found["label"]) is int
            assert found["total_frames"] == 10
            keypoint = found["keypoint"]
            bodies = 2 if clip[..., 1].any() else 1
            assert keypoint.shape == (bodies, 10, dataset.shape[2], 3 if kind == "solid" else 2)
            assert keypoint.dtype == dtype
            expected = clip[: keypoint.shape[3]].transpose(3, 1, 2, 0)[:bodies].astype(dtype)
            if kind != "solid":
                expected = expected * np.array([1, -1], dtype)  # y downwards, as in pictures
            assert np.array_equal(keypoint, expected)
            assert ("keypoint_score" in found) == (kind == "flat-scored")
            if kind == "flat-scored":
                assert np.array_equal(found["keypoint_score"], clip[3].transpose(2, 0, 1)[:bodies].astype(dtype))


@pytest.mark.parametrize("kind", ["solid", "solid-scored", "flat", "flat-scored"])
def test_a_folder_of_npy(datasets: Datasets, joints: Joints, tmp_path: Path, kind: str) -> None:
    dataset = datasets[kind]
    out = wrote(dataset, "npy", tmp_path / "out")
    with open(out / "metadata.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    for subset in SUBSETS:
        own = [row for row in rows if row["split"] == subset]
        clips = joints(dataset, subset)
        clips = without_z(clips) if "flat" in kind else clips
        found = np.stack([np.load(out / row["file_name"]) for row in own])
        assert np.array_equal(found, clips.transpose(0, 2, 4, 3, 1))
        assert [Path(row["file_name"]).stem for row in own] == dataset.ids(subset)
        assert [int(row["label"]) for row in own] == dataset.labels(subset).tolist()
    assert (out / "classes.txt").read_text().splitlines() == list(dataset.classes)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["solid", "flat-scored"])
def test_a_table_holds_every_number_exactly(
    datasets: Datasets, joints: Joints, tmp_path: Path, kind: str, zipped: bool
) -> None:
    dataset = datasets[kind]
    out = wrote(dataset, "csv", tmp_path / "out", zipped=zipped)
    numbers = ["x", "y", "z"] if kind == "solid" else ["x", "y", "score"]
    opened = gzip.open(out / "clips.csv.gz", "rt") if zipped else open(out / "clips.csv")  # noqa: SIM115
    with opened as text:
        table = list(csv.DictReader(text))
    assert list(table[0]) == ["id", "subset", "label", "class", "frame", "body", "joint", *numbers]
    for subset in SUBSETS:
        clips = joints(dataset, subset)
        found = np.zeros_like(clips)
        rows = {identity: n for n, identity in enumerate(dataset.ids(subset))}
        for row in table:
            if row["subset"] == subset:
                n, t, v, m = rows[row["id"]], int(row["frame"]), int(row["joint"]), int(row["body"])
                for name in numbers:
                    found[n, dataset.channels.index(name), t, v, m] = np.float32(row[name])
                assert int(row["label"]) == dataset.labels(subset)[n]
                assert row["class"] == dataset.classes[int(row["label"])]
        assert np.array_equal(found, clips)
    bodies = sum(int(joints(dataset, subset).any(axis=(1, 2, 3)).sum()) for subset in SUBSETS)
    assert len(table) == bodies * 10 * dataset.shape[2]  # absent bodies have no rows
    with open(out / "joints.csv", newline="") as text:
        joint_rows = list(csv.DictReader(text))
    assert [row["name"] for row in joint_rows] == list(dataset.layout.joints)
    edges = {(int(row["joint"]), int(row["parent"])) for row in joint_rows if row["parent"]}
    assert edges == set(dataset.layout.edges)


ROUND_TRIPS = [
    ("solid", "ctrgcn-npz", "NTU60_CS.npz", {}, ["--frames", 10]),
    ("solid", "ctrgcn-npz", "NTU60_CS.npz", {"pad_to": 0}, []),
    ("flat-scored", "ctrgcn-npz", "street-xsub.npz", {}, ["--channels", "x,y,score", "--frames", 10]),
    ("solid", "stgcn-npy", "xsub", {}, ["--frames", 10]),
    ("solid", "stgcn-npy", "xsub", {"pad_to": 0}, []),
    ("solid-scored", "stgcn-npy", "xsub", {"pad_to": 0}, ["--channels", "x,y,z,score"]),
    ("flat", "stgcn-npy", "xsub", {"pad_to": 0}, []),
    ("flat-scored", "stgcn-npy", "xsub", {"pad_to": 0}, ["--channels", "x,y,score"]),
    ("solid", "pyskl-pkl", "ntu60-xsub_3danno.pkl", {}, ["--frames", 10]),
    ("flat", "pyskl-pkl", "street-xsub_2danno.pkl", {}, ["--frames", 10]),
    ("flat-scored", "pyskl-pkl", "street-xsub_2danno.pkl", {}, ["--frames", 10]),
    ("solid", "npy", ".", {}, ["--frames", 10]),
    ("solid-scored", "npy", ".", {}, ["--channels", "x,y,z,score", "--frames", 10]),
    ("flat-scored", "npy", ".", {}, ["--channels", "x,y,score", "--frames", 10]),
]


@pytest.mark.parametrize(("kind", "to", "name", "options", "arguments"), ROUND_TRIPS)
def test_exported_and_imported_clips_are_the_same(
    datasets: Datasets,
    joints: Joints,
    tmp_path: Path,
    kind: str,
    to: str,
    name: str,
    options: dict[str, Any],
    arguments: list[object],
) -> None:
    dataset = datasets[kind]
    out = wrote(dataset, to, tmp_path / "out", **options)
    given = [out / name, "--profile", "stored", "--classes", out / "classes.txt", "--layout", dataset.layout.name]
    back = imported(tmp_path / "back", *given, *arguments)
    assert back.shape == dataset.shape
    assert back.channels == dataset.channels
    assert back.classes == dataset.classes
    for subset in SUBSETS:
        ids = dataset.ids(subset)
        if to == "ctrgcn-npz":  # has no names
            ids = [f"{subset}_{n}" for n in range(len(ids))]
        rows = [back.ids(subset).index(identity) for identity in ids]
        assert sorted(rows) == list(range(back.count(subset)))
        assert np.array_equal(joints(back, subset)[rows], joints(dataset, subset))
        assert np.array_equal(back.labels(subset)[rows], dataset.labels(subset))


def test_float16_comes_back_rounded_once(datasets: Datasets, joints: Joints, tmp_path: Path) -> None:
    dataset = datasets["solid"]
    out = wrote(dataset, "pyskl-pkl", tmp_path / "out", dtype="float16")
    back = imported(tmp_path / "back", out / "ntu60-xsub_3danno.pkl", "--profile", "stored", "--frames", 10)
    rows = [back.ids("train").index(identity) for identity in dataset.ids("train")]
    rounded = joints(dataset, "train").astype(np.float16).astype(np.float32)
    assert np.array_equal(joints(back, "train")[rows], rounded)


def test_what_a_format_cannot_hold(datasets: Datasets, joints: Joints, tmp_path: Path) -> None:
    scored = datasets["solid-scored"]
    for to in ("ctrgcn-npz", "pyskl-pkl"):
        with pytest.raises(UsageError, match=r"x, y, z and a score, .*takes three numbers: pass --no-scores"):
            export(scored, to, tmp_path / "out", quiet=True)
    assert not list(tmp_path.iterdir())
    wrote(scored, "ctrgcn-npz", tmp_path / "out", scores=False, pad_to=0)
    with np.load(tmp_path / "out" / "NTU60_CS.npz") as file:
        x = file["x_train"].reshape(-1, 10, 2, 25, 3).transpose(0, 4, 1, 3, 2)
    assert np.array_equal(x, joints(scored, "train")[:, :3])


@pytest.mark.parametrize(
    ("to", "wish", "said"),
    [
        ("csv", {"pad_to": 300}, "--pad-to is for --to ctrgcn-npz and stgcn-npy; csv has no use for it"),
        ("ctrgcn-npz", {"dtype": "float16"}, "--dtype is for --to pyskl-pkl and npy"),
        ("npy", {"zipped": True}, "--gzip is for --to csv"),
    ],
)
def test_wishes_without_a_meaning(
    datasets: Datasets, tmp_path: Path, to: str, wish: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        export(datasets["solid"], to, tmp_path / "out", wishes=Wishes(**wish), quiet=True)


def test_memory_is_bounded(datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With blocks of one clip, no format holds the clips of a subset at once."""
    dataset = datasets["solid"]
    one = 4 * int(np.prod(dataset.shape))
    monkeypatch.setattr(export_clips, "BLOCK_BYTES", one)
    for to in EXPORT_FORMATS:
        most = []
        blocks = export_clips.Clips.blocks

        def counted(self: Any, subset: str, blocks: Any = blocks, most: list[int] = most) -> Any:
            for block in blocks(self, subset):
                most.append(len(block.clips))
                yield block

        monkeypatch.setattr(export_clips.Clips, "blocks", counted)
        wrote(dataset, to, tmp_path / to)
        monkeypatch.setattr(export_clips.Clips, "blocks", blocks)
        assert most == [1] * sum(dataset.count(subset) for subset in SUBSETS)


@pytest.mark.parametrize(
    ("to", "name", "options"),
    [
        ("ctrgcn-npz", "ended-given.npz", {"pad_to": 0}),
        ("stgcn-npy", "given", {"pad_to": 0}),
        ("pyskl-pkl", "ended-given_3danno.pkl", {}),
        ("npy", ".", {}),
    ],
)
def test_frames_of_zeros_at_the_end_stay(
    joints: Joints, tmp_path: Path, to: str, name: str, options: dict[str, Any]
) -> None:
    """Clips that end with frames of zeros, which in a padded file could not be told from the padding."""
    array = np.random.default_rng(2).normal(size=(4, 3, 12, 20, 1)).astype(np.float32)
    array[1:, :, 7:] = 0
    for part in ("train", "val"):
        np.save(tmp_path / f"{part}_data.npy", array)
        names = [f"{part}{n}" for n in range(4)]
        (tmp_path / f"{part}_label.pkl").write_bytes(pickle.dumps((names, [0, 1, 0, 1])))
    given = ["--profile", "stored", "--layout", "kinect-v1-20", "--name", "ended"]
    files = [tmp_path / f"{part}_{what}" for part in ("train", "val") for what in ("data.npy", "label.pkl")]
    dataset = imported(tmp_path / "ds", *files, *given)
    assert np.array_equal(joints(dataset, "train"), array)
    out = wrote(dataset, to, tmp_path / "out", **options)
    frames = ["--frames", "12"] if to in ("pyskl-pkl", "npy") else []
    back = imported(tmp_path / "back", out / name, *given, *frames)
    assert np.array_equal(joints(back, "test"), array)


def test_samples_without_labels(datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = datasets["solid"]
    monkeypatch.setattr(Dataset, "stored_labels", lambda self, subset: np.full(self.count(subset), -1))
    for to in ("ctrgcn-npz", "stgcn-npy", "pyskl-pkl"):
        with pytest.raises(UsageError, match=f"has samples without a label, and {to} needs one for each"):
            export(dataset, to, tmp_path / "out", quiet=True)
    wrote(dataset, "npy", tmp_path / "npy")
    wrote(dataset, "csv", tmp_path / "csv")
    for table in (tmp_path / "npy/metadata.csv", tmp_path / "csv/clips.csv"):
        with open(table, newline="") as text:
            assert {(row["label"], row["class"]) for row in csv.DictReader(text)} == {("", "")}


NAMES = ["clip.0 ü/x", "a.b", "with blank", "50%25", "50%", ".hidden", "a/b/c", "日本", "plain_1", "c%2Ed"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pickle of 2D poses whose names hold what ids escape."""
    folder = tmp_path_factory.mktemp("named")
    rng = np.random.default_rng(2)
    annotations = [
        {"frame_dir": name, "label": n % 2, "keypoint": rng.uniform(1, 500, (1, 8, 17, 2)).astype(np.float32)}
        for n, name in enumerate(NAMES)
    ]
    split = {"train": NAMES[::2], "test": NAMES[1::2]}
    (folder / "poses.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    return folder


@pytest.mark.parametrize(
    ("to", "options"),
    [("pyskl-pkl", []), ("stgcn-npy", ["--channels", "x,y,z"]), ("npy", ["--channels", "x,y"])],
)
def test_names_come_back(named: Path, tmp_path: Path, to: str, options: list[str]) -> None:
    first = imported(tmp_path / "first", named, "--frames", 8, "--profile", "stored")
    out = wrote(first, to, tmp_path / "out")
    again = imported(tmp_path / "again", out, "--frames", 8, "--layout", "coco-17", *options)
    for subset in SUBSETS:
        assert sorted(again.ids(subset)) == sorted(first.ids(subset))
        if to == "npy":
            files = {path.stem for path in (out / subset).iterdir()}
            assert "%25" not in "".join(files - {"50%25", "50%2525", "c%252Ed"})


@pytest.mark.parametrize("to", ["csv", "ctrgcn-npz"])
def test_tables_hold_the_names(named: Path, tmp_path: Path, to: str) -> None:
    first = imported(tmp_path / "first", named, "--frames", 8)
    out = wrote(first, to, tmp_path / "out")
    with open(out / {"csv": "clips.csv", "ctrgcn-npz": "samples.csv"}[to], newline="") as text:
        assert {row["id"] for row in csv.DictReader(text)} == set(NAMES)


def test_clips_without_labels(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "train"
    folder.mkdir(parents=True)
    for n in range(3):
        np.save(folder / f"r{n}.npy", np.random.default_rng(n).normal(size=(8, 1, 25, 3)))
    dataset = imported(tmp_path / "ds", tmp_path / "raw", "--layout", "kinect-v2-25", "--frames", 8)
    assert not dataset.labelled
    out = wrote(dataset, "npy", tmp_path / "npy")
    again = imported(tmp_path / "again", out, "--layout", "kinect-v2-25", "--frames", 8)
    assert again.ids("train") == ["r0", "r1", "r2"]
    assert not again.labelled
    with open(wrote(dataset, "csv", tmp_path / "csv") / "clips.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    assert {(row["id"], row["label"], row["class"]) for row in rows} == {(f"r{n}", "", "") for n in range(3)}
    for to in ("ctrgcn-npz", "stgcn-npy", "pyskl-pkl"):
        with pytest.raises(UsageError, match=f"without a label, and {to} needs one"):
            wrote(dataset, to, tmp_path / to)
