"""What backbones have in common, on a backbone of a few lines."""

import pytest
import torch
from torch import Tensor

from skelpipe.models.backbone import Backbone


class Poses(Backbone):
    def features(self, x: Tensor) -> Tensor:
        return x.permute(0, 4, 1, 2, 3).flatten(0, 1) ** 2


def test_h_is_the_mean_over_frames_and_joints_then_bodies() -> None:
    x = torch.randn(2, 3, 4, 5, 2, dtype=torch.float64)
    h = Poses()(x)
    for n in range(2):
        for c in range(3):
            bodies = [sum(float(x[n, c, t, v, m]) ** 2 for t in range(4) for v in range(5)) / 20 for m in range(2)]
            assert h[n, c].item() == pytest.approx(sum(bodies) / 2)


def test_one_without_features_says_so() -> None:
    with pytest.raises(TypeError, match="Backbone has no `features`"):
        Backbone()(torch.zeros(1, 3, 4, 5, 1))
