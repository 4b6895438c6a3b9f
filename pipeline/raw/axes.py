"""The order of an array's axes: declared in the manifest, or the only one that its shape can mean; never guessed.

Letters: N recordings (one), T frames, M bodies, V joints, C numbers per joint.
"""

import math
from collections.abc import Collection, Iterable
from itertools import combinations, permutations

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording

__all__ = ["arranged", "recorded"]

PLAIN = {3: "TVC", 4: "TMVC"}  # the order by number of axes that is read where no other can be meant
LETTERS = ("TVC", "TMVC", "NTVC", "NTMVC")
COORDINATES = ("x", "y", "z")
MEANINGS = {2: ("x", "y"), 3: COORDINATES}  # of the numbers per joint where the manifest does not declare them
NUMBERS = "fiu"  # numpy's kinds: floats, integers, unsigned ones


def arranged(array: np.ndarray, form: Form, name: str) -> np.ndarray:
    """Return an array of one recording as [T,M,V,C], a view.

    Declared axes are obeyed; axes of size 1 may be missing or too many, as after `numpy.squeeze`. Without, [T,V,C]
    and [T,M,V,C] are read, unless the shape may mean something else, or has more bodies than frames or than
    `form.bodies`. Raises RawError with the shape and the line that the manifest needs.
    """
    if array.dtype.kind not in NUMBERS:
        raise RawError(f"{name}: an array of floats or integers is expected, found {array.dtype}")
    sizes = (len(form.channels),) if form.channels else tuple(MEANINGS)
    if form.axes:
        array, axes = _declared(array, "".join(form.axes), form, sizes, name)
    else:
        axes = _proven(array.shape, form, sizes, name)
    if array.size == 0:
        raise RawError(f"{name}: the array is empty, shape {list(array.shape)}")
    if "N" in axes:
        array, axes = np.squeeze(array, axes.index("N")), axes.replace("N", "")
    if "M" not in axes:
        array, axes = array[None], f"M{axes}"
    return array.transpose([axes.index(letter) for letter in "TMVC"])


def recorded(array: np.ndarray, form: Form, name: str) -> Recording:
    """Return an array [T,M,V,C] of numbers as a recording.

    2D positions get z = 0. A joint with a coordinate of NaN, or whose coordinates all are `form.missing_value`,
    was not found: it becomes NaN. A body of whose joints each is zero or was not found is absent in that frame.
    Bodies keep their slots: an absent body before a present one is listed as zeros. The ids are the slots, from 0.
    A score of NaN is 0. Raises RawError that names frame, body and joint (from 1) of an infinite value.
    """
    channels = form.channels or MEANINGS[array.shape[-1]]
    frames, bodies, joints, _ = array.shape
    xyz = np.zeros((frames, bodies, joints, 3))
    given = [axis for axis in COORDINATES if axis in channels]
    with np.errstate(over="ignore", invalid="ignore"):  # a float beyond 64 bits becomes infinite: refused below
        for axis in given:
            xyz[..., COORDINATES.index(axis)] = array[..., channels.index(axis)]
        scores = array[..., channels.index("score")].astype(np.float64) if "score" in channels else None
    _refuse_infinite(xyz, scores, name)
    lost = np.isnan(xyz).any(axis=3)
    if form.missing_value is not None:
        stored = array.dtype.type(form.missing_value) if array.dtype.kind == "f" else form.missing_value
        lost |= (xyz[..., : len(given)] == float(stored)).all(axis=3)
    present = np.any(xyz.any(axis=3) & ~lost, axis=2)
    xyz[lost] = np.nan
    return Recording.in_slots(
        xyz, np.asarray(present), None if scores is None else np.nan_to_num(scores, copy=False)
    )


def _refuse_infinite(xyz: np.ndarray, scores: np.ndarray | None, name: str) -> None:
    infinite = np.isinf(xyz).any(axis=3)
    if scores is not None:
        infinite |= np.isinf(scores)
    if not infinite.any():
        return
    frame, body, joint = np.argwhere(infinite)[0]
    found = xyz[frame, body, joint].tolist()
    if scores is not None:
        found.append(float(scores[frame, body, joint]))
    where = f"{name}: frame {frame + 1}, body {body + 1}, joint {joint + 1}"
    raise RawError(f"{where}: {found} holds a value that is not finite")


def _declared(
    array: np.ndarray, axes: str, form: Form, sizes: Collection[int], name: str
) -> tuple[np.ndarray, str]:
    """Return the array and a letter for each of its axes, after dropping letters or axes of size 1."""
    joints = form.joints
    said = f"--axes {_line(axes)}" if form.by_options else f"the manifest's axes: {_line(axes)}"
    found = f"{name}: the shape {list(array.shape)} is not {said}"
    missing = len(axes) - array.ndim
    droppable = [letter for letter in "NM" if letter in axes]
    if missing > len(droppable):
        raise RawError(f"{found}: {len(axes) - len(droppable)} axes are expected")
    if missing > 0:  # try each letter of size 1 that may have been squeezed away, N first
        shorter = [_without(axes, gone) for gone in combinations(droppable, missing)]
        fit = [one for one in shorter if _fits(array.shape, one, joints, sizes)] or shorter
        axes = next((one for one in fit if _bodies(one, array.shape) <= _frames(one, array.shape)), fit[0])
    singles = [axis for axis, size in enumerate(array.shape) if size == 1]
    squeezed = {
        np.squeeze(array, dropped).shape: dropped for dropped in combinations(singles, array.ndim - len(axes))
    }
    fitting = [dropped for shape, dropped in squeezed.items() if _fits(shape, axes, joints, sizes)]
    if len(fitting) == 1:
        return np.squeeze(array, fitting[0]), axes
    if fitting:
        raise RawError(f"{found}: which of its axes of size 1 is which cannot be told: name all of them")
    if array.ndim != len(axes):
        raise RawError(f"{found}: {len(axes)} axes are expected")
    size = dict(zip(axes, array.shape, strict=True))
    if size.get("N", 1) != 1:
        raise RawError(
            f"{found}: N is {size['N']}, and a file holds one recording (skelpipe import splits arrays)"
        )
    if size["V"] != joints:
        raise RawError(f"{found}: V is {size['V']}, the layout has {joints} joints")
    said = " or ".join(map(str, sizes))
    raise RawError(f"{found}: C is {size['C']}, {said} numbers per joint are expected{_channels(size['C'], form)}")


def _without(axes: str, letters: Iterable[str]) -> str:
    return "".join(letter for letter in axes if letter not in letters)


def _proven(shape: tuple[int, ...], form: Form, sizes: Collection[int], name: str) -> str:
    """Return the letters of an array's axes if its shape can mean one thing only, and that in the plain order."""
    orders = _possible(shape, form.joints, sizes)
    found = f"{name}: the shape {list(shape)}"
    plain = PLAIN.get(len(shape), "")
    if not orders:
        raise RawError(_no_order(shape, form, sizes, name))
    if math.prod(shape) == 0 and plain in orders:
        return plain
    likely = [order for order in orders if _bodies(order, shape) <= min(form.bodies, _frames(order, shape))]
    if likely == [plain]:
        return plain
    if len(likely) > 1:
        meant = "say the one that is meant" if form.by_options else "write the one that is meant into the manifest"
        raise RawError(f"{found} can be read as {_either(likely, form)}: {meant}")
    likely = likely or [order for order in orders if _bodies(order, shape) <= _frames(order, shape)] or orders
    advice = (
        f"say {_either(likely, form)}" if form.by_options else f"write {_either(likely, form)} into the manifest"
    )
    if plain not in orders:
        raise RawError(f"{found} is not {_line(plain or 'TMVC')}: if its axes are these, {advice}")
    bodies, frames = _bodies(plain, shape), _frames(plain, shape)
    seen = f"{found}, read as {_line(plain)}, is {bodies} bodies in {frames} frame{'s' * (frames > 1)}"
    if bodies <= frames:
        if form.by_options:
            proven = [order for order in orders if _bodies(order, shape) <= min(bodies, _frames(order, shape))]
            more = f", or --bodies {bodies}" if proven == [plain] else ""
            raise RawError(f"{seen}, and {form.bodies} are expected at most: {advice} if that is so{more}")
        advice += f" if that is so (bodies beyond {form.bodies} are then left out), or also bodies: {bodies}"
        raise RawError(f"{seen}, and the manifest says bodies: {form.bodies}: {advice}")
    raise RawError(f"{seen}: if its axes are others, {advice}")


def _possible(shape: tuple[int, ...], joints: int, sizes: Collection[int]) -> list[str]:
    """Return every order of letters that fits a shape; of orders that differ in axes of size 1 only, the first."""
    found: dict[tuple[int, ...], str] = {}
    for letters in LETTERS:
        if len(letters) != len(shape):
            continue
        for order in map("".join, permutations(letters)):
            if _fits(shape, order, joints, sizes):
                places = (order.find(letter) for letter in "TMVC")
                found.setdefault(tuple(-1 if at < 0 or shape[at] == 1 else at for at in places), order)
    return list(found.values())


def _fits(shape: tuple[int, ...], order: str, joints: int, sizes: Collection[int]) -> bool:
    size = dict(zip(order, shape, strict=True))
    return size["V"] == joints and size["C"] in sizes and size.get("N", 1) == 1


def _bodies(order: str, shape: tuple[int, ...]) -> int:
    return shape[order.index("M")] if "M" in order else 1


def _frames(order: str, shape: tuple[int, ...]) -> int:
    return shape[order.index("T")]


def _no_order(shape: tuple[int, ...], form: Form, sizes: Collection[int], name: str) -> str:
    said = " or ".join(map(str, sizes))
    least = 3
    if len(shape) >= least and shape[-2] != form.joints and form.joints not in shape:
        return f"{name}: {form.joints} joints are expected, found {shape[-2]}, shape {list(shape)}"
    expected = f"an array [frames,joints,{said}] or [frames,bodies,joints,{said}] is expected"
    said_by = "the channels" if form.by_options else "the manifest's channels"
    declared = f", as {said_by} are {', '.join(form.channels)}" if form.channels else ""
    advice = (
        _channels(shape[-1], form)
        if len(shape) >= least and shape[-2] == form.joints and shape[-1] not in sizes
        else ""
    )
    return f"{name}: {expected}{declared}, found the shape {list(shape)}{advice}"


def _channels(size: int, form: Form) -> str:
    """Return what to write where a joint has `size` numbers, if there are names for so many."""
    names = {3: "x, y, score", 4: "x, y, z, score", 5: "x, y, z, score, unused"}.get(size)
    if names and form.by_options:
        return f"; say what the numbers of a joint are, such as --channels {names.replace(' ', '')}"
    return f"; say what the numbers of a joint are, such as channels: [{names}]" if names else ""


def _line(order: str) -> str:
    return ",".join(order)


def _either(orders: Iterable[str], form: Form) -> str:
    if form.by_options:
        return " or ".join(f"--axes {_line(order)}" for order in orders)
    return " or ".join(f"`axes: {_line(order)}`" for order in orders)
