"""Skeleton AdaIN (Lin et al. 2023, eq. 6; spec B3): a clip takes on the build and the liveliness of a donor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment.bone_tree import bones_of, grown
from skelpipe.augment.donor import DONOR, draw_donors
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout
from skelpipe.views import VIEWS

__all__ = ["SkeletonAdaIN"]


@dataclass(frozen=True, slots=True)
class SkeletonAdaIN:
    """Swap statistics with a donor, another clip of the batch; acts on the finished view (joint, bone, motion).

    `paper`, every view: X' = sd(X^j) (X^i - mu(X^i)) / (sd(X^i) + eps) + mu(X^j), with mu the mean over joints
    (a clip, axis, frame and body) and sd the standard deviation over time (a clip, axis, joint and body).
    Statistics are swapped between bodies that are there: an absent (all-zero) body stays zero, and a body
    whose donor's counterpart is absent stays as it is.

    `released`: joint clips keep the directions of their bones and take their lengths, frame by frame, from
    the donor; bone clips the same without the walk along the skeleton; motion clips follow the formula, which
    fills absent bodies. Lengths are sqrt(|b|^2 + 1e-5), as there.
    """

    layout: Layout
    view: str = "joint"
    variant: str = "paper"
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.variant not in ("paper", "released"):
            raise UsageError(f"Skeleton AdaIN is that of the 'paper' or as 'released', not {self.variant!r}")
        if self.view not in VIEWS:
            raise UsageError(f"there is no view {self.view!r}; there are: {', '.join(VIEWS)}")

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `donor`, int64[N]: places in the batch, one shift a batch."""
        return {DONOR: draw_donors(draws)}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return clips [N,C,T,V,M] with their donors' statistics; in float32 or wider inside."""
        donor = params[DONOR]
        wide = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        if self.variant == "paper" or self.view == "motion":
            swapped = self._swap(wide, donor)
        elif self.view == "bone":
            swapped = _with_lengths_of(wide, donor)
        else:
            bones = _with_lengths_of(bones_of(wide, self.layout), donor)
            swapped = grown(bones, wide[:, :, :, self.layout.centre], self.layout)
        return swapped.to(x.dtype)

    def _swap(self, x: Tensor, donor: Tensor) -> Tensor:
        """Apply eq. 6; in `paper` to the bodies that are there in a clip and in its donor.

        Its gradient is not a number where a joint stands still: there the deviation is a root of zero.
        """
        n, c, t, v, m = x.shape
        mean = x.mean(3)  # [N,C,T,M]
        flat = x.view(n, c, t, v * m)
        spread = (flat - flat.mean(2, keepdim=True)).square_().mean(2).sqrt().view(n, c, v, m)
        scale = spread[donor] / (spread + self.eps)
        target = mean[donor]
        if self.variant == "paper":
            there = x.abs().view(n, c * t, v * m).sum(1).view(n, v, m).sum(1) > 0
            both = (there & there[donor])[:, None, None]
            mean, target, scale = mean * both, target * both, torch.where(both, scale, 1.0)
        # Means are spread over the joints first: a broadcast axis inside makes the sums ten times slower.
        body = torch.arange(v * m, device=x.device) % m
        mean, target = (z.reshape(-1, m).index_select(1, body).view(flat.shape) for z in (mean, target))
        return torch.addcmul(target, scale.view(n, c, 1, v * m), flat - mean).view(x.shape)


def _with_lengths_of(bones: Tensor, donor: Tensor) -> Tensor:
    """Scale every bone vector to the length that the donor's has in the same frame."""
    flat = bones.flatten(2)
    length = (flat.square().sum(1, keepdim=True) + 1e-5).sqrt()
    return (flat * (length[donor] / length)).view(bones.shape)
