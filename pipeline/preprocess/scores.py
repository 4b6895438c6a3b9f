"""Channel 3 of a clip: how sure the pose estimator was of each joint, resized in time as positions are."""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.kernels import njit
from skelpipe.preprocess.tracks import shown_rows
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["SCORE", "resize_scores", "scores_of", "third_like_score"]

SCORE = 3  # the channel
FEWEST_PIXELS = 10.0  # range of x or y; metres and shares of a picture stay below
PICTURE_LAYOUTS = ("coco-", "openpose-")  # of estimators of 2D poses
SURELY_PIXELS = 50.0
HIGHEST_SCORE, FEW_BEYOND = 2.0, 0.1  # scores are 0 to 1, but for a share, or the visibilities 0, 1, 2
FEWEST_FRAMES, ROUGH = 8, 2.0  # the third number changes so many times as much as x and y


def resize_scores(recording: Recording, rows: np.ndarray, out: np.ndarray) -> None:
    """Write the scores of the rows of `recording`, int64 [L,M], -1 for no body, into `out`, float32 [T,V,M].

    Linear interpolation as of the positions in both profiles; the score of an absent body is 0. `out` is zero
    where no row is written. Raises RawError, without the recording's name, for a recording without scores.
    """
    scores = scores_of(recording)
    if len(rows):
        _resize(scores, rows, out)


def scores_of(recording: Recording) -> np.ndarray:
    """Return the scores of a recording; RawError, without its name, where it has none."""
    if recording.scores is None:
        raise RawError("the manifest's channels name a score, and the file holds none")
    return recording.scores


def third_like_score(
    recording: Recording, layout: Layout, *, in_picture: bool = False, pixels: bool = False
) -> bool:
    """Return whether the third number of joints looks like a score rather than z.

    It does if it lies in about 0..1 (a little above, or visibilities 0, 1, 2, where x and y are positions in a
    picture), and if x and y look like pixels or are known to be in a picture (by `in_picture`, `pixels` or the
    layout), or if it changes from frame to frame far more, relative to its spread, than they. A constant one does
    unless it is 0, as that of flat poses.
    """
    in_picture = in_picture or layout.name.startswith(PICTURE_LAYOUTS)
    xyz = recording.xyz[shown_rows(recording.xyz)]
    found = xyz[~np.isnan(xyz).any(axis=2)]
    if not len(found):
        return False
    low, high = found.min(axis=0), found.max(axis=0)
    spread = (high - low)[:2].max()
    if low[2] < 0 or high[2] == 0 or high[2] > HIGHEST_SCORE:
        return False
    if high[2] > 1:
        third = found[:, 2]
        beyond = float((third > 1).mean()) <= FEW_BEYOND or bool((third == np.rint(third)).all())
        return bool(spread > SURELY_PIXELS) or pixels or (in_picture and beyond)
    if in_picture or pixels or spread > FEWEST_PIXELS:
        return True
    if low[2] == high[2]:
        return False
    if recording.bodies > 1 or len(xyz) < FEWEST_FRAMES:
        return False
    steps = np.nanmean(np.abs(np.diff(xyz, axis=0)), axis=(0, 1)) / np.maximum(found.std(axis=0), 1e-12)
    return bool(steps[2] > ROUGH * steps[:2].max())


@njit(cache=True, nogil=True)
def _resize(scores: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    length, T = len(rows), len(out)
    for t in range(T):
        s = min(max((t + 0.5) * length / T - 0.5, 0.0), length - 1.0)
        f = min(int(s), length - 1)
        g = min(f + 1, length - 1)
        w = s - f
        for m in range(rows.shape[1]):
            here, there = rows[f, m], rows[g, m]
            for v in range(out.shape[1]):
                a = scores[here, v] if here >= 0 else 0.0
                b = scores[there, v] if there >= 0 else 0.0
                out[t, v, m] = a * (1 - w) + b * w
