"""Shards that others wrote as a dataset: clips as they are stored, addresses, digest, what is refused."""

import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skelpipe.errors import DatasetError, RawError, SkelpipeError, UsageError
from skelpipe.foreign.shards import ForeignShards, ShardForm
from skelpipe.raw.web_shards import WebFields
from skelpipe.skeleton import layout

LAYOUT = layout("coco-17")
RNG = np.random.default_rng(1)


def write(path: Path, clips: dict[str, np.ndarray], labels: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for key, clip in clips.items():
            file = io.BytesIO()
            np.save(file, clip)
            members = {"npy": file.getvalue()} | ({"cls": labels[key].encode()} if labels else {})
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def clips(prefix: str, count: int, frames: int = 8, bodies: int = 2) -> dict[str, np.ndarray]:
    return {f"{prefix}{n}": RNG.normal(size=(frames, bodies, 17, 3)).astype(np.float32) for n in range(count)}


FORM = ShardForm(LAYOUT, 8, axes=("T", "M", "V", "C"))


@pytest.fixture
def two(tmp_path: Path) -> tuple[ForeignShards, dict[str, np.ndarray]]:
    """Two shards, one of them compressed, of three and four clips."""
    a, b = clips("a", 3), clips("b", 4)
    write(tmp_path / "s-0.tar", a, {key: "2" for key in a})
    write(tmp_path / "s-1.tgz", b, {key: "0" for key in b})
    return ForeignShards({"train": [str(tmp_path / "s-{0.tar,1.tgz}")]}, FORM), {**a, **b}


def test_clips_are_as_they_are_stored(two: tuple[ForeignShards, dict[str, np.ndarray]]) -> None:
    dataset, wanted = two
    assert dataset.shape == (3, 8, 17, 2)
    assert dataset.count("train") == 7
    assert dataset.count("test") == 0
    assert dataset.ids("train") == list(wanted)
    assert dataset.labels("train").tolist() == [2] * 3 + [0] * 4
    assert dataset.classes == ("0", "1", "2")
    rows = np.array([6, 0, 3, 3, 1])
    got = dataset.reader("train", "joint").gather(rows)
    for clip, row in zip(got, rows, strict=True):
        assert np.array_equal(clip, list(wanted.values())[row].transpose(3, 0, 2, 1))
    samples = list(dataset.webdataset("train", "joint"))
    assert [sample["__key__"] for sample in samples] == list(wanted)
    everything = dataset.reader("train", "joint").gather(np.arange(7))
    assert np.array_equal([sample["joint.npy"] for sample in samples], everything)
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.reader("train", "joint").gather(rows), got)
    assert again.digest == dataset.digest


def test_workers_and_nodes_divide_the_shards(
    two: tuple[ForeignShards, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, wanted = two
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        found.append([sample["__key__"] for sample in dataset.webdataset("train", "joint", shuffle=3, seed=5)])
    assert sorted(found[0] + found[1]) == sorted(wanted)
    assert {len(part) for part in found} == {3, 4}


@pytest.mark.parametrize(("have", "wanted"), [(8, 8), (5, 12), (30, 8), (1, 4)])
def test_frames_are_resized_as_torch_does(tmp_path: Path, have: int, wanted: int) -> None:
    clip = RNG.normal(size=(3, have, 17, 2)).astype(np.float32)
    flat = torch.from_numpy(clip).permute(0, 2, 3, 1).reshape(1, -1, have)
    theirs = F.interpolate(flat, size=wanted, mode="linear", align_corners=False)
    theirs = theirs.reshape(3, 17, 2, wanted).permute(0, 3, 1, 2).numpy()
    write(tmp_path / "r.tar", {"r": clip.transpose(1, 3, 2, 0)})
    dataset = ForeignShards({"train": [str(tmp_path / "r.tar")]}, replace(FORM, frames=wanted))
    ours = dataset.reader("train", "joint").gather(np.array([0]))[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_poses_of_two_numbers_and_scores(tmp_path: Path) -> None:
    pose = RNG.uniform(size=(8, 17, 3)).astype(np.float32)
    write(tmp_path / "p.tar", {"p": pose})
    form = ShardForm(LAYOUT, 8, channels=("x", "y", "score"), axes=("T", "V", "C"))
    dataset = ForeignShards({"train": [str(tmp_path / "p.tar")]}, form)
    assert dataset.channels == ("x", "y", "z", "score")
    clip = dataset.reader("train", "joint").gather(np.array([0]))[0]
    assert np.array_equal(clip[..., 0], np.stack([pose[..., 0], pose[..., 1], 0 * pose[..., 0], pose[..., 2]]))
    assert not dataset.labelled
    assert dataset.stored_labels("train").tolist() == [-1]


def test_names_of_classes_are_numbered_in_order(tmp_path: Path) -> None:
    made = clips("a", 3)
    write(tmp_path / "n.tar", made, {"a0": "sit", "a1": "jump", "a2": "sit"})
    dataset = ForeignShards({"train": [str(tmp_path / "n.tar")]}, FORM)
    assert dataset.classes == ("jump", "sit")
    assert dataset.labels("train").tolist() == [1, 0, 1]


def test_remote_shards(two: tuple[ForeignShards, dict[str, np.ndarray]], server) -> None:
    local, _ = two
    server.serve_folder(local.path, "bucket/foreign")
    address = f"{server.url}/bucket/foreign"
    dataset = ForeignShards({"train": [f"{address}/s-{{0.tar,1.tgz}}"]}, FORM)
    rows = np.arange(7)
    assert np.array_equal(
        dataset.reader("train", "joint").gather(rows), local.reader("train", "joint").gather(rows)
    )
    with pytest.raises(SkelpipeError, match=r"foreign/s-2.tar"):
        ForeignShards({"train": [f"{address}/s-2.tar"]}, FORM)


def test_the_digest_is_of_bytes_and_form(two: tuple[ForeignShards, dict[str, np.ndarray]]) -> None:
    dataset, _ = two
    pattern = {"train": [str(dataset.path / "s-{0.tar,1.tgz}")]}
    assert ForeignShards(pattern, FORM).digest == dataset.digest
    assert ForeignShards(pattern, ShardForm(LAYOUT, 9, axes=("T", "M", "V", "C"))).digest != dataset.digest
    shard = dataset.path / "s-0.tar"
    write(shard, clips("a", 3), {f"a{n}": "2" for n in range(3)})
    assert ForeignShards(pattern, FORM).digest != dataset.digest
    with pytest.raises(DatasetError, match=r"s-0.tar: was replaced since it was first read"):
        dataset.reader("train", "joint").gather(np.array([0]))


def test_what_is_refused(tmp_path: Path) -> None:
    good = clips("a", 2)
    nan = {"n0": good["a0"].copy()}
    nan["n0"][3, 1, 5, 0] = np.nan
    write(tmp_path / "good.tar", good)
    write(tmp_path / "nan.tar", nan)
    write(tmp_path / "order.tar", {"o0": good["a0"].transpose(3, 0, 2, 1)})
    write(tmp_path / "many.tar", clips("m", 1, bodies=4))
    write(tmp_path / "empty.tar", {})
    cases = [
        ("nan.tar", FORM, r"nan.tar: n0: frame 4, body 2, joint 6 is not finite: import the shards"),
        ("order.tar", ShardForm(LAYOUT, 8), r"order.tar: o0: .*\[3, 8, 17, 2\].*--axes"),
        ("{good,good}.tar", FORM, r"good.tar: a0: the key is also in"),
        ("empty.tar", FORM, r"empty.tar: holds no samples"),
        ("good.tar", ShardForm(LAYOUT, 8, fields=WebFields(label="cls"), axes=FORM.axes), r"no member .cls"),
        (
            "many.tar",
            ShardForm(LAYOUT, 8, axes=FORM.axes, bodies=2),
            r"m0: 4 bodies, 2 are expected: say --bodies 4, or import",
        ),
        ("not-there.tar", FORM, r"not-there.tar: .*[Nn]o such file"),
    ]
    for name, form, message in cases:
        with pytest.raises(SkelpipeError, match=message):
            ForeignShards({"train": [str(tmp_path / name)]}, form)
    with pytest.raises(UsageError, match="pipe: would run"):
        ForeignShards({"train": [f"pipe:cat {tmp_path}/good.tar"]}, FORM)
    with pytest.raises(UsageError, match="no shards are named to train on"):
        ForeignShards({"train": []}, FORM)
    four = ShardForm(LAYOUT, 8)
    write(tmp_path / "four.tar", clips("t", 1, bodies=4))
    write(tmp_path / "three.tar", clips("t", 1, bodies=3))
    with pytest.raises(RawError, match="say --axes T,M,V,C or --axes T,C,V,M if that is so$"):
        ForeignShards({"train": [str(tmp_path / "three.tar")]}, four)
    with pytest.raises(RawError, match="4 bodies in 8 .*: say --axes T,M,V,C if that is so, or --bodies 4$"):
        ForeignShards({"train": [str(tmp_path / "four.tar")]}, four)
    for form in (replace(four, bodies=4), replace(four, axes=FORM.axes)):  # both do as the message says
        assert ForeignShards({"train": [str(tmp_path / "four.tar")]}, form).shape == (3, 8, 17, 4)
    write(tmp_path / "minus.tar", good, {"a0": "-1", "a1": "0"})
    with pytest.raises(RawError, match="labels count from 0"):
        ForeignShards({"train": [str(tmp_path / "minus.tar")]}, FORM)


def test_the_digest_knows_which_shards_are_for_what(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.tar", clips(name, 2))
    a, b, c = (str(tmp_path / f"{name}.tar") for name in "abc")
    one = ForeignShards({"train": [a, b], "test": [c]}, FORM)
    assert ForeignShards({"train": [a], "test": [b, c]}, FORM).digest != one.digest
    assert ForeignShards({"train": [a, b], "test": [c]}, FORM).digest == one.digest


def test_what_looks_wrong_is_noted(tmp_path: Path) -> None:
    pose = RNG.uniform(0, 640, size=(8, 1, 17, 3)).astype(np.float32)
    pose[..., 2] /= 640
    write(tmp_path / "p.tar", {"p0": pose, "p1": pose}, {"p0": "1", "p1": "2"})
    notes = ForeignShards({"train": [str(tmp_path / "p.tar")]}, FORM).notes
    assert "looks like a score, not like z: if it is, say --channels x,y,score" in notes[0]
    assert "p.tar: no sample has label 0, the lowest is 1" in notes[1]
    declared = ForeignShards({"train": [str(tmp_path / "p.tar")]}, replace(FORM, channels=("x", "y", "score")))
    assert not any("looks like a score" in note for note in declared.notes)


def test_json_lists(tmp_path: Path) -> None:
    pose = RNG.normal(size=(8, 17, 2)).round(3)
    content = json.dumps({"pose": pose.tolist(), "label": 1}).encode()
    with tarfile.open(tmp_path / "j.tar", "w") as tar:
        info = tarfile.TarInfo("j.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    dataset = ForeignShards({"train": [str(tmp_path / "j.tar")]}, ShardForm(LAYOUT, 8))
    clip = dataset.reader("train", "joint").gather(np.array([0]))[0]
    assert np.array_equal(clip[:2, ..., 0], pose.astype(np.float32).transpose(2, 0, 1))
    assert not clip[2].any()
