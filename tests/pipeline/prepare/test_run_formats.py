"""`prepare` with HDF5, float16 and profile `ctrgcn`; and datasets read by other programs."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.dataset.stats import average_motion
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError, RawError, UsageError
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import FORMATS, Options, prepare
from skelpipe.preprocess import ctrgcn
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.source import TextBuffer
from skelpipe.skeleton import layout
from skelpipe.views import VIEWS

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=16, shard_size=5)


def make(raw: Path, out: Path, options: Options = SMALL, formats: str = "shards", **kwargs) -> Dataset:
    prepare(NTU60, [raw], out, options, formats=FORMATS[formats], quiet=True, **kwargs)
    return Dataset.open(out)


def every_clip(dataset: Dataset, subset: str, view: str) -> np.ndarray:
    return dataset.reader(subset, view).gather(np.arange(dataset.count(subset)))


def test_hdf5_holds_the_same_dataset_as_the_shards(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names(), bodies=2)
    shards, hdf5, both = (make(raw, tmp_path / name, formats=name) for name in FORMATS)
    assert shards.digest == hdf5.digest == both.digest
    assert not list((tmp_path / "hdf5").rglob("*.tar"))
    assert len(list((tmp_path / "both").rglob("*.tar"))) == len(list((tmp_path / "shards").rglob("*.tar")))
    for subset in ("train", "test"):
        assert shards.ids(subset) == hdf5.ids(subset)
        with h5py.File(tmp_path / "hdf5" / f"{subset}.h5") as file:  # as another program reads it
            assert set(file) == {"id", "label", *VIEWS}
            assert [id_.decode() for id_ in file["id"][:]] == shards.ids(subset)
            assert file["label"][:].tolist() == shards.labels(subset).tolist()
            assert file.attrs["digest"] == shards.digest
            for view in VIEWS:
                assert np.array_equal(file[view][:], every_clip(shards, subset, view))
                assert file[view].chunks is not None
        for view in VIEWS:
            assert np.array_equal(every_clip(hdf5, subset, view), every_clip(shards, subset, view))
    assert damages(hdf5, quiet=True) == damages(both, quiet=True) == []
    assert prepare(NTU60, [raw], tmp_path / "hdf5", SMALL, formats=["hdf5"], quiet=True).was_complete
    with pytest.raises(UsageError, match=r"formats was \['hdf5'\], is \['shards'\]"):
        make(raw, tmp_path / "hdf5")


def test_streams_of_either_container_are_the_same(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names(actions=6))
    seen = []
    for name in ("shards", "hdf5"):
        stream = Stream(make(raw, tmp_path / name, formats=name), "train", ["joint", "motion"], 4, seed=3)
        loader = Loader(stream, "cpu", {"clip": None}, derive="stored", view="motion")
        seen.append([(batch.index.tolist(), batch.clip.numpy().tobytes()) for batch in loader])
        loader.close()
    assert seen[0] == seen[1]
    assert len(seen[0]) == 6


def test_truncated_hdf5_is_reported(raw_folder, ntu_names, tmp_path) -> None:
    dataset = make(raw_folder(ntu_names()), tmp_path / "ds", formats="hdf5")
    path = tmp_path / "ds" / "train.h5"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match=r"train\.h5"):
        dataset.reader("train", "motion")
    assert [line for line in damages(dataset, quiet=True) if "train.h5" in line]
    assert len(dataset.reader("test", "motion")) == 12


def test_cut_off_before_the_shards_are_removed(raw_folder, ntu_names, tmp_path, monkeypatch) -> None:
    raw = raw_folder(ntu_names())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skelpipe.prepare.writers.remove_shards", killed)
        with pytest.raises(KeyboardInterrupt):
            make(raw, tmp_path / "ds", formats="hdf5")
    dataset = make(raw, tmp_path / "ds", formats="hdf5")
    assert not list((tmp_path / "ds").rglob("*.tar"))
    assert dataset.digest == make(raw, tmp_path / "new").digest
    assert damages(dataset, quiet=True) == []


@pytest.mark.parametrize("container", ["shards", "hdf5"])
def test_float16_is_float32_rounded_once(raw_folder, ntu_names, tmp_path, container) -> None:
    raw = raw_folder(ntu_names(), bodies=2)
    wide = make(raw, tmp_path / "wide")
    options = Options("xsub", frames=16, shard_size=5, dtype="float16")
    narrow = make(raw, tmp_path / "narrow", options, formats=container)
    joint = every_clip(wide, "train", "joint").astype(np.float16)
    stored = every_clip(narrow, "train", "joint")
    assert stored.dtype == np.float32
    assert np.array_equal(stored, joint.astype(np.float32))
    step = np.zeros(joint.shape, np.float32)
    step[:, :, :-1] = joint[:, :, 1:].astype(np.float32) - joint[:, :, :-1].astype(np.float32)
    assert np.array_equal(every_clip(narrow, "train", "motion"), step.astype(np.float16).astype(np.float32))
    if container == "shards":
        sizes = [
            (tmp_path / name / "train" / "joint" / "000000.tar").stat().st_size for name in ("narrow", "wide")
        ]
        assert sizes[0] < 0.6 * sizes[1]
    np.testing.assert_allclose(narrow.anchor("joint"), stored.mean(axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(average_motion(narrow, "bone", quiet=True), narrow.anchor("bone"), atol=2e-3)
    assert damages(narrow, quiet=True) == []


def test_a_coordinate_beyond_float16(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    path = raw / f"{names[0]}.skeleton"
    lines = path.read_text().split("\n")
    lines[6] = " ".join(["70000", *lines[6].split()[1:]])
    path.write_text("\n".join(lines))
    with pytest.raises(RawError, match="too large for float16"):
        make(raw, tmp_path / "ds", Options("xsub", frames=16, dtype="float16"))


def test_clips_of_ctrgcn_and_its_errors(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names, bodies=1, frames=20)
    dataset = make(raw, tmp_path / "ds", Options("xsub", frames=16, profile="ctrgcn"))
    assert dataset.profile == "ctrgcn"
    copied = make(raw, tmp_path / "copied", Options("xsub", frames=16, profile="ctrgcn", second_body="copy"))
    assert copied.digest != dataset.digest
    for row, id_ in enumerate(dataset.ids("test")):
        expected = np.empty((3, 16, 25, 2), np.float32)
        recording = read_skeleton(TextBuffer().read(str(raw / f"{id_}.skeleton")), id_)
        ctrgcn(recording, layout("kinect-v2-25"), 16, 2, expected)
        clip = dataset.reader("test", "joint").gather(np.array([row]))[0]
        assert np.array_equal(clip, expected)
        assert not clip[..., 1].any()
        twin = copied.reader("test", "joint").gather(np.array([row]))[0]
        assert np.array_equal(twin[..., 1], twin[..., 0])
    with pytest.raises(UsageError, match="ctrgcn"):
        make(raw, tmp_path / "no", Options("xsub", frames=16, second_body="copy"))


def test_a_recording_without_a_clip_in_ctrgcn_is_damaged(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names, frames=20)
    short = raw_folder(["S001C001P001R001A005"], "short", frames=5, bodies=2)
    (short / "S001C001P001R001A005.skeleton").rename(raw / "S001C001P001R001A005.skeleton")
    options = Options("xsub", frames=16, profile="ctrgcn")
    with pytest.raises(RawError, match=r"S001C001P001R001A005\.skeleton: no body is seen in more than 11 frames"):
        make(raw, tmp_path / "ds", options)
    dataset = make(raw, tmp_path / "ds", options, skip_bad=True)
    (reason,) = dataset.card["dropped"]
    assert reason == "S001C001P001R001A005.skeleton: no body is seen in more than 11 frames"


def test_hugging_face_datasets_reads_a_dataset(raw_folder, ntu_names, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    ours = make(raw_folder(ntu_names()), tmp_path / "ds")
    files = {subset: str(tmp_path / "ds" / subset / "bone" / "*.tar") for subset in ("train", "test")}
    theirs = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {subset: len(theirs[subset]) for subset in files} == {"train": 12, "test": 12}
    for row, sample in enumerate(theirs["train"].with_format("numpy")):
        assert sample["__key__"].endswith(ours.ids("train")[row])
        assert int(sample["cls"]) == ours.labels("train")[row]
        clip = ours.reader("train", "bone").gather(np.array([row]))[0]
        assert np.array_equal(np.asarray(sample["bone.npy"], np.float32), clip)
    card = datasets.load_dataset(str(tmp_path / "ds"), "motion", cache_dir=str(tmp_path / "cache"))
    assert len(card["test"]) == 12  # by the front matter of README.md


def test_the_readme_describes_the_dataset(raw_folder, ntu_names, tmp_path) -> None:
    dataset = make(raw_folder(ntu_names()), tmp_path / "ds", formats="hdf5")
    text = (tmp_path / "ds" / "README.md").read_text()
    assert text.startswith("---\n")
    for text_part in (dataset.digest, "12 |", "`crosclr` version 1", "h5py.File", NTU60.terms, NTU60.homepage):
        assert text_part in text
    assert "webdataset.WebDataset" not in text
    card = json.loads((tmp_path / "ds" / "dataset.json").read_text())
    assert set(card["hdf5"]) == {"train", "test"}
