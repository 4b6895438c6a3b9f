"""MsM attention: a map at three scales of the body, each weighted by how it moves (MsMCLR sec. 3.2; spec D7)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["SCALES", "MotionAttention", "MsMAttention", "attend", "motion_of"]

SCALES = ("joint", "part", "body")
ROWS = 8  # consecutive rows of a batch that attend to each other in the released code


class MsMAttention(nn.Module):
    """Maps [R, D, T', V] to one map for each of `SCALES`: V_s is all joints, then a layout's parts and body parts.

    A merged node is the mean of its joints (sec. 3.2.1; their lists: spec A6). All scales share one
    `MotionAttention`.
    """

    def __init__(
        self, layout: Layout, channels: int, reduction: int = 8, *, over: str = "frames", zero_pad: bool = False
    ) -> None:
        """Raise UsageError where the layout does not say what its parts and body parts are."""
        super().__init__()
        self.motion = MotionAttention(channels, reduction, over=over, zero_pad=zero_pad)
        for level in SCALES[1:]:
            self.register_buffer(level, _means(layout, level), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the weighted maps [R, D, T', V_s] in the order of `SCALES`."""
        joints = x.permute(0, 2, 3, 1)
        merged = [getattr(self, level).to(x.dtype) @ joints for level in SCALES[1:]]
        return [self.motion(scale).permute(0, 3, 1, 2) for scale in (joints, *merged)]


class MotionAttention(nn.Module):
    """H = W X + X for maps X [R, T', V_s, D], W in 0..1 from what differs between frames and between nodes.

    Y = 1x1 convolution to D / reduction channels; O = attention among tokens of motion D(norm(Y)); W = sigmoid(1x1
    convolution of O + Y). norm is a LayerNorm without weights over the nodes (spec D7). Tokens are the T' frames
    of a row (`over="frames"`, the paper), or each 8 consecutive rows of the batch (`over="rows"`, the released
    code, where frames are part of a token; spec G14a); rows that do not fill eight attend among themselves.
    """

    def __init__(self, channels: int, reduction: int = 8, *, over: str = "frames", zero_pad: bool = False) -> None:
        super().__init__()
        self.over = over
        self.zero_pad = zero_pad
        inner = max(1, channels // reduction)
        self.down = nn.Linear(channels, inner)  # with the channels last, a 1x1 convolution
        self.up = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape [R, T', V_s, D]."""
        y = self.down(x)
        moves = motion_of(_normalised(y), self.zero_pad)
        weight = torch.sigmoid(self.up(self._attended(moves) + y))
        return torch.addcmul(x, weight.to(x.dtype), x)

    def _attended(self, moves: Tensor) -> Tensor:
        """Return motion [R, T', V_s, D'] after each token took from the others."""
        if self.over == "frames":
            return attend(moves.flatten(2)).view_as(moves)
        whole = len(moves) - len(moves) % ROWS
        tokens = moves.flatten(1)
        groups = [tokens[:whole].unflatten(0, (-1, ROWS))] if whole else []
        groups += [tokens[whole:][None]] if whole < len(moves) else []
        return torch.cat([attend(group).flatten(0, 1) for group in groups]).view_as(moves)


def motion_of(y: Tensor, zero_pad: bool = False) -> Tensor:
    """Return the mean of y[t+1] - y[t] and y[v+1] - y[v] for y [R, T', V, D].

    The last frame, and the last node, have no next: their difference is 0, or with `zero_pad` minus the feature,
    as in the released code, where zeros come next (spec G14c).
    """
    return (_next(y, 1, zero_pad) + _next(y, 2, zero_pad)) / 2 - y


def attend(tokens: Tensor) -> Tensor:
    """Return softmax(D D^T / sqrt(E)) D for groups of tokens D [G, L, E] (MsMCLR eq. 1 with Q = K = V = D)."""
    near = tokens @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[2])
    return near.softmax(dim=2).to(tokens.dtype) @ tokens


def _next(y: Tensor, dim: int, zero_pad: bool) -> Tensor:
    """Return at each place what comes after it; after the last comes the last itself, or zeros."""
    last = y.narrow(dim, -1, 1)
    return torch.cat([y.narrow(dim, 1, y.shape[dim] - 1), torch.zeros_like(last) if zero_pad else last], dim=dim)


def _normalised(y: Tensor) -> Tensor:
    """Return maps [R, T', V, D] with mean 0 and variance 1 over the nodes."""
    return F.layer_norm(y.transpose(2, 3), y.shape[2:3]).transpose(2, 3)


def _means(layout: Layout, level: str) -> Tensor:
    """Return the matrix [V_s, V] that takes joints to the means of a level's groups, in the layout's order."""
    groups: Sequence[tuple[int, ...]] = tuple(layout.levels.get(level, {}).values())
    if not groups:
        raise UsageError(
            f"MsMCLR needs the joints of {layout.name} in groups: its layout lacks levels.{level} "
            f"(manifests/layouts/kinect-v2-25.yaml shows how they are written)"
        )
    means = torch.zeros(len(groups), len(layout))
    for node, joints in enumerate(groups):
        means[node, list(joints)] = 1 / len(joints)
    return means
