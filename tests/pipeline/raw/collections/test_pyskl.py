"""Pickles of pyskl and MMAction2: splits, annotations, scores, and what is refused."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import UNLABELLED, Contents, Request
from skelpipe.raw.collections.formats import find_contents
from skelpipe.raw.collections.pyskl import index_pyskl, read_pyskl
from skelpipe.raw.form import Form
from skelpipe.raw.source import find_raw_files
from skelpipe.skeleton import layout

RNG = np.random.default_rng(0)


def solid(name: str, label: int, bodies: int = 1, frames: int = 6) -> dict[str, Any]:
    keypoint = RNG.normal(size=(bodies, frames, 25, 3)).astype(np.float16)
    return {"frame_dir": name, "label": label, "keypoint": keypoint, "total_frames": frames}


def flat(name: str, label: int, bodies: int = 1, frames: int = 6) -> dict[str, Any]:
    return {
        "frame_dir": name,
        "label": label,
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
        "total_frames": frames,
        "keypoint": RNG.uniform(0, 1000, (bodies, frames, 17, 2)).astype(np.float16),
        "keypoint_score": RNG.uniform(size=(bodies, frames, 17)).astype(np.float16),
    }


def write(folder: Path, content: object, name: str = "ntu60.pkl", protocol: int = 2) -> None:
    (folder / name).write_bytes(pickle.dumps(content, protocol))


def found(folder: Path, **wishes: object) -> Contents:
    return index_pyskl(Request(find_raw_files([folder]), **wishes))  # type: ignore[arg-type]


SPLITS = {"xsub_train": ["a", "b"], "xsub_val": ["c"], "xview_train": ["c"], "xview_val": ["a", "gone"]}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_poses_in_space(tmp_path, protocol: int) -> None:
    annotations = [solid("a", 0, bodies=2), solid("b", 7), solid("c", 2)]
    write(tmp_path, {"split": SPLITS, "annotations": annotations}, protocol=protocol)
    format_, contents = find_contents(Request(find_raw_files([tmp_path]), split="xsub"), None)
    assert format_.name == "pyskl-pkl"
    assert [(entry.id, entry.subset, entry.label) for entry in contents.entries] == [
        ("a", "train", 0),
        ("b", "train", 7),
        ("c", "test", 2),
    ]
    assert (contents.joints, contents.bodies, contents.channels, contents.y_down) == (25, 2, (), False)
    recording = read_pyskl(contents.entries[0].file, Form(layout("kinect-v2-25"), 2))
    np.testing.assert_array_equal(recording.xyz[0::2], annotations[0]["keypoint"][0].astype(float))
    np.testing.assert_array_equal(recording.xyz[1::2], annotations[0]["keypoint"][1].astype(float))


def test_poses_in_pictures_have_scores(tmp_path) -> None:
    annotations = [flat("a", 0), flat("b", 1, bodies=2)]
    annotations[1]["keypoint"][1, 2:] = 0
    annotations[1]["keypoint_score"][1, 2:] = 0
    write(tmp_path, {"split": {"train": ["a"], "test": ["b"]}, "annotations": annotations})
    contents = found(tmp_path)
    assert (contents.channels, contents.units, contents.y_down) == (("x", "y", "score"), "pixels", True)
    recording = read_pyskl(contents.entries[1].file, Form(layout("coco-17"), 2, contents.channels))
    assert recording.counts.tolist() == [2, 2, 1, 1, 1, 1]
    np.testing.assert_array_equal(recording.xyz[4, :, :2], annotations[1]["keypoint"][0, 2].astype(float))
    assert recording.scores is not None
    np.testing.assert_array_equal(recording.scores[4], annotations[1]["keypoint_score"][0, 2].astype(float))


def test_a_split_is_chosen(tmp_path) -> None:
    write(tmp_path, {"split": SPLITS, "annotations": [solid("a", 0), solid("b", 1), solid("c", 2)]})
    with pytest.raises(UsageError, match="has several splits: say --split xsub or xview"):
        found(tmp_path)
    with pytest.raises(UsageError, match="has several splits: say --split xsub or xview"):
        found(tmp_path, split="xset")
    contents = found(tmp_path, split="xview")
    assert [(entry.id, entry.subset) for entry in contents.entries] == [("a", "test"), ("c", "train")]
    assert contents.outside == {"on neither list of the split": 1}
    assert "1 name of split xview without an annotation" in contents.notes[0]


def test_lists_of_names_as_arrays(tmp_path) -> None:
    lists = {"train": np.array(["a"]), "val": np.array(["b"], object)}
    write(tmp_path, {"split": lists, "annotations": [solid("a", 0), solid("b", 1)]})
    assert [(entry.id, entry.subset) for entry in found(tmp_path).entries] == [("a", "train"), ("b", "test")]


def test_numbered_splits(tmp_path) -> None:
    """ucf101_hrnet.pkl and hmdb51_hrnet.pkl have train1, test1, train2, …"""
    lists = {"train1": ["a"], "test1": ["b"], "train2": ["b"], "test2": ["a"]}
    write(tmp_path, {"split": lists, "annotations": [flat("a", 0), flat("b", 1)]})
    with pytest.raises(UsageError, match="--split split1 or split2"):
        found(tmp_path)
    assert {entry.id: entry.subset for entry in found(tmp_path, split="split2").entries} == {
        "a": "test",
        "b": "train",
    }


def test_lists_of_annotations_without_splits(tmp_path) -> None:
    """What MMAction2 had before: one pickle per subset."""
    write(tmp_path, [flat("a", 0)], "gym_train.pkl")
    write(tmp_path, [flat("b", 3)], "gym_val.pkl")
    contents = found(tmp_path)
    assert [(entry.id, entry.subset) for entry in contents.entries] == [("a", "train"), ("b", "test")]
    assert contents.class_count == 4


def test_no_labels(tmp_path) -> None:
    annotations = [solid("a", 0), solid("b", 0)]
    for annotation in annotations:
        del annotation["label"]
    write(tmp_path, {"split": {"train": ["a"], "val": ["b"]}, "annotations": annotations})
    assert {entry.label for entry in found(tmp_path).entries} == {UNLABELLED}


def test_kinetics_400_is_refused_with_the_reason(tmp_path) -> None:
    annotation = {
        "frame_dir": "a",
        "label": 0,
        "raw_file": "k400/a.pkl",
        "frame_inds": np.arange(3),
        "valid": {0.5: 2},
    }
    write(tmp_path, {"split": {"train": ["a"]}, "annotations": [annotation]})
    with pytest.raises(
        RawError, match=r"name files \(raw_file\) that hold the keypoints, as in pyskl's Kinetics-400"
    ):
        found(tmp_path)


def changed(**other: object) -> dict[str, Any]:
    return {key: value for key, value in {**solid("a", 0), **other}.items() if value is not None}


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (changed(frame_dir=None), "frame_dir, the name, is missing"),
        (changed(label="sit"), "the label is no whole number"),
        (changed(label=-1), "the label is no whole number"),
        (changed(keypoint=None), "is missing"),
        (changed(keypoint=[[0.0]]), "keypoint, an array"),
        (changed(keypoint=np.ones((6, 25, 3))), r"\[M,T,V,2 or 3\] are expected, found float64 \[6, 25, 3\]"),
        (changed(keypoint=np.ones((6, 1, 25, 3))), "has 1 frames, .*total_frames is 6"),
        (changed(keypoint=np.ones((1, 6, 25, 4))), "2 or 3"),
        (5, "a dict is expected"),
    ],
)
def test_damaged_annotations_name_their_place(tmp_path, annotation: object, said: str) -> None:
    write(tmp_path, {"split": {"train": ["z", "a"]}, "annotations": [solid("z", 0), annotation]})
    with pytest.raises(RawError, match=rf"ntu60.pkl: annotations\[1\]: .*{said}"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"annotations": []}, "a list of annotations"),
        ({"annotations": [], "split": {}}, "a list of annotations"),
        ({"frame_dir": []}, "a dict with split and annotations is expected, found frame_dir"),
        ({"annotations": [solid("a", 0)], "split": ["a"]}, "a dict of lists of names"),
        ({"annotations": [solid("a", 0)], "split": {"train": [["a"]]}}, "split given: names are expected"),
        ({"annotations": [solid("a", 0)], "split": {"all": ["a"]}}, "lists of train and val or test are expected"),
        ({"annotations": [solid("a", 0)], "split": {"train": ["b"]}}, "no annotation is on the lists"),
        ({"annotations": [solid("a", 0)], "split": {"train": ["a"], "val": ["a"]}}, "'a' is in both subsets"),
        ({"annotations": [solid("a", 0), flat("b", 1)], "split": {"train": ["a", "b"]}}, "the annotations differ"),
    ],
)
def test_other_contents_are_refused(tmp_path, content: object, said: str) -> None:
    write(tmp_path, content)
    with pytest.raises(RawError, match=said):
        found(tmp_path)


def test_scores_of_another_shape(tmp_path) -> None:
    annotation = flat("a", 0)
    annotation["keypoint_score"] = annotation["keypoint_score"][:, :-1]
    write(tmp_path, {"split": {"train": ["a"]}, "annotations": [annotation]})
    contents = found(tmp_path)
    with pytest.raises(RawError, match=r"annotations\[0\]: keypoint_score has the shape \[1, 5, 17\]"):
        read_pyskl(contents.entries[0].file, Form(layout("coco-17"), 1, contents.channels))


def three(name: str, label: int, third: str, score: bool = False) -> dict[str, Any]:
    """Annotations of 17 joints with x and y in pixels and a third number."""
    pixels = RNG.uniform(1, 1000, (1, 6, 17, 2))
    more = RNG.uniform(0.1, 1, (1, 6, 17, 1)) if third == "score" else RNG.normal(size=(1, 6, 17, 1))
    scores = {"keypoint_score": RNG.uniform(size=(1, 6, 17)).astype(np.float32)} if score else {}
    keypoint = np.concatenate([pixels, more], axis=3).astype(np.float32)
    return {"frame_dir": name, "label": label, "keypoint": keypoint, **scores}


def test_declared_channels_are_read(tmp_path) -> None:
    annotations = [three("a", 0, "score"), three("b", 1, "score")]
    annotations[0]["keypoint"][0, 2, 5] = 0  # not found
    write(tmp_path, {"split": {"train": ["a"], "test": ["b"]}, "annotations": annotations})
    with pytest.raises(UsageError, match="say --channels x,y,score or --channels x,y,z"):
        found(tmp_path)
    contents = found(tmp_path, channels=("x", "y", "score"))
    assert (contents.channels, contents.layouts) == (("x", "y", "score"), ("coco-17",))
    assert (contents.units, contents.y_down, contents.missing_joints) == ("pixels", True, "interpolated")
    recording = read_pyskl(contents.entries[0].file, Form(layout("coco-17"), 1, contents.channels))
    keypoint = annotations[0]["keypoint"][0].astype(float)
    expected = keypoint[..., :2].copy()
    expected[2, 5] = np.nan
    np.testing.assert_array_equal(recording.xyz[..., :2], expected)
    np.testing.assert_array_equal(recording.scores, keypoint[..., 2])
    contents = found(tmp_path, channels=("x", "y", "z"))
    assert (contents.layouts, contents.units, contents.y_down) == (("h36m-17",), "metres", False)


def test_channels_that_do_not_fit(tmp_path) -> None:
    write(tmp_path, {"split": {"train": ["a"]}, "annotations": [three("a", 0, "z", score=True)]})
    assert found(tmp_path).channels == ("x", "y", "z", "score")
    for said in (("x", "y"), ("x", "y", "score", "unused")):
        with pytest.raises(UsageError, match="keypoint has 3 numbers per joint and a keypoint_score"):
            found(tmp_path, channels=said)
    with pytest.raises(UsageError, match="which is the score"):
        found(tmp_path, channels=("x", "y", "score"))


@pytest.mark.parametrize("scored", [True, False])
def test_joints_at_zero_were_not_found(tmp_path, scored: bool) -> None:
    one = flat("a", 0, bodies=2)
    one["keypoint"][0, 1, 3] = one["keypoint_score"][0, 1, 3] = 0
    one["keypoint"][1, 4:] = one["keypoint_score"][1, 4:] = 0
    if not scored:
        del one["keypoint_score"]
    write(tmp_path, {"split": {"train": ["a"]}, "annotations": [one]})
    contents = found(tmp_path)
    assert contents.missing_joints == ("interpolated" if scored else "refused")
    recording = read_pyskl(contents.entries[0].file, Form(layout("coco-17"), 2, contents.channels))
    assert recording.counts.tolist() == [2, 2, 2, 2, 1, 1]
    assert np.argwhere(np.isnan(recording.xyz[..., 0])).tolist() == ([[2, 3]] if scored else [])
