"""Shear against its definition for one clip in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe import views
from skelpipe.augment.draws import Draws
from skelpipe.augment.shear import Shear
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout


def clips(n: int = 4, t: int = 12, v: int = 25, m: int = 2, c: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(seed))


def draws(n: int, seed: int = 0) -> Draws:
    return Draws(seed, 1, torch.arange(n) * 3)


def naive_shear(clip: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    out = np.zeros(clip.shape)
    for i in range(3):
        for j in range(3):
            out[i] += float(matrix[i, j]) * clip[j].astype(np.float64)
    return out


def test_shear_is_the_matrix_of_its_six_draws() -> None:
    x = clips(9)
    params = Shear(0.5).sample(draws(9), x.shape)
    sheared = Shear(0.5).apply(x, params)
    for clip, matrix, got in zip(x.numpy(), params["matrix"].numpy(), sheared.numpy(), strict=True):
        np.testing.assert_allclose(got, naive_shear(clip, matrix), rtol=0, atol=3e-6)


def test_shear_draws_six_independent_shares_between_the_limits() -> None:
    n, amplitude = 20_000, 0.3
    matrix = Shear(amplitude).sample(draws(n), (n, 3, 1, 1, 1))["matrix"]
    assert torch.equal(matrix.diagonal(dim1=1, dim2=2), torch.ones(n, 3))
    shares = torch.stack([matrix[:, i, j] for i in range(3) for j in range(3) if i != j]).double()
    assert shares.abs().max() <= amplitude
    for share in shares:
        ordered = (share.sort().values + amplitude) / (2 * amplitude)
        assert (ordered - torch.arange(n) / n).abs().max() < 1.95 / n**0.5 + 1 / n
    assert torch.corrcoef(shares).fill_diagonal_(0).abs().max() < 4 / n**0.5


def test_shear_without_amplitude_changes_nothing() -> None:
    x = clips()
    off = Shear(0)
    assert torch.equal(off.apply(x, off.sample(draws(4), x.shape)), x)


def test_shear_commutes_with_bone_and_motion() -> None:
    x, kinect = clips(4), layout("kinect-v2-25")
    shear = Shear()
    params = shear.sample(draws(4), x.shape)
    for view in ("bone", "motion"):
        first = views.derive(shear.apply(x, params), view, kinect)
        torch.testing.assert_close(first, shear.apply(views.derive(x, view, kinect), params), rtol=0, atol=1e-5)


def test_negative_amplitudes_are_refused() -> None:
    with pytest.raises(UsageError, match="must be 0"):
        Shear(-0.1)


def test_parameters_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Shear().apply(clips(4), Shear().sample(draws(3), (3, 3, 12, 25, 2)))
    with pytest.raises(ValueError, match="x, y, z"):
        Shear().sample(draws(3), (3, 2, 12, 25, 2))
