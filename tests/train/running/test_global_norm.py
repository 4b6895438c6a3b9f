"""Batch normalisation of a shared batch against PyTorch's of the whole batch; the processes are threads."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelpipe.models import absent_bodies
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout
from skelpipe.train.running.global_norm import average_statistics, use_global_batch

SIZES = (2, 5, 3)  # clips of each process


def adding(world: int) -> Callable[[int], Callable[[Tensor], Tensor]]:
    """Return a function that gives each thread its `total`."""
    values: list[Any] = [None] * world
    barrier = threading.Barrier(world, timeout=600)

    def of(rank: int) -> Callable[[Tensor], Tensor]:
        def total(x: Tensor) -> Tensor:
            values[rank] = x.clone()
            barrier.wait()
            x.copy_(sum(values[1:], values[0]))
            barrier.wait()
            return x

        return total

    return of


def on_threads(work: Callable[[int, Callable[[Tensor], Tensor]], None]) -> None:
    of = adding(len(SIZES))
    threads = [threading.Thread(target=work, args=(rank, of(rank))) for rank in range(len(SIZES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 3, 5)], ids=["1d", "1d sequences", "2d"])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_shares_are_normalised_as_the_whole(
    shape: tuple[int, ...], momentum: float | None, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    close = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-7, "rtol": 1e-7}
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    whole = nn.Sequential(kind(4, momentum=momentum), nn.Tanh(), kind(4, affine=False)).to(dtype)
    with torch.no_grad():
        whole[0].weight.normal_()
        whole[0].bias.normal_()
    batches = [torch.randn(sum(SIZES), *shape, dtype=dtype) * 3 + 10 for _ in range(2)]
    weights = torch.randn(sum(SIZES), *shape, dtype=dtype)  # of a loss that differs between clips
    ours = [copy.deepcopy(whole) for _ in SIZES]
    slopes: list[list[Tensor]] = [[] for _ in SIZES]

    wanted = []
    for batch in batches:
        x = batch.clone().requires_grad_()
        (whole(x) * weights).sum().backward()
        assert x.grad is not None
        wanted.append(x.grad)

    def work(rank: int, total: Callable[[Tensor], Tensor]) -> None:
        assert use_global_batch(ours[rank], total) == 2
        for batch in batches:
            x = batch.split(SIZES)[rank].clone().requires_grad_()
            (ours[rank](x) * weights.split(SIZES)[rank]).sum().backward()
            assert x.grad is not None
            slopes[rank].append(x.grad)

    on_threads(work)
    for step, gradient in enumerate(wanted):
        torch.testing.assert_close(
            torch.cat([slopes[rank][step] for rank in range(len(SIZES))]), gradient, **close
        )
    for name, value in whole.state_dict().items():
        assert all(torch.equal(each.state_dict()[name], ours[0].state_dict()[name]) for each in ours)
        torch.testing.assert_close(ours[0].state_dict()[name], value, **close)
    for name, parameter in whole.named_parameters():
        total_gradient = sum(dict(each.named_parameters())[name].grad for each in ours)
        torch.testing.assert_close(total_gradient, parameter.grad, **close)
    whole.eval()
    ours[1].eval()
    torch.testing.assert_close(ours[1](batches[0][:1]), whole(batches[0][:1]), **close)  # nothing is exchanged


def test_half_precision_keeps_its_statistics() -> None:
    layer = nn.BatchNorm1d(3)
    use_global_batch(layer, lambda x: x)
    x = (torch.randn(64, 3) + 100).bfloat16()
    y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(layer.running_mean, 0.1 * x.float().mean(0))
    torch.testing.assert_close(y.float(), nn.BatchNorm1d(3)(x.float()), atol=0.02, rtol=0.02)


def test_small_variances_around_large_means() -> None:
    layer = nn.BatchNorm1d(1).train()
    use_global_batch(layer, lambda x: x)
    x = 1000 + torch.tensor([[0.0], [1.0], [2.0], [3.0]]) * 1e-2
    wide = x.double()
    expected = (wide - wide.mean()) / (wide.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x).double(), expected, atol=0.02, rtol=0.02)


def test_separate_statistics_become_their_mean() -> None:
    layers = [nn.BatchNorm1d(2) for _ in SIZES]
    for rank, layer in enumerate(layers):
        assert layer.running_mean is not None
        layer.running_mean.fill_(float(rank))
    on_threads(lambda rank, total: average_statistics(layers[rank], total, len(SIZES)))
    for layer in layers:
        torch.testing.assert_close(layer.running_mean, torch.ones(2))
        torch.testing.assert_close(layer.running_var, torch.ones(2))


@pytest.mark.parametrize("how", ["as-papers", "masked"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("known", [True, False], ids=["left out", "weighted"])
def test_shares_with_absent_bodies_are_those_of_the_whole(
    how: str, dtype: torch.dtype, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has absent bodies only, one has none, and all rows are computed where nothing is `known`."""
    torch.manual_seed(0)
    skeleton = layout("coco-17")
    whole = STGCN(skeleton, width=4, out_channels=6, dropout=0.0, absent_bodies=how).to(dtype)
    clips = torch.randn(sum(SIZES), 3, 8, 17, 2, dtype=dtype)
    clips[: SIZES[0]] = 0
    clips[4:7, ..., 1] = 0
    ours = [copy.deepcopy(whole) for _ in SIZES]
    if not known:
        monkeypatch.setattr(absent_bodies, "_known", lambda clips: None)
    h = whole(clips)
    h.square().sum().backward()
    found: list[Any] = [None] * len(SIZES)

    def work(rank: int, total: Callable[[Tensor], Tensor]) -> None:
        use_global_batch(ours[rank], total)
        found[rank] = ours[rank](clips.split(SIZES)[rank])
        found[rank].square().sum().backward()

    on_threads(work)
    close = {"atol": 1e-3, "rtol": 1e-3} if dtype == torch.float32 else {"atol": 1e-7, "rtol": 1e-7}
    torch.testing.assert_close(torch.cat(found), h, **close)
    for name, parameter in whole.named_parameters():
        gradients = [dict(each.named_parameters())[name].grad for each in ours]
        torch.testing.assert_close(
            sum(gradients), parameter.grad, **close, msg=lambda text, name=name: f"{name}: {text}"
        )
    for network in ours:
        for mine, theirs in zip(network.buffers(), whole.buffers(), strict=True):
            torch.testing.assert_close(mine, theirs, **close)
