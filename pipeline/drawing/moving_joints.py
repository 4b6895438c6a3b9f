"""An actionlet without a trained network, to show how ActCLR combines two views by its actionlet."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.actionlet import actionlet, to_frames
from skelpipe.augment.region import BLOCK
from skelpipe.skeleton import Layout
from skelpipe.views import motion, positions

__all__ = ["MEANING", "moving_joints"]

MEANING = (
    "joints whose motion differs most from that of the mean clip, smoothed as in the paper; a stand-in for the "
    "actionlet of a trained network, which the released code takes by whole body parts"
)


def moving_joints(anchor: np.ndarray, view: str, layout: Layout) -> Callable[[Tensor], Tensor]:
    """Return a function from clips [N,C,T,V,M] of `view` to the mask [N,T,V,M] of their moving joints.

    `anchor` float32 [C,T,V,M] is the dataset's mean clip of that view. In place of the difference activation
    stands how far each joint's motion is from that of the mean clip, in metres, averaged over four frames, and
    smoothed as in the paper; a joint moves above half of its body's maximum. Absent bodies are outside.
    """

    def steps(x: Tensor) -> Tensor:
        return positions(x) if view == "motion" else motion(positions(x))

    average = steps(torch.from_numpy(anchor))

    def mask(x: Tensor) -> Tensor:
        n, _, t, v, m = x.shape
        present = (positions(x) != 0).any(1).any(2)  # [N,T,M]
        excess = (steps(x) - average).norm(dim=1) * present[:, :, None]
        rows = excess.movedim(1, 3).reshape(n * v * m, 1, t)
        blocks = F.avg_pool1d(rows, BLOCK, ceil_mode=True).view(n, v, m, -1).permute(0, 2, 3, 1)
        inside = to_frames(actionlet(blocks, layout, threshold=0.5), t, "nearest")  # [N,M,T,V]
        return inside.movedim(1, 3) * present[:, :, None]

    return mask
