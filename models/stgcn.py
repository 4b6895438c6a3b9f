"""ST-GCN (Yan et al. 2018), with the widths of the released code of SkeletonCLR (docs/conventions.md).

Inside the network each body of a clip is a row: activations are [R, T, V, C] with R = N * M (row n * M + m). The
channels are last, because a graph convolution is then a small matrix over the joints and one over the channels.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models import gpu_block
from skelpipe.models.batch_norm import BatchNorm1d, BatchNorm2d, Repeats, Weights, count_batch, let_count
from skelpipe.models.body_backbone import BodyBackbone
from skelpipe.models.edge_kernels import EdgeList, gathered, takes
from skelpipe.models.graph import adjacency
from skelpipe.models.one_pass import finished, in_one_pass, random_bytes, rectified
from skelpipe.models.settings.stgcn import STGCNSettings
from skelpipe.models.temporal import TemporalConvolution
from skelpipe.skeleton import Layout

__all__ = ["STGCN", "Dropout", "Edges", "GraphConvolution", "STGCNBlock"]

# torch 2.6, which has no such function, cannot leave the number of frames free.
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


class STGCN(BodyBackbone):
    """Ten blocks over batches of clips [N, C, T, V, M]; any skeleton, number of frames and of bodies.

    An absent body (all zeros) is a row like any other, as in the released code, unless `absent_bodies` is "masked"
    (see `BodyBackbone`). `dropout` acts in all blocks but the first. The modules keep PyTorch's own
    initialisation; `models.encoders.initialise` draws that of the papers.
    """

    Settings: ClassVar[type] = STGCNSettings
    # Buffers that follow from the arguments; weights of an encoder with other values do not fit.
    constants: ClassVar[tuple[str, ...]] = ("adjacency",)
    adjacency: Tensor

    def __init__(
        self,
        layout: Layout,
        graph: str = "stgcn_capped",
        width: int = 16,
        out_channels: int = 256,
        dropout: float = 0.5,
        in_channels: int = 3,
        absent_bodies: str = "as-papers",
    ) -> None:
        super().__init__()
        self.layout = layout
        self.graph = graph
        self.dropout = dropout
        self.absent_bodies = absent_bodies
        self.feature_dim = out_channels
        self.register_buffer("adjacency", adjacency(layout, graph))
        self.joints = joints = len(layout)
        self.input_norm = BatchNorm1d(joints * in_channels)  # joint-major, then axis
        h = width
        steps = [(in_channels, h, 1), (h, h, 1), (h, h, 1), (h, h, 1), (h, 2 * h, 2), (2 * h, 2 * h, 1)]
        steps += [(2 * h, 2 * h, 1), (2 * h, 4 * h, 2), (4 * h, 4 * h, 1), (4 * h, out_channels, 1)]
        self.blocks = nn.ModuleList(
            STGCNBlock(c_in, c_out, joints, stride, dropout if i else 0.0, residual=i > 0)
            for i, (c_in, c_out, stride) in enumerate(steps)
        )
        let_count(self)

    @property
    def draws(self) -> bool:
        return self.training and self.dropout > 0

    def rows(self, x: Tensor) -> Tensor:
        """Return clips [N, C, T, V, M] as rows [N*M, T, V, C]."""
        clips, channels, frames, joints, bodies = x.shape
        if channels * joints != self.input_norm.num_features or joints != self.joints:
            raise UsageError(
                f"the encoder was built for {self.layout.name} ({len(self.layout)} joints, "
                f"{self.input_norm.num_features // len(self.layout)} channels); the clips have {joints} joints, "
                f"{channels} channels (batch of shape {list(x.shape)}, expected [N, C, T, V, M])"
            )
        return x.permute(0, 4, 2, 3, 1).reshape(clips * bodies, frames, joints, channels)

    def maps(self, rows: Tensor, repeats: Repeats | Weights | None = None, groups: int = 1) -> Tensor:
        """Return the feature map of rows [R, T, V, C] as [R, D, T', V], T' = ceil(ceil(T/2)/2).

        The rows are those of `groups` batches of equal size, more than one only where `gpu_block.passes`.
        """
        if gpu_block.passes(self, rows):
            count_batch(self, groups)
            return gpu_block.gpu_maps(self, rows, repeats, groups)
        if self.training:
            count_batch(self)
        y = self.input_norm(rows.reshape(-1, self.input_norm.num_features), repeats).view(rows.shape)
        importance = torch.stack([cast(STGCNBlock, block).spatial.importance for block in self.blocks])
        weighted = self.adjacency * importance
        # What numba computes has no second derivatives, which somebody may ask for who does not train.
        alone = takes(y) and (self.training or not torch.is_grad_enabled())
        edges = ListedEdges.of(weighted, self._edge_list) if alone else Edges.of(weighted)
        for block, each in zip(self.blocks, edges.unbound(), strict=True):
            y = block(y, each, repeats)
        return y.permute(0, 3, 1, 2)

    @cached_property
    def _edge_list(self) -> EdgeList:
        with torch.inference_mode(False):  # it is kept for later training steps
            return EdgeList.of(self.adjacency)


class Edges(NamedTuple):
    """The weighted edges of a graph, or of one per block, [B, ...], which is made by fewer operations together."""

    gather: Tensor  # [V * K, V]: gathers the K neighbourhoods of every joint
    sums: Tensor  # [K, V]: the sums of the columns

    @classmethod
    def of(cls, edges: Tensor) -> "Edges":
        """Return them of edges [..., K, V, V], from v to w."""
        return cls(edges.movedim(-1, -3).flatten(-3, -2), edges.sum(dim=-2))

    def unbound(self) -> "Iterator[Edges]":
        """Yield those of each graph."""
        return map(Edges, self.gather.unbind(), self.sums.unbind())

    def neighbourhoods(self, poses: Tensor) -> Tensor:
        """Return near[p, w, k] = sum_v edges[k, v, w] poses[p, v]: [P, V, C] -> [P, V, K, C]."""
        count, joints, channels = poses.shape
        # Batched products with few columns are slow on a CPU; matmul joins them into one product.
        # Their sizes would then be fixed in an exported graph: the product of batches leaves them free.
        if channels < 16 and not _is_exporting():
            near = self.gather @ poses
        else:  # in one type first: autocast would convert a copy of the matrix for every pose
            near = torch.bmm(self.gather.to(poses.dtype).expand(count, -1, -1), poses)
        return near.view(count, joints, -1, channels)


class ListedEdges(NamedTuple):
    """The same with a list of the entries that are not zero, for `gathered`."""

    weights: Tensor  # [E], those of the list
    sums: Tensor  # [K, V]
    listed: EdgeList

    @classmethod
    def of(cls, edges: Tensor, listed: EdgeList) -> "ListedEdges":
        return cls(edges.flatten(-3)[..., listed.entries], edges.sum(dim=-2), listed)

    def unbound(self) -> "Iterator[ListedEdges]":
        return (
            ListedEdges(*each, self.listed) for each in zip(self.weights.unbind(), self.sums.unbind(), strict=True)
        )

    def neighbourhoods(self, poses: Tensor) -> Tensor:
        return gathered(poses, self.weights, self.listed)


class STGCNBlock(nn.Module):
    """Graph convolution, temporal convolution and a residual path on rows [R, T, V, C_in]."""

    def __init__(
        self, c_in: int, c_out: int, joints: int, stride: int, dropout: float, residual: bool = True
    ) -> None:
        super().__init__()
        self.stride = stride
        self.residual = residual
        self.spatial = GraphConvolution(c_in, c_out, joints)
        self.spatial_norm = BatchNorm2d(c_out)
        self.temporal = TemporalConvolution(c_out, stride)
        self.temporal_norm = BatchNorm2d(c_out)
        self.dropout = Dropout(dropout)
        reshapes = residual and (c_in != c_out or stride != 1)
        self.shortcut = nn.Linear(c_in, c_out) if reshapes else None
        self.shortcut_norm = BatchNorm2d(c_out) if reshapes else None

    def forward(
        self, x: Tensor, graph: Tensor | Edges | ListedEdges, repeats: Repeats | Weights | None = None
    ) -> Tensor:
        y = _rectified(self.spatial_norm, self.spatial(x, graph), repeats)
        y = self.temporal(y)
        if self.shortcut is not None and self.shortcut_norm is not None:
            around: Tensor = _normalise(self.shortcut_norm, self._around(self.shortcut, x), repeats)
        elif self.residual:
            around = x
        else:
            return _rectified(self.temporal_norm, y, repeats)
        least = self.dropout.least if isinstance(self.dropout, Dropout) else None
        if least is not None and in_one_pass(self.temporal_norm, y, repeats):
            return finished(self.temporal_norm, y, around, least, cast(Repeats | None, repeats))
        return F.relu_(self.dropout(_normalise(self.temporal_norm, y, repeats)) + around)

    def _around(self, shortcut: nn.Linear, x: Tensor) -> Tensor:
        if not _is_exporting():
            mapped: Tensor = shortcut(x[:, :: self.stride])
            return mapped
        # The same as a convolution, whose number of frames is the same expression as that of the temporal one.
        weight, stride = shortcut.weight[:, :, None, None], (self.stride, 1)
        return F.conv2d(x.permute(0, 3, 1, 2), weight, shortcut.bias, stride).permute(0, 2, 3, 1)


class GraphConvolution(nn.Module):
    """out[w] = sum_k sum_v (A * importance)[k, v, w] (W_k x[v] + b_k): rows [R, T, V, C_in] -> [.., C_out].

    Computed in the cheaper order: first the three neighbourhoods of every joint are gathered, then one product
    over 3 C_in channels applies all W_k; each b_k is multiplied by the sums of the columns.
    """

    def __init__(self, c_in: int, c_out: int, joints: int, subsets: int = 3) -> None:
        super().__init__()
        self.subsets = subsets
        self.maps = nn.Linear(c_in, subsets * c_out)  # W_k and b_k, subset-major
        self.importance = nn.Parameter(torch.ones(subsets, joints, joints))

    def forward(self, x: Tensor, graph: Tensor | Edges | ListedEdges) -> Tensor:
        """Return the rows convolved by a graph [K, V, V], or by edges that importance has weighted already."""
        rows, frames, joints, c_in = x.shape
        edges = Edges.of(graph * self.importance) if isinstance(graph, Tensor) else graph
        near = edges.neighbourhoods(x.reshape(rows * frames, joints, c_in))
        near = near.reshape(rows, frames, joints, self.subsets * c_in)
        weight = self.maps.weight.view(self.subsets, -1, c_in).transpose(0, 1).flatten(1)
        bias = edges.sums.T @ self.maps.bias.view(self.subsets, -1)
        return F.linear(near, weight).add_(bias)


class Dropout(nn.Dropout):
    """`nn.Dropout` whose mask, on a CPU, takes one random byte per element where 256 p is a whole number."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    @property
    def least(self) -> int | None:
        """The number from 0 to 255 below which a random byte drops its element; None where bytes do not do."""
        threshold = round(256 * self.p) if self.training else 0
        exact = threshold == 256 * self.p or not self.training
        return threshold if exact and threshold < 256 else None

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type != "cpu" or torch.compiler.is_compiling()  # random_ does not compile
        least = None if plain else self.least
        if not least:
            return super().forward(x)
        keep = random_bytes(x.numel()).view(x.shape) >= least
        return x * keep.to(x.dtype).mul_(256 / (256 - least))


def _normalise(norm: BatchNorm2d, x: Tensor, repeats: Repeats | Weights | None) -> Tensor:
    y: Tensor = norm(x.permute(0, 3, 1, 2), repeats)
    return y.permute(0, 2, 3, 1)


def _rectified(norm: BatchNorm2d, x: Tensor, repeats: Repeats | Weights | None) -> Tensor:
    if in_one_pass(norm, x, repeats):
        return rectified(norm, x, cast(Repeats | None, repeats))
    y: Tensor = norm(x.permute(0, 3, 1, 2), repeats)
    # Before the view below: autograd would copy a tensor that changes through a view.
    return F.relu_(y).permute(0, 2, 3, 1)
