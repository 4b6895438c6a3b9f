"""Bone rescale (spec B3): every bone shrinks by a factor of its own, and what hangs on it moves along."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.joints import mix_joints, product
from skelpipe.skeleton import Layout

__all__ = ["BoneRescale"]


@dataclass(frozen=True, slots=True)
class BoneRescale:
    """Walk the tree from the centre: new child = new parent + bone * factor, factor ~ strength * U(0,1) per bone.

    The walk is linear in the joints, so that it is one matrix per sample. The released ActCLR has strength 0.5;
    no paper mentions this augmentation.
    """

    layout: Layout
    strength: float = 0.5

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `factor`, float32[N,V]: that of the bone which ends in joint v; the centre's has no effect."""
        return {"factor": draws.uniform(len(self.layout), 0.0, self.strength)}

    def mixture(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,V,V]: new joints = mixture @ joints."""
        paths, bones, root = _tree(self.layout.parents, params["factor"].device)
        return product(paths * params["factor"][:, None], bones) + root

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Rescale the bones of clips [N,C,T,V,M]; same shape."""
        if x.shape[3] != len(self.layout):
            raise ValueError(f"the layout {self.layout.name} does not fit clips of {x.shape[3]} joints")
        return mix_joints(x, self.mixture(params))


@cache
def _tree(parents: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return paths, bones, root, float32[V,V]: joints = paths @ (bones @ joints) + root @ joints.

    Row b of `bones` is the bone that ends in joint b; `paths` has a 1 where bone b lies between v and the centre.
    """
    count = len(parents)
    paths, bones, root = torch.zeros(3, count, count)
    for joint in range(count):
        v = joint
        while v != parents[v]:
            paths[joint, v] = 1
            v = parents[v]
        root[joint, v] = 1
    for child, parent in enumerate(parents):
        bones[child, child] += 1
        bones[child, parent] -= 1  # the centre's bone is 0
    return paths.to(device), bones.to(device), root.to(device)
