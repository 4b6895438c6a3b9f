"""Projection heads (spec C4)."""

from torch import nn

__all__ = ["projection_head"]


def projection_head(in_dim: int, hidden: int, out_dim: int, batch_norm: bool = False) -> nn.Sequential:
    """Return the MLP h [N, in_dim] -> [N, out_dim]: Linear, (BatchNorm,) ReLU, Linear. It does not normalise.

    With `batch_norm` it is SkeleMixCLR's; without, SkeletonCLR's, AimCLR's and MsMCLR's.
    """
    norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(nn.Linear(in_dim, hidden), *norm, nn.ReLU(), nn.Linear(hidden, out_dim))
