"""Pickles of pyskl and MMAction2: a dict of `split` and `annotations`, or a list of annotations.

An annotation (pyskl's tools/data/README.md) is a dict: `frame_dir` the name, `label` from 0, `total_frames`,
`keypoint` `[M,T,V,C]` (C = 3 in camera coordinates, C = 2 in pixels), and for 2D poses `keypoint_score` `[M,T,V]`;
a joint at (0, 0) with a score of 0 was not found.
`split` has lists of names, such as `xsub_train` and `xsub_val`.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import UNLABELLED, Contents, Entry, Request, subset_of_file
from skelpipe.raw.collections.labels import texts_of
from skelpipe.raw.collections.padded import padded_recording
from skelpipe.raw.form import Form
from skelpipe.raw.mapped_arrays import map_file
from skelpipe.raw.plain_pickle import PickledArray, load_pickle
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.untrusted import described, shown

__all__ = ["claims_pyskl", "index_pyskl", "read_pyskl"]

SUFFIXES = (".pkl", ".pickle")
MARKER = re.compile(rb"frame_dir|annotations")
HEAD = 1 << 26  # bytes in which a pickle of annotations names its keys, after the lists of the splits
KEYPOINT_AXES, SCORE_AXES = 4, 3
LAYOUTS = {(25, 3): ("kinect-v2-25",), (17, 2): ("coco-17",), (17, 3): ("h36m-17",), (18, 2): ("openpose-18",)}
ON_NO_LIST = "on neither list of the split"
SAMPLED = 8  # annotations that show what three numbers of a joint are
SOLID = ("x", "y", "z")
TRAIN = re.compile(r"(?P<before>.*?)_?train(?P<after>.*)")


def claims_pyskl(request: Request) -> bool:
    return any(_looks_like(file) for file in request.files)


def index_pyskl(request: Request) -> Contents:
    """Return the annotations of one split; UsageError where the pickle has several and none is named."""
    files = [file for file in request.files if _looks_like(file)] or list(request.files)
    entries: list[Entry] = []
    outside: Counter[str] = Counter()
    shapes: Counter[tuple[int, ...]] = Counter()
    bodies, split = 1, ""
    notes: tuple[str, ...] = ()
    for file in files:
        lists, annotations = _content(file.path, file.changed)
        split, subsets, notes = _subsets(file, lists, request)
        for position, annotation in enumerate(annotations):
            name, label, shape = _facts(annotation, f"{file.path}: annotations[{position}]", len(request.channels))
            subset = subsets.get(name) if isinstance(subsets, Mapping) else subsets
            if subset is None:
                outside[ON_NO_LIST] += 1
                continue
            bodies = max(bodies, shape[0])
            shapes[shape[2:]] += 1
            entries.append(Entry(name, subset, label, file._replace(item=("annotations", position))))
        if isinstance(subsets, Mapping) and (
            gone := len(subsets) - sum(1 for entry in entries if entry.id in subsets)
        ):
            notes = (
                *notes,
                f"{file.path}: {gone:,} {'name' if gone == 1 else 'names'} of split {split} without an annotation",
            )
    if not entries:
        raise RawError(f"{files[0].path}: no annotation is on the lists of split {split or 'train and val'}")
    if len(shapes) > 1:
        said = " and ".join(
            f"{count:,} of {joints} joints, {axes} numbers each" for (joints, axes), count in shapes.items()
        )
        raise RawError(f"{files[0].path}: the annotations differ: {said}")
    (joints, axes) = next(iter(shapes))
    channels = _channels(entries, axes, request)
    flat = "z" not in (channels or SOLID)
    if "score" in channels:
        notes = (*notes, "joints at zero with a score of 0 were not found: --missing-joints says what they become")
    return Contents(
        reader="pyskl-pkl",
        entries=entries,
        joints=joints,
        bodies=bodies,
        layouts=LAYOUTS.get((joints, 2 if flat else 3), ()),
        class_count=max(entry.label for entry in entries) + 1,
        channels=channels,
        units="pixels" if flat else "metres",
        y_down=flat,
        missing_joints="interpolated" if "score" in channels else "refused",
        padded=False,  # `total_frames` is the length of an array
        split=split,
        outside=outside,
        notes=notes,
    )


def read_pyskl(file: RawFile, form: Form) -> Recording:
    """Return one annotation as a recording."""
    assert file.item is not None
    position = file.item[1]
    annotation = _content(file.path, file.changed)[1][position]
    name = file.place
    array = np.asarray(annotation["keypoint"])
    if "score" in form.channels and len(form.channels) == array.shape[3] + 1:
        score = annotation.get("keypoint_score")
        if not isinstance(score, PickledArray) or score.dtype.kind not in "fiu":
            raise RawError(f"{name}: keypoint_score, an array [M,T,V], is missing, and others have it")
        if score.shape != array.shape[:SCORE_AXES]:
            raise RawError(
                f"{name}: keypoint_score has the shape {list(score.shape)}, keypoint {list(array.shape)}"
            )
        array = np.concatenate([array, np.asarray(score)[..., None]], axis=3)
    return padded_recording(array.transpose(1, 0, 2, 3), form, name)


def _looks_like(file: RawFile) -> bool:
    if file.member is not None or not file.relative.lower().endswith(SUFFIXES):
        return False
    return MARKER.search(map_file(file.path)[:HEAD]) is not None


@lru_cache(maxsize=2)
def _content(path: str, _changed: int) -> tuple[Mapping[str, Any] | None, Sequence[Any]]:
    """Return the lists of names by split, or None, and the annotations. Arrays stay in the mapped file."""
    content = load_pickle(map_file(path), path)
    lists = None
    if isinstance(content, dict):
        if "annotations" not in content:
            raise RawError(f"{path}: a dict with split and annotations is expected, found {_keys(content)}")
        lists, content = content.get("split"), content["annotations"]
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        raise RawError(f"{path}: a list of annotations (dicts with frame_dir, label and keypoint) is expected")
    if lists is not None and not (
        isinstance(lists, dict)
        and all(isinstance(each, list | tuple | set | PickledArray) for each in lists.values())
    ):
        raise RawError(f"{path}: split: a dict of lists of names is expected")
    if "raw_file" in content[0] and "keypoint" not in content[0]:
        raise RawError(
            f"{path}: its annotations name files (raw_file) that hold the keypoints, as in pyskl's Kinetics-400:"
            " such a pickle holds no poses, and the files beside it are not read"
        )
    return lists, content


def _keys(content: Mapping[Any, Any]) -> str:
    return ", ".join(shown(key, 40) for key in list(content)[:6]) or "none"


def _facts(annotation: Any, where: str, said: int) -> tuple[str, int, tuple[int, ...]]:
    """Return name, label and the shape [M,T,V,C] of an annotation; `said` is C as the user says it, or 0."""
    if not isinstance(annotation, dict):
        raise RawError(f"{where}: a dict is expected")
    name, label, keypoint = (annotation.get(key) for key in ("frame_dir", "label", "keypoint"))
    name = annotation.get("filename") if name is None else name
    if not isinstance(name, str) or not name:
        raise RawError(f"{where}: frame_dir, the name, is missing")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int) or label < 0):
        raise RawError(f"{where}: {name}: the label is no whole number from 0")
    if not isinstance(keypoint, PickledArray):
        raise RawError(f"{where}: {name}: keypoint, an array [M,T,V,C], is missing")
    shape = keypoint.shape
    if (
        len(shape) != KEYPOINT_AXES
        or shape[3] not in (2, 3, said or 2)
        or keypoint.dtype.kind not in "fiu"
        or 0 in shape
    ):
        raise RawError(
            f"{where}: {name}: keypoint: floats [M,T,V,2 or 3] are expected, found {keypoint.dtype} {list(shape)}"
        )
    frames = annotation.get("total_frames")
    if isinstance(frames, int) and frames != shape[1]:
        raise RawError(f"{where}: {name}: keypoint has {shape[1]} frames, [M,T,V,C], and total_frames is {frames}")
    return name, UNLABELLED if label is None else label, shape


def _subsets(
    file: RawFile, lists: Mapping[str, Any] | None, request: Request
) -> tuple[str, Mapping[str, str] | str, tuple[str, ...]]:
    """Return the name of the split and the subset of each name, or the subset of all."""
    if lists is None:
        return request.split or "", subset_of_file(file, request, "has no lists of splits, and "), ()
    pairs = _pairs(lists)
    if not pairs:
        raise RawError(f"{file.path}: split: lists of train and val or test are expected, found {_keys(lists)}")
    name = request.split if request.split in pairs else None
    if name is None and (request.split is None or len(pairs) == 1):
        name = next(iter(pairs)) if len(pairs) == 1 else None
    if name is None:
        raise UsageError(f"{file.path}: has several splits: say --split {shown(' or '.join(pairs))}")
    subsets: dict[str, str] = {}
    train, test = pairs[name]
    for subset, names in (("train", train), ("test", test)):
        for each in texts_of(names, f"{file.path}: split {name}"):
            if subsets.setdefault(each, subset) != subset:
                raise RawError(f"{file.path}: split {name}: {described(each)} is in both subsets")
    return request.split or name, subsets, ()


def _pairs(lists: Mapping[str, Any]) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
    """Return the lists of each split by its name: xsub of xsub_train and xsub_val, split1 of train1 and test1."""
    pairs: dict[str, tuple[Sequence[str], Sequence[str]]] = {}
    for key, names in lists.items():
        found = TRAIN.fullmatch(str(key))
        if found is None:
            continue
        others = [f"{key.replace('train', other)}" for other in ("val", "test")]
        other = next((each for each in others if each in lists), None)
        after = found["after"].strip("_")
        name = found["before"] or (f"split{after}" if after.isdecimal() else after) or "given"
        pairs[name] = (names, lists[other] if other is not None else ())
    return pairs


def _channels(entries: Sequence[Entry], numbers: int, request: Request) -> tuple[str, ...]:
    """Return what the numbers of a joint are: `numbers` in keypoint, and the score in keypoint_score.

    Raises UsageError where the user's word does not fit, or where three numbers may be x, y, z or x, y, score.
    """
    where = entries[0].file.path
    annotations = [_annotation(entry.file) for entry in entries[:SAMPLED]]
    apart = "keypoint_score" in annotations[0]
    said = request.channels
    if said:
        inside = len(said) == numbers
        if not inside and not (apart and said[-1] == "score" and len(said) == numbers + 1):
            more = " and a keypoint_score" if apart else ""
            raise UsageError(
                f"{where}: --channels {','.join(said)}: keypoint has {numbers} numbers per joint{more}"
            )
        if inside and apart and "score" in said:
            raise UsageError(
                f"{where}: --channels {','.join(said)}: there is a keypoint_score too: which is the score?"
                f" {','.join(one if one != 'score' else 'unused' for one in said)},score takes keypoint_score"
            )
        return said
    if numbers == 2:
        return ("x", "y", "score") if apart else ("x", "y")
    with np.errstate(invalid="ignore"):  # of signalling NaN
        third = np.concatenate([np.asarray(one["keypoint"])[..., 2].ravel() for one in annotations]).astype(float)
    if third.any() and np.nanmin(third) >= 0 and np.nanmax(third) <= 1:
        raise UsageError(
            f"{where}: the third of the numbers of a joint is from 0 to 1, as a score is: say --channels x,y,score"
            " or --channels x,y,z"
        )
    return (*SOLID, "score") if apart else ()


def _annotation(file: RawFile) -> Mapping[str, Any]:
    assert file.item is not None
    found: Mapping[str, Any] = _content(file.path, file.changed)[1][file.item[1]]
    return found
