"""What backbones have in common: features, their pooling, and h."""

from typing import ClassVar

from torch import Tensor, nn

from skelpipe.models.settings import BackboneSettings
from skelpipe.skeleton import Layout

__all__ = ["Backbone"]


class Backbone(nn.Module):
    """A network of clips [N, C, T, V, M] that gives h [N, D], in two steps: `features` and `pool`.

    A subclass defines `features`, sets `layout` (whose joints it takes) and `feature_dim` (D), and says with
    `joint_map` whether the V' of its features are the joints of the layout.
    """

    Settings: ClassVar[type] = BackboneSettings
    joint_map: ClassVar[bool] = False
    layout: Layout
    feature_dim: int

    def features(self, x: Tensor) -> Tensor:
        """Return the feature maps [N*M, D, T', V'] of clips [N, C, T, V, M], the bodies of a clip one by one."""
        raise TypeError(f"{type(self).__name__} has no `features`")

    def pool(self, features: Tensor, bodies: int) -> Tensor:
        """Return h [N, D], the mean over T' and V', then bodies, of maps [N*M, D, T', V']."""
        return features.mean(dim=(2, 3)).unflatten(0, (-1, bodies)).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return h [N, D] of clips [N, C, T, V, M]."""
        return self.pool(self.features(x), x.shape[4])
