"""Recordings made from plain lists of frames."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from skelpipe.raw.recording import Recording

Frame = Sequence[tuple[int, np.ndarray]]  # (id, joints [V,3]) of each body that the frame lists


def _recorded(frames: Sequence[Frame], scores: np.ndarray | None = None) -> Recording:
    bodies = [body for frame in frames for body in frame]
    joints = len(bodies[0][1])
    return Recording(
        np.array([len(frame) for frame in frames], np.int32),
        np.array([identity for identity, _ in bodies], np.int64),
        np.array([pose for _, pose in bodies], float).reshape(-1, joints, 3),
        scores,
    )


@pytest.fixture(scope="session")
def recorded() -> Callable[..., Recording]:
    """Returns frames of (id, joints [V,3]) as a recording; `scores` [B,V] are its scores."""
    return _recorded
