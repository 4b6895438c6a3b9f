"""Features of comparable size against numpy, whatever the parts they come in, and layers that undo the change."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelpipe.train.evaluation.standard_features import StandardFeatures


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    sizes = torch.tensor([1e-3, 1.0, 1e4, 0.1, 5.0])
    x = torch.randn(90, 5, generator=generator) * sizes + 7 * sizes
    x[:, 3] = 0.1  # constant
    return x


def test_features_have_mean_0_and_clips_mean_squared_length_1(features: Tensor) -> None:
    found = StandardFeatures.of([features])(features)
    x = features.double().numpy()
    apart = x - x.mean(axis=0)
    expected = apart / np.where(x.std(axis=0) > 1e-9, x.std(axis=0), np.inf) / 5**0.5
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected, abs=1e-5)
    assert not found[:, 3].any()


@pytest.mark.parametrize("sizes", [[1] * 90, [40, 50], [89, 1], [0, 90]])
def test_parts_give_what_the_whole_gives(features: Tensor, sizes: list[int]) -> None:
    whole, parts = StandardFeatures.of([features]), StandardFeatures.of(features.split(sizes))
    assert torch.allclose(parts.mean, whole.mean, rtol=1e-12)
    assert torch.allclose(parts.factor, whole.factor, rtol=1e-9)


def test_other_units_of_features_change_nothing(features: Tensor) -> None:
    moved = features * torch.tensor([8.0, 0.25, 2.0, 4.0, 1.0])
    assert torch.allclose(
        StandardFeatures.of([moved])(moved), StandardFeatures.of([features])(features), atol=1e-5
    )


def test_the_undone_layer_scores_features_as_they_are(features: Tensor) -> None:
    standard, layer = StandardFeatures.of([features]), nn.Linear(5, 3)
    plain = standard.undone(layer)
    expected = standard(features).double().numpy() @ layer.weight.detach().double().numpy().T
    expected += layer.bias.detach().double().numpy()
    assert plain(features).detach().numpy() == pytest.approx(expected, abs=2e-4)
