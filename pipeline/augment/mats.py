"""Motion-adaptive transformation (MATS; Lin et al. 2023, eq. 7): one view inside the actionlet, one outside."""

from typing import Any

from torch import Tensor

from skelpipe.augment.blend import blend
from skelpipe.augment.chain import Chain
from skelpipe.augment.fold import FrameOp, JointOp
from skelpipe.augment.joints import reorder
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.augment.warp import warp

__all__ = ["carried", "mats"]


def mats(act: Tensor, non: Tensor, mask: Tensor) -> Tensor:
    """Return A act + (1 - A) non for clips [N,C,T,V,M] and the actionlet A, [N,T,V,M] or [N,T,V] in 0..1."""
    return blend(non, act, mask)


def carried(mask: Tensor, op: Any, params: Any) -> Tensor:
    """Move a mask of clips, [N,T,V,M], as the augmentation `op` moves their frames and joints.

    Chains, crops, temporal and spatial flips move the mask. A time rescale interpolates it as it does the clip: it
    is 0 in the frames that are filled up. Other augmentations leave frames and joints where they are.
    """
    if params is None:  # an op that the chain left out
        return mask
    if isinstance(op, Chain):
        for step, drawn in zip(op.ops, params, strict=True):
            mask = carried(mask, step, drawn)
    elif isinstance(op, FrameOp):
        mask = warp(mask[:, None], frames=op.frames(params, mask.shape[1]))[:, 0]
    elif isinstance(op, TimeRescale):
        mask = op.apply(mask[:, None], params)[:, 0]
    elif isinstance(op, JointOp):
        mask = reorder(mask[:, None], op.joints(params, mask.shape[2]))[:, 0]
    return mask
