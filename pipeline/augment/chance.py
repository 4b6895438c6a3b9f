"""From uniform draws to decisions: gates, whole numbers, subsets."""

import torch
from torch import Tensor

__all__ = ["gate", "some", "whole"]


def gate(unit: Tensor, probability: float) -> Tensor:
    """Return bool of unit's shape: true with `probability` if `unit` is uniform in [0,1)."""
    return unit < probability


def whole(unit: Tensor, low: int | Tensor, high: int | Tensor) -> Tensor:
    """Return int64 in low..high-1, equally likely for `unit` uniform in [0,1); the bias is (high - low) / 2^24."""
    steps = high - low
    drawn = (unit * steps).long()
    return (drawn.clamp_(max=steps - 1) if isinstance(steps, int) else drawn.minimum(steps - 1)) + low


def some(unit: Tensor, count: Tensor) -> Tensor:
    """Return bool[N,V] with count[n] true values in row n (V, if that is less), every subset equally likely."""
    order = unit.argsort(dim=1, stable=True)
    first = torch.arange(unit.shape[1], device=unit.device) < count[:, None]
    return torch.zeros_like(first).scatter_(1, order, first)
