"""SkeAttnCLR: attention divides the features of mixed clips into salient and other features (Hua et al. 2023)."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.loader import mixing_views
from skelpipe.models.absent_bodies import mean_of_present
from skelpipe.models.bigru import BIGRU
from skelpipe.models.encoders import Encoder, draw_weights
from skelpipe.models.losses import contrastive_logits, hard_negative_logits, positive_first, upcast
from skelpipe.models.method import Logits, Method, Progress, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings.skeattnclr import SkeAttnCLRSettings
from skelpipe.models.skelemixclr import region_bounds
from skelpipe.models.together import passed

__all__ = ["MHSAM", "SkeAttnCLR", "momentum_at"]


PREDICTED = ("z", "s", "ns")  # the whole clip, its salient features and the others
BIGRU_MOMENTUM = 0.999  # past the end of the schedule: divergence `skeattnclr-momentum`


class SkeAttnCLR(Method):
    """L = L_Info + mu L_s + (1 - mu) L_ns (eq. 10 and 11), on any backbone.

    MHSAM returns the mask M_s of the mixed clip's feature map (eq. 2 to 4). This map and the key's, which is not
    mixed, are pooled with the weights M_s and 1 - M_s (eq. 5 to 7; divergence `skeattnclr-key-mask`). The two
    pooled features of the query are each other's hard negatives (eq. 8, 9; not without `hard_negative`, table 17);
    the queue holds keys of whole clips.
    The momentum rises from the recipe's to 1 over the run (`momentum_at`).

    `variant` chooses between paper and released code: when and by which schedule the key network is updated
    (divergence `skeattnclr-momentum`), how it starts (`key-initial-weights`), biases in the heads
    (`skeattnclr-head-bias`), how BIGRU's local features are pooled (`bigru-direction`), and whether the mixed clip
    also goes through head and predictor as a whole, of which only running statistics take notice
    (`skeattnclr-mixed-whole`). In both variants mu, graph and width are the recipe's (`skeattnclr-mu`,
    `skelemixclr-graph`, `skeattnclr-width`).

    The paper's predictor P_q is the head, with its momentum copy P_k. The released code has three predictors
    behind the query's head: for whole, salient and other features (divergence `skeattnclr-predictors`).
    `predictors` is "three", "none", or "variant": none in the paper's variant, three in the released one.
    """

    name: ClassVar[str] = "skeattnclr"
    Settings: ClassVar[type] = SkeAttnCLRSettings
    depends_on_run_length: ClassVar[bool] = True

    def __init__(self, parts: Parts, settings: SkeAttnCLRSettings) -> None:
        super().__init__()
        self.released = parts.recipe.variant == "released"
        predicting = self.released if settings.predictors == "variant" else settings.predictors == "three"
        self.temperature, self.mu = settings.temperature, settings.mu
        self.hard_negative = settings.hard_negative
        self.first_momentum = settings.momentum
        self.predictors = nn.ModuleDict()
        encoder, head = parts.encoder(), parts.head()
        if predicting:
            self.predictors.update({name: parts.head(parts.dim, settings.predictor_hidden) for name in PREDICTED})
        if self.released:
            _drop_biases(head, self.predictors)
        self.moco = parts.moco(encoder, head)
        if self.released:
            draw_keys(self.moco, parts.recipe.init)
        self.attention = MHSAM(encoder.feature_dim, settings.heads, settings.sharpness)
        draw_weights(self.attention, parts.recipe.init)
        regions: dict[str, Any] = region_bounds(settings)
        self._views = mixing_views.skeattnclr(parts.layout, **regions, chains=parts.view_chain)

    @classmethod
    def build(cls, parts: Parts, settings: SkeAttnCLRSettings) -> Self:
        return cls(parts, settings)

    def views(self) -> ViewRecipes:
        return self._views

    def advance(self, progress: Progress) -> None:
        ahead = 1 if self.released else 0
        step = (progress.epoch + ahead) * progress.steps + progress.step
        steps = progress.epochs * progress.steps
        self.moco.momentum = momentum_at(step, steps, self.first_momentum)
        if step > steps and isinstance(self.moco.encoder, BIGRU):  # released: in the last epoch
            self.moco.momentum = BIGRU_MOMENTUM

    def forward(self, batch: ViewBatch) -> Step:
        """Step with `batch.views["query"]`, `["key"]` and `["mixed"]` [N, C, T, V, M]; updates key network and
        queue."""
        encoder = cast(Encoder, self.moco.encoder)
        h, features = passed(encoder, batch.views["query"], batch.views["mixed"])  # [N or N * M, D, T', V']
        q = self._predict(h, "z")
        mask = self.attention(features)
        if self.released:
            with torch.no_grad():
                self._predict(self._pool(features, batch.views["mixed"]), "z")
        salient, other = self._pool_masked(features, mask, batch.views["mixed"])
        q_s, q_ns = self._predict(salient, "s"), self._predict(other, "ns")
        if not self.released:
            self.moco.update_key()
        k, k_s, k_ns = self._keys(batch.views["key"], mask)
        queue = self.moco.queue.clone()  # a copy: the new keys are written before backward reads it
        logits = contrastive_logits(q, k, queue, self.temperature)  # [N, 1 + K]
        info = positive_first(logits)
        salient_logits = self._local_logits(q_s, k_s, queue, q_ns)
        other_logits = self._local_logits(q_ns, k_ns, queue, q_s)
        loss_s, loss_ns = positive_first(*salient_logits), positive_first(*other_logits)
        loss = info + self.mu * loss_s + (1 - self.mu) * loss_ns
        self.moco.enqueue(k)
        logs = {"loss": loss, "info": info, "salient": loss_s, "other": loss_ns, "mask_std": mask.std()}
        logs = {name: value.detach() for name, value in logs.items()}
        logs["top1"] = (logits.argmax(dim=1) == 0).float().mean()
        named = Logits({"query": logits, "salient": salient_logits, "other": other_logits})
        return Step(loss, q.detach(), k, {**logs, "std": spread(q.detach())}, named)

    @torch.no_grad()
    def finish(self) -> None:
        """Update the released variant's key network, its running statistics too."""
        if self.released:
            keys, queries = self._state("key_encoder", "key_head"), self._state("encoder", "head")
            torch._foreach_lerp_(list(keys), list(queries), 1 - self.moco.momentum)

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        head = self.moco.head
        return self.moco.encoder, nn.Sequential(head, self.predictors["z"]) if self.predictors else head

    def _local_logits(self, q: Tensor, k: Tensor, queue: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of eq. 8 or 9 in pieces, with `other` as a negative or without it (table 17)."""
        if not self.hard_negative:
            return (contrastive_logits(q, k, queue, self.temperature),)
        return hard_negative_logits(q, k, queue, other, self.temperature)

    @torch.no_grad()
    def _keys(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return k, k_s and k_ns [N, dim] of clips x, pooled with the query's mask."""
        encoder = cast(Encoder, self.moco.key_encoder)
        features = encoder.features(x)
        whole = mean_of_present(encoder, encoder.pool(features, x.shape[4]), x)
        salient, other = self._pool_masked(features, mask, x)
        return self.moco.key_project(whole), self.moco.key_project(salient), self.moco.key_project(other)

    def _pool_masked(self, features: Tensor, mask: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features pooled with weights `mask` and 1 - `mask`, [N, D] each (eq. 6 and 7).

        Pooling is linear: the second is the pooled whole minus the first.
        """
        salient = self._pool(features * mask, clips)
        return salient, self._pool(features, clips) - salient

    def _pool(self, features: Tensor, clips: Tensor) -> Tensor:
        """Return the mean over positions, then over the rows of a clip: one row per body, or one in all."""
        encoder = cast(Encoder, self.moco.encoder)
        if self.released:
            h = encoder.pool(features, len(features) // len(clips))
        else:
            h = features.mean(dim=(2, 3)).unflatten(0, (len(clips), -1)).mean(dim=1)
        return mean_of_present(encoder, h, clips)

    def _predict(self, h: Tensor, which: str) -> Tensor:
        """Return the query's unit vectors [N, dim] of pooled features h [N, D], of one of `PREDICTED`."""
        if not self.predictors:
            return self.moco.project(h)
        z: Tensor = self.predictors[which](self.moco.head(h))
        return F.normalize(upcast(z), dim=1)

    def _state(self, *names: str) -> Iterator[Tensor]:
        """Yield parameters and running statistics of networks of `moco`, but not the counters of batches."""
        for name in names:
            network = getattr(self.moco, name)
            yield from network.parameters()
            yield from (buffer for buffer in network.buffers() if buffer.is_floating_point())


def momentum_at(step: int, steps: int, first: float) -> float:
    """Return 1 - (1 - first) (cos(pi step / steps) + 1) / 2: from `first` at 0 to 1 at `steps` (section 3.1)."""
    return 1 - (1 - first) * (math.cos(math.pi * step / steps) + 1) / 2


def _drop_biases(*heads: nn.Module) -> None:
    """Remove the biases of the linear layers of heads, in place."""
    for head in heads:
        for layer in head.modules():
            if isinstance(layer, nn.Linear):
                layer.register_parameter("bias", None)


class MHSAM(nn.Module):
    """The soft attention mask of a feature map [R, D, T', V'], in 0..1 per position and channel (section 3.2).

    Self-attention among the T' V' positions of a row (eq. 2 and 3), after a LayerNorm, then M = sigmoid(sharpness
    * proj(x)) (eq. 4; `sharpness` is lambda). There is no residual path and no dropout. At D = 256 it has 263,680
    weights. The modules keep PyTorch's own initialisation.
    """

    def __init__(self, channels: int, heads: int = 8, sharpness: float = 2.0) -> None:
        super().__init__()
        if channels % heads:
            raise UsageError(f"{heads} attention heads cannot share {channels} channels: take a divisor of them")
        self.heads = heads
        self.sharpness = sharpness
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)  # queries, keys, values, each head-major
        self.proj = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mask [R, D, T', V'] of a map of that shape."""
        tokens = features.flatten(2).transpose(1, 2)  # [R, L, D], frame by frame
        qkv = self.qkv(self.norm(tokens)).unflatten(2, (3, self.heads, -1))  # [R, L, 3, heads, D / heads]
        found = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))  # [R, heads, L, D / heads]
        mask = torch.sigmoid(self.sharpness * self.proj(found.transpose(1, 2).flatten(2)))
        return mask.transpose(1, 2).unflatten(2, features.shape[2:])
