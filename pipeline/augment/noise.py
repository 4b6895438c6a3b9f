"""Noise (spec B and B4): Gaussian on every number, and joints replaced by uniform noise in the person's box."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from skelpipe.augment import host, host_joints
from skelpipe.augment.chance import check_probability, gate
from skelpipe.augment.draws import Draws
from skelpipe.augment.pool import draw_start, pool, window
from skelpipe.errors import UsageError

__all__ = ["GaussianNoise", "JointNoise"]


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """Add N(0, sd) to every number; with `empty` also to bodies that are absent (zeros in the whole clip).

    The numbers of a clip are a window of one fixed pool.
    """

    sd: float = 0.01
    probability: float = 0.5
    empty: bool = False

    def __post_init__(self) -> None:
        check_probability(self.probability)
        if self.sd < 0:
            raise UsageError(f"the standard deviation of noise is {self.sd}; it must be 0 (no noise) or more")

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `scale`, float32[N], the standard deviation or 0, and `start`, int64[N], of the pool's window."""
        unit = draws.uniform(2)
        on = gate(unit[:, 0], self.probability)
        # All whose gate is closed share the first window, which then is in the cache.
        return {"scale": on * unit.new_full((), self.sd), "start": on * draw_start(unit[:, 1], prod(shape[1:]))}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Add noise to clips [N,C,T,V,M]; same shape."""
        return self.change(x.clone(memory_format=torch.contiguous_format), params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place."""
        n, c, t, v, m = x.shape
        if host.usable(x, params["scale"]):
            numbers = pool("gaussian", c * t * v * m, x.device)
            host.add_noise(x, params["scale"], params["start"], numbers, empty=self.empty)
            return x
        field = window("gaussian", params["start"], c * t * v * m).view(n, c * t, v * m)
        scale = params["scale"][:, None]
        if not self.empty:
            scale = (scale * _present(x)).repeat(1, v)
        x.view(n, c * t, v * m).addcmul_(field, scale[:, None])
        return x


@dataclass(frozen=True, slots=True)
class JointNoise:
    """Replace `count` joints, drawn once a clip, by uniform noise in the box around the person.

    In every frame and for every person, between the least and the greatest of each axis; a person whose
    coordinates in that frame sum to 0 is absent and stays as it is. MsMCLR's text has 5 joints, its code 1. The
    numbers are a window of a pool.
    """

    count: int = 5

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(f"{self.count} joints cannot be replaced by noise")

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `joints`, int64[N,k], distinct, and `start`, int64[N], of the pool's window."""
        c, t, v, m = shape[1:]
        k = min(self.count, v)
        unit = draws.uniform(v + 1)
        joints = unit[:, 1:].argsort(dim=1, stable=True)[:, :k]
        return {"joints": joints, "start": draw_start(unit[:, 0], c * t * k * m)}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Replace joints of clips [N,C,T,V,M]; same shape."""
        if host.usable(x):
            return self.change(x.clone(memory_format=torch.contiguous_format), params)
        return x.scatter(3, *self._noise(x, params))

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place."""
        if not host.usable(x):
            return x.scatter_(3, *self._noise(x, params))
        joints, start = params["joints"], params["start"]
        numbers = pool("uniform", joints.shape[1] * x[:1, :, :, 0].numel(), x.device)
        host_joints.fill_boxes(x, joints, start, numbers)
        return x

    def _noise(self, x: Tensor, params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return which joint to write to, and what: both [N,C,T,k,M]."""
        n, c, t, _, m = x.shape
        k = params["joints"].shape[1]
        at = params["joints"][:, None, None, :, None].expand(n, c, t, k, m)
        low, high = _fold_joints(x, torch.minimum), _fold_joints(x, torch.maximum)
        unit = window("uniform", params["start"], c * t * k * m).view(n, c, t, k, m)
        noise = torch.addcmul(low.to(unit.dtype), unit, (high - low).to(unit.dtype)).to(x.dtype)
        here = x.sum(3, keepdim=True, dtype=unit.dtype).sum(1, keepdim=True) != 0
        return at, torch.where(here, noise, x.gather(3, at))


def _present(x: Tensor) -> Tensor:
    """Return float32[N,M]: 1 for bodies with any number but 0 in the clip. Sums of sizes cannot cancel."""
    n, c, t, v, m = x.shape
    sizes = x.detach().reshape(n, c * t, v * m).abs().sum(1, dtype=torch.float32)  # rows first: contiguous
    return (sizes.view(n, v, m).sum(1) != 0).to(torch.float32)


def _fold_joints(x: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the least or greatest of the joints, [N,C,T,1,M]; halving keeps rows long, which `amin` does not."""
    while (v := x.shape[3]) > 1:
        half = (v + 1) // 2
        x = extreme(x[:, :, :, :half], x[:, :, :, v - half :])  # the halves may share the middle one
    return x
