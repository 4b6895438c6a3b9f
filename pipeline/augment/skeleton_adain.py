"""Skeleton AdaIN: a clip takes over its donor's mean pose and its spread over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment.bone_tree import bones_of, joints_of
from skelpipe.augment.donor import DONOR, draw_donors
from skelpipe.augment.draws import Draws
from skelpipe.augment.scores import with_scores
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout
from skelpipe.views import VIEWS, positions

__all__ = ["SkeletonAdaIN"]


@dataclass(frozen=True, slots=True)
class SkeletonAdaIN:
    """x'_i = sd(x_j) (x_i - mu(x_i)) / (sd(x_i) + eps) + mu(x_j), j the donor (Lin et al. 2023, eq. 6).

    mu is the mean over joints, per axis, frame and body; sd is the standard deviation over time, per axis, joint
    and body. It acts on the finished view. `paper`: in every view, between bodies that are present in both clips;
    an absent (all-zero) body stays zero, and a body whose donor lacks it stays as it is.

    `released` (divergence `actclr-transformations`): only motion clips follow the formula, which fills absent
    bodies. Joint clips keep the directions of their bones and take the donor's bone lengths, sqrt(|b|^2 + 1e-5),
    frame by frame from the centre outwards; bone clips take these lengths for each bone alone.
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
        """Draw `donor`, int64[N]: positions in the batch, one shift per batch."""
        return {DONOR: draw_donors(draws)}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return clips [N,C,T,V,M] with their donors' statistics; in float32 or wider inside. Scores stay."""
        donor = params[DONOR]
        wide = positions(x).to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        if self.variant == "paper" or self.view == "motion":
            swapped = self._swap(wide, donor)
        elif self.view == "bone":
            swapped = _with_lengths_of(wide, donor)
        else:
            bones = _with_lengths_of(bones_of(wide, self.layout), donor)
            swapped = joints_of(bones, wide[:, :, :, self.layout.centre], self.layout)
        return with_scores(swapped.to(x.dtype), x)

    def _swap(self, x: Tensor, donor: Tensor) -> Tensor:
        """Apply eq. 6; in `paper` to the bodies that are present in a clip and in its donor.

        The gradient is NaN where a joint does not move: there the deviation is the square root of zero.
        """
        n, c, t, v, m = x.shape
        mean = x.mean(3)  # [N,C,T,M]
        flat = x.view(n, c, t, v * m)
        spread = (flat - flat.mean(2, keepdim=True)).square_().mean(2).sqrt().view(n, c, v, m)
        scale = spread[donor] / (spread + self.eps)
        target = mean[donor]
        if self.variant == "paper":
            present = x.abs().view(n, c * t, v * m).sum(1).view(n, v, m).sum(1) > 0
            both = (present & present[donor])[:, None, None]
            mean, target, scale = mean * both, target * both, torch.where(both, scale, 1.0)
        # Means are expanded over the joints first: a broadcast inner axis makes the sums ten times slower.
        body = torch.arange(v * m, device=x.device) % m
        mean, target = (z.reshape(-1, m).index_select(1, body).view(flat.shape) for z in (mean, target))
        return torch.addcmul(target, scale.view(n, c, 1, v * m), flat - mean).view(x.shape)


def _with_lengths_of(bones: Tensor, donor: Tensor) -> Tensor:
    """Scale every bone vector to the length of the donor's bone in the same frame."""
    flat = bones.flatten(2)
    length = (flat.square().sum(1, keepdim=True) + 1e-5).sqrt()
    return (flat * (length[donor] / length)).view(bones.shape)
