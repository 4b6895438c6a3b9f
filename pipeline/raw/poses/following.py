"""Follow people through frames whose order of people changes: one assignment per frame.

A person of a frame continues the one seen before at the smallest cost. The cost of a pair is the mean distance of
the joints found in both, divided by the larger of the two body sizes (the diagonal of the box around the joints
found). Pairs are chosen so that the sum of costs is smallest, where a pair that costs `GATE` or more, or has no
joint in common, counts as `GATE` and is no continuation: that person is a new one. A person is remembered for
`GAP` frames without being seen. scipy's `linear_sum_assignment` solves it; the result depends on nothing else.
"""

from itertools import pairwise

import numpy as np

__all__ = ["GAP", "GATE", "follow", "slots_of"]

GATE = 0.5  # body sizes; between two frames of a video a body moves by a few hundredths
GAP = 30  # frames, a second of most videos


def follow(frames: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Return int64 [B]: the number of each person, from 0 in the order of first appearance.

    `frames` int64 [B] is the frame of each body, not falling; `xyz` float64 [B,V,3] with NaN for joints that were
    not found.
    """
    ids = np.empty(len(frames), np.int64)
    sizes = _sizes(xyz)
    edges = np.flatnonzero(np.diff(frames, prepend=-1, append=-1) != 0) if len(frames) else np.zeros(0, np.int64)
    known = np.zeros(0, np.int64)  # the row of each remembered person where it was seen last
    people = 0
    for start, end in pairwise(edges):
        rows = np.arange(start, end)
        known = known[frames[start] - frames[known] <= GAP + 1]
        ids[rows] = -1
        if len(known):
            old, new = _assigned(_costs(xyz, sizes, known, rows))
            ids[rows[new]] = ids[known[old]]
            known = np.delete(known, old)
        strangers = rows[ids[rows] < 0]
        ids[strangers] = people + np.arange(len(strangers))
        people += len(strangers)
        known = np.concatenate([known, rows])
    return ids


def _assigned(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pairs that cost less than the gate."""
    if costs.shape == (1, 1):
        pairs = np.zeros(1, np.int64), np.zeros(1, np.int64)
    else:
        from scipy.optimize import linear_sum_assignment  # takes longer to import than most files to read

        pairs = linear_sum_assignment(costs)
    good = costs[pairs] < GATE
    return pairs[0][good], pairs[1][good]


def _costs(xyz: np.ndarray, sizes: np.ndarray, known: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return float64 [known,rows]: the cost of each pair, at most `GATE`."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        apart = np.sqrt(np.square(xyz[known][:, None] - xyz[rows][None]).sum(axis=3))
        both = ~np.isnan(apart)
        mean = np.where(both, apart, 0).sum(axis=2) / both.sum(axis=2)
        costs = mean / np.maximum(sizes[known][:, None], sizes[rows][None])
    return np.where(costs < GATE, costs, GATE)  # NaN too: nothing in common, or bodies without extent


def _sizes(xyz: np.ndarray) -> np.ndarray:
    """Return float64 [B]: the diagonal of the box around the joints found."""
    lost = np.isnan(xyz)
    with np.errstate(over="ignore", invalid="ignore"):
        extent = np.where(lost, -np.inf, xyz).max(axis=1) - np.where(lost, np.inf, xyz).min(axis=1)
        size: np.ndarray = np.sqrt(np.square(extent).sum(axis=1))
    return size


def slots_of(frames: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return int64 [B]: the slot of each body, so that a person has one slot from first to last appearance.

    People get the lowest free slot in the order in which they appear; a slot is free again after its person's last
    frame.
    """
    _, first_row, person = np.unique(ids, return_index=True, return_inverse=True)
    last = np.zeros(len(first_row), np.int64)
    np.maximum.at(last, person, frames)
    slot = np.empty(len(first_row), np.int64)
    busy: list[int] = []  # the last frame of each slot's person
    for one in np.argsort(first_row, kind="stable"):
        start = frames[first_row[one]]
        free = next((place for place, until in enumerate(busy) if until < start), len(busy))
        busy[free : free + 1] = [int(last[one])]
        slot[one] = free
    taken: np.ndarray = slot[person]
    return taken
