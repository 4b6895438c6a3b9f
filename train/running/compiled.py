"""Backbones compiled by torch: the meaning of `--compile`."""

import torch

from skelpipe.models.encoders import Encoder
from skelpipe.models.method import Method

__all__ = ["compile_networks"]


def compile_networks(method: Method, backend: str = "inductor") -> int:
    """Compile the feature maps of all backbones of a method, key networks' too; return how many there are.

    Compilation happens at the first batch of each shape. Only the function on the module is replaced: the names of
    weights and their export do not change.
    """
    encoders = [module for module in method.modules() if isinstance(module, Encoder)]
    for encoder in encoders:
        encoder.features = torch.compile(encoder.features, backend=backend)  # type: ignore[method-assign]
    return len(encoders)
