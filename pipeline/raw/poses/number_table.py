"""Reader of tables of joint positions (CSV, TSV, text): one row per frame, or one row per frame and joint.

A row per frame holds x, y (z, score) of all joints. The columns are known by a header (`nose_x`, `x_0`, `0_x`,
`joint1.y`, …) or, without one, by their number and the layout. A row per joint (a long table) has columns named
`frame`, `joint`, `x`, `y` and perhaps `z`, a score, and `person`.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.poses.people import NO_ID, Adapt, People, as_they_are, gather, joint_key, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.raw.table import Table, read_table
from skelpipe.untrusted import described

__all__ = ["read_number_table", "table_recording"]

AXES = ("x", "y", "z")
SCORES = ("visibility", "vis", "score", "conf", "confidence", "likelihood", "prob", "v", "c", "s", "p")
IGNORED = ("presence", "pres", "time", "timestamp", "timestamp_ms", "timestamp_us", "seconds", "t", "")
FRAMES = (
    "frame",
    "frame_id",
    "frame_idx",
    "frame_index",
    "frame_number",
    "frame_no",
    "frameid",
    "frames",
    "image",
)
PEOPLE = ("person", "person_id", "track_id", "body", "body_id", "id", "idx", "people", "pid")
JOINTS = (
    "joint",
    "joint_id",
    "joint_index",
    "joint_idx",
    "landmark",
    "landmark_id",
    "keypoint",
    "keypoint_id",
    "name",
)
PARTS = re.compile(r"[\s_.:\-\[\]()]+")
GLUED = re.compile(r"([a-z]+)([0-9]+)|([0-9]+)([a-z]+)")  # x12, 12x


def read_number_table(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read a table of positions. A body of zeros or of NaN is absent in its frame, as in arrays.

    The order of the numbers in rows without a header is V,C, or M,V,C for several bodies; the manifest's `axes`
    may name another one after T. Raises RawError where the columns do not fit the layout in one way exactly.
    """
    return table_recording(read_table(text, name), name, form)


def table_recording(table: Table, name: str, form: Form, adapt: Adapt = as_they_are) -> Recording:
    """Return the recording in a table; `adapt` is that of `recording_of`."""
    if table.header is None:
        return recording_of(_by_count(table, name, form), name, form, adapt)
    roles = [_words(column) for column in table.header]
    names = {" ".join(words): column for column, words in enumerate(roles)}
    single = {column: "_".join(words) for column, words in enumerate(roles)}
    if any(role in JOINTS for role in single.values()) and "x" in names and "y" in names:
        frames = _long(table, single, name, form)
    else:
        frames = _wide(table, roles, single, name, form)
    return recording_of(frames, name, form, adapt)


def _words(column: str) -> list[str]:
    """Return the parts of a column's name, in lower case: `LEFT_HIP.x` is left, hip, x; `x12` is x, 12."""
    words: list[str] = []
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    for part in PARTS.split(spaced.lower()):
        glued = GLUED.fullmatch(part)
        words += [one for one in glued.groups() if one] if glued else [part] if part else []
    return words


def _by_count(table: Table, name: str, form: Form) -> dict[int, People]:
    """Return the frames of a table without a header."""
    numbers, V = table.numbers, form.joints
    counts = [len(form.channels)] if form.channels else [3, 2]
    order = tuple(axis for axis in form.axes if axis != "T") or ("M", "V", "C")
    order = order if "M" in order else ("M", *order)
    rising = len(numbers) > 1 and bool(np.all(np.diff(numbers[:, 0]) == 1) and numbers[0, 0] % 1 == 0)
    fits = [
        (skipped, bodies, each)
        for skipped in ((0, 1) if rising else (0,))
        for each in counts
        for bodies in range(1, max(form.bodies, 1) + 1)
        if skipped + bodies * V * each == numbers.shape[1]
    ]
    if len(fits) != 1:
        wanted = " or ".join(str(V * each) for each in counts)
        why = (
            "several readings fit: name the channels, such as channels: [x, y, z]"
            if fits
            else f"{wanted} are expected for {V} joints"
        )
        raise RawError(f"{name}: rows of {numbers.shape[1]} numbers; {why}")
    skipped, bodies, each = fits[0]
    channels = form.channels or AXES[:each]
    sizes = {"M": bodies, "V": V, "C": each}
    if sorted(order) != ["C", "M", "V"]:
        raise RawError(
            f"{name}: axes: {','.join(form.axes)} is no order of a table: T and then M, V and C are expected"
        )
    array = numbers[:, skipped:].reshape(-1, *(sizes[axis] for axis in order))
    array = array.transpose(0, *(1 + order.index(axis) for axis in ("M", "V", "C")))
    first = int(numbers[0, 0]) if skipped else 1
    return {first + row: _slots(bodies_, channels, form) for row, bodies_ in enumerate(array)}


def _slots(bodies: np.ndarray, channels: Sequence[str], form: Form) -> People:
    """Return the bodies [M,V,C] of a row; ids are the slots."""
    there = [slot for slot, body in enumerate(bodies) if np.nan_to_num(body).any()]
    axes = [channels.index(axis) for axis in AXES if axis in channels]
    scores = [bodies[slot][:, channels.index("score")] for slot in there] if "score" in channels else None
    return gather([bodies[slot][:, axes] for slot in there], scores, there, form.joints)


def _wide(
    table: Table, roles: Sequence[list[str]], single: Mapping[int, str], name: str, form: Form
) -> dict[int, People]:
    """Return the frames of a table with one row per frame (and person)."""
    columns: dict[tuple[str, str], int] = {}
    frame_column = person_column = None
    for column, words in enumerate(roles):
        role = single[column]
        if role in FRAMES:
            frame_column = column
        elif role in PEOPLE:
            person_column = column
        elif (found := _joint_and_channel(words)) is not None:
            if found in columns:
                raise RawError(f"{name}:1: two columns hold {found[1]} of joint {described(found[0])}")
            columns[found] = column
        elif role not in IGNORED and not any(word in IGNORED for word in words):
            raise RawError(
                f"{name}:1: column {described(table.header[column])} is neither a joint's"  # type: ignore[index]
                " coordinate or score nor a frame, a person or a time"
            )
    joints = _indices(sorted({joint for joint, _ in columns}), form, f"{name}:1")
    channels = _channels({channel for _, channel in columns}, form, f"{name}:1")
    order = np.empty((form.joints, len(channels)), np.int64)
    for joint, index in joints.items():
        for place, channel in enumerate(channels):
            if (joint, channel) not in columns:
                raise RawError(f"{name}:1: there is no column for {channel} of joint {described(joint)}")
            order[index, place] = columns[joint, channel]
    rows = table.numbers[:, order]
    return _grouped(table, rows, channels, frame_column, person_column, name, form)


def _long(table: Table, single: Mapping[int, str], name: str, form: Form) -> dict[int, People]:
    """Return the frames of a table with one row per frame (and person) and joint, joints by number."""
    at: dict[str, int] = {}
    for column, role in single.items():
        kind = next((kind for kind, names in _KINDS.items() if role in names), None)
        if kind is None and role not in IGNORED:
            raise RawError(f"{name}:1: column {described(role)} has no meaning in a table of one row per joint")
        if kind in at:
            raise RawError(f"{name}:1: two columns hold the {kind}")
        if kind:
            at[kind] = column
    if "frame" not in at:
        raise RawError(f"{name}:1: a table of one row per joint needs a column 'frame'")
    channels = _channels(at.keys() & {*AXES, "score"}, form, f"{name}:1")
    joint = _whole(table, at["joint"], name)
    indices = _indices(sorted({str(one) for one in joint.tolist()}), form, name)
    place = np.array([indices[str(one)] for one in joint.tolist()], np.int64)
    frame = _whole(table, at["frame"], name)
    person = _whole(table, at["person"], name) if "person" in at else np.zeros(len(frame), np.int64)
    keys, row = np.unique(np.stack([frame, person], axis=1), axis=0, return_inverse=True)
    if len(np.unique(row.reshape(-1) * form.joints + place)) < len(place):
        _, first = np.unique(row.reshape(-1) * form.joints + place, return_index=True)
        twice = int(np.setdiff1d(np.arange(len(place)), first)[0])
        raise RawError(f"{name}:{table.lines[twice]}: joint {joint[twice]} of frame {frame[twice]} is there twice")
    rows = np.full((len(keys), form.joints, len(channels)), np.nan)
    rows[row.reshape(-1), place] = table.numbers[:, [at[channel] for channel in channels]]
    frames: dict[int, list[int]] = {}
    for index, number in enumerate(keys[:, 0].tolist()):
        frames.setdefault(number, []).append(index)
    return {number: _people(rows[chosen], keys[chosen, 1], channels, form) for number, chosen in frames.items()}


_KINDS = {
    "frame": FRAMES,
    "person": PEOPLE,
    "joint": JOINTS,
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "score": SCORES,
}


def _grouped(
    table: Table,
    rows: np.ndarray,
    channels: Sequence[str],
    frame_column: int | None,
    person_column: int | None,
    name: str,
    form: Form,
) -> dict[int, People]:
    """Return the frames of rows [R,V,C]; rows of the same frame are several people."""
    frame = np.arange(1, len(rows) + 1) if frame_column is None else _whole(table, frame_column, name)
    person = None if person_column is None else _whole(table, person_column, name)
    if frame_column is None and person is not None and len(np.unique(person)) > 1:
        raise RawError(f"{name}:1: a column names people, but none names the frame")
    chosen: dict[int, list[int]] = {}
    for row, number in enumerate(frame.tolist()):
        chosen.setdefault(number, []).append(row)
    found = {}
    for number, some in chosen.items():
        alone = len(some) == 1 and person is None
        ids = np.zeros(1, np.int64) if alone else np.full(len(some), NO_ID) if person is None else person[some]
        found[number] = _people(rows[some], ids, channels, form)
    several = person is None and any(len(some) > 1 for some in chosen.values())
    return {n: People(p.xyz, p.scores, [NO_ID] * len(p.xyz)) for n, p in found.items()} if several else found


def _people(rows: np.ndarray, ids: np.ndarray, channels: Sequence[str], form: Form) -> People:
    """Return the people of rows [n,V,C]; a row without a number other than 0 is nobody."""
    there = np.nan_to_num(rows).any(axis=(1, 2))
    axes = [channels.index(axis) for axis in AXES if axis in channels]
    scores = list(rows[there][..., channels.index("score")]) if "score" in channels else None
    return gather(list(rows[there][..., axes]), scores, ids[there].tolist(), form.joints)


def _whole(table: Table, column: int, name: str) -> np.ndarray:
    values = table.numbers[:, column]
    wrong = ~(np.abs(values) < 1 << 53) | (values % 1 != 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise RawError(
            f"{name}:{table.lines[row]}, column {column + 1}: a whole number is expected, found {values[row]}"
        )
    return values.astype(np.int64)


def _joint_and_channel(words: Sequence[str]) -> tuple[str, str] | None:
    """Return the joint (a number or words) and the channel that a column's name says, or None."""
    for channel, joint in ((words[-1:], words[:-1]), (words[:1], words[1:])):
        if not joint or channel[0] not in (*AXES, *SCORES):
            continue
        rest = [
            word for word in joint if word not in ("joint", "landmark", "keypoint", "kp", "point", "j")
        ] or joint
        return " ".join(rest), channel[0] if channel[0] in AXES else "score"
    return None


def _indices(joints: Sequence[str], form: Form, where: str) -> dict[str, int]:
    """Return the index of each joint: names of the layout, or the numbers 0 to V-1 or 1 to V."""
    if joints and all(joint.isdecimal() for joint in joints):
        numbers = sorted(int(joint) for joint in joints)
        first = numbers[0]
        if first > 1 or numbers != list(range(first, first + form.joints)):
            raise RawError(
                f"{where}: joints 0 to {form.joints - 1} or 1 to {form.joints} are expected, found"
                f" {len(numbers)} from {first} to {numbers[-1]}"
            )
        return {joint: int(joint) - first for joint in joints}
    known = {joint_key(joint): index for index, joint in enumerate(form.layout.joints)}
    for joint in joints:
        if joint_key(joint) not in known:
            raise RawError(f"{where}: there is no joint {joint!r} in the layout {form.layout.name}")
    found = {joint: known[joint_key(joint)] for joint in joints}
    if missing := set(known.values()) - set(found.values()):
        raise RawError(f"{where}: there is no column for joint {form.layout.joints[min(missing)]!r}")
    return found


def _channels(found: set[str], form: Form, where: str) -> tuple[str, ...]:
    wanted = [channel for channel in form.channels if channel not in found]
    if wanted:
        raise RawError(f"{where}: there are no columns for the channel {wanted[0]!r}, which the manifest names")
    if not {"x", "y"} <= found:
        raise RawError(f"{where}: columns for x and y of each joint are expected")
    channels = tuple(channel for channel in (*AXES, "score") if channel in found)
    return tuple(channel for channel in channels if channel != "z" or not form.channels or "z" in form.channels)
