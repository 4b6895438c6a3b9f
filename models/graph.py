"""Adjacency matrices of a skeleton for graph convolutions (docs/conventions.md)."""

import math

import torch
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["VARIANTS", "adjacency"]

VARIANTS = ("stgcn_capped", "stgcn_full", "agcn")


def adjacency(layout: Layout, variant: str) -> Tensor:
    """Return the subsets of a layout's graph as float32 [3, V, V]; `A[k, v, w]` carries joint v to joint w.

    `stgcn_capped` is ST-GCN's spatial partition as its released code computes it: all distances beyond one hop
    from the centre count as equal, so on the limbs both directions of a bone are in subset 1. `stgcn_full` uses
    true distances: subset 1 leads towards the centre, subset 2 away from it. `agcn` has the identity, the inward
    and the outward bones, each normalised by itself (Shi et al. 2019). Raises UsageError for an unknown variant.
    """
    match variant:
        case "stgcn_capped":
            return _spatial_partition(layout, reach=1)
        case "stgcn_full":
            return _spatial_partition(layout, reach=None)
        case "agcn":
            return _directed_bones(layout)
    raise UsageError(f"unknown graph {variant!r}; known: {', '.join(VARIANTS)}")


def _spatial_partition(layout: Layout, reach: int | None) -> Tensor:
    """Divide the normalised graph by which joint is nearer to the centre (Yan et al. 2018, section 3.3)."""
    links = torch.eye(len(layout), dtype=torch.float64)
    for child, parent in layout.edges:
        links[child, parent] = links[parent, child] = 1.0
    normalised = _by_column(links)
    hops = [_hops(layout, joint) for joint in range(len(layout))]
    if reach is not None:
        hops = [hop if hop <= reach else math.inf for hop in hops]
    subsets = torch.zeros(3, len(layout), len(layout), dtype=torch.float64)
    subsets[0].diagonal().copy_(normalised.diagonal())
    for child, parent in layout.edges:
        for source, target in ((child, parent), (parent, child)):
            subset = 1 if hops[source] >= hops[target] else 2
            subsets[subset, source, target] = normalised[source, target]
    return subsets.float()


def _directed_bones(layout: Layout) -> Tensor:
    subsets = torch.zeros(3, len(layout), len(layout), dtype=torch.float64)
    subsets[0] = torch.eye(len(layout), dtype=torch.float64)
    for child, parent in layout.edges:
        subsets[1, parent, child] = 1.0
        subsets[2, child, parent] = 1.0
    return torch.stack([subsets[0], _by_column(subsets[1]), _by_column(subsets[2])]).float()


def _by_column(matrix: Tensor) -> Tensor:
    """Divide every column by its sum; an empty column stays empty."""
    total = matrix.sum(dim=0)
    return matrix / torch.where(total == 0, torch.ones_like(total), total)


def _hops(layout: Layout, joint: int) -> float:
    """Return the number of bones between a joint and the centre."""
    count = 0
    while joint != layout.centre:
        joint = layout.parents[joint]
        count += 1
    return count
