"""What a method hands to the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Step", "Views", "spread"]


class Views(Protocol):
    """A batch as methods see it: named views [N, C, T, V, M] of the same N clips, on the device.

    `extras` holds what came with the views, such as `mixed_mask` and `mixed_donor`.
    """

    @property
    def views(self) -> Mapping[str, Tensor]: ...

    @property
    def extras(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Step:
    """One forward pass of a method: `loss` to call backward on, and what to watch.

    `embeddings` are the queries z [N, dim] and `keys` the keys (none where a method has none), both detached.
    `logs` are detached scalars, left on the device so that a step need not wait for them.
    """

    loss: Tensor
    embeddings: Tensor
    keys: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Return the collapse gauge of unit vectors z [N, D]: their mean standard deviation times sqrt(D).

    It is 1 when they are spread evenly over the sphere and 0 when they are all one vector.
    """
    z = z.float()
    return z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5
