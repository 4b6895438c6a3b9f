"""SkeleMixCLR and SkeleMixCLR+: both parts of mixed clips learn from the clips they come from (Chen et al.
2022)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.loader import mixing_views
from skelpipe.loader.view_recipes import On
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, hard_negative_logits, mean_similarities, positive_first
from skelpipe.models.method import Logits, Method, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.pooling import stmp
from skelpipe.models.settings import Amount, Bounds, Count

__all__ = ["SkeleMixCLR", "SkeleMixCLRSettings", "region_bounds"]


@dataclass(frozen=True, kw_only=True)
class SkeleMixCLRSettings:
    """The `skelemixclr` section: R `repeats`, lambda `weight`, the pasted region (Chen et al. 2022, table II)."""

    repeats: Count = 1
    weight: Amount = 1.0
    parts: Bounds = field(default_factory=lambda: [2, 3])
    blocks: Bounds = field(default_factory=lambda: [7, 11])


class SkeleMixCLR(Method):
    """L = L_Info + lambda sum_r L_mix^r over R mixtures of the query (eq. 7); with R = 3 it is SkeleMixCLR+.

    The feature map of a mixed clip is pooled inside the pasted region, to p, and outside it, to g (STMP, eq. 3).
    The key of p is the donor's, that of g the host clip's, and each is the other's hard negative (eq. 4 to 6).

    `variant` chooses between paper and released code: whether the losses of the R mixtures are added or averaged
    (divergence `skelemixclr-repeats`), and how the key network starts (`key-initial-weights`). In both, graph and
    head are the recipe's (`skelemixclr-graph`, `skelemixclr-head-norm`).
    """

    name: ClassVar[str] = "skelemixclr"
    Settings: ClassVar[type] = SkeleMixCLRSettings

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
    def build(cls, parts: Parts, settings: SkeleMixCLRSettings) -> Self:
        moco = parts.moco()
        if not moco.encoder.joint_map:
            raise UsageError(
                f"{cls.name} pools by joints and frames, and {type(moco.encoder).__name__} has no map of joints: "
                f"choose another encoder.name, such as stgcn"
            )
        released = parts.recipe.variant == "released"
        if released:
            draw_keys(moco, parts.recipe.init)
        regions: dict[str, Any] = region_bounds(settings)
        views = mixing_views.skelemixclr(
            parts.layout, repeats=settings.repeats, **regions, chains=parts.view_chain
        )
        return cls(moco, views, temperature=parts.recipe.temperature, weight=settings.weight, average=released)

    def views(self) -> ViewRecipes:
        return self._views

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the views [N, C, T, V, M] and each mixture's mask [N, T/4, V] and donors [N]."""
        q = self.moco.query(batch.views["query"])
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        queue = self.moco.queue.clone()  # a copy: the new keys are written before backward reads it
        logits = contrastive_logits(q, k, queue, self.temperature)  # [N, 1 + K]
        info = positive_first(logits)
        all_keys = self.moco.gather(k)  # a donor may be any clip of the whole batch
        named: dict[str, Any] = {"query": logits}
        for name in self._mixed:
            named |= self._mixed_logits(batch, name, k, all_keys, queue)
        mixed = torch.stack([self._mixed_loss(named, name) for name in self._mixed])
        mix = mixed.mean() if self.average else mixed.sum()
        loss = info + self.weight * mix
        self.moco.enqueue(k)
        logs = {"loss": loss, "info": info, "mix": mix, "top1": (logits.argmax(dim=1) == 0).float().mean()}
        logs = {name: value.detach() for name, value in (logs | self._similarities(named)).items()}
        return Step(loss, q.detach(), k, logs={**logs, "std": spread(q.detach())}, logits=Logits(named))

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        return self.moco.encoder, self.moco.head

    @torch.no_grad()
    def _similarities(self, logits: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the mean cosines of easy and hard pairs (fig. 4), those of mixtures as their mean.

        Of the query with its key and with the queue; of p (pasted) and g (host) with their keys, and of p with g.
        """
        key, queue = mean_similarities(logits["query"], self.temperature)
        found: dict[str, list[Tensor]] = {}
        for part in ("pasted", "host"):
            for near, hard in (logits[name] for name in logits if name.endswith(f"_{part}")):
                found.setdefault(f"similar_{part}", []).append(near[:, 0].mean() * self.temperature)
                if hard is not None:
                    found.setdefault("similar_parts", []).append(hard.mean() * self.temperature)
        means = {name: torch.stack(values).mean() for name, values in found.items()}
        return {"similar_key": key, "similar_queue": queue, **means}

    def _mixed_loss(self, logits: Mapping[str, Any], name: str) -> Tensor:
        """Return (L_p + L_g) / 2 of one mixture (eq. 6)."""
        return (positive_first(*logits[f"{name}_pasted"]) + positive_first(*logits[f"{name}_host"])) / 2

    def _mixed_logits(
        self, batch: ViewBatch, name: str, k: Tensor, all_keys: Tensor, queue: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the logits of both parts of one mixture, p first (eq. 4, 5), and their hard negatives' [N, 1].

        k [N, dim] are the host clips' keys, `all_keys` those of the whole batch.
        """
        donor = batch.extras[f"{name}_donor"]
        features = cast(Encoder, self.moco.encoder).features(batch.views[name])  # [N * M, D, T/4, V]
        features = features.unflatten(0, (len(k), -1))
        pooled = stmp(features, batch.extras[f"{name}_mask"][:, None])  # [N, M, D] each
        p, g = (self.moco.project(part.mean(dim=1)) for part in pooled)
        return {
            f"{name}_pasted": hard_negative_logits(p, all_keys.index_select(0, donor), queue, g, self.temperature),
            f"{name}_host": hard_negative_logits(g, k, queue, p, self.temperature),
        }


def region_bounds(settings: Any) -> dict[str, tuple[int, int]]:
    """Return the bounds of the pasted region in a method's section: body parts, and blocks of four frames."""
    return {key: (least, most) for key in ("parts", "blocks") for least, most in [getattr(settings, key)]}
