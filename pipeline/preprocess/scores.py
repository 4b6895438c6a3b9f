"""Channel 3 of a clip: how sure the pose estimator was of each joint, resized in time as positions are."""

import numpy as np
from numba import njit

from skelpipe.errors import RawError
from skelpipe.raw.recording import Recording

__all__ = ["SCORE", "resize_scores", "scores_of"]

SCORE = 3  # the channel


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
