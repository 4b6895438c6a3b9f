"""ActCLR: the moving part of a clip, its actionlet, is augmented and pooled in its own way (Lin et al. 2023)."""

from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.region import BLOCK
from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import actclr, actclr_released, pair
from skelpipe.models.absent_bodies import mean_of_present, present_factor
from skelpipe.models.actclr_released import BankLosses, ReleasedState, released_step, released_views
from skelpipe.models.actionlets import Actionlets, evaluation_mode
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, positive_first, similarity_mining
from skelpipe.models.method import Logits, Method, Progress, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo
from skelpipe.models.parts import Parts
from skelpipe.models.pooling import safp
from skelpipe.models.settings.actclr import ActCLRSettings
from skelpipe.models.skelemixclr import region_bounds
from skelpipe.skeleton import Layout

__all__ = ["ActCLR", "regions_of"]


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

    Ablations of the paper: `transformations` are those of T_act, Skeleton AdaIN and T_non that there are (table 8,
    see `mixing_views.actclr`), `noise_area` and `mix_area` where Random Noise and Skeleton Mix of T_non act (table
    7), `safp` which stream is pooled over its actionlet (table 9), and `anchor` what clips are compared with: the
    mean training clip, the mean of the clips at hand (of a process's share of the batch), or zeros (divergence
    `actclr-other-anchors`).

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
        settings.check(parts.recipe.variant)
        self.moco: MoCo = parts.moco(encoder)
        self.temperature = settings.temperature
        self.released = parts.recipe.variant == "released"
        self.moco_epochs: int = settings.moco_epochs
        self.losses = BankLosses(settings.query_temperature, settings.key_temperature, nearest=settings.nearest)
        self.regions = regions_of(settings, parts.layout, parts.recipe.variant)
        self.mask, self.safp, self.anchor_kind = settings.mask, settings.safp, settings.anchor
        pasted = region_bounds(settings)
        self.register_buffer("anchor", _anchor(parts, pasted["blocks"][1] * BLOCK), persistent=False)
        self.with_actionlets = False
        self._moco_views: ViewRecipes = pair(parts.view_chain, "actclr-normal" if self.released else "normal")
        self.released_state = ReleasedState(settings.state, settings.mixed_keys)
        self._actionlet_views = self._views_by_actionlets(parts, settings)

    def _views_by_actionlets(self, parts: Parts, settings: ActCLRSettings) -> ViewRecipes:
        of: dict[str, Any] = {**region_bounds(settings), "chains": parts.view_chain}
        clips = parts.layout, parts.view, self.actionlet
        if self.released:
            return released_views(actclr_released(*clips, state=settings.state, begins=self.moco_epochs, **of))
        return actclr(
            *clips,
            mask=settings.mask,
            transformations=settings.transformations,
            noise_area=settings.noise_area,
            mix_area=settings.mix_area,
            **of,
        )

    @classmethod
    def build(cls, parts: Parts, settings: ActCLRSettings) -> Self:
        return cls(parts, settings)

    def needs_trained_networks(self) -> bool:
        return self.moco_epochs == 0

    def views(self) -> ViewRecipes:
        return self._actionlet_views if self.with_actionlets else self._moco_views

    def advance(self, progress: Progress) -> None:
        """Choose the stage by the epoch. Raises UsageError where the run needs an anchor and there is none."""
        missing = self.anchor is None and self.anchor_kind == "mean-clip"
        if not self.released and missing and progress.epochs > self.moco_epochs:
            raise UsageError(
                "actclr compares clips with the static anchor, the dataset's mean training clip, and was built "
                "without a dataset; give one, or end the run within actclr.moco_epochs"
            )
        self.with_actionlets = progress.epoch >= self.moco_epochs
        begins = progress.epoch == self.moco_epochs and progress.step == 0
        if self.released and begins and not (self.continued and progress.epoch == 0):
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
        return self.regions.of_clips(encoder, self.moco.key_head, clips, self.static(clips)[0])

    def static(self, clips: Tensor) -> Tensor:
        """Return the static anchor [1,C,T,V,M] that clips [N,C,T,V,M] are compared with."""
        if self.anchor_kind == "zero":
            return torch.zeros_like(clips[:1])
        if self.anchor_kind == "mean-batch":
            return clips.mean(0, keepdim=True)
        if self.anchor is None:
            raise UsageError("actclr was built without a dataset: there is no static anchor to find actionlets by")
        return self.anchor[None].to(clips.dtype)

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
        q = self._query(batch)
        self.moco.update_key()
        k, mask = self._key(batch.views["key"], batch.extras.get("key_mask"))
        loss = similarity_mining(
            q, k, self.moco.queue.clone(), self.losses.query_temperature, self.losses.key_temperature
        )
        self.moco.enqueue(k)
        return Step(loss, embeddings=q.detach(), keys=k, logs={**_logs(loss, q), "actionlet": mask.mean()})

    def _query(self, batch: ViewBatch) -> Tensor:
        """Return queries [N,dim], pooled over the clips' actionlets where `safp` is of the online stream."""
        clips = batch.views["query"]
        if self.safp not in ("online", "both"):
            return self.moco.query(clips)
        features = cast(Encoder, self.moco.encoder).features(clips)
        mask = to_frames(batch.extras["query_mask"].movedim(3, 1), features.shape[2])
        return self.moco.project(_pooled(self.moco.encoder, features, mask, clips))

    @torch.no_grad()
    def _key(self, clips: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return keys [N,dim], pooled over the clips' actionlets (eq. 8, unless `safp` has it otherwise), and the
        actionlets [N,M,T',V].

        `mask` [N,T,V,M] is the actionlet of the original clip, carried to the key's; without it the actionlet is
        that of the key's own feature map.
        """
        encoder = cast(Encoder, self.moco.key_encoder)
        if mask is None:
            with evaluation_mode(encoder):
                anchor = self._embed(self.static(clips))
            features = self._key_map(clips)
            factor = present_factor(encoder, clips)
            mask = self.regions.of(features, clips.shape[4], self.moco.key_head, anchor, factor=factor)
        else:
            features = self._key_map(clips)
            mask = to_frames(mask.movedim(3, 1), features.shape[2])
        if self.safp in ("offline", "both"):
            return self.moco.key_project(_pooled(encoder, features, mask, clips)), mask
        h = mean_of_present(encoder, encoder.pool(features, clips.shape[4]), clips)
        return self.moco.key_project(h), mask

    def _key_map(self, clips: Tensor) -> Tensor:
        return cast(Encoder, self.moco.key_encoder).features(clips)

    def _embed(self, clips: Tensor) -> Tensor:
        """Return the embedding, not normalised, of clips by the key network, its head in evaluation mode."""
        encoder = cast(Encoder, self.moco.key_encoder)
        h = mean_of_present(encoder, encoder.pool(encoder.features(clips), clips.shape[4]), clips)
        with evaluation_mode(self.moco.key_head):
            embedding: Tensor = self.moco.key_head(h)
        return embedding

    @torch.no_grad()
    def _start_released_stage(self) -> None:
        """Start the released second stage: the key network becomes the query's copy, the queue is drawn again."""
        self.moco.key_encoder.load_state_dict(self.moco.encoder.state_dict())
        self.moco.key_head.load_state_dict(self.moco.head.state_dict())
        self.moco.queue.copy_(F.normalize(torch.randn_like(self.moco.queue), dim=1))
        self.moco.pointer.zero_()


def _pooled(encoder: nn.Module, features: Tensor, mask: Tensor, clips: Tensor) -> Tensor:
    """Return h [N,D]: the feature map [N*M,D,T',V] over the actionlet [N,M,T',V], the mean over bodies (eq. 8)."""
    return mean_of_present(encoder, safp(features.unflatten(0, mask.shape[:2]), mask).mean(dim=1), clips)


def regions_of(settings: ActCLRSettings, layout: Layout, variant: str) -> Actionlets:
    """Return how actionlets are found."""
    return Actionlets(
        layout,
        variant,
        threshold=settings.threshold,
        inner=settings.inner,
        sigma=settings.sigma,
        sign=settings.sign,
        smoothing=None if settings.smoothing == "variant" else settings.smoothing,
        soft=settings.soft,
    )


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
