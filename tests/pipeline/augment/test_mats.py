"""MATS (Lin et al. 2023, eq. 7): the combination, and masks moved by what moves frames and joints."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.chain import Chain, Op
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import carried, mats
from skelpipe.augment.shear import Shear
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def clips(n: int = 3, t: int = 8, v: int = 25, m: int = 2, c: int = 3) -> Tensor:
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(n + t + v))


@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 25), st.integers(1, 2), st.integers(0, 2))
def test_it_is_equation_7(n: int, t: int, v: int, m: int, kind: int) -> None:
    act, non = clips(n, t, v, m).double(), clips(n + 1, t, v, m)[:n].double()
    shape = [(n, t, v), (n, t, v, 1), (n, t, v, m)][kind]
    mask = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = mats(act, non, mask).numpy()
    full = np.broadcast_to(mask.numpy().reshape(n, t, v, *shape[3:] or (1,)), (n, t, v, m))
    for i in range(n):
        for c in range(3):
            expected = full[i] * act[i, c].numpy() + (1 - full[i]) * non[i, c].numpy()
            np.testing.assert_allclose(got[i, c], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_hard_masks_take_values_bit_by_bit(dtype: torch.dtype) -> None:
    act, non = clips().to(dtype), clips(4)[:3].to(dtype)
    mask = torch.rand(3, 8, 25, 2, generator=torch.Generator().manual_seed(1)) > 0.6
    expected = torch.where(mask[:, None], act, non)
    for given_mask in (mask, mask.float(), mask.to(dtype)):
        got = mats(act, non, given_mask)
        assert got.dtype == dtype
        assert torch.equal(got, expected)
    assert torch.equal(mats(act, non, torch.ones(3, 8, 25)), act)
    assert torch.equal(mats(act, non, torch.zeros(3, 8, 25)), non)


def test_gradients_flow_into_clips_and_mask() -> None:
    act, non = (clips(2, 3, 2, 1).double().requires_grad_(), clips(3, 3, 2, 1)[:2].double().requires_grad_())
    mask = torch.rand(2, 3, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mats, (act, non, mask))


@pytest.mark.parametrize(
    "ops",
    [
        [],
        [Crop()],
        [TemporalFlip()],
        [SpatialFlip(KINECT)],
        [Crop(), Shear(), SpatialFlip(KINECT), TemporalFlip(), Crop(3)],
    ],
)
def test_a_mask_follows_its_clip(ops: Sequence[Op]) -> None:
    """A mask that marks where a clip is positive is, once carried, where the moved clip is positive."""
    n = 12
    moves = Chain([op for op in ops if not isinstance(op, Shear)])
    x = clips(n, 18)
    mask = (x[:, 0] > 0).float()
    drawn = Chain(ops).sample(Draws(0, 0, torch.arange(n)), x.shape)
    only = [params for op, params in zip(ops, drawn, strict=True) if not isinstance(op, Shear)]
    moved = moves.apply(x, only)
    assert torch.equal(carried(mask, Chain(ops), drawn), (moved[:, 0] > 0).float())
    if ops:
        assert not torch.equal(moved, x)


@pytest.mark.parametrize("between", [(0.5, 0.9), (1.0, 1.0), (1.2, 1.9)])
def test_a_mask_follows_a_rescale_in_time(between: tuple[float, float]) -> None:
    """The mask is the first axis of the clip, so it is that of the rescaled clip, in filled frames too."""
    op, x = Chain([TimeRescale(*between, 1.0), SpatialFlip(KINECT)]), clips(6, 18).abs()
    drawn = op.sample(Draws(0, 0, torch.arange(6)), x.shape)
    torch.testing.assert_close(carried(x[:, 0], op, drawn), op.apply(x, drawn)[:, 0])


def test_ops_left_out_and_ops_that_stay_in_place_leave_a_mask() -> None:
    mask = torch.rand(3, 8, 25, 2)
    assert carried(mask, None, None) is mask
    assert carried(mask, Chain([Crop(), Shear()]), (None, None)) is mask
    shear = Shear().sample(Draws(0, 0, torch.arange(3)), torch.Size((3, 3, 8, 25, 2)))
    assert carried(mask, Shear(), shear) is mask
