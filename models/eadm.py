"""AimCLR's energy-based attention-guided drop module: the most telling features are left out (spec D3).

Guo et al. 2022, "Energy-based Attention-guided Drop Module", eq. 3 and algorithm 1; the energy is SimAM's.
"""

import math

import torch
from torch import Tensor

__all__ = ["attention", "eadm", "keep_masks"]

LAMBDA = 1e-4  # lambda of eq. 3: released code, the paper gives none


def attention(x: Tensor, lam: float = LAMBDA, *, unbiased: bool = False) -> Tensor:
    """Return alpha = sigmoid(1/E) of feature maps x [R, C, T', V'], element for element, in 0.622..1.

    1/e_t = (x - mu)^2 / (4 (sigma^2 + lam)) + 1/2, with mean and variance over the T'V' elements of a row's
    channel. `unbiased` divides the variance by one less than their number, as the released code does (spec G28).
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        squares = (x - x.mean(dim=(2, 3), keepdim=True)).square()
        number = max(1, x.shape[2] * x.shape[3] - unbiased)
        variance = squares.sum(dim=(2, 3), keepdim=True) / number
        return torch.sigmoid(squares / (4 * (variance + lam)) + 0.5)


def keep_masks(
    alpha: Tensor, kappa: float, *, relative: bool = False, elementwise: bool = False
) -> tuple[Tensor, Tensor]:
    """Return which joints and which frames of alpha [R, C, T', V'] are kept: masks of 0 and 1 that broadcast.

    A joint's attention is the mean over channels and frames, a frame's the mean over channels and joints. What
    has kappa or more is dropped; if `relative`, only the rest beyond the share `kappa` of a row's joints, and of
    its frames, with the least attention. With `elementwise` the second mask is taken of each element's own
    attention, not of frames' (the released code).
    """
    spatial = alpha.mean(dim=(1, 2), keepdim=True)  # [R, 1, 1, V']
    temporal = alpha if elementwise else alpha.mean(dim=(1, 3), keepdim=True)  # [R, 1, T', 1]
    if not relative:
        return (spatial < kappa).to(alpha.dtype), (temporal < kappa).to(alpha.dtype)
    return _lowest(spatial, kappa), _lowest(temporal, kappa)


def eadm(
    x: Tensor, kappa: float, *, lam: float = LAMBDA, relative: bool = False, released: bool = False
) -> Tensor:
    """Return feature maps x [R, C, T', V'] without their most attended joints and frames (algorithm 1).

    Each mask is followed by a division by the share it keeps of the whole batch. Masks carry no gradient.
    `released`: the temporal mask is elementwise and the variance divided by T'V' - 1, as in the repaired code of
    2022-03. The first public code dropped nothing, as a kappa above 1 does (spec G28).
    """
    with torch.no_grad():
        alpha = attention(x, lam, unbiased=released)
        spatial, temporal = keep_masks(alpha, kappa, relative=relative, elementwise=released)
        factors = _scaled(spatial), _scaled(temporal)
    return x * factors[0].to(x.dtype) * factors[1].to(x.dtype)


def _lowest(values: Tensor, share: float) -> Tensor:
    """Return 1 at the `share` of each row [R, ...] with the lowest values, and at ties with the last of them."""
    rows = values.flatten(1)
    kept = min(max(1, math.ceil(share * rows.shape[1] - 1e-9)), rows.shape[1])
    last = rows.kthvalue(kept, dim=1, keepdim=True).values
    return (rows <= last).to(values.dtype).view_as(values)


def _scaled(mask: Tensor) -> Tensor:
    """Return the mask times count / count of ones; all zeros where nothing is kept."""
    return mask * (mask.numel() / mask.sum().clamp(min=1))
