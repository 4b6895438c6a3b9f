"""Batch normalisation in float32 against float64, and against PyTorch's modules in all else."""

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.models import build_method, stgcn
from skelpipe.models.batch_norm import BatchNorm1d, BatchNorm2d, normalise
from skelpipe.models.build import METHODS
from skelpipe.models.encoders import ENCODERS, build_encoder
from skelpipe.skeleton import layout
from skelpipe.train.recipes.reader import load_recipe, with_overrides

KINECT = layout("kinect-v2-25")
OURS = (BatchNorm1d, BatchNorm2d)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients(layer: _BatchNorm, x: Tensor, given: Tensor) -> dict[str, Tensor]:
    """Return what a training step of a layer gives and leaves behind, all in float64."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(given)
    assert layer.running_mean is not None
    found: dict[str, Any] = {"y": y, "x": x.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    found |= {"mean": layer.running_mean, "variance": layer.running_var}
    return {name: tensor.detach().double() for name, tensor in found.items()}


def exact(layer: _BatchNorm, x: Tensor, given: Tensor) -> dict[str, Tensor]:
    """The same by the formulas of Ioffe and Szegedy (2015), in float64."""
    x, given, weight = x.double().movedim(1, -1), given.double().movedim(1, -1), layer.weight.detach().double()
    rows, g = x.flatten(0, -2), given.flatten(0, -2)
    count, mean = len(rows), rows.mean(0)
    variance = (rows - mean).square().mean(0)
    deviation = (variance + layer.eps).sqrt()
    unit = (rows - mean) / deviation
    inner = g * weight
    slope = (inner - inner.mean(0) - unit * (inner * unit).mean(0)) / deviation
    found = {"y": unit * weight + layer.bias.detach().double(), "x": slope}
    found = {name: rows.view(x.shape).movedim(-1, 1) for name, rows in found.items()}
    found |= {"weight": (g * unit).sum(0), "bias": g.sum(0), "mean": 0.1 * mean}
    return {**found, "variance": 0.9 + 0.1 * variance * count / (count - 1)}


def error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    return {name: float((found[name] - e).abs().max() / e.abs().max()) for name, e in expected.items()}


# 128 clips of 50 frames and 25 joints in the first layers, of 13 frames in the last; the input's rows are poses.
@pytest.mark.parametrize(
    "shape", [(128, 16, 50, 25), (128, 64, 13, 25), (6400, 75)], ids=["first", "last", "input"]
)
def test_float32_is_as_exact_as_in_the_usual_layout_for_any_number_of_threads(
    shape: tuple[int, ...], threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    plain = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1])
    nn.init.uniform_(plain.weight, 0.5, 1.5)
    nn.init.normal_(plain.bias)
    ours = (BatchNorm2d if len(shape) == 4 else BatchNorm1d)(shape[1])
    ours.load_state_dict(plain.state_dict())
    last = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    x = (2 * torch.randn(shape) + 1).to(memory_format=last)
    given = (torch.randn(shape) + 0.1).to(memory_format=last)
    expected = exact(plain, x, given)
    if len(shape) == 4:
        usual = error(gradients(plain, x.contiguous(), given.contiguous()), expected)
    else:  # the same numbers, channel by channel
        columns = [t.T[None].contiguous() for t in (x, given)]
        found = gradients(plain, *columns)
        usual = error(found | {name: found[name][0].T for name in ("x", "y")}, expected)

    threads(1)
    one = gradients(copy.deepcopy(ours), x, given)
    threads(2)
    two = gradients(copy.deepcopy(ours), x, given)

    assert all(torch.equal(one[name], two[name]) for name in one)
    worst = error(one, expected)
    assert all(worst[name] <= 2 * max(usual[name], 2**-24) for name in worst), (worst, usual)


def test_gradients_of_a_whole_network_are_as_exact(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Smooth rectifiers: rounding turns some of ReLU's on or off, which hides all other errors.
    smooth = SimpleNamespace(relu_=F.softplus, linear=F.linear)
    monkeypatch.setattr(stgcn, "F", smooth)
    monkeypatch.setattr(stgcn, "in_one_pass", lambda *_: False)
    torch.manual_seed(0)
    encoder = stgcn.STGCN(KINECT, width=4, out_channels=16, dropout=0.0)
    x = 0.05 * torch.randn(96, 3, 32, 25, 1).cumsum(2) + torch.randn(1, 3, 1, 25, 1)
    directions = torch.randn(96, 16)

    def run(dtype: torch.dtype) -> list[Tensor]:
        network = copy.deepcopy(encoder).to(dtype)
        (network(x.to(dtype)) * directions.to(dtype)).sum().backward()
        return [p.grad.double() for p in network.parameters() if p.grad is not None]

    expected = run(torch.float64)
    for count in (1, 2):
        threads(count)
        errors = [float((g - e).norm() / e.norm()) for g, e in zip(run(torch.float32), expected, strict=True)]
        assert sorted(errors)[len(errors) // 2] < 5e-6


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels second"])
def test_in_all_else_it_is_pytorchs(
    options: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype, last: bool
) -> None:
    torch.manual_seed(0)
    plain = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(4, **options)
    ours = (BatchNorm2d if len(shape) == 4 else BatchNorm1d)(4, **options)
    ours.load_state_dict(plain.state_dict())
    assert isinstance(ours, type(plain))
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    for _ in range(3):
        x = torch.randn(shape, dtype=dtype) + 1
        x = x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x
        given = torch.randn(shape, dtype=dtype)
        results = []
        for layer in (plain, ours):
            if dtype == torch.float64:
                layer.double()
            seen = x.clone().requires_grad_()
            y = layer(seen)
            assert y.dtype == dtype
            y.backward(given)
            results.append([y, seen.grad, *(p.grad for p in layer.parameters())])
        for mine, other in zip(results[1], results[0], strict=True):
            torch.testing.assert_close(mine, other, atol=tolerance, rtol=tolerance)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=tolerance, rtol=tolerance)
    plain.eval()
    ours.load_state_dict(plain.state_dict())
    assert torch.equal(ours.eval()(x), plain(x))


def test_a_channel_of_one_number_is_refused_as_by_pytorch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm1d(3)(torch.randn(1, 3))


def test_small_variances_around_large_means() -> None:
    x = 1000 + torch.arange(8.0)[:, None] * 1e-2
    wide = x.double()
    expected = (wide - wide.mean()) / (wide.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(normalise(BatchNorm1d(1), x).double(), expected, atol=1e-4, rtol=1e-4)


def test_every_network_normalises_so() -> None:
    networks: list[nn.Module] = [build_encoder(kind.Settings(), KINECT) for kind in ENCODERS.values()]
    for name in METHODS:
        small = ["encoder.width=4", "encoder.out_channels=16", "queue=32", "head.batch_norm=true"]
        recipe = with_overrides(load_recipe(name), small)
        networks.append(build_method(recipe, KINECT, "joint", lambda: torch.zeros(3, 64, 25, 1)))
    layers = [module for network in networks for module in network.modules() if isinstance(module, _BatchNorm)]
    assert len(layers) > 100
    assert all(type(layer) in OURS for layer in layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_network_that_counts_for_its_layers_counts_each_batch_once(dtype: torch.dtype) -> None:
    encoder = stgcn.STGCN(KINECT, width=4, out_channels=8).to(dtype)
    clips = torch.randn(2, 3, 8, 25, 1, dtype=dtype)
    for mode in (True, True, False):
        encoder.train(mode)(clips)
    counts = [int(value) for name, value in encoder.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counts == [2] * 24  # of the input, two per block, and three shortcuts
