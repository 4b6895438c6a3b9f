"""What becomes of frames that show no body: dropped, the last pose held, or interpolated in time."""

import numpy as np

from skelpipe.preprocess.tracks import shown_rows, tracks
from skelpipe.raw.recording import Recording

__all__ = ["fill_frames", "shown_frames"]


def shown_frames(recording: Recording) -> np.ndarray:
    """Return bool [F]: whether a frame shows a body, that is, a joint away from the origin."""
    frame = np.repeat(np.arange(recording.frames), recording.counts)
    shown = np.zeros(recording.frames, bool)
    shown[frame[shown_rows(recording.xyz)]] = True
    return shown


def fill_frames(recording: Recording, policy: str) -> Recording:
    """Return the recording without frames that show no body; a pose that was made up has score 0.

    `dropped`: they are left out, so that time contracts. `held`: they show the bodies of the last frame that shows
    one, before the first that of the first. `interpolated`: bodies that both neighbouring frames show, by their
    ids, move linearly in time from one to the other, and others are absent; where no body is in both, and before
    the first and after the last, poses are held. A body that is absent in a frame that shows another one stays
    absent. `as-authors` changes nothing: the profile decides.
    """
    if policy == "as-authors":
        return recording
    shown = shown_frames(recording)
    if shown.all() or not shown.any():
        return recording
    if policy == "dropped":
        kept = np.repeat(shown, recording.counts)
        scores = None if recording.scores is None else recording.scores[kept]
        return Recording(recording.counts[shown], recording.ids[kept], recording.xyz[kept], scores)
    numbers = np.arange(recording.frames)
    before = np.maximum.accumulate(np.where(shown, numbers, -1))
    after = np.minimum.accumulate(np.where(shown, numbers, recording.frames)[::-1])[::-1]
    source = np.where(before >= 0, before, after)
    counts = recording.counts[source]
    frame = np.repeat(numbers, counts)
    first = np.cumsum(recording.counts) - recording.counts
    rows = np.repeat(first[source] - (np.cumsum(counts) - counts), counts) + np.arange(len(frame))
    xyz = recording.xyz[rows]
    if policy == "interpolated":
        inside = ~shown & (before >= 0) & (after < recording.frames)
        _interpolate(recording, xyz, rows, frame, np.where(inside, after, -1)[frame], before[frame])
    scores = None
    if recording.scores is not None:
        scores = np.where(shown[frame][:, None], recording.scores[rows], 0)
    return Recording(counts, recording.ids[rows], xyz, scores)


def _interpolate(
    recording: Recording,
    xyz: np.ndarray,
    rows: np.ndarray,
    frame: np.ndarray,
    after: np.ndarray,
    before: np.ndarray,
) -> None:
    """Move the poses `xyz` of `rows` in frames with an `after` (not -1) towards the same bodies there."""
    at = np.flatnonzero(after >= 0)
    found, present = tracks(recording), shown_rows(recording.xyz)
    keys = found.track * recording.frames + found.frame
    by_key = np.argsort(keys)
    wanted = found.track[rows[at]] * recording.frames + after[at]
    place = np.minimum(np.searchsorted(keys[by_key], wanted), len(keys) - 1)
    partner = by_key[place]
    both = (keys[partner] == wanted) & present[partner] & present[rows[at]]
    kept = np.zeros(recording.frames, bool)
    kept[frame[at[both]]] = True  # frames in which a body is in both neighbours
    xyz[at[~both & kept[frame[at]]]] = 0
    at, partner = at[both], partner[both]
    w = ((frame[at] - before[at]) / (after[at] - before[at]))[:, None, None]
    xyz[at] = xyz[at] * (1 - w) + recording.xyz[partner] * w
