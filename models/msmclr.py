"""MsMCLR: a strongly augmented view learns from the normal view at three scales of the body (Wu et al.)."""

import math
from collections.abc import Collection, Sequence
from typing import ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.absent_bodies import mean_of_present
from skelpipe.models.aimclr import d3m, nearest, nnm
from skelpipe.models.encoders import Encoder, draw_weights
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Logits, Method, Progress, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings.msmclr import MsMCLRSettings
from skelpipe.models.together import passed
from skelpipe.skeleton import Layout

__all__ = ["SCALES", "MotionAttention", "MsMAttention", "MsMCLR", "attend", "motion_of"]

SCALES = ("joint", "part", "body")
ROWS = 8  # consecutive rows of a batch that attend to each other in the released code


class MsMCLR(Method):
    """L = L_Info(z_hat) + L_Ms, where L_Ms is the mean of D3M against z_hat over three scales (eq. 3, 6 to 10).

    The scales are joints, parts and body. In training the strong view passes MsM attention between the query
    encoder and its head; evaluation uses the encoder without it. The attention has no momentum copy, as keys do
    not use it (divergence `msmclr-parameters`).

    `variant` chooses between paper and released code: attention among frames or among 8 rows of the batch
    (divergence `msmclr-attention-rows`), InfoNCE throughout or NNM over all four embeddings after `mining_epoch`
    epochs (`msmclr-mining-epoch`), the last difference (`msmclr-last-difference`; `zero_pad` alone sets it too),
    how the key network starts (`key-initial-weights`), and the strong view (`msmclr-strong-augmentation`).

    Ablations: without `attention` the maps of the `scales` are pooled as they are, and with scale "joint" alone
    there is no multi-scale skeleton (table 4); `differences` are those of the attention (table 5, fig. 5);
    `strong_loss` "nce" is InfoNCE of each strong embedding in place of its D3M (table 7; ambiguity
    `msmclr-only-nce`).
    """

    name: ClassVar[str] = "msmclr"
    Settings: ClassVar[type] = MsMCLRSettings

    def __init__(self, parts: Parts, settings: MsMCLRSettings) -> None:
        super().__init__()
        settings.check(parts.recipe.variant)
        encoder = parts.encoder()
        if not encoder.joint_map:
            raise UsageError(
                f"msmclr merges joints of the feature map; {type(encoder).__name__} has none: choose another "
                f"encoder.name, such as stgcn"
            )
        self.released = parts.recipe.variant == "released"
        self.temperature = settings.temperature
        self.settings = settings
        self.mining = False
        self.moco = parts.moco(encoder)
        self.attention = MsMAttention(
            parts.layout,
            encoder.feature_dim,
            settings.reduction,
            over="rows" if self.released else "frames",
            zero_pad=settings.zero_pad or self.released,
            differences=settings.differences,
            scales=settings.scales,
            weighted=settings.attention,
        )
        draw_weights(self.attention, parts.recipe.init)
        if self.released:
            draw_keys(self.moco, parts.recipe.init)
        self._views = {
            "query": parts.view_chain("query", "normal"),
            "strong": parts.view_chain("strong", "msmclr-strong"),
            "key": parts.view_chain("key", "normal"),
        }

    @classmethod
    def build(cls, parts: Parts, settings: MsMCLRSettings) -> Self:
        return cls(parts, settings)

    def views(self) -> ViewRecipes:
        return self._views

    def advance(self, progress: Progress) -> None:
        """Mine neighbours after `mining_epoch` epochs in the released variant."""
        self.mining = self.released and progress.epoch >= self.settings.mining_epoch

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the views `query`, `strong` and `key` [N, C, T, V, M]; updates key network and queue."""
        q, *scales = self._queries(batch.views["query"], batch.views["strong"])
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        # A copy of the queue: backward needs it as it was, and the new keys are written before that.
        queue = self.moco.queue.clone()
        normal, *strong = (contrastive_logits(z, k, queue, self.temperature) for z in (q, *scales))
        info = self._info_loss(normal, strong)
        multi_scale = torch.stack([self._strong_loss(normal, logits) for logits in strong]).mean()
        self.moco.enqueue(k)
        top1 = (normal.argmax(dim=1) == 0).float().mean()
        logs = {"info": info, "ms": multi_scale, "top1": top1, "std": spread(q)}
        loss = info + multi_scale
        logs = {name: log.detach() for name, log in {"loss": loss, **logs}.items()}
        named = Logits(dict(zip(("query", *self.attention.scales), (normal, *strong), strict=True)))
        return Step(loss, q.detach(), k, logs, named)

    def _queries(self, query: Tensor, strong: Tensor) -> tuple[Tensor, ...]:
        """Return z [N, dim], unit length, of `query`, and of `strong` at each of the scales, in the order of
        `SCALES`."""
        encoder = cast(Encoder, self.moco.encoder)
        h, maps = passed(encoder, query, strong)
        scales = self.attention(maps)
        pooled = (mean_of_present(encoder, encoder.pool(scale, strong.shape[4]), strong) for scale in scales)
        return self.moco.project_all(h, *pooled)

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        return self.moco.encoder, self.moco.head

    def _strong_loss(self, normal: Tensor, strong: Tensor) -> Tensor:
        """Return D3M of a strong embedding's logits against the normal query's, or InfoNCE against the key."""
        return d3m(normal, strong) if self.settings.strong_loss == "ms" else positive_first(strong)

    def _info_loss(self, normal: Tensor, strong: Sequence[Tensor]) -> Tensor:
        """Return InfoNCE of the normal view or, while mining, NNM with the neighbours of all four embeddings."""
        if not self.mining:
            return positive_first(normal)
        return nnm(normal, nearest([normal, *strong], self.settings.top_k))


class MsMAttention(nn.Module):
    """Weighted maps of a map [R, D, T', V] at each of the `scales`: its joints, the layout's parts, its body.

    A merged node is the mean of its joints (sec. 3.2.1; the layout's levels list them, divergence
    `msmclr-groups`). All scales share one `MotionAttention` (divergence `msmclr-shared-attention`). If not
    `weighted` there is none, and the maps are only merged.
    """

    def __init__(
        self,
        layout: Layout,
        channels: int,
        reduction: int = 8,
        *,
        over: str = "frames",
        zero_pad: bool = False,
        differences: str = "all",
        scales: Collection[str] = SCALES,
        weighted: bool = True,
    ) -> None:
        """Raise UsageError where the layout has no level `part` or `body` and it is among the scales."""
        super().__init__()
        self.motion: nn.Module = nn.Identity()
        if weighted:
            self.motion = MotionAttention(
                channels, reduction, over=over, zero_pad=zero_pad, differences=differences
            )
        self.scales = tuple(scale for scale in SCALES if scale in scales)
        for level in self.scales:
            if level != "joint":
                self.register_buffer(level, _means(layout, level), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the weighted maps [R, D, T', V_s] of the scales, in the order of `SCALES`."""
        joints = x.permute(0, 2, 3, 1)
        maps = (joints if name == "joint" else getattr(self, name).to(x.dtype) @ joints for name in self.scales)
        return [self.motion(scale).permute(0, 3, 1, 2) for scale in maps]


class MotionAttention(nn.Module):
    """H = W X + X for maps X [R, T', V_s, D], with W in 0..1 from differences between frames and between nodes.

    `differences` chooses among these (`motion_of`). Y = 1x1 convolution to D / reduction channels; O = attention
    among tokens of `motion_of`(norm(Y)); W = sigmoid(1x1 convolution of O + Y) (sec. 3.2.2, eq. 1). norm is a
    LayerNorm over the nodes without weights (divergence `msmclr-layer-norm`). The tokens are the T' frames of a
    row (`over="frames"`, the paper), or 8 consecutive rows of the batch (`over="rows"`, the released code,
    divergence `msmclr-attention-rows`); the rows after the last full 8 form a smaller group.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        over: str = "frames",
        zero_pad: bool = False,
        differences: str = "all",
    ) -> None:
        super().__init__()
        self.over = over
        self.zero_pad = zero_pad
        self.differences = differences
        inner = max(1, channels // reduction)
        self.down = nn.Linear(channels, inner)  # with the channels last, a 1x1 convolution
        self.up = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape [R, T', V_s, D]."""
        y = self.down(x)
        moves = motion_of(_normalised(y), self.zero_pad, self.differences)
        weight = torch.sigmoid(self.up(self._attended(moves) + y))
        return torch.addcmul(x, weight.to(x.dtype), x)

    def _attended(self, moves: Tensor) -> Tensor:
        """Return motion [R, T', V_s, D'] after attention among its tokens."""
        if self.over == "frames":
            return attend(moves.flatten(2)).view_as(moves)
        whole = len(moves) - len(moves) % ROWS
        tokens = moves.flatten(1)
        groups = [tokens[:whole].unflatten(0, (-1, ROWS))] if whole else []
        groups += [tokens[whole:][None]] if whole < len(moves) else []
        return torch.cat([attend(group).flatten(0, 1) for group in groups]).view_as(moves)


def motion_of(y: Tensor, zero_pad: bool = False, differences: str = "all") -> Tensor:
    """Return the mean of y[t+1] - y[t] and y[v+1] - y[v] for y [R, T', V, D]; `differences` names one alone.

    "all" are the two, "inter-frame" and "inter-node" the one or the other as it is (Wu et al., fig. 5). Nothing
    follows the last frame and the last node: their difference is 0, or with `zero_pad` minus the feature, as in
    the released code (divergence `msmclr-last-difference`).
    """
    if differences != "all":
        return _next(y, 1 if differences == "inter-frame" else 2, zero_pad) - y
    return (_next(y, 1, zero_pad) + _next(y, 2, zero_pad)) / 2 - y


def attend(tokens: Tensor) -> Tensor:
    """Return softmax(D D^T / sqrt(E)) D for groups of tokens D [G, L, E] (MsMCLR eq. 1 with Q = K = V = D)."""
    near = tokens @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[2])
    return near.softmax(dim=2).to(tokens.dtype) @ tokens


def _next(y: Tensor, dim: int, zero_pad: bool) -> Tensor:
    """Return y shifted by one along `dim`: behind the last element follows the last again, or zeros."""
    last = y.narrow(dim, -1, 1)
    return torch.cat([y.narrow(dim, 1, y.shape[dim] - 1), torch.zeros_like(last) if zero_pad else last], dim=dim)


def _normalised(y: Tensor) -> Tensor:
    """Return maps [R, T', V, D] with mean 0 and variance 1 over the nodes."""
    return F.layer_norm(y.transpose(2, 3), y.shape[2:3]).transpose(2, 3)


def _means(layout: Layout, level: str) -> Tensor:
    """Return the matrix, float64 [V_s, V], from joints to the means of a level's groups, in the layout's order."""
    groups: Sequence[tuple[int, ...]] = tuple(layout.levels.get(level, {}).values())
    if not groups:
        raise UsageError(
            f"MsMCLR needs the joints of {layout.name} in groups: its layout lacks levels.{level} "
            f"(manifests/layouts/kinect-v2-25.yaml shows how they are written)"
        )
    means = torch.zeros(len(groups), len(layout), dtype=torch.float64)
    for node, joints in enumerate(groups):
        means[node, list(joints)] = 1 / len(joints)
    return means
