"""What a block does after a convolution, against a formula in float64 and against separate passes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.models import one_pass, stgcn
from skelpipe.models.batch_norm import BatchNorm2d, Repeats
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout

ROWS, FRAMES, JOINTS = 5, 4, 7


def layer(channels: int) -> BatchNorm2d:
    torch.manual_seed(0)
    norm = BatchNorm2d(channels)
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias)
    return norm


def gradients(norm: BatchNorm2d, work: Callable[..., Tensor], *given: Tensor) -> dict[str, Tensor]:
    leaves = [each.clone().requires_grad_() for each in given]
    y = work(*leaves)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.dtype))
    found: dict[str, Any] = {"y": y, "mean": norm.running_mean, "variance": norm.running_var}
    found |= {"weight": norm.weight.grad, "bias": norm.bias.grad}
    return {name: t.detach().double() for name, t in found.items()} | {
        f"given {i}": leaf.grad.double() for i, leaf in enumerate(leaves) if leaf.grad is not None
    }


def plain(norm: BatchNorm2d, x: Tensor, around: Tensor | None, keep: Tensor | float) -> Tensor:
    """max(0, normalised keep + around), by the formulas of Ioffe and Szegedy (2015)."""
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), correction=0)
    unbiased = variance * x[..., 0].numel() / (x[..., 0].numel() - 1)
    norm.running_mean, norm.running_var = 0.1 * mean, 0.9 + 0.1 * unbiased
    y = (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    y = y * keep + (0 if around is None else around)
    return y.where(y > 0, 0)


@pytest.mark.parametrize("channels", [3, 8, 200])
@pytest.mark.parametrize("least", [None, 0, 64, 128])
def test_it_is_the_formula(channels: int, least: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = layer(channels)
    exact = copy.deepcopy(norm).double()
    x, around = torch.randn(2, ROWS, FRAMES, JOINTS, channels) + 0.3
    words = torch.randint(256, (x.numel(),), dtype=torch.uint8)
    monkeypatch.setattr(one_pass, "random_bytes", lambda count: words)
    assert stgcn.in_one_pass(norm, x, None)
    if least is None:
        found = gradients(norm, lambda x: one_pass.rectified(norm, x), x)
        expected = gradients(exact, lambda x: plain(exact, x, None, 1), x.double())
    else:
        keep = (words >= least).double().view(x.shape) * 256 / (256 - least)
        found = gradients(norm, lambda x, around: one_pass.finished(norm, x, around, least), x, around)
        exactly = (x.double(), around.double())
        expected = gradients(exact, lambda x, around: plain(exact, x, around, keep), *exactly)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        torch.testing.assert_close(
            found[name], wanted, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_is_bit_identical_to_separate_passes(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    skeleton = layout("coco-17")
    before = torch.get_num_threads()

    def run() -> list[Tensor]:
        torch.manual_seed(4)
        encoder = STGCN(skeleton, width=4, out_channels=40).train()
        x = torch.randn(12, 3, 24, 17, 2)
        encoder(x).square().sum().backward()
        return [p.grad for p in encoder.parameters() if p.grad is not None] + list(encoder.buffers())

    try:
        torch.set_num_threads(threads)
        fast = run()
        monkeypatch.setattr(stgcn, "in_one_pass", lambda *_: False)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(fast, run(), strict=True))
    finally:
        torch.set_num_threads(before)


def test_a_row_that_stands_for_several_counts_so_often() -> None:
    x, around = torch.randn(2, ROWS, FRAMES, JOINTS, 6)
    norm, whole = layer(6), layer(6)
    few = gradients(norm, lambda x, around: one_pass.finished(norm, x, around, 0, Repeats(ROWS, 3)), x, around)
    push = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    long = [torch.cat([each, each[-1:], each[-1:]]).requires_grad_() for each in (x, around)]
    y = one_pass.finished(whole, long[0], long[1], 0)
    y.backward(torch.cat([push, torch.zeros(2, *push.shape[1:])]))  # the sum over the three rows is the last's
    torch.testing.assert_close(few["y"], y[:ROWS].detach().double())
    torch.testing.assert_close(norm.running_var, whole.running_var)
    for number, leaf in enumerate(long):
        assert leaf.grad is not None
        folded = torch.cat([leaf.grad[: ROWS - 1], leaf.grad[ROWS - 1 :].sum(0, keepdim=True)])
        torch.testing.assert_close(few[f"given {number}"], folded.double(), rtol=1e-4, atol=1e-5)


def test_it_leaves_alone_what_it_cannot_do() -> None:
    norm, x = layer(6), torch.randn(ROWS, FRAMES, JOINTS, 6)
    assert not stgcn.in_one_pass(norm, x.double(), None)
    assert not stgcn.in_one_pass(norm, x.transpose(1, 2), None)
    assert not stgcn.in_one_pass(norm.eval(), x, None)
    norm.train().register_forward_hook(lambda *_: None)
    assert not stgcn.in_one_pass(norm, x, None)  # the hook would see nothing
