"""From joints to bones and back: joints minus their parents, and joints at the ends of chains of bones."""

from functools import cache

import torch
from torch import Tensor

from skelpipe.augment.joints import product
from skelpipe.skeleton import Layout

__all__ = ["bones_of", "joints_of", "paths_from_centre"]


def bones_of(x: Tensor, layout: Layout) -> Tensor:
    """Return joint minus parent for clips [N,C,T,V,M] (docs/conventions.md); the centre gets 0.

    The same as `views.bone`, but ten times as fast on a CPU: it chooses columns of rows of V*M numbers.
    """
    rows = x.reshape(-1, x.shape[3] * x.shape[4])
    return (rows - rows.index_select(1, _columns(layout.parents, x.shape[4], x.device))).view(x.shape)


def joints_of(bones: Tensor, centre: Tensor, layout: Layout) -> Tensor:
    """Return clips [N,C,T,V,M] with these bones and with the centre joint at `centre` [N,C,T,M].

    A joint is the centre plus all bones between them, which is one matrix product. The bone of the centre itself
    has no effect.
    """
    v, m = bones.shape[3:]
    rows = bones.reshape(-1, v * m).clone()
    rows[:, layout.centre * m : (layout.centre + 1) * m] = centre.reshape(-1, m)
    return product(rows, _sums(layout.parents, m, bones.device).to(rows.dtype)).view(bones.shape)


def paths_from_centre(parents: tuple[int, ...]) -> Tensor:
    """Return float32[V,V]: 1 in row v, column b, where bone b lies between the centre and joint v.

    Bone b ends in joint b; the centre, which is its own parent, has none.
    """
    paths = torch.zeros(len(parents), len(parents))
    for joint in range(len(parents)):
        bone = joint
        while bone != parents[bone]:
            paths[joint, bone] = 1
            bone = parents[bone]
    return paths


@cache
def _columns(joints: tuple[int, ...], bodies: int, device: torch.device) -> Tensor:
    """Return the columns of these joints in rows of V*M numbers."""
    first = torch.tensor(joints, device=device)[:, None] * bodies
    return (first + torch.arange(bodies, device=device)).view(-1)


@cache
def _sums(parents: tuple[int, ...], bodies: int, device: torch.device) -> Tensor:
    """Return [V*M,V*M]: 1 where a row (a bone or the centre) is part of the sum for a column (a joint)."""
    paths = paths_from_centre(parents).T.contiguous()
    paths[[joint for joint, parent in enumerate(parents) if joint == parent]] = 1
    return torch.kron(paths, torch.eye(bodies)).to(device)
