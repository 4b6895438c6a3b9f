"""Where tensors live: the meaning of `--device`."""

import torch

from skelpipe.errors import UsageError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """Return the device of `auto` (the first GPU where there is one), `cpu`, `cuda` or `cuda:N`."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"there is no device {name!r}: auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: auto, cpu, cuda, cuda:N")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"device {name!r} is not here: {torch.cuda.device_count()} GPUs are visible")
        return torch.device("cuda", device.index or 0)
    return torch.device("cpu")
