"""MsMCLR: a strongly augmented view, judged at three scales of the body by the normal one (Wu et al.; spec D7)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.d3m import d3m
from skelpipe.models.encoders import draw_weights
from skelpipe.models.keyinit import draw_keys
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Batch, Method, Progress, Setting, Step, Views
from skelpipe.models.msm_attention import MsMAttention
from skelpipe.models.nnm import nearest, nnm
from skelpipe.models.parts import Parts
from skelpipe.models.step import spread

__all__ = ["MsMCLR"]


class MsMCLR(Method):
    """L = L_Info(z_hat) + L_Ms, L_Ms the mean over joints, parts and body of D3M against z_hat (eq. 3, 6 to 10).

    The strong view has MsM attention between the query encoder and its head, in training alone: evaluation uses
    the encoder without it. The attention has no momentum copy, as no key needs one; the paper's and its code's
    counts of weights include one that is idle.

    Paper and released code differ, and `variant` chooses: attention among the frames of a clip, or among 8
    consecutive rows of the batch (spec G14a); InfoNCE throughout, or from the epoch after `mining_epoch` nearest
    neighbours of all four views beside the key (G14b); differences beyond the last frame and node are 0 (or, by
    `zero_pad`, as released), or minus the feature (G14c); the key network starts as a copy of the query network,
    or elsewhere (G8); and the strong augmentation, see `augment.chains` (G15).
    """

    name: ClassVar[str] = "msmclr"
    settings: ClassVar[Mapping[str, Setting]] = {
        "reduction": Setting("int", low=1),
        "zero_pad": Setting("bool"),
        "mining_epoch": Setting("int", low=0),
        "top_k": Setting("int", low=1),
    }

    def __init__(self, parts: Parts, *, reduction: int, zero_pad: bool, mining_epoch: int, top_k: int) -> None:
        super().__init__()
        encoder = parts.encoder()
        if not encoder.joint_map:
            raise UsageError(
                f"msmclr merges joints of the feature map; {type(encoder).__name__} has none: choose another "
                f"encoder.name, such as stgcn"
            )
        self.released = parts.variant == "released"
        self.temperature = parts.temperature
        self.mining_epoch, self.top_k = mining_epoch, top_k
        self.mining = False
        self.moco = parts.moco(encoder)
        self.attention = MsMAttention(
            parts.layout,
            encoder.feature_dim,
            reduction,
            over="rows" if self.released else "frames",
            zero_pad=zero_pad or self.released,
        )
        draw_weights(self.attention, parts.init)
        if self.released:
            draw_keys(self.moco, parts.init)
        self._views = {
            "query": parts.chain("normal"),
            "strong": parts.chain("msmclr-strong"),
            "key": parts.chain("normal"),
        }

    @classmethod
    def build(cls, parts: Parts, settings: Mapping[str, Any]) -> Self:
        return cls(parts, **settings)

    def views(self) -> Views:
        return self._views

    def advance(self, progress: Progress) -> None:
        """Mine neighbours after `mining_epoch` epochs, where the released code is followed."""
        self.mining = self.released and progress.epoch >= self.mining_epoch

    def forward(self, batch: Batch) -> Step:
        """Step with the views `query`, `strong` and `key` [N, C, T, V, M]; moves key network and queue."""
        q = self.moco.query(batch.views["query"])
        scales = self.strong(batch.views["strong"])
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        # A copy of the queue: backward needs it as it was, and the new keys are written before that.
        queue = self.moco.queue.clone()
        normal, *strong = (contrastive_logits(z, k, queue, self.temperature) for z in (q, *scales))
        alike = self._alike(normal, strong)
        taught = torch.stack([d3m(normal, logits) for logits in strong]).mean()
        self.moco.enqueue(k)
        logs = {"info": alike, "ms": taught, "top1": (normal.argmax(dim=1) == 0).float().mean(), "std": spread(q)}
        loss = alike + taught
        return Step(loss, q.detach(), k, {name: log.detach() for name, log in {"loss": loss, **logs}.items()})

    def strong(self, x: Tensor) -> list[Tensor]:
        """Return z [N, dim], unit length, of clips at each scale: joints, parts, body."""
        maps = self.attention(self.moco.encoder.features(x))  # type: ignore[operator]
        pool = self.moco.encoder.pool
        return [self.moco.project(pool(scale, x.shape[4])) for scale in maps]  # type: ignore[operator]

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        return self.moco.encoder, self.moco.head

    def _alike(self, normal: Tensor, strong: Sequence[Tensor]) -> Tensor:
        """Return InfoNCE of the normal view or, while mining, its loss with the neighbours of all views."""
        if not self.mining:
            return positive_first(normal)
        return nnm(normal, nearest([normal, *strong], self.top_k))
