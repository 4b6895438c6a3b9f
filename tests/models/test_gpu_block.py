"""ST-GCN's training pass on a GPU, run on a CPU in float64, against its modules and the authors' steps."""

import copy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skelpipe.models import gpu_block
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout

sys.path.append(str(Path(__file__).parent))
from test_recorded_steps import beyond_limits, replayed

KINECT = layout("kinect-v2-25")


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way of a GPU."""
    monkeypatch.setattr(gpu_block, "ON", ["cpu"])


def network(dropout: float = 0.0) -> STGCN:
    torch.manual_seed(0)
    made = STGCN(KINECT, width=4, out_channels=20, dropout=dropout).double().train()
    with torch.no_grad():
        for each in made.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return made


def outcome(encoder: STGCN, clips: Tensor) -> dict[str, Tensor]:
    """Return what a step gives and leaves behind."""
    maps = encoder.features(clips)
    draws = torch.Generator().manual_seed(1)
    (maps * torch.randn(maps.shape, generator=draws)).sum().backward()
    found = {"maps": maps.detach()}
    found |= {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in encoder.named_parameters()}
    return found | dict(encoder.named_buffers())


@pytest.mark.parametrize("absent", ["as-papers", "masked"])
def test_it_is_what_the_modules_do(absent: str, monkeypatch: pytest.MonkeyPatch, float64: None) -> None:
    encoder, clips = network(), torch.randn(5, 3, 24, 25, 2)
    clips[1:, ..., 1] = 0  # these bodies are computed once
    encoder.absent_bodies = absent
    wanted = outcome(copy.deepcopy(encoder), clips)
    monkeypatch.setattr(gpu_block, "ON", ["cpu"])
    assert gpu_block.passes(encoder, clips)
    found = outcome(encoder, clips)
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(
    "case", ["aimclr-stage2", "crosclr-stage2", "msmclr-stage2", "skelemixclr-plus-swapv2", "skeattnclr-stgcn"]
)
def test_steps_are_the_authors(case: str, replay: Callable[..., Any], clips_of: type[Any]) -> None:
    assert beyond_limits(case, replayed(case, replay, clips_of, steps=1)) == {}


@pytest.mark.usefixtures("on_gpu")
def test_each_step_draws_its_dropout_from_torchs_generator(float64: None) -> None:
    encoder, clips = network(0.5), torch.randn(2, 3, 24, 25, 2)
    torch.manual_seed(3)
    first, second = encoder(clips), encoder(clips)
    torch.manual_seed(3)
    assert torch.equal(first, encoder(clips))
    assert not torch.equal(first, second)


class Types(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = {each.dtype for each in args if isinstance(each, Tensor)}
        self.of.setdefault(func.__name__.partition(".")[0], set()).update(found)
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("on_gpu")
def test_under_autocast_activations_are_narrow_and_parameters_wide() -> None:
    encoder, clips = network().float(), torch.randn(4, 3, 24, 25, 2)
    wanted = outcome(copy.deepcopy(encoder), clips)["maps"]
    with Types() as seen, torch.autocast("cpu", dtype=torch.bfloat16):
        maps = encoder.features(clips)
        maps.float().square().sum().backward()
    assert maps.dtype == torch.bfloat16
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in encoder.parameters())
    assert seen.of["convolution"] == {torch.bfloat16}
    assert seen.of["graph"] == seen.of["graph_slopes"] == {torch.bfloat16}
    torch.testing.assert_close(maps.float(), wanted, rtol=0.1, atol=0.15 * float(wanted.abs().max()))


@pytest.mark.usefixtures("on_gpu")
def test_it_leaves_alone_what_it_cannot_do() -> None:
    encoder, clips = network(), torch.randn(2, 3, 8, 25, 2)
    assert not gpu_block.passes(copy.deepcopy(encoder).eval(), clips)
    assert not gpu_block.passes(encoder, clips.requires_grad_())
    compiled = copy.deepcopy(encoder)
    compiled.maps = torch.compile(compiled.maps, backend="eager")  # type: ignore[method-assign]
    assert not gpu_block.passes(compiled, clips.detach())
    watched = copy.deepcopy(encoder)
    watched.blocks[3].register_forward_hook(lambda *_: None)
    assert not gpu_block.passes(watched, clips.detach())  # the hook would see nothing
    shared = copy.deepcopy(encoder)
    shared.input_norm.total = lambda x: x  # the statistics are those of several processes
    assert not gpu_block.passes(shared, clips.detach())


def test_without_kernels_the_modules_are_used_and_it_is_said_once() -> None:
    gpu_block.ready.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert not gpu_block.ready()  # here is no GPU
            assert not gpu_block.ready()
        assert len(caught) == 1
        assert "\n" not in str(caught[0].message)
    finally:
        gpu_block.ready.cache_clear()
