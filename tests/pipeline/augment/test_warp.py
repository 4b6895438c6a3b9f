"""Warp against its formula in every precision, and chains of crop and shear, which are one warp."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.augment.chain import Chain, Op, chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.shear import Shear
from skelpipe.augment.warp import warp
from skelpipe.errors import UsageError


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


@pytest.mark.parametrize("t", [1, 5, 12, 50])
def test_normal_is_crop_then_shear(naive_crop: Callable[..., np.ndarray], t: int) -> None:
    normal, x = chain("normal"), clips(6, t)
    params = normal.sample(draws(6), x.shape)
    starts, matrices = params[0]["start"], params[1]["matrix"]
    got = normal.apply(x, params)
    for i, clip in enumerate(x.numpy()):
        expected = naive_shear(naive_crop(clip, 6, int(starts[i])), matrices[i].numpy())
        np.testing.assert_allclose(got[i].numpy(), expected, rtol=0, atol=3e-6)
    assert torch.equal(normal(x, draws(6)), got)


def test_normal_takes_its_strengths() -> None:
    x = clips()
    assert torch.equal(chain("normal", shear=0, crop=0)(x, draws(4)), x)
    ops = chain("normal", shear=0.2, crop=3).ops
    assert ops == (Crop(3), Shear(0.2))


def test_an_unknown_chain_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'extreme'.*normal"):
        chain("extreme")


class Ramp:
    """An operator that does not fold: adds the frame number times a drawn slope to the x axis."""

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        return {"slope": draws.uniform(1)}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        y = x.clone()
        y[:, 0] += params["slope"][:, :, None, None] * torch.arange(x.shape[2])[:, None, None]
        return y


@pytest.mark.parametrize(
    "ops",
    [
        [],
        [Shear(), Crop()],
        [Crop(), Shear(), Shear(0.2), Crop(3)],
        [Crop(), Ramp(), Crop(4)],
        [Shear(), Ramp(), Crop(), Shear(), Ramp()],
    ],
)
def test_a_chain_equals_its_operations_one_by_one(ops: list[Op]) -> None:
    x = clips(7, 18)
    whole = Chain(ops)
    params = whole.sample(draws(7), x.shape)
    before = x.clone()
    expected = x
    for op, drawn in zip(ops, params, strict=True):
        expected = op.apply(expected, drawn)
    torch.testing.assert_close(whole.apply(x, params), expected, rtol=0, atol=1e-5)
    assert torch.equal(x, before)


def test_each_operation_of_a_chain_draws_for_itself() -> None:
    twice = Chain([Shear(), Shear()]).sample(draws(50), (50, 3, 1, 1, 1))
    first, second = (params["matrix"][:, 0, 1] for params in twice)
    assert not torch.equal(first, second)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.6


def test_a_clip_gets_the_same_in_any_batch() -> None:
    normal, x = chain("normal"), clips(32, 50)
    index = torch.arange(32) * 11
    whole = normal(x, Draws(1, 2, index))
    few = torch.tensor([30, 4, 5])
    torch.testing.assert_close(normal(x[few], Draws(1, 2, index[few])), whole[few], rtol=0, atol=1e-6)


def test_an_absent_second_body_stays_absent() -> None:
    x = clips(8, 50)
    x[..., 1] = 0
    y = chain("normal")(x, draws(8))
    assert y[..., 1].abs().max() == 0
    assert y[..., 0].abs().min() > 0


def test_both_bodies_share_one_draw() -> None:
    x = clips(5, 50)
    x[..., 1] = x[..., 0]
    y = chain("normal")(x, draws(5))
    assert torch.equal(y[..., 0], y[..., 1])


@pytest.mark.parametrize("fold", ["frames", "matrix", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_warp_is_its_formula_in_every_precision(dtype: torch.dtype, fold: str) -> None:
    x = clips(5, 9).to(dtype)
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 9, (5, 9), generator=generator)
    matrix = torch.randn(5, 3, 3, generator=generator)
    y = warp(x, None if fold == "matrix" else frames, None if fold == "frames" else matrix)
    expected = x.double().numpy()
    if fold != "matrix":
        expected = np.stack([clip[:, f] for clip, f in zip(expected, frames.numpy(), strict=True)])
    if fold != "frames":
        expected = np.einsum("ncj,njtvm->nctvm", matrix.double().numpy(), expected)
    assert y.dtype == dtype
    assert y.is_contiguous()
    size = np.abs(expected).max()
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6 * size)


@pytest.mark.parametrize("frames", [True, False])
def test_autocast_does_not_round_clips(frames: bool) -> None:
    x = clips(4, 50)
    params = Chain([Crop(), Shear()]).sample(draws(4), x.shape)
    op = Chain([Crop(), Shear()]) if frames else Chain([Shear()])
    params = params if frames else params[1:]
    with torch.autocast("cpu", torch.bfloat16):
        y = op.apply(x, params)
    assert torch.equal(y, op.apply(x, params))


def test_warp_reads_any_strides() -> None:
    x = clips(4, 12).permute(0, 1, 2, 4, 3).contiguous().permute(0, 1, 2, 4, 3)
    assert not x.is_contiguous()
    normal = chain("normal")
    torch.testing.assert_close(normal(x, draws(4)), normal(x.contiguous(), draws(4)), rtol=0, atol=0)


def test_warp_of_nothing_is_nothing() -> None:
    x = torch.empty(0, 3, 12, 25, 2)
    assert chain("normal")(x, draws(0)).shape == x.shape


def test_warp_passes_gradients() -> None:
    frames = torch.tensor([[1, 0, 0], [2, 2, 1]])
    x = clips(2, 3, 2, 1).double().requires_grad_()
    matrix = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: warp(a, frames, b), (x, matrix))
    wide = torch.autograd.grad(warp(x, frames, matrix).square().sum(), (x, matrix))
    x32, matrix32 = (tensor.detach().float().requires_grad_() for tensor in (x, matrix))
    narrow = torch.autograd.grad(warp(x32, frames, matrix32).square().sum(), (x32, matrix32))
    for a, b in zip(wide, narrow, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=1e-4, atol=1e-4)
