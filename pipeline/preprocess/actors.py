"""Choose the two actors among the bodies that the tracker lists (docs/profiles.md, `ctrgcn`, steps 1 and 2).

The tracker loses people, finds them again under other ids, and lists objects such as chairs as bodies. The choice
is made of rows of `Recording.xyz`; no joint is copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from skelpipe.errors import RawError
from skelpipe.kernels import njit
from skelpipe.raw.recording import Recording

__all__ = ["two_actors"]

LONGEST_NOISE = 11  # frames; a body seen in so many or fewer is removed
WIDEST = 0.8  # x range over y range; a frame above is noisy
NOISY_SHARE = 0.69754  # of a body's frames; a body with this share of noisy frames or more is removed


@dataclass(frozen=True)
class _Body:
    """Everything that is listed under one id: `rows` of xyz, and the frame of each row, strictly rising."""

    rows: np.ndarray
    frames: np.ndarray

    @property
    def first(self) -> int:
        return int(self.frames[0])

    @property
    def last(self) -> int:
        return int(self.frames[-1])


def two_actors(recording: Recording) -> np.ndarray:
    """Return int64 [L,2]: the rows of `recording.xyz` that show actors 1 and 2 in each frame kept, -1 for none.

    Frames without bodies are left out; if the recording has several bodies, frames that show neither actor are
    left out too. A body whose joints all lie at the origin is absent in that frame. Bodies keep their true frame
    numbers; in the released script a body that disappears and returns moves to earlier frames. An id that a frame
    lists twice counts once, as first listed. Raises RawError, without the recording's name, if no body is left.
    """
    bodies = _collect(recording)
    if not bodies:
        raise RawError(f"no body in any of its {recording.frames} frames")
    several = len(bodies) > 1
    if several:
        bodies = _ranked(recording.xyz, bodies)
    actors = _assign(bodies, int(np.count_nonzero(recording.counts)))
    _forget_lost(recording.xyz, actors)
    return actors[actors.max(axis=1) >= 0] if several else actors


def _collect(recording: Recording) -> list[_Body]:
    """Return the bodies in the order in which they first appear (step 1)."""
    rows, frames, edges = _grouped(recording.counts, recording.ids)
    return [_Body(rows[i:j], frames[i:j]) for i, j in pairwise(edges)]


def _ranked(xyz: np.ndarray, bodies: list[_Body]) -> list[_Body]:
    """Return the bodies that are people, largest motion first, equal ones as they appear (steps 2.1 to 2.3)."""
    left = [body for body in bodies if len(body.rows) > LONGEST_NOISE]
    if not left:
        raise RawError(f"no body is seen in more than {LONGEST_NOISE} frames")
    kept: list[tuple[float, _Body]] = []
    for position, body in enumerate(left):
        if not kept and position == len(left) - 1:
            return [body]  # the last body left is not tested
        good = body.rows[_good_frames(xyz, body.rows)]
        if (len(body.rows) - len(good)) / len(body.rows) < NOISY_SHARE:
            kept.append((min(_motion(xyz, body.rows), _motion(xyz, good)), body))
    return [body for _, body in sorted(kept, key=lambda pair: -pair[0])]


def _assign(ranked: Sequence[_Body], length: int) -> np.ndarray:
    """Give every body to the first actor whose interval it does not overlap, if there is one (step 2.4).

    One common frame does not count as overlap; the later body takes it. The interval of actor 2 starts as (0,0),
    so it always includes the first frame.
    """
    actors = np.full((length, 2), -1, np.int64)
    spans = [(ranked[0].first, ranked[0].last), (0, 0)]
    actors[ranked[0].frames, 0] = ranked[0].rows
    for body in ranked[1:]:
        for slot, (start, end) in enumerate(spans):
            if min(end, body.last) - max(start, body.first) <= 0:
                actors[body.frames, slot] = body.rows
                spans[slot] = min(start, body.first), max(end, body.last)
                break
    return actors


@njit(cache=True, nogil=True)
def _grouped(counts: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all rows and their frames, body by body: body k has entries edges[k] to edges[k+1] - 1."""
    body = np.full(len(ids), -1)  # of each row; -1 if the frame has listed the id before
    frame = np.empty(len(ids), np.int64)
    known, size, last = np.empty_like(ids), np.zeros(len(ids), np.int64), np.empty(len(ids), np.int64)
    bodies = row = t = 0
    for count in counts:
        for _ in range(count):
            k = 0
            while k < bodies and known[k] != ids[row]:
                k += 1
            if k == bodies:
                known[k], last[k] = ids[row], -1
                bodies += 1
            if last[k] != t:
                body[row], frame[row], last[k] = k, t, t
                size[k] += 1
            row += 1
        t += count > 0
    edges = np.zeros(bodies + 1, np.int64)
    edges[1:] = np.cumsum(size[:bodies])
    rows, frames = np.empty(edges[-1], np.int64), np.empty(edges[-1], np.int64)
    end = edges.copy()
    for row in range(len(ids)):
        if body[row] >= 0:
            at = end[body[row]]
            rows[at], frames[at] = row, frame[row]
            end[body[row]] += 1
    return rows, frames, edges


# Sums are loops in a fixed order: the last bits of numpy's reductions differ between versions and instruction
# sets, and these sums decide which body is actor 1.
@njit(cache=True, nogil=True)
def _motion(xyz: np.ndarray, rows: np.ndarray) -> float:
    """Variance of all joints in all these rows, summed over x, y and z (step 2.3)."""
    n = len(rows) * xyz.shape[1]
    total = 0.0
    for c in range(3):
        mean = 0.0
        for row in rows:
            for v in range(xyz.shape[1]):
                mean += xyz[row, v, c]
        mean /= n
        squares = 0.0
        for row in rows:
            for v in range(xyz.shape[1]):
                squares += (xyz[row, v, c] - mean) * (xyz[row, v, c] - mean)
        total += squares / n
    return total


@njit(cache=True, nogil=True)
def _good_frames(xyz: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return bool [n]: whether the x range of a row is at most 0.8 times its y range (step 2.2)."""
    good = np.empty(len(rows), np.bool_)
    for i, row in enumerate(rows):
        left = right = xyz[row, 0, 0]
        low = high = xyz[row, 0, 1]
        for v in range(1, xyz.shape[1]):
            left, right = min(left, xyz[row, v, 0]), max(right, xyz[row, v, 0])
            low, high = min(low, xyz[row, v, 1]), max(high, xyz[row, v, 1])
        good[i] = right - left <= WIDEST * (high - low)
    return good


@njit(cache=True, nogil=True)
def _forget_lost(xyz: np.ndarray, actors: np.ndarray) -> None:
    """Mark an actor as absent in frames in which all of its joints lie at the origin."""
    for t in range(len(actors)):
        for m in range(2):
            if actors[t, m] >= 0 and _at_origin(xyz[actors[t, m]]):
                actors[t, m] = -1


@njit(cache=True, nogil=True)
def _at_origin(pose: np.ndarray) -> bool:
    for v in range(pose.shape[0]):
        for c in range(3):
            if pose[v, c] != 0:
                return False
    return True
