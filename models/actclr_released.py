"""The second stage of ActCLR as released (the code of December 2023; spec D5, G2 to G5, G12, G13)."""

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
from skelpipe.augment.pooling import safp
from skelpipe.loader.view_recipes import Mats, Mixing, On
from skelpipe.models.actionlets import Actionlets, judging
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import mixed_keys, nearest_mining, wide
from skelpipe.models.method import Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo

__all__ = ["BankLosses", "MixingSince", "Since", "released_step", "released_views"]


@dataclass(frozen=True)
class BankLosses:
    """The temperatures of the second stage, and to how many entries of the bank the released losses look."""

    query_temperature: float
    key_temperature: float
    nearest: int

    def __call__(self, q: Tensor, k: Tensor, bank: Tensor) -> Tensor:
        """Return the released loss of queries against keys."""
        return nearest_mining(q, k, bank, self.query_temperature, self.key_temperature, nearest=self.nearest)


@dataclass(frozen=True, slots=True)
class Since:
    """An augmentation whose curriculum counts epochs from the run's epoch `first` on."""

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
class MixingSince(Since):
    """The same for an operation that mixes clips."""

    def mix(self, x: Tensor, params: Any) -> Mixed:
        mixed: Mixed = self.op.mix(x, params)
        return mixed


def released_views(recipe: Mapping[str, Any], first: int) -> ViewRecipes:
    """Return the views of a released recipe that `released_step` joins itself, with the epochs from `first` on.

    The views that an actionlet joins are left out: the anchor is the mean of the key batch, so the masks are
    only known in the step.
    """
    views: dict[str, Any] = {}
    for name, entry in recipe.items():
        if isinstance(entry, On):
            views[name] = On(entry.view, MixingSince(entry.op, first)) if isinstance(entry.op, Mixing) else entry
        elif not isinstance(entry, Mats):
            views[name] = entry if name in ("plain", "key") else Since(entry, first)
    return views


def released_step(moco: MoCo, regions: Actionlets, batch: ViewBatch, losses: BankLosses) -> Step:
    """Step with the views of `released_views` and the extras of `mixed`; moves key network and queue.

    The losses are of (a) `act` inside the actionlet and `non` outside, (b) `styled` inside and `mixed` outside,
    both against the key, and (c) `mixed` against the mixed keys.
    """
    views = batch.views
    frames = views["key"].shape[2]
    moco.update_key()
    whole = len(moco.gather(views["key"].new_empty(len(views["key"]), 1)))  # clips of all ranks' slices
    k, anchor = _keys(moco, regions, views["key"], whole)
    act, plain = (
        _stretched(_query_mask(moco, regions, views[name], anchor, whole), frames) for name in ("act", "plain")
    )
    bank = moco.queue.clone()  # backward needs it as it was, and the new keys are written before that
    q = moco.query(mats(views["act"], views["non"], act))
    parts = {
        "act": losses(q, k, bank),
        "blend": losses(moco.query(mats(views["styled"], views["mixed"], plain)), k, bank),
    }
    donor = batch.extras["mixed_donor"]  # of the whole batch
    donor_keys, donor_mask = (moco.gather(x).index_select(0, donor) for x in (k, plain))
    target = mixed_keys(k, plain, donor_keys, donor_mask, batch.extras["mixed_mask"])
    parts["mixed"] = losses(moco.query(views["mixed"]), target, bank)
    loss = parts["act"] + parts["blend"] + parts["mixed"]
    moco.enqueue(k)
    logs = {f"loss_{name}": part.detach() for name, part in parts.items()}
    logs |= {"loss": loss.detach(), "std": spread(q.detach()), "actionlet": act.mean()}
    return Step(loss, embeddings=q.detach(), keys=k, logs=logs)


@torch.no_grad()
def _keys(moco: MoCo, regions: Actionlets, clips: Tensor, whole: int) -> tuple[Tensor, Tensor]:
    """Return keys [N,dim], half pooled plainly and half over the actionlet, and the anchor's embedding [1,dim].

    The anchor, the mean of these clips, is a batch of its own to the batch normalisation, as released.
    """
    encoder, head = cast(Encoder, moco.key_encoder), moco.key_head
    features, persons = encoder.features(clips), clips.shape[4]
    with judging(head):
        anchor: Tensor = head(encoder(clips.mean(dim=0, keepdim=True)))
    mask = regions.of(features, persons, head, anchor, whole)
    moving = safp(features.unflatten(0, mask.shape[:2]), mask).mean(dim=1)
    halves = wide(head(encoder.pool(features, persons))) + wide(head(moving))
    return F.normalize(halves, dim=1), anchor


@torch.no_grad()
def _query_mask(moco: MoCo, regions: Actionlets, clips: Tensor, anchor: Tensor, whole: int) -> Tensor:
    """Return the actionlets [N,M,T',V] of clips by the query network, whose statistics stay."""
    with judging(moco.encoder):
        features = cast(Encoder, moco.encoder).features(clips)
    return regions.of(features, clips.shape[4], moco.head, anchor, whole)


def _stretched(mask: Tensor, frames: int) -> Tensor:
    """Return masks [N,M,T',V] as [N,frames,V,M]."""
    return to_frames(mask, frames).movedim(1, 3)
