"""Apply the policies of a dataset to a recording before its profile, and count what of it is real."""

from dataclasses import dataclass

import numpy as np

from skelpipe.kernels import njit
from skelpipe.preprocess.body_choice import moving_bodies
from skelpipe.preprocess.empty_frames import fill_frames
from skelpipe.preprocess.missing_joints import fill_joints
from skelpipe.preprocess.policies import Policies
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["Completeness", "settle"]

NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Completeness:
    """How much of a recording is real.

    `frames` show a body. `joints` is the number of joints of all bodies that these frames show and a clip has
    room for, `real_joints` how many of them were found. `bodies_left_out` counts bodies that are not in the clip.
    """

    frames: int
    joints: int
    real_joints: int
    bodies_left_out: int = 0


def settle(
    recording: Recording, layout: Layout, policies: Policies, bodies: int | None
) -> tuple[Recording, Completeness]:
    """Return the recording with its policies applied, and how much of it was real before.

    Bodies are chosen, then joints filled, then frames. `bodies` is the number of slots; None leaves the choice of
    bodies to the profile. Raises RawError, without the recording's name, for a missing joint that is refused.
    """
    left_out = 0
    gaps = _any_nan(recording.xyz)
    if bodies is not None:
        if policies.body_choice == "motion":
            recording, left_out = moving_bodies(recording, bodies)
        else:
            left_out = max(recording.bodies - bodies, 0)
            recording = _first_bodies(recording, bodies) if left_out and gaps else recording
    limit = NO_LIMIT if bodies is None else bodies
    frames, shown, found = _count(recording.xyz, recording.counts, limit, gaps)
    real = Completeness(frames, shown * recording.xyz.shape[1], found, left_out)
    if gaps or recording.scores is not None:
        recording = fill_joints(recording, layout, policies.missing_joints)
    return fill_frames(recording, policies.empty_frames), real


def _first_bodies(recording: Recording, bodies: int) -> Recording:
    """Return the first bodies that each frame lists."""
    first = np.repeat(np.cumsum(recording.counts) - recording.counts, recording.counts)
    kept = np.arange(len(first)) - first < bodies
    scores = None if recording.scores is None else recording.scores[kept]
    return Recording(np.minimum(recording.counts, bodies), recording.ids[kept], recording.xyz[kept], scores)


@njit(cache=True, nogil=True)
def _any_nan(xyz: np.ndarray) -> bool:
    """Return whether a value is NaN, several times as fast as numpy does."""
    found = False
    for value in xyz.flat:
        found |= value != value  # noqa: PLR0124
    return found


@njit(cache=True, nogil=True)
def _count(xyz: np.ndarray, counts: np.ndarray, limit: int, gaps: bool) -> tuple[int, int, int]:
    """Return the frames that show a body, the bodies shown in all of them, and their joints that were found.

    Of a frame the first `limit` bodies count; a joint may be NaN only if there are `gaps`.
    """
    frames = shown = joints = row = 0
    for count in counts:
        here = 0
        for position in range(count):
            if position < limit:
                found, away = 0, False
                for v in range(xyz.shape[1]):
                    x, y, z = xyz[row, v, 0], xyz[row, v, 1], xyz[row, v, 2]
                    if gaps and np.isnan(x + y + z):
                        continue
                    found += 1
                    away = away or x != 0 or y != 0 or z != 0
                    if away and not gaps:
                        found = xyz.shape[1]
                        break
                if away:
                    here += 1
                    joints += found
            row += 1
        frames += here > 0
        shown += here
    return frames, shown, joints
