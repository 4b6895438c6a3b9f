"""From the people that a pose estimator found in each frame to a recording in which everybody keeps a slot."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.poses.following import follow, slots_of
from skelpipe.raw.recording import Recording
from skelpipe.untrusted import described

__all__ = [
    "People",
    "SizeUnknownError",
    "are_fractions",
    "as_they_are",
    "check_joint_names",
    "gather",
    "in_pixels",
    "last_number",
    "recording_of",
]

MOST_FRAMES = 1 << 20  # of one recording: ten hours of video
NO_ID = -1
FRACTION, FAR = 2, 10  # the median of fractions is below 2; a position beyond 10 is none
DIGITS = re.compile(r"[0-9]+(?!.*[0-9])")
WORDS = re.compile(r"[a-z]+|[0-9]+")
SIDES = {"left": "left", "right": "right", "l": "left", "r": "right"}


class SizeUnknownError(RawError):
    """Positions are fractions of a picture whose size nobody has said."""


Adapt = Callable[[np.ndarray, str, Form], np.ndarray]


@dataclass(frozen=True)
class People:
    """The people of one frame, in the order of the file.

    `xyz` float64 [n,V,3], z = 0 in 2D; NaN where a joint was not found. `scores` float64 [n,V], or None where the
    file says nothing of them. `ids` are the numbers that the file gives to people, -1 where it gives none.
    """

    xyz: np.ndarray
    scores: np.ndarray | None
    ids: Sequence[int]


def gather(
    points: Sequence[np.ndarray], scores: Sequence[np.ndarray] | None, ids: Sequence[int], joints: int
) -> People:
    """Return the people of a frame from one array [V,2] or [V,3] per person."""
    xyz = np.zeros((len(points), joints, 3))
    for person, found in enumerate(points):
        xyz[person, :, : found.shape[1]] = found
    stacked = None if scores is None else np.array(scores, np.float64).reshape(len(points), joints)
    return People(xyz, stacked, ids)


def as_they_are(xyz: np.ndarray, name: str, form: Form) -> np.ndarray:
    """Return the positions of a recording unchanged."""
    return xyz


def recording_of(
    frames: Mapping[int, People], name: str, form: Form, adapt: Adapt = as_they_are, first: int | None = None
) -> Recording:
    """Return the recording of the people in numbered frames; a number that is missing is a frame without anybody.

    The recording begins at the frame `first`, or at the lowest number. `adapt` changes the positions of the whole
    recording, such as from fractions of the picture to pixels. People keep the ids of the file if everybody has
    one; otherwise all are followed (`skelpipe.raw.poses.following`). A person keeps a slot; where a later slot is
    in use, an absent one is listed as zeros. A joint of which a coordinate is NaN was not found: all of it becomes
    NaN, its score 0. Whoever has no joint is nobody.
    """
    numbers = sorted(frames)
    start = min([*numbers[:1], *([] if first is None else [first])], default=0)
    length = numbers[-1] - start + 1 if numbers else 0
    if length > MOST_FRAMES:
        raise RawError(
            f"{name}: its frames are numbered from {start} to {numbers[-1]}: too many for one recording"
        )
    people = [frames[number] for number in numbers]
    size = [len(one.xyz) for one in people]
    frame = np.repeat(np.array(numbers, np.int64) - start, size)
    xyz = np.concatenate([one.xyz for one in people]) if people else np.zeros((0, form.joints, 3))
    lost = np.isnan(xyz).any(axis=2)
    if form.missing_value is not None:
        axes = 3 if xyz[..., 2].any() else 2
        lost |= (xyz[..., :axes] == form.missing_value).all(axis=2)
    xyz[lost] = np.nan
    scores = _scores(frames, numbers, name, form)
    there = ~np.isnan(xyz[:, :, 0]).all(axis=1)
    given = np.array([number for one in people for number in one.ids], np.int64)
    frame, xyz, given = frame[there], xyz[there], given[there]
    if not len(xyz):
        return Recording(np.zeros(length, np.int32), np.zeros(0, np.int64), np.zeros((0, form.joints, 3)), None)
    xyz = adapt(xyz, name, form)
    if scores is not None:
        scores = np.where(np.isnan(xyz[:, :, 0]), 0, scores[there])
    if (given == NO_ID).any():
        ids = follow(frame, xyz)
    else:
        ids = given
        _refuse_twins(frame, ids, start, name)
    return _in_slots(length, frame, ids, xyz, scores)


def _scores(frames: Mapping[int, People], numbers: Sequence[int], name: str, form: Form) -> np.ndarray | None:
    some = [frames[number] for number in numbers if len(frames[number].xyz)]
    kept = [one.scores for one in some if one.scores is not None]
    if not kept:
        if some and "score" in form.channels:
            raise RawError(f"{name}: holds no scores: leave 'score' out of the manifest's channels")
        return None
    if len(kept) < len(some):
        raise RawError(f"{name}: some of its people have scores, others have none")
    scores = np.concatenate(kept)
    if np.isinf(scores).any():
        raise RawError(f"{name}: a score is not finite")
    return np.nan_to_num(scores, nan=0.0)


def _refuse_twins(frame: np.ndarray, ids: np.ndarray, start: int, name: str) -> None:
    order = np.lexsort((ids, frame))
    same = (np.diff(frame[order]) == 0) & (np.diff(ids[order]) == 0)
    if same.any():
        row = order[np.flatnonzero(same)[0]]
        raise RawError(f"{name}: frame {frame[row] + start}: two people have the id {ids[row]}")


def _in_slots(
    length: int, frame: np.ndarray, ids: np.ndarray, xyz: np.ndarray, scores: np.ndarray | None
) -> Recording:
    slot = slots_of(frame, ids)
    counts = np.zeros(length, np.int64)
    np.maximum.at(counts, frame, slot + 1)
    rows = np.cumsum(counts) - counts
    at = rows[frame] + slot
    total = int(counts.sum())
    listed = np.full(total, NO_ID, np.int64)
    listed[at] = ids
    placed = np.zeros((total, *xyz.shape[1:]))
    placed[at] = xyz
    sure = None
    if scores is not None:
        sure = np.zeros((total, scores.shape[1]))
        sure[at] = scores
    _name_absent(listed, counts, frame, slot, ids)
    return Recording(counts.astype(np.int32), listed, placed, sure)


def _name_absent(
    listed: np.ndarray, counts: np.ndarray, frame: np.ndarray, slot: np.ndarray, ids: np.ndarray
) -> None:
    """Give the rows of absent people the id that their slot held last, or will hold first."""
    empty = np.flatnonzero(listed == NO_ID)
    if not len(empty):
        return
    starts = np.cumsum(counts) - counts
    frames = np.searchsorted(np.cumsum(counts), empty, side="right")
    slots = empty - starts[frames]
    for one in np.unique(slots):
        seen = np.flatnonzero(slot == one)  # in the order of frames
        where = slots == one
        before = np.searchsorted(frame[seen], frames[where], side="right") - 1
        listed[empty[where]] = ids[seen[np.maximum(before, 0)]]


def are_fractions(xyz: np.ndarray, name: str) -> bool:
    """Return whether positions are fractions of the picture: their median says so, as single joints lie outside.

    Raises RawError where the median is that of fractions, and some positions are far beyond a picture.
    """
    sizes = np.abs(xyz[..., :2])
    if np.nanmedian(sizes) > FRACTION:
        return False
    if (most := np.nanmax(sizes)) > FAR:
        raise RawError(
            f"{name}: most of its positions look like fractions of the picture, and one is {most:g}: which they"
            " are cannot be told"
        )
    return True


def in_pixels(xyz: np.ndarray, name: str, form: Form, *, depth: bool = False) -> np.ndarray:
    """Return positions given as fractions of the picture in pixels: x, and z with `depth`, by width, y by height.

    Raises RawError if the manifest does not say the picture's size.
    """
    if form.image_size is None:
        raise SizeUnknownError(
            f"{name}: its positions are fractions of the picture's width and height: say its size, such as"
            " image_size: [1920, 1080]; [1, 1] keeps the fractions, with what is round drawn out"
        )
    width, height = form.image_size
    with np.errstate(over="ignore"):  # such a clip is refused when it is made
        return xyz * np.array([width, height, width if depth else 1])


def last_number(text: str, where: str) -> int:
    """Return the last number in the name of a picture without its suffix, such as 12 of `cam1_0012.jpg`."""
    stem = text.rpartition(".")[0] or text
    match = DIGITS.search(stem)
    if not match or len(match[0]) > 18:
        raise RawError(f"{where}: {described(text)} holds no number of a frame")
    return int(match[0])


def check_joint_names(names: Sequence[object], form: Form, where: str) -> None:
    """Raise RawError where a file names its joints in another order than the layout.

    A name that the layout does not have (`left_foot` for its `left ankle`) may stand at any joint of its side.
    """
    if len(names) != form.joints:
        raise RawError(f"{where}: {form.joints} joints are expected, found {len(names)} names")
    layout = [joint_key(joint) for joint in form.layout.joints]
    for number, (name, key) in enumerate(zip(names, layout, strict=True)):
        found = joint_key(str(name))
        if found != key and (found in layout or found[0] != key[0]):
            ours = f"{form.layout.joints[number]!r} in the layout {form.layout.name}"
            raise RawError(f"{where}: joint {number + 1} is {described(str(name))} in the file, {ours}")


def joint_key(name: str) -> tuple[str, str]:
    """Return what two spellings of a joint's name have in common: `SHOULDER_LEFT` and `left shoulder` are one."""
    words = WORDS.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    side = next((SIDES[word] for word in words if word in SIDES), "")
    return side, "".join(word for word in words if word not in SIDES)
