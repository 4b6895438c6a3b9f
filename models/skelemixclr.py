"""SkeleMixCLR and SkeleMixCLR+: both parts of mixed clips learn from the clips they come from (Chen et al.
2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.loader import mixing_views
from skelpipe.models.absent_bodies import mean_of_present
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, hard_negative_logits, mean_similarities, positive_first
from skelpipe.models.method import Logits, Method, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.pooling import stmp
from skelpipe.models.settings.skelemixclr import SkeleMixCLRSettings
from skelpipe.models.together import maps_together

__all__ = ["SkeleMixCLR", "region_bounds"]


class SkeleMixCLR(Method):
    """L = L_Info + lambda sum_r L_mix^r over R mixtures of the query (eq. 7); with R = 3 it is SkeleMixCLR+.

    The feature map of a mixed clip is pooled inside the pasted region, to p, and outside it, to g (STMP, eq. 3).
    The key of p is the donor's, that of g the host clip's, and each is the other's hard negative (eq. 4 to 6).

    The ablations of section IV-D: `per` draws a region per batch or per sample. `cropping` "random" draws
    `random_joints` joints and not parts (table VI); `fill` "zeros" leaves the region empty (table V, divergence
    `skelemixclr-zeros`). `pairs` "cont" has R more normally augmented queries and not mixtures, each with its
    InfoNCE loss (table VII, Cont). `losses` has L_p of the trimmed view alone, or L_g of the truncated one; L_mix
    is the mean of those that there are. `hard_negative`: d_pg, detached or not, or none (divergence
    `skelemixclr-losses`).

    The losses of the R mixtures are added; the older of two released scripts averages them (divergence
    `skelemixclr-repeats`). `variant` chooses between paper and released code in how the key network starts
    (`key-initial-weights`). In both, graph and head are the recipe's (`skelemixclr-graph`,
    `skelemixclr-head-norm`).
    """

    name: ClassVar[str] = "skelemixclr"
    Settings: ClassVar[type] = SkeleMixCLRSettings

    def __init__(
        self, moco: MoCo, views: ViewRecipes, settings: SkeleMixCLRSettings, *, temperature: float, average: bool
    ) -> None:
        """`views` holds `query`, `key`, and mixtures of the query or further queries."""
        super().__init__()
        self.moco = moco
        self.temperature = temperature
        self.settings = settings
        self.average = average
        self._views = views
        self._further = [name for name in views if name not in ("query", "key")]

    @classmethod
    def build(cls, parts: Parts, settings: SkeleMixCLRSettings) -> Self:
        settings.check(parts.recipe.variant)
        moco = parts.moco()
        if not moco.encoder.joint_map:
            raise UsageError(
                f"{cls.name} pools by joints and frames, and {type(moco.encoder).__name__} has no map of joints: "
                f"choose another encoder.name, such as stgcn"
            )
        if parts.recipe.variant == "released":
            draw_keys(moco, parts.recipe.init)
        least, most = settings.random_joints
        region: dict[str, Any] = {**region_bounds(settings), "random_joints": (least, most)}
        region |= {name: getattr(settings, name) for name in ("per", "cropping", "fill")}
        mixed = settings.pairs == "hard"
        views = mixing_views.skelemixclr(
            parts.layout, repeats=settings.repeats, mixed=mixed, **region, chains=parts.view_chain
        )
        average = settings.repeats_loss == "mean"
        return cls(moco, views, settings, temperature=settings.temperature, average=average)

    def views(self) -> ViewRecipes:
        return self._views

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the views [N, C, T, V, M] and each mixture's mask [N, T/4, V] and donors [N]."""
        encoder = cast(Encoder, self.moco.encoder)
        clips = {name: batch.views[name] for name in ("query", *self._further)}
        maps = dict(zip(clips, maps_together(encoder, list(clips.values())) or (), strict=False))
        q = self.moco.project(self._pooled(clips["query"], maps.get("query")))
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        queue = self.moco.queue.clone()  # a copy: the new keys are written before backward reads it
        logits = contrastive_logits(q, k, queue, self.temperature)  # [N, 1 + K]
        info = positive_first(logits)
        all_keys = self.moco.gather(k)  # a donor may be any clip of the whole batch
        named: dict[str, Any] = {"query": logits}
        losses = []
        for name in self._further:
            found = self._further_logits(batch, name, maps.get(name), k, all_keys, queue)
            losses.append(torch.stack([positive_first(*each) for each in found.values()]).mean())  # eq. 6
            named |= found
        further = torch.stack(losses)
        mix = further.mean() if self.average else further.sum()
        loss = info + self.settings.weight * mix
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
            for near, *hard in (logits[name] for name in logits if name.endswith(f"_{part}")):
                found.setdefault(f"similar_{part}", []).append(near[:, 0].mean() * self.temperature)
                if hard:
                    found.setdefault("similar_parts", []).append(hard[0].mean() * self.temperature)
        means = {name: torch.stack(values).mean() for name, values in found.items()}
        return {"similar_key": key, "similar_queue": queue, **means}

    def _pooled(self, clips: Tensor, maps: Tensor | None) -> Tensor:
        """Return h [N, D] of clips, of their feature maps where there are any already."""
        encoder = cast(Encoder, self.moco.encoder)
        return encoder(clips) if maps is None else encoder.pool(maps, clips.shape[4])

    def _further_logits(
        self, batch: ViewBatch, name: str, maps: Tensor | None, k: Tensor, all_keys: Tensor, queue: Tensor
    ) -> dict[str, tuple[Tensor, ...]]:
        """Return the logits of a mixture's parts, p first (eq. 4, 5), with their hard negatives' [N, 1] if any.

        `maps` are the mixture's, where there are any already. k [N, dim] are the host clips' keys, `all_keys`
        those of the whole batch. Of a further query the logits are its own.
        """
        clips, settings = batch.views[name], self.settings
        if settings.pairs == "cont":
            z = self.moco.project(self._pooled(clips, maps))
            return {name: (contrastive_logits(z, k, queue, self.temperature),)}
        maps = cast(Encoder, self.moco.encoder).features(clips) if maps is None else maps  # [N * M, D, T/4, V]
        features = maps.unflatten(0, (len(k), -1))
        pooled = stmp(features, batch.extras[f"{name}_mask"][:, None])  # [N, M, D] each
        means = (mean_of_present(self.moco.encoder, part.mean(dim=1), clips) for part in pooled)
        p, g = self.moco.project_all(*means)
        keys = {"pasted": all_keys.index_select(0, batch.extras[f"{name}_donor"]), "host": k}
        logits: dict[str, tuple[Tensor, ...]] = {}
        for part, view, z, other in (("pasted", "trimmed", p, g), ("host", "truncated", g, p)):
            if settings.losses not in ("both", view):
                continue
            if settings.hard_negative == "none":
                found: tuple[Tensor, ...] = (contrastive_logits(z, keys[part], queue, self.temperature),)
            else:
                attached = settings.hard_negative == "attached"
                found = hard_negative_logits(z, keys[part], queue, other, self.temperature, attached=attached)
            logits[f"{name}_{part}"] = found
        return logits


def region_bounds(settings: Any) -> dict[str, tuple[int, int]]:
    """Return the bounds of the pasted region in a method's section: body parts, and blocks of four frames."""
    return {key: (least, most) for key in ("parts", "blocks") for least, most in [getattr(settings, key)]}
