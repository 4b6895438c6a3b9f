"""SkeleMixCLR and SkeleMixCLR+: both halves of mixed clips against the keys of the two clips they come from
(Chen et al. 2022; spec D4)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from skelpipe.augment.pooling import stmp
from skelpipe.errors import UsageError
from skelpipe.loader import mixing_views
from skelpipe.loader.view_recipes import On
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, info_nce_hard_negative, positive_first
from skelpipe.models.method import Method, Setting, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts

__all__ = ["BOUNDS", "SkeleMixCLR", "region_bounds"]

BOUNDS: Mapping[str, Setting] = {"parts": Setting("ints", low=1), "blocks": Setting("ints", low=1)}


class SkeleMixCLR(Method):
    """L = L_Info + lambda sum_r L_mix^r over R mixtures of the query (eq. 7); with R of 3 it is SkeleMixCLR+.

    A mixed clip's feature map is pooled inside the pasted region, to p, and outside it, to g (STMP, eq. 3). p's
    key is the donor's, g's the host's, and each is the other's hard negative, detached (eq. 4 to 6).

    Where code and paper differ `variant` chooses: the losses of the R mixtures are summed, as in the paper, or
    averaged, as `released` in the older of the two scripts (spec D4); the key network starts as a copy, or as
    `released` elsewhere (G8). The graph and the normalisation in the head, of which the paper has nothing, are
    the recipe's (G20, G21).
    """

    name: ClassVar[str] = "skelemixclr"
    settings: ClassVar[Mapping[str, Setting]] = {
        "repeats": Setting("int", low=1),
        "weight": Setting("float", low=0),
        **BOUNDS,
    }

    def __init__(
        self, moco: MoCo, views: ViewRecipes, *, temperature: float, weight: float, average: bool
    ) -> None:
        """`views` holds `query`, `key` and mixtures of the query; `weight` is lambda."""
        super().__init__()
        self.moco = moco
        self.temperature = temperature
        self.weight = weight
        self.average = average
        self._views = views
        self._mixed = [name for name, entry in views.items() if isinstance(entry, On)]

    @classmethod
    def build(cls, parts: Parts, settings: Mapping[str, Any]) -> Self:
        moco = parts.moco()
        if not moco.encoder.joint_map:
            raise UsageError(
                f"{cls.name} pools by joints and frames, and {type(moco.encoder).__name__} has no map of joints: "
                f"take another encoder.name, such as stgcn"
            )
        released = parts.variant == "released"
        if released:
            draw_keys(moco, parts.init)
        regions: dict[str, Any] = region_bounds(cls.name, settings)
        views = mixing_views.skelemixclr(parts.layout, repeats=settings["repeats"], **regions, **parts.augment)
        return cls(moco, views, temperature=parts.temperature, weight=settings["weight"], average=released)

    def views(self) -> ViewRecipes:
        return self._views

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the views [N, C, T, V, M], each mixed one's mask [N, T/4, V] and donors [N]."""
        q = self.moco.query(batch.views["query"])
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        queue = self.moco.queue.clone()  # as it is now: the new keys are written before backward reads it
        logits = contrastive_logits(q, k, queue, self.temperature)  # [N, 1 + K]
        info = positive_first(logits)
        every = self.moco.gather(k)  # donors are of the whole batch
        mixed = torch.stack([self._mixed_loss(batch, name, k, every, queue) for name in self._mixed])
        mix = mixed.mean() if self.average else mixed.sum()
        loss = info + self.weight * mix
        self.moco.enqueue(k)
        logs = {"loss": loss, "info": info, "mix": mix, "top1": (logits.argmax(dim=1) == 0).float().mean()}
        logs = {name: value.detach() for name, value in logs.items()}
        return Step(loss, embeddings=q.detach(), keys=k, logs={**logs, "std": spread(q.detach())})

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        return self.moco.encoder, self.moco.head

    def _mixed_loss(self, batch: ViewBatch, name: str, k: Tensor, every: Tensor, queue: Tensor) -> Tensor:
        """Return (L_p + L_g) / 2 of one mixture (eq. 6), of host keys k [N, dim]; `every` key is the batch's."""
        donor = batch.extras[f"{name}_donor"]
        features = cast(Encoder, self.moco.encoder).features(batch.views[name])  # [N * M, D, T/4, V]
        features = features.unflatten(0, (len(k), -1))
        halves = stmp(features, batch.extras[f"{name}_mask"][:, None])  # [N, M, D] each
        p, g = (self.moco.project(half.mean(dim=1)) for half in halves)
        pasted = info_nce_hard_negative(p, every.index_select(0, donor), queue, g, self.temperature)
        host = info_nce_hard_negative(g, k, queue, p, self.temperature)
        return (pasted + host) / 2


def region_bounds(method: str, settings: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the least and the most body parts, and blocks of four frames, of a method's section.

    Raises UsageError where one of them is no pair in its order.
    """
    pairs = {}
    for key in BOUNDS:
        values = settings[key]
        if len(values) != 2 or values[0] > values[1]:
            raise UsageError(f"recipe: {method}.{key} must be [least, most], not {values}")
        pairs[key] = (values[0], values[1])
    return pairs
