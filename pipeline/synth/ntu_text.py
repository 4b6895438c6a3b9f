"""Sightings as the text of NTU RGB+D `.skeleton` files."""

from functools import cache

import numpy as np

from skelpipe.synth.body import person_layout
from skelpipe.synth.faults import Sighting
from skelpipe.synth.kinect import Track, unoriented_joints

__all__ = ["skeleton_text"]

# Pinhole cameras of the sensor, pixels: focal length, then column and row of the axis. Image columns increase
# with x, rows decrease with y. The colour camera is beside the depth camera.
DEPTH_CAMERA = (366.0, 256.0, 209.0)
COLOUR_CAMERA = (1056.0, 956.0, 566.0)
COLOUR_SHIFT = 0.07  # metres
NUMBER = "%.7G"  # the digits of single precision
HAND_STATES = 4


def skeleton_text(sighting: Sighting, rng: np.random.Generator, line_end: bytes = b"\n") -> bytes:
    """Return the text of a file; `rng` draws only the states of the hands."""
    counts = np.sum([track.present for track in sighting.tracks], axis=0)
    texts = [_bodies(track, rng) for track in sighting.tracks]
    parts = [b"%d\n" % sighting.frames]
    order = np.argsort(sighting.rank, axis=0, kind="stable")
    for t, count in enumerate(counts.tolist()):
        parts.append(b"%d\n" % count)
        parts.extend(texts[b][t] for b in order[:, t].tolist() if sighting.tracks[b].present[t])
    text = b"".join(parts)
    return text if line_end == b"\n" else text.replace(b"\n", line_end)


def _bodies(track: Track, rng: np.random.Generator) -> list[bytes]:
    """The text of one body, frame by frame."""
    joints = _joints(track)[:, _written_columns()]
    values = np.concatenate([_head(track, rng), joints], axis=1)
    template = _template()
    return [
        b"%d %b" % (body_id, template % tuple(row))
        for body_id, row in zip(track.ids.tolist(), values.tolist(), strict=True)
    ]


@cache
def _template() -> bytes:
    """The format of a body's text after its id: integers for flags and states, seven digits for the rest."""
    leading = " ".join([NUMBER] * 7)
    rows = [
        f"{leading} {' '.join(['0'] * 4 if v in unoriented_joints() else [NUMBER] * 4)} %d\n"
        for v in range(len(person_layout()))
    ]
    return f"0 %d %d %d %d 0 {NUMBER} {NUMBER} 2\n{len(rows)}\n{''.join(rows)}".encode()


@cache
def _written_columns() -> np.ndarray:
    """Mask [V,12] of the columns that are numbers in `_template`, all but the zero orientations."""
    written = np.ones((len(person_layout()), 12), bool)
    written[sorted(unoriented_joints()), 7:11] = False
    return written


def _head(track: Track, rng: np.random.Generator) -> np.ndarray:
    """Confidence and state of both hands, lean sideways and forwards: [T,6]."""
    joints = person_layout().joints
    T = len(track.ids)
    hands = rng.integers(0, (2, HAND_STATES, 2, HAND_STATES), (1 + T // 15, 4)).repeat(15, axis=0)[:T]
    trunk = track.xyz[:, person_layout().centre] - track.xyz[:, joints.index("spine base")]
    lean = np.clip(trunk[:, [0, 2]] * (1, -1) / np.linalg.norm(trunk, axis=1, keepdims=True), -1, 1)
    return np.concatenate([hands, lean], axis=1)


def _joints(track: Track) -> np.ndarray:
    """The twelve columns of every joint: [T,V,12]."""
    columns = np.empty((*track.state.shape, 12))
    columns[..., :3] = track.xyz
    columns[..., 3:5] = _pixels(track.xyz, DEPTH_CAMERA, 0.0)
    columns[..., 5:7] = _pixels(track.xyz, COLOUR_CAMERA, COLOUR_SHIFT)
    columns[..., 7:11] = track.orientation
    columns[..., 11] = track.state
    return columns


def _pixels(xyz: np.ndarray, camera: tuple[float, float, float], shift: float) -> np.ndarray:
    focal, column, row = camera
    x, y, z = np.moveaxis(xyz, -1, 0)
    return np.stack([column + focal * (x + shift) / z, row - focal * y / z], axis=-1)
