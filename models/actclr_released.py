"""The second stage of ActCLR as its code has it, in the state of December 2023 or the newest (divergences
`actclr-anchor`, `actclr-mask-gradient`, `actclr-mask-threshold`, `actclr-mask-network`, `actclr-transformations`
and `actclr-loss`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.mats import mats
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import Mats
from skelpipe.models.absent_bodies import mean_of_present, present_factor
from skelpipe.models.actionlets import Actionlets, evaluation_mode
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import nearest_mining, upcast
from skelpipe.models.method import Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo
from skelpipe.models.pooling import safp

__all__ = ["BankLosses", "ReleasedState", "mixed_keys", "released_step", "released_views", "shares_of_mixed"]


@dataclass(frozen=True)
class BankLosses:
    """The temperatures of the second stage, and how many of the bank's entries the released loss compares."""

    query_temperature: float
    key_temperature: float
    nearest: int

    def __call__(self, q: Tensor, k: Tensor, bank: Tensor) -> Tensor:
        """Return the released loss of queries against keys."""
        return nearest_mining(q, k, bank, self.query_temperature, self.key_temperature, nearest=self.nearest)


@dataclass(frozen=True)
class ReleasedState:
    """Which state of the released code a step follows.

    `name`: "2023-12", the source kept with the run of the published log, or "head", the newest. At "head" the
    gradient behind the actionlets is zero, so that they are rounding noise (divergence `actclr-mask-gradient`):
    here they are zero.

    `mixed_keys`: whether the weights p and c of `shares_of_mixed` weigh "clips", one pair for each, as at "head";
    or "channels", as the source of 2023-12 has it by a fault of indexing, which works where the batch has as many
    clips as an embedding has channels: clip number i of the batch then weighs channel i of all keys. "auto" is
    "channels" where that is possible and the state is 2023-12, else "clips".
    """

    name: str = "2023-12"
    mixed_keys: str = "auto"

    @property
    def finds_actionlets(self) -> bool:
        return self.name != "head"

    def weighs_channels(self, clips: int, channels: int) -> bool:
        """Say whether the keys of a batch of so many clips are weighed channel by channel.

        Raises UsageError where they are to be, and cannot.
        """
        if self.mixed_keys == "channels" and clips != channels:
            raise UsageError(
                f"actclr.mixed_keys is 'channels', which needs as many clips in a batch as an embedding has "
                f"channels: batch_size is {clips}, head.dim {channels}; or set actclr.mixed_keys to 'clips'"
            )
        if self.mixed_keys == "auto":
            return self.name == "2023-12" and clips == channels
        return self.mixed_keys == "channels"


def released_views(recipe: Mapping[str, Any]) -> ViewRecipes:
    """Return the view recipes that the loader follows for `released_step`.

    The views that an actionlet joins are left out, as the step joins them itself: the anchor is the mean of the
    key batch, so the masks are known in the step only.
    """
    return {name: entry for name, entry in recipe.items() if not isinstance(entry, Mats)}


def released_step(
    moco: MoCo, regions: Actionlets, batch: ViewBatch, losses: BankLosses, state: ReleasedState
) -> Step:
    """Step with the views of `released_views` and the extras of `mixed`; updates key network and queue.

    Three losses are added: (a) `act` inside the actionlet and `non` outside it, against the key; (b) `styled`
    inside and `blended` outside, against the key; (c) `mixed` against the mixed keys (divergence `actclr-loss`).

    Running statistics take notice of every pass, in this order: of the key network the mean clip and the keys, of
    the query network `act` and `plain`, for their actionlets, and then the three queries.
    """
    views = batch.views
    frames = views["key"].shape[2]
    moco.update_key()
    whole = len(moco.gather(views["key"].new_empty(len(views["key"]), 1)))  # clips of all processes
    k, anchor = _keys(moco, regions, views["key"], whole, state)
    act, plain = (_query_mask(moco, regions, views[name], anchor, whole, state) for name in ("act", "plain"))
    bank = moco.queue.clone()  # backward needs it as it was, and the new keys are written before that
    q = moco.query(mats(views["act"], views["non"], _per_frame(act, frames)))
    parts = {
        "act": losses(q, k, bank),
        "blend": losses(moco.query(mats(views["styled"], views["blended"], _per_frame(plain, frames))), k, bank),
    }
    target = _mixed_target(moco, k, plain, batch.extras, whole, state)
    parts["mixed"] = losses(moco.query(views["mixed"]), target, bank)
    loss = parts["act"] + parts["blend"] + parts["mixed"]
    moco.enqueue(k)
    logs = {f"loss_{name}": part.detach() for name, part in parts.items()}
    logs |= {"loss": loss.detach(), "std": spread(q.detach()), "actionlet": act.mean()}
    return Step(loss, embeddings=q.detach(), keys=k, logs=logs)


def shares_of_mixed(
    mask: Tensor, donor_mask: Tensor, pasted: Tensor, taken: Tensor, sharpness: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Return p and c [N], p + c = 1: how much of a mixed clip's key is the donor's and how much its own.

    With E = exp(A / sharpness), p is the part of the donor's E that lies in `taken`, c the part of the clip's own
    that lies outside `pasted`, each a mean over the bodies and both divided by their sum. `mask` and `donor_mask`
    [N,M,T',V] are the actionlets A, `pasted` and `taken` [N,T',V] the donor's share of the mixed clip and of its
    own (see `SkeletonMix`). A clip mixed as a whole with share l has p = l. Divergence `actclr-loss`.
    """
    wide = torch.promote_types(pasted.dtype, upcast(mask).dtype)
    e, donor_e = ((x.to(wide) / sharpness).exp() for x in (mask, donor_mask))
    p = ((donor_e * taken[:, None]).sum((2, 3)) / (donor_e + 1e-5).sum((2, 3))).mean(1)
    c = ((e * (1 - pasted[:, None])).sum((2, 3)) / (e.sum((2, 3)) + 1e-5)).mean(1)
    return p / (p + c), c / (p + c)


def mixed_keys(keys: Tensor, donor_keys: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """Return normalise(c k_i + p k_j) [N,dim], j the donor of i; p and c are [N,1], or [dim] for channels."""
    return F.normalize(c.to(keys.dtype) * keys + p.to(keys.dtype) * donor_keys, dim=1)


@torch.no_grad()
def _mixed_target(
    moco: MoCo, k: Tensor, mask: Tensor, extras: Mapping[str, Tensor], whole: int, state: ReleasedState
) -> Tensor:
    """Return the keys [N,dim] of the view `mixed`. Donors are rows of the whole batch, of all processes."""
    donor_keys, donor_mask = (moco.gather(x).index_select(0, extras["mixed_donor"]) for x in (k, mask))
    pasted, taken = (_at_steps(extras[f"mixed_{name}"], mask.shape[2]) for name in ("mask", "taken"))
    shares = (share[:, None] for share in shares_of_mixed(mask, donor_mask, pasted, taken))
    if state.weighs_channels(whole, k.shape[1]):
        shares = (moco.gather(share)[:, 0] for share in shares)
    p, c = shares
    return mixed_keys(k, donor_keys, p, c)


@torch.no_grad()
def _keys(
    moco: MoCo, regions: Actionlets, clips: Tensor, whole: int, state: ReleasedState
) -> tuple[Tensor, Tensor]:
    """Return keys [N,dim], half pooled plainly and half over the actionlet, and the anchor's embedding [1,dim].

    The anchor, the mean of these clips and those of the other processes, passes batch normalisation as a batch of
    one, before the clips do.
    """
    encoder, head = cast(Encoder, moco.key_encoder), moco.key_head
    mean = moco.gather(clips.flatten(1)).mean(dim=0).view(1, *clips.shape[1:])
    with evaluation_mode(head):
        anchor: Tensor = head(encoder(mean))
    features = encoder.features(clips)
    mask = _actionlet(regions, features, clips, head, anchor, encoder, whole, state)
    moving = safp(features.unflatten(0, mask.shape[:2]), mask).mean(dim=1)
    h = (mean_of_present(encoder, each, clips) for each in (encoder.pool(features, clips.shape[4]), moving))
    first, second = (upcast(head(each)) for each in h)
    halves = first + second
    return F.normalize(halves, dim=1), anchor


@torch.no_grad()
def _query_mask(
    moco: MoCo, regions: Actionlets, clips: Tensor, anchor: Tensor, whole: int, state: ReleasedState
) -> Tensor:
    """Return the actionlets [N,M,T',V] of clips by the query network, in training mode."""
    encoder = cast(Encoder, moco.encoder)
    return _actionlet(regions, encoder.features(clips), clips, moco.head, anchor, encoder, whole, state)


def _actionlet(
    regions: Actionlets,
    features: Tensor,
    clips: Tensor,
    head: nn.Module,
    anchor: Tensor,
    encoder: nn.Module,
    whole: int,
    state: ReleasedState,
) -> Tensor:
    """Return actionlets [N,M,T',V] of feature maps [N*M,D,T',V]: zeros in a state that finds none."""
    bodies = clips.shape[4]
    if state.finds_actionlets:
        return regions.of(features, bodies, head, anchor, whole, present_factor(encoder, clips))
    return features.new_zeros(len(clips), bodies, *features.shape[2:], dtype=torch.float32)


def _per_frame(mask: Tensor, frames: int) -> Tensor:
    """Return masks [N,M,T',V] as [N,frames,V,M]."""
    return to_frames(mask, frames).movedim(1, 3)


def _at_steps(share: Tensor, steps: int) -> Tensor:
    """Return shares [N,T,V] at a map's steps, [N,steps,V]: each step has the share of its first frame."""
    frames = share.shape[1]
    first = torch.arange(steps, device=share.device) * -(-frames // steps)
    return share.index_select(1, first.clamp(max=frames - 1))
