"""Operations of a block on a GPU, by their CPU form, against the formula in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.models import gpu_ops

SIZE, CHANNELS, JOINTS, EVERY = 60, 6, 5, 10  # rows of a batch, of which ten share a count


def formula(given: dict[str, Any], groups: int, p: float, rectify: bool) -> tuple[Tensor, list[Tensor]]:
    """max(0, D(normalised(x + offset)) + around) batch by batch, by Ioffe and Szegedy (2015)."""
    values = given["x"] + given["offset"].repeat(SIZE * groups // JOINTS, 1)
    counts = given["counts"].repeat_interleave(EVERY)[:, None]
    outcome, running = [], [torch.zeros(CHANNELS), torch.ones(CHANNELS)]
    for rows, number in zip(values.split(SIZE), counts.split(SIZE), strict=True):
        count = number.sum()
        mean = (rows * number).sum(0) / count
        squares = ((rows - mean) ** 2 * number).sum(0)
        outcome.append((rows - mean) / (squares / count + 1e-5).sqrt())
        running = [0.9 * running[0] + 0.1 * mean, 0.9 * running[1] + 0.1 * squares / (count - 1)]
    y = torch.cat(outcome) * given["weight"] + given["bias"]
    y = y * gpu_ops.kept(given["seed"], len(y), CHANNELS, p) / (1 - p)
    y = y + given["around"] if "around" in given else y
    return y.clamp(min=0) if rectify else y, [each.detach() for each in running]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("p", "beside", "rectify"), [(0.0, False, True), (0.5, True, True), (0.0, False, False)])
def test_they_are_the_formula(groups: int, p: float, beside: bool, rectify: bool, float64: None) -> None:
    torch.manual_seed(0)
    rows = SIZE * groups
    given = {"x": torch.randn(rows, CHANNELS) + 2, "offset": torch.randn(JOINTS, CHANNELS)}
    given |= {"weight": torch.rand(CHANNELS) + 0.5, "bias": torch.randn(CHANNELS)}
    given |= {"around": torch.randn(rows, CHANNELS)} if beside else {}
    leaves = {name: each.requires_grad_() for name, each in given.items()}
    counts = torch.randint(0, 4, (rows // EVERY,)).double()
    seed = torch.tensor([2**61 + 7])
    wanted, moved = formula({**given, "seed": seed, "counts": counts}, groups, p, rectify)
    push = torch.randn_like(wanted)
    # The gradients that the operations are given are sums over the rows for which a row stands.
    slopes = dict(zip(leaves, torch.autograd.grad(wanted, list(leaves.values()), push), strict=True))

    plain = {name: each.detach() for name, each in given.items()}
    x, offset, weight, bias = (plain[name] for name in ("x", "offset", "weight", "bias"))
    drop = seed if p else None
    running = [torch.zeros(CHANNELS), torch.ones(CHANNELS)]
    parts = gpu_ops.moments(x, offset, counts, groups)
    around = plain.get("around")
    y, found = gpu_ops.finish(
        x, offset, parts, weight, bias, *running, 0.1, 1e-5, around, drop, p, rectify, torch.float64
    )
    sums, back = gpu_ops.finish_sums(push, x, offset, found, weight, bias, y if beside else None, drop, p, rectify)
    steep, open_ = (push, rectify) if back is None else (back, False)
    dx, own = gpu_ops.finish_slopes(steep, x, offset, found, weight, bias, sums, counts, drop, p, open_)

    torch.testing.assert_close(y, wanted.detach())
    torch.testing.assert_close(running, moved)
    torch.testing.assert_close(dx, slopes["x"])
    torch.testing.assert_close(dx.view(-1, JOINTS, CHANNELS).sum(0), slopes["offset"])
    torch.testing.assert_close(own, torch.stack([slopes["bias"], slopes["weight"]]))
    if back is not None:
        torch.testing.assert_close(back, slopes["around"])


@pytest.mark.parametrize("channels", [6, 200], ids=["kernels", "too wide for them"])
def test_a_graph_convolution_is_the_formula(channels: int, float64: None) -> None:
    torch.manual_seed(0)
    x, gather, maps = torch.randn(7, 5, channels), torch.randn(5, 3, 5), torch.randn(4, 3, channels)
    around, push = torch.randn(7, 5, channels), torch.randn(7, 5, 4)
    leaves = [each.requires_grad_() for each in (x, gather, maps)]
    wanted = torch.einsum("wkv,okc,pvc->pwo", gather, maps, x)
    slopes = torch.autograd.grad(wanted, leaves, push)
    x, gather, maps = x.detach(), gather.detach().view(15, 5), maps.detach().view(4, -1)
    convolve, backward, weights = gpu_ops.graph_operations(x, 4)
    assert (convolve is gpu_ops.graph) is (channels == 6)
    dx, of_gather = backward(push, x, gather, maps, around)
    of_maps, of_biases = weights(push, x, gather, maps).sum(0).split([maps.numel(), push[0].numel()])
    torch.testing.assert_close(convolve(x, gather, maps), wanted.detach())
    torch.testing.assert_close(dx, slopes[0] + around)
    torch.testing.assert_close(backward(push, x, gather, maps, None)[0], slopes[0])
    torch.testing.assert_close(of_gather.sum(0), slopes[1].reshape(15, 5))
    torch.testing.assert_close(of_maps, slopes[2].flatten())
    torch.testing.assert_close(of_biases, push.sum(0).flatten())


def test_dropout_keeps_each_element_by_itself() -> None:
    kept = torch.stack([gpu_ops.kept(torch.tensor([seed]), 400, 50, 0.25) for seed in (1, 2, 2**40 + 1)]).double()
    assert ((kept.mean((1, 2)) - 0.75).abs() < 4 * (0.1875 / 20_000) ** 0.5).all()
    flat = kept.view(3, -1) - 0.75
    apart = [flat[:, :-lag] * flat[:, lag:] for lag in (1, 2, 50)] + [flat[0] * flat[1], flat[0] * flat[2]]
    assert all(abs(float(each.mean())) < 4 * 0.1875 / each.numel() ** 0.5 for each in apart)


def test_shapes_are_known_without_values() -> None:
    x = torch.zeros(SIZE, CHANNELS, device="meta", dtype=torch.bfloat16)
    one = torch.zeros(CHANNELS, device="meta")
    parts = gpu_ops.moments(x, None, None, 2)
    assert parts.shape == (2, gpu_ops.pieces(SIZE // 2, CHANNELS), 3, CHANNELS)
    y, found = gpu_ops.finish(x, None, parts, one, one, one, one, 0.1, 1e-5, x, None, 0.0, True, torch.float16)
    assert (y.shape, y.dtype, found.shape) == (x.shape, torch.float16, (2, 3, CHANNELS))
    sums, around = gpu_ops.finish_sums(y, x, None, found, one, one, y, None, 0.0, True)
    assert (sums.shape[2:], around.dtype) == ((2, CHANNELS), torch.bfloat16)
    poses, gather, maps = (torch.zeros(*s, device="meta") for s in ((9, 5, 6), (15, 5), (4, 18)))
    y = gpu_ops.graph(poses, gather, maps)
    dx, edges = gpu_ops.graph_slopes(y, poses, gather, maps, None)
    parts = gpu_ops.graph_weights(y, poses, gather, maps)
    assert (y.shape, dx.shape, edges.shape[1:]) == ((9, 5, 4), (9, 5, 6), (15, 5))
    assert parts.shape[1:] == (4 * 18 + 5 * 4,)


def test_no_operation_differs_from_itself() -> None:
    """The check before the first step on a GPU; the other half of it is in `test_gpu_kernels.py`."""
    assert list(gpu_ops.differences(torch.device("cpu"))) == []
