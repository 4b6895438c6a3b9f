"""Proof that a frozen network did not change: a hash of each of its tensors, before and after."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError

__all__ = ["WeightsHash"]

NAMED = 5  # tensors an error names


@dataclass(frozen=True)
class WeightsHash:
    """The sha256 of each parameter and buffer of a network by name: batch statistics and constants too."""

    hashes: Mapping[str, str]

    @classmethod
    def of(cls, network: nn.Module) -> "WeightsHash":
        """Return the hashes of a network as it is now. Type and shape enter them, the device does not."""
        return cls({name: _hash(tensor) for name, tensor in _tensors(network)})

    @property
    def digest(self) -> str:
        """One sha256 of them all."""
        return hashlib.sha256(
            "".join(f"{name} {self.hashes[name]}\n" for name in self.hashes).encode()
        ).hexdigest()

    def check(self, network: nn.Module) -> None:
        """Raise SkelpipeError naming each tensor of a network that changed, was added or was removed."""
        now = WeightsHash.of(network).hashes
        both = [*self.hashes, *(name for name in now if name not in self.hashes)]
        changed = [name for name in both if self.hashes.get(name) != now.get(name)]
        if changed:
            more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
            named = ", ".join(changed[:NAMED])
            raise SkelpipeError(f"the frozen network changed while it was evaluated, in {named}{more}")


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all parameters and buffers, also those that a state_dict leaves out."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def _hash(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous()
    kind = f"{content.dtype} {list(content.shape)} ".encode()
    return hashlib.sha256(kind + content.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
