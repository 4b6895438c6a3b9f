"""Give joints that were not found (NaN) a position: one of another time, or of another joint."""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.kernels import njit
from skelpipe.preprocess.tracks import shown_rows, tracks
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["fill_joints"]


def fill_joints(recording: Recording, layout: Layout, policy: str) -> Recording:
    """Return the recording without NaN; a joint that was not found has score 0.

    `held`: a joint of a body stays where it was found last, before that where it is found first. `interpolated`:
    it moves linearly in time between the two. Bodies are followed by their ids. `parent`: it lies at the nearest
    joint above it in the tree of bones that was found in this frame; where there is none, at the joint found that
    is the fewest bones away (of several the first in the layout). A joint that its body never shows lies there
    under `held` and `interpolated` too. `refused`: RawError that names frame, body and joint (from 1) and the key.
    """
    if recording.scores is not None and recording.scores.size:
        recording = _without_scores_of_nobody(recording)
    lost = np.isnan(recording.xyz).any(axis=2)
    if not lost.any():
        return recording
    xyz = recording.xyz.copy()
    shown = shown_rows(xyz)
    xyz[~shown] = 0  # nothing of such a body was found: it is absent
    lost &= shown[:, None]
    if policy == "refused" and lost.any():
        raise RawError(_refusal(recording, layout, lost))
    scores = None if recording.scores is None else np.where(lost | ~shown[:, None], 0, recording.scores)
    if policy in ("held", "interpolated"):
        found = tracks(recording)
        rows = found.order[shown[found.order]]
        edges = np.searchsorted(found.track[rows], np.arange(len(found) + 1))
        lost = _over_time(xyz, lost, found.frame, rows, edges, policy == "interpolated")
    _from_joints(xyz, lost, _nearest_joints(layout))
    return Recording(recording.counts, recording.ids, xyz, scores)


def _without_scores_of_nobody(recording: Recording) -> Recording:
    assert recording.scores is not None
    shown = shown_rows(recording.xyz)
    if shown.all():
        return recording
    return Recording(recording.counts, recording.ids, recording.xyz, np.where(shown[:, None], recording.scores, 0))


def _refusal(recording: Recording, layout: Layout, lost: np.ndarray) -> str:
    row, joint = np.argwhere(lost)[0]
    before = np.cumsum(recording.counts)
    frame = int(np.searchsorted(before, row, side="right"))
    body = row - (before[frame] - recording.counts[frame])
    return (
        f"frame {frame + 1}, body {body + 1}, joint {joint + 1} ({layout.joints[joint]}): was not found (NaN,"
        " or the manifest's missing_value); say what such joints become by the manifest's key missing_joints, or"
        " by --missing-joints: held, interpolated or parent"
    )


def _nearest_joints(layout: Layout) -> np.ndarray:
    """Return for each joint the others in the order of `parent`, int64 [V,V-1]."""
    count = len(layout)
    above: list[list[int]] = []
    for joint in range(count):
        line: list[int] = []
        parent = layout.parents[joint]
        while parent != (line[-1] if line else joint):
            line.append(parent)
            parent = layout.parents[parent]
        above.append(line)
    steps = np.full((count, count), count, np.int64)
    steps[np.arange(count), np.arange(count)] = 0
    for joint, line in enumerate(above):
        if line:
            steps[joint, line[0]] = steps[line[0], joint] = 1
    for middle in range(count):  # shortest ways over bones
        steps = np.minimum(steps, steps[:, middle, None] + steps[middle])
    order = np.empty((count, count - 1), np.int64)
    for joint, line in enumerate(above):
        rest = [other for other in range(count) if other != joint and other not in line]
        order[joint] = [*line, *sorted(rest, key=lambda other: steps[joint, other])]
    return order


@njit(cache=True, nogil=True)
def _over_time(
    xyz: np.ndarray, lost: np.ndarray, frame: np.ndarray, order: np.ndarray, edges: np.ndarray, linear: bool
) -> np.ndarray:
    """Fill joints of a track from its other frames; return bool [B,V]: those that the track never shows.

    `order` and `edges` are those of `Tracks`, with the rows that show a body.
    """
    left = np.zeros_like(lost)
    for k in range(len(edges) - 1):
        rows = order[edges[k] : edges[k + 1]]
        for v in range(xyz.shape[1]):
            before, ahead = -1, 0
            for i in range(len(rows)):
                row = rows[i]
                if not lost[row, v]:
                    before = row
                    continue
                ahead = max(ahead, i + 1)
                while ahead < len(rows) and lost[rows[ahead], v]:
                    ahead += 1
                after = rows[ahead] if ahead < len(rows) else -1
                if before < 0 and after < 0:
                    left[row, v] = True
                    continue
                start, end, w = before, after, 0.0
                if before < 0:
                    start = after
                elif after < 0 or not linear:
                    end = before
                else:
                    w = (frame[row] - frame[before]) / (frame[after] - frame[before])
                for c in range(3):
                    xyz[row, v, c] = xyz[start, v, c] * (1 - w) + xyz[end, v, c] * w
    return left


@njit(cache=True, nogil=True)
def _from_joints(xyz: np.ndarray, lost: np.ndarray, nearest: np.ndarray) -> None:
    for row in range(len(xyz)):
        for v in range(xyz.shape[1]):
            if not lost[row, v]:
                continue
            for other in nearest[v]:
                if not lost[row, other]:
                    for c in range(3):
                        xyz[row, v, c] = xyz[row, other, c]
                    break
