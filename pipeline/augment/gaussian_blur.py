"""Gaussian blur over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.chance import gate
from skelpipe.augment.clip_kernels import REACH
from skelpipe.augment.clip_program import BLUR, Part
from skelpipe.augment.draws import Draws
from skelpipe.augment.scores import with_scores
from skelpipe.augment.settings import GaussianBlurSettings
from skelpipe.views import positions

__all__ = ["GaussianBlur"]

TINY: Final = 1e-20  # smaller weights become 0: they change nothing, and denormal numbers are slow


@dataclass(frozen=True, slots=True)
class GaussianBlur(GaussianBlurSettings):
    """x'[t] = sum over k = -7..7 of g_k x[t+k], g_k = exp(-k^2 / (2 s^2)), with `probability`.

    Guo et al. 2022, "Data Augmentations". s ~ U(low, high) frames; beyond both ends are zeros. With `normalise` g
    is divided by its sum. The released code does not normalise, so that its blur also enlarges the body, up to 5
    times: divergence `blur-gain`.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `on`, bool[N], and `sigma`, float32[N] in frames."""
        unit = draws.uniform(2)
        sigma = self.low + (self.high - self.low) * unit[:, 1]
        return {"on": gate(unit[:, 0], self.probability), "sigma": sigma}

    def kernel(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,15]: the weights of the 15 frames around each frame; a single 1 where off."""
        sigma = params["sigma"][:, None]
        k = torch.arange(-REACH, REACH + 1, device=sigma.device)
        g = (-0.5 * (k / sigma).square()).exp_()
        g = g.masked_fill_(g < TINY, 0.0)
        if self.normalise:
            g = g / g.sum(1, keepdim=True)
        return torch.where(params["on"][:, None], g, (k == 0).to(g.dtype))

    def part(self, params: dict[str, Tensor], shape: Sequence[int]) -> Part:
        """Return this blur as a step of a program."""
        return Part(BLUR, [self.kernel(params)[:, REACH:]], [params["on"]])

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Blur clips [N,C,T,V,M]; same shape. Scores stay."""
        return self.change(x.clone(memory_format=torch.contiguous_format), params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place where that is faster."""
        kernel = self.kernel(params)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        if not cpu_kernels.usable(wide, kernel):
            return with_scores(_convolve(positions(x), kernel), x)
        cpu_kernels.blur(wide, params["on"], kernel)
        return wide.to(x.dtype)


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each clip in time with its own kernel, in float32: one group per sample and axis."""
    n, c, t, v, m = x.shape
    if x.numel() == 0:
        return x
    planes = x.reshape(1, n * c, t, v * m).to(torch.promote_types(x.dtype, kernel.dtype))
    weights = kernel[:, None].expand(-1, c, -1).reshape(n * c, 1, -1, 1).to(planes.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(planes, weights, padding=(REACH, 0), groups=n * c).view(x.shape).to(x.dtype)
