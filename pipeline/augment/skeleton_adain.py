"""Skeleton AdaIN: a clip takes over its donor's mean pose and its spread over time, or its bone lengths."""

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

__all__ = ["STATES", "SkeletonAdaIN"]

STATES = ("2023-12", "head")  # of the released code
EPOCH = "epoch"
SHORTEST = 1e-5  # added to squared lengths


@dataclass(frozen=True, slots=True)
class SkeletonAdaIN:
    """x'_i = sd(x_j) (x_i - mu(x_i)) / (sd(x_i) + eps) + mu(x_j), j the donor (Lin et al. 2023, eq. 6).

    mu is the mean over joints, per axis, frame and body; sd is the standard deviation over time, per axis, joint
    and body. It acts on the finished view. `paper`: in every view, between bodies that are present in both clips;
    an absent (all-zero) body stays zero, and a body whose donor lacks it stays as it is.

    Released (divergence `actclr-transformations`) are two other forms, which scale bones instead and keep the
    centre where it is:

    - "2023-12": each number b of a bone vector is multiplied by (l_j / l_i)^(100 / (e + 400)), with l = sqrt(the
      sum of b^2 over the bodies + 1e-5) for each axis by itself, then joints are put together from the centre
      outwards. e is the epoch, counted from 1 at epoch `begins` of the run (counted from 0). All views are treated
      as joints are: the bones of a bone clip are the differences of its bones.
    - "head": joint clips keep the directions of their bones and take the donor's bone lengths, sqrt(|b|^2 +
      1e-5), frame by frame from the centre outwards; bone clips take these lengths for each bone alone. Motion
      clips follow the formula with the unbiased deviation, which fills absent bodies.
    """

    layout: Layout
    view: str = "joint"
    variant: str = "paper"
    eps: float = 1e-3
    begins: int = 0

    def __post_init__(self) -> None:
        if self.variant not in ("paper", *STATES):
            states = " or ".join(map(repr, STATES))
            raise UsageError(f"Skeleton AdaIN is that of the 'paper' or released, {states}, not {self.variant!r}")
        if self.view not in VIEWS:
            raise UsageError(f"there is no view {self.view!r}; there are: {', '.join(VIEWS)}")

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `donor`, int64[N]: positions in the batch, one shift per batch.

        "2023-12" takes notice of the `epoch` besides, int64[N].
        """
        donor = draw_donors(draws)
        if self.variant != "2023-12":
            return {DONOR: donor}
        return {DONOR: donor, EPOCH: torch.full_like(donor, draws.epoch - self.begins + 1)}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return clips [N,C,T,V,M] with their donors' statistics; in float32 or wider inside. Scores stay."""
        donor = params[DONOR]
        wide = positions(x).to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        if self.variant == "paper" or (self.variant == "head" and self.view == "motion"):
            swapped = self._swap(wide, donor)
        elif self.variant == "head" and self.view == "bone":
            swapped = _with_lengths_of(wide, donor)
        else:
            bones = bones_of(wide, self.layout)
            if self.variant == "head":
                bones = _with_lengths_of(bones, donor)
            else:
                bones = _towards_lengths_of(bones, donor, 100 / (params[EPOCH].to(wide.dtype) + 400))
            swapped = joints_of(bones, wide[:, :, :, self.layout.centre], self.layout)
        return with_scores(swapped.to(x.dtype), x)

    def _swap(self, x: Tensor, donor: Tensor) -> Tensor:
        """Apply eq. 6; in `paper` to the bodies that are present in a clip and in its donor.

        The gradient is NaN where a joint does not move: there the deviation is the square root of zero.
        """
        n, c, t, v, m = x.shape
        mean = x.mean(3)  # [N,C,T,M]
        flat = x.view(n, c, t, v * m)
        frames = t if self.variant == "paper" else max(t - 1, 1)
        spread = ((flat - flat.mean(2, keepdim=True)).square_().sum(2) / frames).sqrt().view(n, c, v, m)
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
    length = (flat.square().sum(1, keepdim=True) + SHORTEST).sqrt()
    return (flat * (length[donor] / length)).view(bones.shape)


def _towards_lengths_of(bones: Tensor, donor: Tensor, power: Tensor) -> Tensor:
    """Scale bones by the ratio, to `power` [N], of lengths over the bodies, the donor's to the own: [N,C,T,V]."""
    squared = (bones.square().sum(4) + SHORTEST).flatten(1)
    ratio = (squared[donor] / squared).pow(power.view(-1, 1) / 2)
    return bones * ratio.view(bones.shape[:4])[..., None]
