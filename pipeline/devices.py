"""The device that `--device` names, and copies to and from it for which nobody waits."""

import os

import torch
from torch import Tensor

from skelpipe.errors import UsageError

__all__ = ["Fetched", "resolve_device", "sent"]


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    A single process gets the first GPU. Of several ranks that torchrun started on a machine, each gets the GPU
    with the number LOCAL_RANK. Raises UsageError if that GPU does not exist.
    """
    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    own = int(os.environ.get("LOCAL_RANK") or 0) if several else 0
    if name == "auto":
        return _gpu(own, "auto") if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise UsageError(f"there is no device {name!r}; choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; choose auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    if several and device.index is not None:
        raise UsageError(f"device {name!r} is one GPU, but each of several ranks uses its own; pass --device cuda")
    return _gpu(own if device.index is None else device.index, name)


def _gpu(number: int, name: str) -> torch.device:
    count = torch.cuda.device_count()
    if number < count:
        return torch.device("cuda", number)
    visible = f"{count} GPU{' is' if count == 1 else 's are'} visible"
    if number and "LOCAL_RANK" in os.environ and name in ("auto", "cuda"):
        raise UsageError(
            f"{visible}, and this is rank {number}, counted from 0, on this machine; start as many ranks as there "
            f"are GPUs, or pass --device cpu"
        )
    raise UsageError(f"device {name!r} is not available: {visible}")


def sent(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device. On a GPU the copy is queued, and the host goes on."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class Fetched:
    """Tensors that are copied to the host while the device computes the next ones."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._devices: set[torch.device] = set()

    def add(self, x: Tensor) -> None:
        """Queue the copy of a tensor; the host goes on."""
        self._devices.add(x.device)
        self._parts.append(x.to("cpu", non_blocking=True))

    def all(self) -> list[Tensor]:
        """Wait, and return the copies in the order in which they were added."""
        for device in self._devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return self._parts
