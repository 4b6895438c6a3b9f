"""Arrays `[N,C,T,V,M]` beside their labels, as st-gcn, 2s-AGCN, CrosSCLR, AimCLR and their relatives keep them.

st-gcn (tools/ntu_gendata.py) writes `train_data.npy` and `train_label.pkl`, a tuple of names and labels;
2s-AGCN writes `train_data_joint.npy`. CrosSCLR and AimCLR (feeder/preprocess_ntu.py) turn those into
`train_position.npy` with the steps of our profile `crosclr`, and also keep labels as `train_label.npy` `[N,1]`.
"""

import re
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import Contents, Entry, Request, split_of_path, subset_of_file
from skelpipe.raw.collections.labels import labels_of, texts_of
from skelpipe.raw.collections.padded import one_of, padded_recording
from skelpipe.raw.form import Form
from skelpipe.raw.mapped_arrays import is_npy, map_file, map_npy
from skelpipe.raw.plain_pickle import PickledArray, load_pickle
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile

__all__ = [
    "claims_position",
    "claims_stgcn",
    "index_position",
    "index_stgcn",
    "read_array",
]

AXES = ("N", "C", "T", "V", "M")
DERIVED = re.compile(r"bone|motion|vel(?:ocity)?|acc(?:eleration)?", re.IGNORECASE)
DATA = re.compile(r"(?P<head>.*?)(?:_?data(?:_joints?)?|_?joints?)|x_(?P<words>.*)", re.IGNORECASE)
DERIVED_DATA = re.compile(r"(?:.*_)?(?:data|joints?)?_?(?:joint_)?(?:bone|motion)(?:_motion)?", re.IGNORECASE)
POSITION = re.compile(r"(?P<head>.*?)_?position", re.IGNORECASE)
MOST_CLASSES = 1 << 14  # of one-hot lists
LABEL_SUFFIXES = (".pkl", ".pickle", ".npy")
# By joints and channels: the layouts that these formats have, the usual one first.
USUAL = {25: ("kinect-v2-25",), 18: ("openpose-18",), 17: ("coco-17",)}


def claims_stgcn(request: Request) -> bool:
    """Whether there are arrays of joints, or of bones or motion alone, which `index_stgcn` refuses."""
    return any(_fits(file, DATA) and _five_axes(file) for file in request.files) or (
        any(_fits(file, DERIVED_DATA) and _five_axes(file) for file in request.files)
        and not claims_position(request)
    )


def claims_position(request: Request) -> bool:
    return any(_fits(file, POSITION) and _five_axes(file) for file in request.files)


def index_stgcn(request: Request) -> Contents:
    """Return the recordings of `*data*.npy`; arrays of bones and motion beside them are left out with a note."""
    return _index(request, DATA, "stgcn-npy", "data", made_by="")


def index_position(request: Request) -> Contents:
    """Return the clips of `*_position.npy`, which the steps of profile `crosclr` have made."""
    return _index(request, POSITION, "crosclr-npy", "position", made_by="crosclr")


def read_array(file: RawFile, form: Form) -> Recording:
    """Return one recording of an array `[N,C,T,V,M]`, or of the axes that the form declares."""
    assert file.item is not None
    array = map_npy(file.path)
    return padded_recording(one_of(array, form.axes or AXES, file.item[1]), form, file.place)


def _fits(file: RawFile, pattern: re.Pattern[str]) -> bool:
    name = PurePath(file.relative).name
    return name.endswith(".npy") and pattern.fullmatch(name.removesuffix(".npy")) is not None


def _five_axes(file: RawFile) -> bool:
    return file.member is None and is_npy(file.path)


def _index(request: Request, pattern: re.Pattern[str], reader: str, kind: str, *, made_by: str) -> Contents:
    arrays = [file for file in request.files if _fits(file, pattern)]
    derived = [
        file
        for file in request.files
        if file.relative.endswith(".npy") and DERIVED.search(PurePath(file.relative).stem)
    ]
    arrays = [file for file in arrays if file not in derived]
    scored_note = "joints at zero with a score of 0 were not found: --missing-joints says what they become"
    if not arrays:
        if derived:
            raise UsageError(
                f"{derived[0].path}: holds bones or motion, not joints: a dataset's bones and motion are derived"
                f" from its joints, so give the array of joints (*_{kind}.npy)"
            )
        raise UsageError(f"no array *{kind}*.npy is among the files")
    notes = tuple(f"{file.path}: left out: bones and motion are derived from the joints" for file in derived)
    entries: list[Entry] = []
    shapes: set[tuple[int, ...]] = set()
    seen: dict[str, str] = {}
    labels: set[int] = set()
    for file in arrays:
        subset = subset_of_file(file, request)
        if subset in seen:
            raise UsageError(
                f"{file.path}: the {subset} subset is already {seen[subset]}: give the files of one split only"
            )
        seen[subset] = file.path
        array, axes = _checked(file, request)
        shapes.add(tuple(size for size, axis in zip(array.shape, axes, strict=True) if axis != "N"))
        names, numbers = _labels(file, pattern, array.shape[axes.index("N")])
        ids = names if names is not None else [f"{subset}_{n}" for n in range(len(numbers))]
        for n, (identity, label) in enumerate(zip(ids, numbers, strict=True)):
            entries.append(Entry(identity, subset, label, file._replace(item=("data", n))))
        labels.update(numbers)
    if len(shapes) > 1:
        said = " and ".join(str(list(shape)) for shape in sorted(shapes))
        raise RawError(f"{arrays[0].path}: the arrays of the subsets differ in shape: samples of {said}")
    sizes = dict(zip((axis for axis in axes if axis != "N"), shapes.pop(), strict=True))
    joints, score = sizes["V"], not request.channels and _third_is_score(arrays[0], request, sizes)
    flat = bool(request.channels) and "z" not in request.channels
    lost = score or "score" in request.channels
    return Contents(
        reader=reader,
        entries=entries,
        joints=joints,
        bodies=sizes.get("M", 1),
        layouts=USUAL.get(joints, ()),
        class_count=max(labels) + 1,
        frames=sizes["T"],
        channels=("x", "y", "score") if score else request.channels,
        axes=request.axes,
        units="picture widths" if score else "pixels" if flat else "metres",
        padded=not made_by,
        made_by=made_by,
        profile="stored" if score else "crosclr",
        split=split_of_path(arrays[0].path),
        missing_joints="interpolated" if lost else "refused",
        notes=(*notes, scored_note) if lost else notes,
    )


def _checked(file: RawFile, request: Request) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return an array and its axes, checked against what the format says."""
    array = map_npy(file.path)
    axes = request.axes or AXES
    shape = list(array.shape)
    hint = "declare the order of its axes, such as --axes N,T,V,C"
    if array.dtype.kind not in "fiu":
        raise RawError(f"{file.path}: an array of floats or integers is expected, found {array.dtype}")
    if array.ndim != len(axes):
        raise UsageError(f"{file.path}: axes {','.join(axes)} are expected, found the shape {shape}: {hint}")
    if not array.size:
        raise RawError(f"{file.path}: the array is empty, shape {shape}")
    sizes = dict(zip(axes, shape, strict=True))
    wrong = ""
    expected = (len(request.channels),) if request.channels else (2, 3)
    if sizes["C"] not in expected:
        wrong = f"C is {sizes['C']}, not {' or '.join(map(str, expected))} (--channels says what the numbers are)"
    elif sizes.get("M", 1) > min(sizes["T"], 10) and not request.axes:
        wrong = f"{sizes['M']} bodies in {sizes['T']} frames"
    elif request.joints is not None and sizes["V"] != request.joints:
        wrong = f"V is {sizes['V']}, layout {request.layout} has {request.joints} joints"
    elif request.joints is None and sizes["V"] not in USUAL and not request.axes:
        wrong = f"V is {sizes['V']}, and no layout with so many joints is usual in this format (--layout NAME)"
    if wrong:
        raise UsageError(f"{file.path}: the shape {shape} is not {','.join(axes)}: {wrong}; {hint}")
    return array, axes


def _third_is_score(file: RawFile, request: Request, sizes: dict[str, int]) -> bool:
    """Return whether the channels are x, y and score: 18 joints are those of Kinetics-skeleton by OpenPose."""
    if sizes["C"] != 3 or (request.layout or USUAL.get(sizes["V"], ("",))[0]) != "openpose-18":
        return False
    array = map_npy(file.path)
    axes = request.axes or AXES
    some = array[(slice(None),) * axes.index("N") + (slice(0, 8),)]
    third = np.asarray(some.take(2, axis=axes.index("C")), float)
    return bool(np.nanmin(third) >= 0 and np.nanmax(third) <= 1)


def _labels(file: RawFile, pattern: re.Pattern[str], count: int) -> tuple[list[str] | None, list[int]]:
    """Return names, where there are any, and labels of an array's samples, from the file beside it."""
    path = Path(file.path)
    found = pattern.fullmatch(path.stem)
    assert found is not None
    head = (found["head"] or "").rstrip("_")
    stem = f"{head}_label" if head else "label"
    stems = (stem, f"{stem}s")
    if found.groupdict().get("words") is not None:  # X_train.npy and y_train.npy
        stem = f"y_{found['words']}"
        stems = (stem, f"Y_{found['words']}")
    beside = [path.with_name(f"{each}{suffix}") for suffix in LABEL_SUFFIXES for each in stems]
    there = next((each for each in beside if each.is_file()), None)
    if there is None:
        raise UsageError(
            f"{file.path}: there is no {stem}.pkl or {stem}.npy beside it, which would hold the labels"
        )
    if there.suffix == ".npy":
        names, numbers = None, np.asarray(map_npy(str(there)))
    else:
        names, numbers = _pickled_labels(str(there))
    labels, _ = labels_of(numbers, str(there))
    if len(labels) != count:
        raise RawError(f"{there}: {len(labels)} labels, {path.name} has {count} samples")
    if names is not None and len(names) != count:
        raise RawError(f"{there}: {len(names)} names, {path.name} has {count} samples")
    return names, labels


def _pickled_labels(path: str) -> tuple[list[str] | None, np.ndarray]:
    """Return names and labels of a pickle of both, or None and the labels of a pickle of labels."""
    content = load_pickle(map_file(path), path)
    names, numbers = None, content
    if isinstance(content, tuple | list) and len(content) == 2 and not isinstance(content[0], int | float):
        names = [name.removesuffix(".skeleton") for name in texts_of(content[0], f"{path}: the first of a pair")]
        numbers = content[1]
    try:
        return names, _flat_array(numbers)
    except (ValueError, OverflowError):
        raise RawError(f"{path}: names and labels are expected, or labels alone") from None


def _flat_array(numbers: Any) -> np.ndarray:
    """Return numbers, or lists of numbers of one length, as an array; ValueError for anything deeper.

    A pickle of a few bytes can hold lists of lists that unfold to more than the memory holds.
    """
    if isinstance(numbers, PickledArray):
        return np.asarray(numbers)
    if not isinstance(numbers, list | tuple):
        raise ValueError("no list")
    if numbers and all(isinstance(one, PickledArray) and one.ndim <= 1 for one in numbers):
        return np.stack([np.asarray(one) for one in numbers])
    if any(isinstance(one, list | tuple) for one in numbers):
        widths = {len(one) if isinstance(one, list | tuple) else -1 for one in numbers}
        if len(widths) > 1 or max(widths) > MOST_CLASSES:
            raise ValueError("lists of different lengths")
        if any(not isinstance(value, int | float) for one in numbers for value in one):
            raise ValueError("lists of lists")
    elif any(not isinstance(one, int | float | str) for one in numbers):
        raise ValueError("no numbers")
    return np.asarray(numbers)
