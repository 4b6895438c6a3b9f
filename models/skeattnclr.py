"""SkeAttnCLR: salient and other features of mixed clips, split by attention, beside whole clips
(Hua et al. 2023; spec D6)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.loader import mixing_views
from skelpipe.models.encoders import Encoder, draw_weights
from skelpipe.models.losses import contrastive_logits, info_nce_hard_negative, positive_first
from skelpipe.models.method import Method, Progress, Setting, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings import ABOVE_ZERO
from skelpipe.models.skelemixclr import BOUNDS, region_bounds

__all__ = ["MHSAM", "SkeAttnCLR", "momentum_at"]


PREDICTED = ("z", "s", "ns")  # the whole clip, its salient features and the others
PREDICTORS = ("variant", "none", "three")


class SkeAttnCLR(Method):
    """L = L_Info + mu L_s + (1 - mu) L_ns (eq. 10 and 11), on any backbone.

    MHSAM makes the mask M_s of the mixed clip's feature map. The map, and with the same mask the map of the key
    (not mixed: the donor has no part in it), are pooled weighed by M_s and by 1 - M_s (eq. 5 to 7). The two
    results of the query are each other's hard negatives, detached, which the paper leaves open (spec G18);
    the queue is that of whole clips. The momentum rises from M_0, the recipe's, to 1 over the run.

    Where paper and code differ `variant` chooses. "paper": parameters alone follow, before the key is made; the
    schedule starts at 0; all positions are averaged. "released": heads without biases; a key network that
    starts elsewhere (G8); parameters and running statistics follow after the optimiser's step, on a schedule
    that is an epoch ahead and so turns round at the end; local features are pooled as whole clips are, which
    for BIGRU is the last frame (G19). mu is the recipe's in both (G16), and so are graph and width (G17, G20).

    What the paper calls a predictor is the head: P_q, with its momentum copy P_k. The code calls that a projector
    and has, behind it and for the query alone, three predictors: of whole, salient and other features (as before
    the last renaming, with which it stopped running; spec G18). `predictors` is "three" (the recipe's), "none", or
    "variant": none for the paper's, three for the released one.
    """

    name: ClassVar[str] = "skeattnclr"
    settings: ClassVar[Mapping[str, Setting]] = {
        "mu": Setting("float", low=0, high=1),
        "sharpness": Setting("float", low=ABOVE_ZERO),
        "heads": Setting("int", low=1),
        "predictors": Setting("str", choices=PREDICTORS),
        **BOUNDS,
    }
    earlier: ClassVar[Mapping[str, Any]] = {"predictors": "variant"}
    spans_run: ClassVar[bool] = True

    def __init__(
        self,
        parts: Parts,
        *,
        mu: float,
        sharpness: float,
        heads: int,
        predictors: str,
        regions: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.released = parts.variant == "released"
        predicting = self.released if predictors == "variant" else predictors == "three"
        self.temperature, self.mu, self.first_momentum = parts.temperature, mu, parts.momentum
        self.predictors = nn.ModuleDict()
        encoder, head = parts.encoder(), parts.head()
        if predicting:
            self.predictors.update({name: parts.head(parts.dim) for name in PREDICTED})
        if self.released:
            _drop_biases(head, self.predictors)
        self.moco = parts.moco(encoder, head)
        if self.released:
            draw_keys(self.moco, parts.init)
        self.attention = MHSAM(encoder.feature_dim, heads, sharpness)
        draw_weights(self.attention, parts.init)
        self._views = mixing_views.skeattnclr(parts.layout, **regions, **parts.augment)

    @classmethod
    def build(cls, parts: Parts, settings: Mapping[str, Any]) -> Self:
        own = {key: value for key, value in settings.items() if key not in BOUNDS}
        return cls(parts, **own, regions=region_bounds(cls.name, settings))

    def views(self) -> ViewRecipes:
        return self._views

    def advance(self, progress: Progress) -> None:
        ahead = 1 if self.released else 0
        step = (progress.epoch + ahead) * progress.steps + progress.step
        self.moco.momentum = momentum_at(step, progress.epochs * progress.steps, self.first_momentum)

    def forward(self, batch: ViewBatch) -> Step:
        """Step with `batch.views["query"]`, `["key"]` and `["mixed"]` [N, C, T, V, M]."""
        q = self._predict(self.moco.encoder(batch.views["query"]), "z")
        features = cast(Encoder, self.moco.encoder).features(
            batch.views["mixed"]
        )  # [R, D, T', V'], R of N or N * M
        mask = self.attention(features)
        salient, other = self._split(features, mask, len(q))
        q_s, q_ns = self._predict(salient, "s"), self._predict(other, "ns")
        if not self.released:
            self.moco.update_key()
        k, k_s, k_ns = self._keys(batch.views["key"], mask)
        queue = self.moco.queue.clone()  # as it is now: the new keys are written before backward reads it
        logits = contrastive_logits(q, k, queue, self.temperature)  # [N, 1 + K]
        info = positive_first(logits)
        loss_s = info_nce_hard_negative(q_s, k_s, queue, q_ns, self.temperature)
        loss_ns = info_nce_hard_negative(q_ns, k_ns, queue, q_s, self.temperature)
        loss = info + self.mu * loss_s + (1 - self.mu) * loss_ns
        self.moco.enqueue(k)
        logs = {"loss": loss, "info": info, "salient": loss_s, "other": loss_ns, "mask_std": mask.std()}
        logs = {name: value.detach() for name, value in logs.items()}
        logs["top1"] = (logits.argmax(dim=1) == 0).float().mean()
        return Step(loss, embeddings=q.detach(), keys=k, logs={**logs, "std": spread(q.detach())})

    @torch.no_grad()
    def finish(self) -> None:
        """Move the released variant's key network, its running statistics too."""
        if self.released:
            keys, queries = self._state("key_encoder", "key_head"), self._state("encoder", "head")
            torch._foreach_lerp_(list(keys), list(queries), 1 - self.moco.momentum)

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        head = self.moco.head
        return self.moco.encoder, nn.Sequential(head, self.predictors["z"]) if self.predictors else head

    @torch.no_grad()
    def _keys(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return k, k_s and k_ns [N, dim] of clips x, split by the query's mask."""
        encoder = cast(Encoder, self.moco.key_encoder)
        features = encoder.features(x)
        whole = encoder.pool(features, x.shape[4])
        salient, other = self._split(features, mask, len(x))
        return self.moco.key_project(whole), self.moco.key_project(salient), self.moco.key_project(other)

    def _split(self, features: Tensor, mask: Tensor, clips: int) -> tuple[Tensor, Tensor]:
        """Return the features weighed by the mask and by what it leaves, pooled to [N, D] each (eq. 6 and 7).

        Pooling is linear: what is left is the whole without the salient part.
        """
        salient = self._pool(features * mask, clips)
        return salient, self._pool(features, clips) - salient

    def _pool(self, features: Tensor, clips: int) -> Tensor:
        """Return the mean over positions, then over the rows of a clip: a row a person, or one in all."""
        if self.released:
            return cast(Encoder, self.moco.encoder).pool(features, len(features) // clips)
        return features.mean(dim=(2, 3)).unflatten(0, (clips, -1)).mean(dim=1)

    def _predict(self, h: Tensor, which: str) -> Tensor:
        """Return the query's unit vectors [N, dim] of pooled features h [N, D], of one of `PREDICTED`."""
        if not self.predictors:
            return self.moco.project(h)
        z: Tensor = self.predictors[which](self.moco.head(h))
        return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)

    def _state(self, *names: str) -> Iterator[Tensor]:
        """Yield the numbers of networks of `moco`: parameters and running statistics, but no counters."""
        for name in names:
            network = getattr(self.moco, name)
            yield from network.parameters()
            yield from (buffer for buffer in network.buffers() if buffer.is_floating_point())


def momentum_at(step: int, steps: int, first: float) -> float:
    """Return 1 - (1 - first) (cos(pi step / steps) + 1) / 2: from `first` at 0 to 1 at `steps` (section 3.1)."""
    return 1 - (1 - first) * (math.cos(math.pi * step / steps) + 1) / 2


def _drop_biases(*heads: nn.Module) -> None:
    """Take the biases from the linear layers of heads, in place."""
    for head in heads:
        for layer in head.modules():
            if isinstance(layer, nn.Linear):
                layer.register_parameter("bias", None)


class MHSAM(nn.Module):
    """A mask in 0..1 for a feature map [R, D, T', V']: a share of its own for each position and channel.

    Self-attention among the T' V' positions of a row (eq. 2 and 3), after a LayerNorm, then
    M = sigmoid(sharpness * proj(x)) (eq. 4; `sharpness` is lambda). There is no way around the attention and
    no dropout. At D = 256 it has 263,680 weights. The modules keep PyTorch's own initialisation.
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
