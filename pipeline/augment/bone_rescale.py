"""Bone rescale: every bone is scaled by its own factor, and the joints beyond it move along."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.bone_tree import paths_from_centre
from skelpipe.augment.clip_program import BONES, Part
from skelpipe.augment.draws import Draws
from skelpipe.augment.joints import mix_joints, product
from skelpipe.augment.scores import with_scores
from skelpipe.augment.settings import BoneRescaleSettings, OfLayout
from skelpipe.views import positions

__all__ = ["BoneRescale"]


@dataclass(frozen=True, slots=True)
class BoneRescale(BoneRescaleSettings, OfLayout):
    """From the centre outwards: new child = new parent + f (child - parent), f ~ U(0, strength) for each bone.

    This is linear in the joints, so it is one matrix per sample. Only the released ActCLR has it, with strength
    0.5: divergence `actclr-transformations`.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `factor`, float32[N,V]: the factor of the bone that ends in joint v; the centre's has no effect."""
        return {"factor": draws.uniform(len(self.layout), 0.0, self.strength)}

    def mixture(self, params: dict[str, Tensor]) -> Tensor:
        """Return [N,V,V] in the factors' type: new joints = mixture @ joints."""
        factor = params["factor"]
        paths, bones, root = (each.to(factor.dtype) for each in _tree(self.layout.parents, factor.device))
        return product(paths * factor[:, None], bones) + root

    def part(self, params: dict[str, Tensor], shape: Sequence[int]) -> Part:
        """Return this rescale as a step of a program."""
        self._check(shape)
        return Part(BONES, [params["factor"]], bones=_outwards(self.layout.parents))

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Rescale the bones of clips [N,C,T,V,M]; same shape. Scores stay."""
        if cpu_kernels.usable(x, params["factor"]):
            return self.change(x.clone(memory_format=torch.contiguous_format), params)
        return self._mixed(x, params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place where that is faster."""
        if not cpu_kernels.usable(x, params["factor"]):
            return self._mixed(x, params)
        self._check(x.shape)
        cpu_kernels.scale_bones(x, params["factor"], _outwards(self.layout.parents))
        return x

    def _mixed(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        self._check(x.shape)
        return with_scores(mix_joints(positions(x), self.mixture(params)), x)

    def _check(self, shape: Sequence[int]) -> None:
        if shape[3] != len(self.layout):
            raise ValueError(f"the layout {self.layout.name} does not fit clips of {shape[3]} joints")


@cache
def _outwards(parents: tuple[int, ...]) -> Tensor:
    """Return the bones, int64[B,2], as (joint, parent), each after the one that ends in its parent."""
    depth = paths_from_centre(parents).sum(1).tolist()
    bones = [(joint, parent) for joint, parent in enumerate(parents) if joint != parent]
    return torch.tensor(sorted(bones, key=lambda bone: depth[bone[0]]), dtype=torch.int64).view(-1, 2)


@cache
def _tree(parents: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return paths, bones, root, float32[V,V]: joints = paths @ (bones @ joints) + root @ joints.

    Row b of `bones` is the bone that ends in joint b; `paths` are `paths_from_centre`.
    """
    count = len(parents)
    bones, root = torch.zeros(2, count, count)
    for child, parent in enumerate(parents):
        bones[child, child] += 1
        bones[child, parent] -= 1  # the centre's bone is 0
        if child == parent:
            root[:, child] = 1
    return paths_from_centre(parents).to(device), bones.to(device), root.to(device)
