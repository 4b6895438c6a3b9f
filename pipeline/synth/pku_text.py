"""PKU-MMD text: 150 numbers per frame, label rows `class,start,end,confidence`, and split files."""

from collections.abc import Sequence

import numpy as np

from skelpipe.synth.body import person_layout
from skelpipe.synth.faults import Sighting

__all__ = ["label_text", "skeleton_text", "split_text"]

SLOTS = 2  # bodies per frame
NUMBER = "%.7g"


def skeleton_text(sightings: Sequence[Sighting]) -> bytes:
    """Return the text of a skeleton file of consecutive sightings: x y z of each joint, body 1 then body 2.

    The first two bodies that a frame lists are written; an absent body is written as zeros.
    """
    template = (" ".join([NUMBER] * (SLOTS * 3 * len(person_layout()))) + "\n").encode()
    return b"".join(template % tuple(row) for sighting in sightings for row in _rows(sighting).tolist())


def _rows(sighting: Sighting) -> np.ndarray:
    """The numbers of every frame: [T,150]."""
    xyz = np.stack([track.xyz for track in sighting.tracks], axis=1)  # [T,B,V,3]
    present = np.stack([track.present for track in sighting.tracks])
    order = np.argsort(np.where(present, sighting.rank, len(present)), axis=0, kind="stable")[:SLOTS]
    xyz = np.where(present.T[..., None, None], xyz, 0)
    listed = np.take_along_axis(xyz, order.T[..., None, None], axis=1).reshape(sighting.frames, -1)
    rows = np.zeros((sighting.frames, SLOTS * 3 * len(person_layout())))
    rows[:, : listed.shape[1]] = listed
    return rows


def label_text(rows: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Return the text of rows: class, first and last frame (from 1, both inclusive), confidence."""
    return b"".join(b"%d,%d,%d,%d\n" % row for row in rows)


def split_text(train: Sequence[str], test: Sequence[str]) -> bytes:
    """Return the text of a split file: a header and the training ids, a header and the validation ids."""
    lines = ("Training videos:", _ids_line(train), "Validation videos:", _ids_line(test))
    return "".join(f"{line}\n" for line in lines).encode()


def _ids_line(ids: Sequence[str]) -> str:
    return " ".join(f"{identity}," for identity in ids)
