"""Features of comparable size for a linear classifier: shifted and scaled by what the training clips have.

An encoder whose features hardly differ between clips, such as a random one, cannot be judged at the learning rate
of another: its classifier learns nothing, though the classes may be apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["StandardFeatures"]

AT_ONCE = 4096  # clips in float64
ROUNDING = 1e-6  # a feature whose deviation is a smaller part of its mean is constant in float32


@dataclass(frozen=True)
class StandardFeatures:
    """x -> (x - mean) * factor, with factor = 1 / (deviation sqrt(D)): of training clips [N,D] the mean squared
    length is 1, so that one learning rate suits all widths. A constant feature becomes 0.

    `mean` and `factor` are float64[D].
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> "StandardFeatures":
        """Return those of all training clips, given as one or more [n,D]; deviations are those of all of them."""
        count, mean, apart = 0, torch.zeros(()), torch.zeros(())
        for wide in (some.double() for part in parts if len(part) for some in part.split(AT_ONCE)):
            own, step = wide.mean(dim=0), len(wide) / (count + len(wide))
            between = own - mean.to(own)
            apart = apart.to(own) + (wide - own).square().sum(dim=0) + count * step * between.square()
            mean, count = mean.to(own) + step * between, count + len(wide)
        deviation = (apart / max(count, 1)).sqrt()
        constant = deviation <= ROUNDING * mean.abs()
        factor = 1 / (deviation * max(len(mean), 1) ** 0.5)
        return cls(mean, factor.masked_fill(constant, 0.0))

    def __call__(self, features: Tensor) -> Tensor:
        """Return features [n,D] as float32 of comparable size."""
        parts = features.split(AT_ONCE)
        return torch.cat([((part.double() - self.mean) * self.factor).float() for part in parts])

    def undone(self, layer: nn.Linear) -> nn.Linear:
        """Return the layer that gives the same scores of features as they are."""
        plain = nn.Linear(layer.in_features, layer.out_features, device="meta")  # no weights are drawn
        mean, factor = self.mean.to(layer.weight.device), self.factor.to(layer.weight.device)
        weight = layer.weight.detach().double() * factor
        own = {"weight": weight.float(), "bias": (layer.bias.detach().double() - weight @ mean).float()}
        plain.load_state_dict(own, assign=True)
        return plain
