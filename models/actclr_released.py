"""The second stage of ActCLR as its code of December 2023 has it (divergences `actclr-anchor`,
`actclr-mask-gradient`, `actclr-mask-threshold`, `actclr-mask-network`, `actclr-transformations` and
`actclr-loss`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.blend import Mixed
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import mats
from skelpipe.loader.view_recipes import Mats, Mixing, On
from skelpipe.models.actionlets import Actionlets, evaluation_mode
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import nearest_mining, upcast
from skelpipe.models.method import Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo
from skelpipe.models.pooling import safp

__all__ = ["BankLosses", "FromEpoch", "MixingFromEpoch", "mixed_keys", "released_step", "released_views"]


@dataclass(frozen=True)
class BankLosses:
    """The temperatures of the second stage, and how many of the bank's entries the released loss compares."""

    query_temperature: float
    key_temperature: float
    nearest: int

    def __call__(self, q: Tensor, k: Tensor, bank: Tensor) -> Tensor:
        """Return the released loss of queries against keys."""
        return nearest_mining(q, k, bank, self.query_temperature, self.key_temperature, nearest=self.nearest)


@dataclass(frozen=True, slots=True)
class FromEpoch:
    """An augmentation whose curriculum counts epochs from epoch `first` of the run."""

    op: Any
    first: int

    def sample(self, draws: Draws, shape: Sequence[int]) -> Any:
        own = draws.child(0)
        own.epoch = draws.epoch - self.first
        return self.op.sample(own, shape)

    def apply(self, x: Tensor, params: Any) -> Tensor:
        applied: Tensor = self.op.apply(x, params)
        return applied


@dataclass(frozen=True, slots=True)
class MixingFromEpoch(FromEpoch):
    """`FromEpoch` for an operation that mixes clips."""

    def mix(self, x: Tensor, params: Any) -> Mixed:
        mixed: Mixed = self.op.mix(x, params)
        return mixed


def released_views(recipe: Mapping[str, Any], first: int) -> ViewRecipes:
    """Return the view recipes that the loader follows for `released_step`; curricula start at epoch `first`.

    The views that an actionlet joins are left out, as the step joins them itself: the anchor is the mean of the
    key batch, so the masks are known in the step only.
    """
    views: dict[str, Any] = {}
    for name, entry in recipe.items():
        if isinstance(entry, On):
            views[name] = (
                On(entry.view, MixingFromEpoch(entry.op, first)) if isinstance(entry.op, Mixing) else entry
            )
        elif not isinstance(entry, Mats):
            views[name] = entry if name in ("plain", "key") else FromEpoch(entry, first)
    return views


def released_step(moco: MoCo, regions: Actionlets, batch: ViewBatch, losses: BankLosses) -> Step:
    """Step with the views of `released_views` and the extras of `mixed`; updates key network and queue.

    Three losses are added: (a) `act` inside the actionlet and `non` outside it, against the key; (b) `styled`
    inside and `mixed` outside, against the key; (c) `mixed` against the mixed keys (divergence `actclr-loss`).
    """
    views = batch.views
    frames = views["key"].shape[2]
    moco.update_key()
    whole = len(moco.gather(views["key"].new_empty(len(views["key"]), 1)))  # clips of all processes
    k, anchor = _keys(moco, regions, views["key"], whole)
    act, plain = (
        _per_frame(_query_mask(moco, regions, views[name], anchor, whole), frames) for name in ("act", "plain")
    )
    bank = moco.queue.clone()  # backward needs it as it was, and the new keys are written before that
    q = moco.query(mats(views["act"], views["non"], act))
    parts = {
        "act": losses(q, k, bank),
        "blend": losses(moco.query(mats(views["styled"], views["mixed"], plain)), k, bank),
    }
    donor = batch.extras["mixed_donor"]  # row numbers in the whole batch
    donor_keys, donor_mask = (moco.gather(x).index_select(0, donor) for x in (k, plain))
    target = mixed_keys(k, plain, donor_keys, donor_mask, batch.extras["mixed_mask"])
    parts["mixed"] = losses(moco.query(views["mixed"]), target, bank)
    loss = parts["act"] + parts["blend"] + parts["mixed"]
    moco.enqueue(k)
    logs = {f"loss_{name}": part.detach() for name, part in parts.items()}
    logs |= {"loss": loss.detach(), "std": spread(q.detach()), "actionlet": act.mean()}
    return Step(loss, embeddings=q.detach(), keys=k, logs=logs)


def mixed_keys(
    keys: Tensor, mask: Tensor, donor_keys: Tensor, donor_mask: Tensor, share: Tensor, sharpness: float = 0.1
) -> Tensor:
    """Return keys [N,D] of mixed clips: normalise(c k_i + p k_j) with j the donor of i (divergence `actclr-loss`).

    `mask` [N,T,V,M] is each clip's actionlet A, `share` [N,T,V] the donor's share of the mixed clip. p is how much
    of the donor's mass exp(A / sharpness) was pasted, c how much of the host's is left, as shares of p + c. A clip
    mixed as a whole with share l has p = l.
    """
    pasted = share.to(upcast(mask).dtype)[..., None]
    p = (_mass(donor_mask, sharpness) * pasted).sum((1, 2, 3))
    c = (_mass(mask, sharpness) * (1 - pasted)).sum((1, 2, 3))
    p = (p / (p + c))[:, None]
    return F.normalize((1 - p) * keys + p * donor_keys, dim=1)


def _mass(mask: Tensor, sharpness: float) -> Tensor:
    return (upcast(mask) / sharpness).flatten(1).softmax(dim=1).view(mask.shape)


@torch.no_grad()
def _keys(moco: MoCo, regions: Actionlets, clips: Tensor, whole: int) -> tuple[Tensor, Tensor]:
    """Return keys [N,dim], half pooled plainly and half over the actionlet, and the anchor's embedding [1,dim].

    The anchor, the mean of these clips, passes batch normalisation as a batch of one, as in the released code.
    """
    encoder, head = cast(Encoder, moco.key_encoder), moco.key_head
    features, bodies = encoder.features(clips), clips.shape[4]
    with evaluation_mode(head):
        anchor: Tensor = head(encoder(clips.mean(dim=0, keepdim=True)))
    mask = regions.of(features, bodies, head, anchor, whole)
    moving = safp(features.unflatten(0, mask.shape[:2]), mask).mean(dim=1)
    halves = upcast(head(encoder.pool(features, bodies))) + upcast(head(moving))
    return F.normalize(halves, dim=1), anchor


@torch.no_grad()
def _query_mask(moco: MoCo, regions: Actionlets, clips: Tensor, anchor: Tensor, whole: int) -> Tensor:
    """Return the actionlets [N,M,T',V] of clips by the query network, whose running statistics do not change."""
    with evaluation_mode(moco.encoder):
        features = cast(Encoder, moco.encoder).features(clips)
    return regions.of(features, clips.shape[4], moco.head, anchor, whole)


def _per_frame(mask: Tensor, frames: int) -> Tensor:
    """Return masks [N,M,T',V] as [N,frames,V,M]."""
    return to_frames(mask, frames).movedim(1, 3)
