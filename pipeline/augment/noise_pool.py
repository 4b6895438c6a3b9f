"""Large random fields at the cost of a copy: windows of one fixed pool of numbers, with an offset per sample."""

from functools import cache
from typing import Final

import torch
from torch import Tensor

from skelpipe.augment.chance import whole
from skelpipe.augment.draws import Draws

__all__ = ["draw_start", "pool", "window"]

SIZE: Final = 1 << 20
SEED: Final = 20_090_617  # arbitrary, but fixed: the pools must never change
COLUMNS: Final = 1 << 10


def draw_start(unit: Tensor, length: int) -> Tensor:
    """Return int64: where a window of `length` numbers starts, by `unit`, uniform in [0,1)."""
    return whole(unit, 0, _size(length) - length + 1)


def window(kind: str, start: Tensor, length: int) -> Tensor:
    """Return float32[N,length]: numbers start[n] .. start[n]+length-1 of the pool `kind`.

    "gaussian" holds N(0,1) (at most 5.9 in size), "uniform" U[0,1). The pools are constants; each device copies
    them from the host once.
    """
    numbers = pool(kind, length, start.device)
    return numbers.as_strided((len(numbers) - length + 1, length), (1, 1)).index_select(0, start)


def pool(kind: str, length: int, device: torch.device) -> Tensor:
    """Return the pool `kind`, float32, that windows of `length` numbers are taken from."""
    return _pool(kind, _size(length), device)


def _size(length: int) -> int:
    """Return the size of the pool for windows of `length`: large enough that few windows overlap."""
    return max(SIZE, 1 << (4 * length - 1).bit_length())


@cache
def _pool(kind: str, size: int, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return _pool(kind, size, torch.device("cpu")).to(device)
    draws = Draws(SEED, 0, torch.arange(size // COLUMNS), slot=("gaussian", "uniform").index(kind))
    unit = draws.uniform(COLUMNS).view(-1)
    if kind == "uniform":
        return unit
    # Box and Muller (1958), in float64: two normal numbers from two uniform ones.
    radius, turn = unit.double().view(2, -1)
    radius = (radius + 2.0**-25).log_().mul_(-2).sqrt_()
    turn = turn * (2 * torch.pi)
    return torch.cat([radius * turn.cos(), radius * turn.sin()]).float()
