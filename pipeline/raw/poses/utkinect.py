"""Reader of UTKinect-Action3D's `joints_s01_e02.txt`: one line per frame, its number and x y z of 20 joints.

The positions are in metres, y up, the joints in the order of the Kinect SDK (layout `kinect-v1-20`). The numbers
are those of the pictures and rise with gaps; frames in which nobody was seen have no line.
"""

from itertools import pairwise

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.poses.people import NO_ID, People, gather, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.raw.table import read_table

__all__ = ["read_utkinect"]

AXES = 3


def read_utkinect(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read a sequence; frame 1 of the recording is the picture with the number 1, as in `actionLabel.txt`.

    Equal lines of one frame count once, different ones are several people. Raises RawError that names the line.
    """
    table = read_table(text, name)
    expected = 1 + AXES * form.joints
    if table.header is not None or table.numbers.shape[1] != expected:
        wanted = f"{expected} numbers (the frame's and x y z of {form.joints} joints)"
        raise RawError(f"{name}:{table.lines[0]}: {wanted} are expected, found {table.numbers.shape[1]}")
    number = table.numbers[:, 0]
    wrong = ~((number >= 0) & (number < 1 << 53) & (number % 1 == 0))
    wrong[1:] |= np.diff(number) < 0
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise RawError(
            f"{name}:{table.lines[row]}: {number[row]:g} is no frame's number, or a lower one than before"
        )
    _, first = np.unique(table.numbers, axis=0, return_index=True)
    rows = table.numbers[np.sort(first)]
    frames: dict[int, People] = {}
    edges = np.flatnonzero(np.diff(rows[:, 0], prepend=-1, append=-1) != 0)
    for start, end in pairwise(edges):
        bodies = rows[start:end, 1:].reshape(end - start, form.joints, AXES)
        frames[int(rows[start, 0])] = gather(list(bodies), None, [NO_ID] * (end - start), form.joints)
    return recording_of(frames, name, form, first=1)
