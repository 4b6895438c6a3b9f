"""Actionlets by a network: where clips differ from an anchor (Lin et al. 2023, section 3.1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import actionlet, difference_activation
from skelpipe.models.absent_bodies import mean_of_present, present_factor
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import upcast
from skelpipe.skeleton import Layout

__all__ = ["Actionlets", "difference_gradient", "evaluation_mode"]


@dataclass(frozen=True)
class Actionlets:
    """How the actionlets of clips are found in their feature maps (eq. 3 to 5).

    The paper leaves open, and this says: the activation function `sigma`, and whether it is `inner`, inside eq. 4,
    too; the `sign` of the similarity that is differentiated, "minus" as printed or "plus"; the `threshold`, a
    share of a body's maximum; the `smoothing`; whether the mask is `soft` (divergences `actclr-activation` and
    `actclr-threshold-value`). `variant` "released" averages over body parts instead (divergence
    `actclr-mask-threshold`), and there only `sign` and `sigma` have an effect.
    """

    layout: Layout
    variant: str = "paper"
    threshold: float = 0.0
    inner: bool = False
    sigma: str = "relu"
    sign: str = "minus"
    smoothing: str | None = None
    soft: bool = False

    @torch.no_grad()
    def of(
        self,
        features: Tensor,
        bodies: int,
        head: nn.Module,
        anchor: Tensor,
        whole: int | None = None,
        factor: Tensor | None = None,
    ) -> Tensor:
        """Return the masks [N,M,T',V], float32 in 0..1, of clips with feature maps [N*M,D,T',V].

        The maps are pooled by plain means, as the backbones with joints do. `head` maps the pooled h to
        embeddings; `anchor` [1,dim] is the embedding of the static anchor. There are no gradients. Where the clips
        are one process's share of a batch, `whole` is the number of clips in the batch, by which `released`
        divides. `factor` [N,1] is `present_factor` of the clips, which their h is multiplied by.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = upcast(features)
            maps = features.unflatten(0, (-1, bodies))  # [N,M,D,T',V]
            clips, _, channels, steps, joints = maps.shape
            one = maps.new_ones(1, 1) if factor is None else factor.to(maps.dtype)
            gradient = difference_gradient(maps.mean((1, 3, 4)) * one, head, upcast(anchor)) * one
            # Pooling by means comes before the head: all positions of a channel have the same gradient.
            gradient = gradient[:, None, :, None, None] / (bodies * steps * joints)
            gradient = -gradient if self.sign == "plus" else gradient
            activation = difference_activation(maps, gradient, inner=self.inner, sigma=self.sigma)
            if self.variant == "released":  # the mean over channels, of the gradient of the batch's mean
                activation = activation / (channels * (whole or clips))
            return actionlet(
                activation,
                self.layout,
                variant=self.variant,
                smoothing=self.smoothing,
                threshold=self.threshold,
                soft=self.soft,
            )

    @torch.no_grad()
    def of_clips(self, encoder: Encoder, head: nn.Module, clips: Tensor, anchor: Tensor) -> Tensor:
        """Return the masks [N,T',V,M] of clips [N,C,T,V,M] by a network in evaluation mode; anchor [C,T,V,M]."""
        bodies = clips.shape[4]
        with evaluation_mode(encoder, head):
            anchor = anchor[None].to(clips.dtype)
            features = encoder.features(torch.cat([clips, anchor]))
            embedded = head(mean_of_present(encoder, encoder.pool(features[-bodies:], bodies), anchor))
        factor = present_factor(encoder, clips)
        return self.of(features[:-bodies], bodies, head, embedded, factor=factor).movedim(1, 3)


def difference_gradient(h: Tensor, head: nn.Module, anchor: Tensor) -> Tensor:
    """Return d(-cos(head(h), anchor)) / dh [N,D] for pooled features h [N,D] and an embedding [1,dim] (eq. 3, 4).

    The head is in evaluation mode meanwhile, so that its batch normalisation does not mix clips.
    """
    with evaluation_mode(head), torch.enable_grad():
        leaf = h.detach().requires_grad_()
        similarity = F.cosine_similarity(head(leaf), anchor.detach(), dim=1)
        (gradient,) = torch.autograd.grad(-similarity.sum(), leaf)
    return gradient.detach()


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode within the context: no dropout, and running statistics stay as they are."""
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)
