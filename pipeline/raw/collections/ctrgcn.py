"""CTR-GCN's arrays: `x_train`, `y_train`, `x_test`, `y_test` in one .npz, which HD-GCN, InfoGCN and others read.

x is `[N,T,D]` with D = 150 numbers per frame: 25 joints of body 1, then those of body 2, x y z each (data/ntu/
seq_transformation.py of CTR-GCN); for Northwestern-UCLA 60, 20 joints of one body. Feeders read it as
`[N,T,M,V,C]`. y is one-hot, or whole numbers from 0.
"""

from collections.abc import Mapping

import numpy as np

from skelpipe import manifests
from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import Contents, Entry, Request, split_of_path
from skelpipe.raw.collections.labels import labels_of
from skelpipe.raw.collections.padded import one_of, padded_recording
from skelpipe.raw.form import Form
from skelpipe.raw.mapped_arrays import check_npz, map_npz
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.skeleton import layout

__all__ = ["claims_ctrgcn", "index_ctrgcn", "read_ctrgcn"]

SUBSETS = {"train": "train", "test": "test", "val": "test"}
AXES = 3
NTU = 150  # numbers per frame: two bodies of 25 joints
# By numbers per frame: joints per body, bodies, and the layouts of datasets that are kept like this.
KNOWN = {
    NTU: (25, 2, ("kinect-v2-25",)),
    75: (25, 1, ("kinect-v2-25",)),
    60: (20, 1, ("kinect-v1-20", "msr-action3d-20")),
}


def claims_ctrgcn(request: Request) -> bool:
    return any(_is_npz(file) and _keys(map_npz(file.path)) for file in request.files)


def index_ctrgcn(request: Request) -> Contents:
    files = [file for file in request.files if _is_npz(file) and _keys(map_npz(file.path))]
    if len(files) != 1:
        raise UsageError(
            f"{files[1].path if files else request.files[0].path}: one .npz with x_train and y_train (x_test and"
            f" y_test) is imported at a time, found {len(files)}"
        )
    file = files[0]
    arrays = map_npz(file.path)
    check_npz(file.path)
    entries: list[Entry] = []
    widths, lengths, classes, one_hot = set(), set(), 0, False
    for key in _keys(arrays):
        where = f"{file.path}: x_{key}"
        x, y = arrays[f"x_{key}"], arrays.get(f"y_{key}")
        if x.dtype.kind not in "fiu" or (x.ndim != AXES and not request.axes):
            raise RawError(
                f"{where}: floats [samples,frames,numbers] are expected, found {x.dtype} {list(x.shape)}: for"
                " arrays of other axes say which, such as --axes N,C,T,V,M"
            )
        if request.axes and x.ndim != len(request.axes):
            raise UsageError(f"{where}: the shape {list(x.shape)} is not {','.join(request.axes)}")
        sizes = dict(zip(request.axes or ("N", "T", "D"), x.shape, strict=True))
        if y is None:
            raise RawError(f"{file.path}: there is no y_{key} for x_{key}, which would hold the labels")
        labels, count = labels_of(y, f"{file.path}: y_{key}")
        if len(labels) != sizes["N"]:
            raise RawError(f"{where}: {sizes['N']} samples, y_{key} has {len(labels)} labels")
        if y.ndim > 1 and y.shape[1] > 1:
            one_hot = True
        classes = max(classes, count)
        widths.add(sizes.get("D") or (sizes["V"], sizes.get("M", 1), sizes["C"]))
        lengths.add(sizes["T"])
        entries += [
            Entry(f"{key}_{n}", request.subset or SUBSETS[key], label, file._replace(item=(f"x_{key}", n)))
            for n, label in enumerate(labels)
        ]
    if len(widths) > 1 or len(lengths) > 1:
        raise RawError(
            f"{file.path}: training and test arrays differ in shape: frames {lengths}, numbers {widths}"
        )
    joints, bodies, layouts = _bodies(file, widths.pop(), request)
    own = bool(request.axes)  # not CTR-GCN's, whose arrays have one form
    if not own and request.channels and len(request.channels) != AXES:
        raise UsageError(
            f"{file.path}: a joint has three numbers in such files, --channels names {len(request.channels)}"
        )
    flat = bool(request.channels) and "z" not in request.channels
    return Contents(
        reader="ctrgcn-npz",
        entries=entries,
        joints=joints,
        bodies=bodies,
        layouts=layouts,
        class_count=classes,
        all_classes=one_hot,
        frames=lengths.pop(),
        channels=request.channels,
        axes=request.axes,
        units="pixels" if flat else "metres",
        made_by="" if own else "ctrgcn",
        split=split_of_path(file.path),
    )


def read_ctrgcn(file: RawFile, form: Form) -> Recording:
    """Return one recording of an array `[N,T,M*V*3]`."""
    assert file.item is not None
    key, position = file.item
    whole = map_npz(file.path)[key]
    if form.axes:
        array = one_of(whole, form.axes, position)
    else:
        array = whole[position].reshape(whole.shape[1], -1, form.joints, 3)
    return padded_recording(array, form, file.place)


def _is_npz(file: RawFile) -> bool:
    return file.member is None and file.relative.lower().endswith(".npz")


def _keys(arrays: Mapping[str, np.ndarray]) -> list[str]:
    return [key for key in SUBSETS if f"x_{key}" in arrays]


def _bodies(
    file: RawFile, width: int | tuple[int, int, int], request: Request
) -> tuple[int, int, tuple[str, ...]]:
    """Return joints, bodies and layouts for the numbers per frame, or for V, M and C of declared axes."""
    if isinstance(width, tuple):
        joints, bodies, channels = width
        if channels != len(request.channels or range(min(channels, 3))):
            raise UsageError(
                f"{file.path}: a joint has {channels} numbers as {','.join(request.axes)}: say what they are, such"
                " as --channels x,y,score"
            )
        named = tuple(name for name in manifests.names("layouts") if len(layout(name)) == joints)
        return joints, bodies, (request.layout,) if request.layout else named
    if request.joints is not None and request.layout is not None:
        bodies, rest = divmod(width, 3 * request.joints)
        if rest or not bodies:
            raise UsageError(
                f"{file.path}: {width} numbers per frame are not bodies of {request.joints} joints"
                f" (layout {request.layout}), x y z each"
            )
        return request.joints, bodies, (request.layout,)
    if width not in KNOWN:
        raise UsageError(
            f"{file.path}: {width} numbers per frame: CTR-GCN's files have 150 (two bodies of 25 joints) or 60 (20"
            " joints); say with --layout NAME or YAML what the joints are"
        )
    return KNOWN[width]
