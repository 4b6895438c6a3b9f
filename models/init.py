"""The papers' initialisation of weights (spec C1)."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["initialise"]

DEVIATION = 0.02


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the weights of a module and all it holds, in place, from torch's global generator.

    Convolutions and linear layers: N(0, 0.02), biases 0. Batch normalisation: weights N(1, 0.02), biases 0.
    Everything else, such as edge importance, LayerNorm and running statistics, stays as it is.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.normal_(part.weight, 0.0, DEVIATION)
        elif isinstance(part, _BatchNorm) and part.affine:
            nn.init.normal_(part.weight, 1.0, DEVIATION)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
