"""ActCLR: the moving part of a clip, its actionlet, is augmented and pooled in its own way (Lin et al. 2023)."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.region import BLOCK
from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import actclr, pair
from skelpipe.models.actclr_released import BankLosses, ReleasedState, released_step, released_views
from skelpipe.models.actionlets import Actionlets, evaluation_mode
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, positive_first, similarity_mining
from skelpipe.models.method import Logits, Method, Progress, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo
from skelpipe.models.parts import Parts
from skelpipe.models.pooling import safp
from skelpipe.models.settings import Bounds, Count, Flag, Positive, Share, Whole
from skelpipe.models.skelemixclr import region_bounds
from skelpipe.skeleton import Layout

__all__ = ["ActCLR"]


@dataclass(frozen=True, kw_only=True)
class ActCLRSettings:
    """The `actclr` section. Values that the paper lacks are the released code's (divergence `actclr-training`).

    `state` and `mixed_keys` matter to variant "released" alone, see `ReleasedState`.
    """

    moco_epochs: Whole = 300
    query_temperature: Positive = 0.1
    key_temperature: Positive = 0.04
    mask: Literal["carried", "recomputed"] = "carried"
    threshold: Share = 0.5
    soft: Flag = False
    smoothing: Literal["variant", "adjacency", "parts", "none"] = "variant"
    sign: Literal["minus", "plus"] = "minus"
    sigma: Literal["relu", "abs", "sigmoid"] = "relu"
    inner: Flag = False
    nearest: Count = 8192
    parts: Bounds = field(default_factory=lambda: [2, 3])
    blocks: Bounds = field(default_factory=lambda: [3, 5])
    state: Literal["2023-12", "head"] = "2023-12"
    mixed_keys: Literal["auto", "channels", "clips"] = "auto"

    def regions(self, layout: Layout, variant: str) -> Actionlets:
        """Return how actionlets are found."""
        return Actionlets(
            layout,
            variant,
            threshold=self.threshold,
            inner=self.inner,
            sigma=self.sigma,
            sign=self.sign,
            smoothing=None if self.smoothing == "variant" else self.smoothing,
            soft=self.soft,
        )


class ActCLR(Method):
    """MoCo pre-training for `moco_epochs`, then a second stage with actionlets.

    In the paper's second stage the key network finds the actionlet, where a clip differs most from the static
    anchor, the mean training clip (eq. 2 to 5). The query is augmented mildly inside it and strongly outside
    (MATS, eq. 6, 7), the key is pooled over its own actionlet (SAFP, eq. 8), and the query's similarities to the
    bank's entries must be those of the key (eq. 9).

    `variant` "released" follows the code, in one `state` or the other: see `models.actclr_released`. When the
    second stage begins, the key network becomes the query's copy and the queue is drawn again. That code has no
    first stage and starts from an AimCLR model: `moco_epochs` is 0, as in recipe `actclr-released` (divergence
    `actclr-training`).

    The anchor and the clips to augment are embedded in evaluation mode, so that they change no running statistics
    and there is no dropout.
    """

    name: ClassVar[str] = "actclr"
    Settings: ClassVar[type] = ActCLRSettings
    anchor: Tensor | None

    def __init__(self, parts: Parts, settings: ActCLRSettings) -> None:
        super().__init__()
        encoder = parts.encoder()
        if not encoder.joint_map:
            raise UsageError(
                "actclr finds actionlets among the joints of a feature map, and the backbone "
                f"{parts.recipe.encoder.name!r} has none; take stgcn or dsta"
            )
        self.moco: MoCo = parts.moco(encoder)
        self.temperature = parts.recipe.temperature
        self.released = parts.recipe.variant == "released"
        self.moco_epochs: int = settings.moco_epochs
        self.losses = BankLosses(settings.query_temperature, settings.key_temperature, nearest=settings.nearest)
        self.regions = settings.regions(parts.layout, parts.recipe.variant)
        self.mask = settings.mask
        pasted = region_bounds(settings)
        self.register_buffer("anchor", _anchor(parts, pasted["blocks"][1] * BLOCK), persistent=False)
        self.with_actionlets = False
        self._moco_views: ViewRecipes = pair(parts.view_chain)
        self.released_state = ReleasedState(settings.state, settings.mixed_keys)
        given: dict[str, Any] = {"variant": parts.recipe.variant, "mask": self.mask, **pasted}
        given["chains"] = parts.view_chain
        if self.released:
            given |= {"state": settings.state, "begins": self.moco_epochs}
        recipe = actclr(parts.layout, parts.view, self.actionlet, **given)
        self._actionlet_views: ViewRecipes = released_views(recipe) if self.released else recipe

    @classmethod
    def build(cls, parts: Parts, settings: ActCLRSettings) -> Self:
        return cls(parts, settings)

    def needs_trained_networks(self) -> bool:
        return self.moco_epochs == 0

    def views(self) -> ViewRecipes:
        return self._actionlet_views if self.with_actionlets else self._moco_views

    def advance(self, progress: Progress) -> None:
        """Choose the stage by the epoch. Raises UsageError where the run needs an anchor and there is none."""
        if not self.released and self.anchor is None and progress.epochs > self.moco_epochs:
            raise UsageError(
                "actclr compares clips with the static anchor, the dataset's mean training clip, and was built "
                "without a dataset; give one, or end the run within actclr.moco_epochs"
            )
        self.with_actionlets = progress.epoch >= self.moco_epochs
        if self.released and progress.epoch == self.moco_epochs and progress.step == 0:
            self._start_released_stage()

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the views that `views` returns; updates key network and queue."""
        if not self.with_actionlets:
            return self._contrast(batch)
        if self.released:
            return released_step(self.moco, self.regions, batch, self.losses, self.released_state)
        return self._mine(batch)

    @torch.no_grad()
    def actionlet(self, clips: Tensor) -> Tensor:
        """Return the actionlets [N,T',V,M] in 0..1 of clips [N,C,T,V,M], by the present key network."""
        encoder = cast(Encoder, self.moco.key_encoder)
        return self.regions.of_clips(encoder, self.moco.key_head, clips, self._static()[0])

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        return self.moco.encoder, self.moco.head

    def _contrast(self, batch: ViewBatch) -> Step:
        """Take a step of the first stage: MoCo v2, as SkeletonCLR's."""
        q = self.moco.query(batch.views["query"])
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        # A copy of the queue: backward needs it as it was, and the new keys are written before that.
        logits = contrastive_logits(q, k, self.moco.queue.clone(), self.temperature)
        loss = positive_first(logits)
        self.moco.enqueue(k)
        return Step(loss, q.detach(), k, logs=_logs(loss, q), logits=Logits({"query": logits}))

    def _mine(self, batch: ViewBatch) -> Step:
        """Take a step of the paper's second stage (eq. 9)."""
        q = self.moco.query(batch.views["query"])
        self.moco.update_key()
        k, mask = self._key(batch.views["key"], batch.extras.get("key_mask"))
        loss = similarity_mining(
            q, k, self.moco.queue.clone(), self.losses.query_temperature, self.losses.key_temperature
        )
        self.moco.enqueue(k)
        return Step(loss, embeddings=q.detach(), keys=k, logs={**_logs(loss, q), "actionlet": mask.mean()})

    @torch.no_grad()
    def _key(self, clips: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return keys [N,dim], pooled over the clips' actionlets (eq. 8), and the actionlets [N,M,T',V].

        `mask` [N,T,V,M] is the actionlet of the original clip, carried to the key's; without it the actionlet is
        that of the key's own feature map.
        """
        if mask is None:
            with evaluation_mode(self.moco.key_encoder):
                anchor = self._embed(self._key_map(self._static()), clips.shape[4])
            features = self._key_map(clips)
            mask = self.regions.of(features, clips.shape[4], self.moco.key_head, anchor)
        else:
            features = self._key_map(clips)
            mask = to_frames(mask.movedim(3, 1), features.shape[2])
        h = safp(features.unflatten(0, mask.shape[:2]), mask).mean(dim=1)
        return self.moco.key_project(h), mask

    def _key_map(self, clips: Tensor) -> Tensor:
        return cast(Encoder, self.moco.key_encoder).features(clips)

    def _embed(self, features: Tensor, bodies: int) -> Tensor:
        """Return the embedding, not normalised, of a feature map by the key network's head in evaluation mode."""
        with evaluation_mode(self.moco.key_head):
            embedding: Tensor = self.moco.key_head(cast(Encoder, self.moco.key_encoder).pool(features, bodies))
        return embedding

    def _static(self) -> Tensor:
        if self.anchor is None:
            raise UsageError("actclr was built without a dataset: there is no static anchor to find actionlets by")
        return self.anchor[None]

    @torch.no_grad()
    def _start_released_stage(self) -> None:
        """Start the released second stage: the key network becomes the query's copy, the queue is drawn again."""
        self.moco.key_encoder.load_state_dict(self.moco.encoder.state_dict())
        self.moco.key_head.load_state_dict(self.moco.head.state_dict())
        self.moco.queue.copy_(F.normalize(torch.randn_like(self.moco.queue), dim=1))
        self.moco.pointer.zero_()


def _anchor(parts: Parts, least: int) -> Tensor | None:
    """Return the mean training clip [C,T,V,M] where there is one; UsageError where it has fewer than `least`
    frames."""
    if parts.anchor is None:
        return None
    anchor = parts.anchor()
    if anchor.shape[1] < least:
        # Checked now, as views that need so many frames are not made before the second stage.
        raise UsageError(
            f"actclr mixes regions of up to {least} frames and the clips have {anchor.shape[1]}: prepare at least "
            f"{least} frames, or lower actclr.blocks"
        )
    return anchor


def _logs(loss: Tensor, q: Tensor) -> dict[str, Tensor]:
    return {"loss": loss.detach(), "std": spread(q.detach())}
