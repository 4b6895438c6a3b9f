"""ST-GCN as it is usually written: 1x1 convolution, einsum with the graph, direct 9x1 convolution."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.models.stgcn import STGCN

__all__ = ["PlainSTGCN"]

# From the names of our parameters to those used here.
NAMES = {
    "spatial.maps": "spatial",
    "spatial.importance": "importance",
    "shortcut_norm": "shortcut.1",
    "shortcut.weight": "shortcut.0.weight",
    "shortcut.bias": "shortcut.0.bias",
}


class PlainBlock(nn.Module):
    """Rows [R,C,T,V]."""

    def __init__(self, c_in: int, c_out: int, stride: int, first: bool) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(c_in, 3 * c_out, 1)
        self.spatial_norm = nn.BatchNorm2d(c_out)
        self.temporal = nn.Conv2d(c_out, c_out, (9, 1), (stride, 1), (4, 0))
        self.temporal_norm = nn.BatchNorm2d(c_out)
        self.dropout = nn.Dropout(0.0 if first else 0.5)
        self.first = first
        self.shortcut = None
        if not first and (c_in != c_out or stride != 1):
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, (stride, 1)), nn.BatchNorm2d(c_out))
        self.importance = nn.Parameter(torch.ones(3, 25, 25))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        y = self.spatial(x).unflatten(1, (3, -1))
        y = torch.einsum("nkctv,kvw->nctw", y, graph * self.importance).contiguous()
        y = self.dropout(self.temporal_norm(self.temporal(F.relu(self.spatial_norm(y)))))
        if not self.first:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y)


class PlainSTGCN(nn.Module):
    """Clips [N,3,T,25,M] to pooled features [N,256]."""

    def __init__(self, graph: Tensor, width: int = 16) -> None:
        super().__init__()
        h = width
        steps = [(3, h, 1), (h, h, 1), (h, h, 1), (h, h, 1), (h, 2 * h, 2), (2 * h, 2 * h, 1), (2 * h, 2 * h, 1)]
        steps += [(2 * h, 4 * h, 2), (4 * h, 4 * h, 1), (4 * h, 256, 1)]
        self.register_buffer("graph", graph, persistent=False)
        self.input_norm = nn.BatchNorm1d(75)
        self.blocks = nn.ModuleList(PlainBlock(*step, first=i == 0) for i, step in enumerate(steps))

    @classmethod
    def of(cls, encoder: STGCN) -> Self:
        """Return a network with the weights of ours, which has 256 channels at its end."""
        plain = cls(encoder.adjacency, encoder.blocks[0].temporal.out_channels)  # type: ignore[union-attr]
        shapes = plain.state_dict()
        weights = {}
        for ours, value in encoder.state_dict().items():
            theirs = ours
            for old, new in NAMES.items():
                theirs = theirs.replace(old, new)
            if ours not in STGCN.constants:
                weights[theirs] = value.reshape(shapes[theirs].shape).clone()
        plain.load_state_dict(weights)
        return plain

    def features(self, x: Tensor) -> Tensor:
        """Return the feature map [N*M,256,T',25]."""
        clips, channels, frames, joints, bodies = x.shape
        y = x.permute(0, 4, 3, 1, 2).reshape(clips * bodies, joints * channels, frames)
        y = self.input_norm(y).unflatten(1, (joints, channels)).permute(0, 2, 3, 1)
        for block in self.blocks:
            y = block(y, self.graph)
        return y

    def pool(self, features: Tensor, bodies: int) -> Tensor:
        return features.mean(dim=(2, 3)).unflatten(0, (-1, bodies)).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.features(x), x.shape[4])
