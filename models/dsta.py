"""DSTA, a backbone of SkeAttnCLR: attention among joints, then among frames (Shi et al. 2020).

Activations of a block are [R, C, T, V] with R = N * M (row n * M + m). Attention always runs along the last
axis: the temporal half of a block works on the transposed map [R, C, V, T].
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.batch_norm import BatchNorm2d, Repeats, Weights
from skelpipe.models.body_backbone import BodyBackbone
from skelpipe.models.settings.dsta import DSTASettings
from skelpipe.skeleton import Layout

__all__ = ["DSTA", "AttentionUnit", "DSTABlock", "sinusoid"]

SLOPE = 0.1  # of the leaky rectifiers


class DSTA(BodyBackbone):
    """A stem and five blocks over batches of clips [N, C, T, V, M]; any skeleton, number of frames and of bodies.

    `width` 64 has the widths of Hua et al. 2023, table 16; others scale all of them. `heads` is the number of
    attention maps per unit. Convolutions start Kaiming-normal (fan out).
    """

    Settings: ClassVar[type] = DSTASettings

    def __init__(
        self,
        layout: Layout,
        width: int = 64,
        heads: int = 3,
        in_channels: int = 3,
        absent_bodies: str = "as-papers",
    ) -> None:
        super().__init__()
        if width % 4:
            raise UsageError(f"encoder.width is {width}; dsta needs a multiple of 4")
        self.layout = layout
        self.joints = len(layout)
        self.in_channels = in_channels
        self.absent_bodies = absent_bodies
        self.feature_dim = 4 * width
        w = width
        self.stem = nn.Conv2d(in_channels, w, 1)
        self.stem_norm = BatchNorm2d(w)
        steps = [(w, w, w // 4, 1), (w, 2 * w, w // 2, 2), (2 * w, 2 * w, w // 2, 1)]
        steps += [(2 * w, 4 * w, w, 2), (4 * w, 4 * w, w, 1)]
        self.blocks = nn.ModuleList(
            DSTABlock(c_in, c_out, inner, heads, len(layout), stride) for c_in, c_out, inner, stride in steps
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def rows(self, x: Tensor) -> Tensor:
        """Return clips [N, C, T, V, M] as rows [N*M, C, T, V]."""
        _, channels, _, joints, _ = x.shape
        if channels != self.in_channels or joints != self.joints:
            raise UsageError(
                f"the encoder was built for {self.layout.name} ({len(self.layout)} joints, {self.in_channels}"
                f" channels); the clips have {joints} joints, {channels} channels"
                f" (batch of shape {list(x.shape)}, expected [N, C, T, V, M])"
            )
        return x.permute(0, 4, 1, 2, 3).flatten(0, 1)

    def maps(self, rows: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
        """Return the feature map of rows [R, C, T, V] as [R, D, T', V], T' = ceil(ceil(T/2)/2)."""
        y = F.leaky_relu(self.stem_norm(self.stem(rows), repeats), SLOPE)
        for block in self.blocks:
            y = block(y, repeats)
        return y


class DSTABlock(nn.Module):
    """Attention among joints, then among frames: [R, C_in, T, V] -> [R, C_out, ceil(T / stride), V]."""

    def __init__(self, c_in: int, c_out: int, inner: int, heads: int, joints: int, stride: int) -> None:
        super().__init__()
        changes = c_in != c_out or stride != 1
        self.spatial = AttentionUnit(c_in, c_out, inner, heads, learned_shortcut=changes, tokens=joints)
        self.temporal = AttentionUnit(c_out, c_out, inner, heads, learned_shortcut=changes, stride=stride)

    def forward(self, x: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
        y = self.spatial(x, repeats)
        return self.temporal(y.transpose(2, 3).contiguous(), repeats).transpose(2, 3).contiguous()


class AttentionUnit(nn.Module):
    """Attention along the last axis, then a feed-forward map, each with a shortcut.

    [R, C_in, K, L] -> [R, C_out, K, ceil(L / stride)]. A head's map is tanh(q k / (inner * K)) * alpha, the
    product summed over channels and K. With `tokens`, the length of the axis, a learnable map is added that is the
    same for all clips.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        inner: int,
        heads: int,
        *,
        learned_shortcut: bool,
        stride: int = 1,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.inner = inner
        self.match = nn.Conv2d(c_in, 2 * heads * inner, 1)  # queries, then keys, each head-major
        self.alpha = nn.Parameter(torch.ones(heads, 1, 1))
        self.shared = None if tokens is None else nn.Parameter(torch.full((heads, tokens, tokens), 1 / tokens))
        self.gather = nn.Conv2d(heads * c_in, c_out, 1)
        self.gather_norm = BatchNorm2d(c_out)
        self.feed = nn.Conv2d(c_out, c_out, 1, (1, stride))
        self.feed_norm = BatchNorm2d(c_out)
        self.around_gather: nn.Module = nn.Identity()
        self.around_feed: nn.Module = nn.Identity()
        if learned_shortcut:
            self.around_gather = nn.Sequential(nn.Conv2d(c_in, c_out, 1), BatchNorm2d(c_out))
            self.around_feed = nn.Sequential(nn.Conv2d(c_in, c_out, 1, (1, stride)), BatchNorm2d(c_out))

    def forward(self, x: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
        rows, channels, across, length = x.shape
        near = x.reshape(rows, 1, channels * across, length) @ self.attention(x)
        y = self.gather_norm(self.gather(near.reshape(rows, self.heads * channels, across, length)), repeats)
        y = F.leaky_relu(_around(self.around_gather, x, repeats) + y, SLOPE)
        y = self.feed_norm(self.feed(y), repeats)
        return F.leaky_relu(_around(self.around_feed, x, repeats) + y, SLOPE)

    def attention(self, x: Tensor) -> Tensor:
        """Return the attention maps [R, heads, L, L], source token first."""
        rows, channels, across, length = x.shape
        located = x + sinusoid(length, channels, x)[:, None]
        query, key = self.match(located).view(rows, 2, self.heads, self.inner * across, length).unbind(1)
        maps = torch.tanh(query.transpose(2, 3) @ key / (self.inner * across)) * self.alpha
        return maps if self.shared is None else maps + self.shared


def _around(shortcut: nn.Module, x: Tensor, repeats: Repeats | Weights | None) -> Tensor:
    """Return what a shortcut makes of x: x itself, or x mapped and normalised."""
    if not isinstance(shortcut, nn.Sequential):
        return x
    linear, norm = shortcut
    mapped: Tensor = norm(linear(x), repeats)
    return mapped


def sinusoid(length: int, channels: int, like: Tensor) -> Tensor:
    """Return the encoding of positions p = 0..length-1, [channels, length], of the type and on the device of
    `like`.

    Channel 2i is sin(p / 10000^(2i / channels)), channel 2i+1 the cosine of the same (Vaswani et al. 2017).
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    position = torch.arange(length, device=like.device, dtype=exact)
    rate = torch.arange(0, channels, 2, device=like.device, dtype=exact)
    angle = torch.exp(rate * (-math.log(10000.0) / channels))[:, None] * position
    return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1)[:channels].to(like.dtype)
