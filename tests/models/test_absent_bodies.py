"""Absent bodies computed once, against the plain way that computes every row."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelpipe.models import absent_bodies, build_method
from skelpipe.models.absent_bodies import computed_rows, present_bodies, tell_present
from skelpipe.models.batch_norm import BatchNorm1d, BatchNorm2d, Repeats, Weights
from skelpipe.models.encoders import build_encoder
from skelpipe.skeleton import layout

COCO = layout("coco-17")
SMALL: dict[str, dict[str, Any]] = {
    "stgcn": {"width": 4, "out_channels": 12, "dropout": 0.0},
    "dsta": {"width": 4, "heads": 2},
}
# Two bodies, the first alone, the second alone, the first alone, nobody.
PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 0], [0, 0]], dtype=torch.bool)


def clips(frames: int = 9, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(len(PRESENT), 3, frames, 17, 2, generator=generator, dtype=torch.float64)
    return (x * PRESENT[:, None, None, None]).to(dtype)


def grad(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def plainly(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Any:
    """Do some work as if nothing were known of absent bodies: every row is computed."""
    with monkeypatch.context() as patch:
        patch.setattr(absent_bodies, "_known", lambda clips: None)
        return work()


def step(encoder: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return features, h, gradients of all weights and running statistics, after two passes."""
    encoder = copy.deepcopy(encoder)
    features, h = encoder.features(x), encoder(x)  # type: ignore[operator]
    weigh = [torch.randn(y.shape, generator=torch.Generator().manual_seed(5)).to(y.dtype) for y in (features, h)]
    ((features * weigh[0]).sum() + (h * weigh[1]).sum()).backward()
    found = {"features": features, "h": h}
    found |= {f"gradient of {name}": p.grad for name, p in encoder.named_parameters()}
    found |= {name: buffer for name, buffer in encoder.named_buffers() if buffer.is_floating_point()}
    return {name: tensor.detach().double() for name, tensor in found.items() if tensor is not None}


def shaken(section: dict[str, Any]) -> nn.Module:
    torch.manual_seed(1)
    encoder = build_encoder(section, COCO, init="default")
    with torch.no_grad():
        for tensor in [*encoder.parameters(), *encoder.buffers()]:
            if tensor.is_floating_point() and tensor is not getattr(encoder, "adjacency", None):
                tensor.add_(0.1 * torch.rand_like(tensor))
    return encoder


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", list(SMALL))
def test_one_row_for_all_gives_what_all_rows_give(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = shaken({"name": name, **SMALL[name]}).double().train(training)
    x = clips()
    assert len(computed_rows(x, "as-papers", random=False).chosen) == 6  # type: ignore[union-attr]
    expected = plainly(monkeypatch, lambda: step(encoder, x))
    found = step(encoder, x)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(
            found[key], tensor, rtol=1e-6, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("kind", ["repeats", "weights"])
@pytest.mark.parametrize("shape", [(8, 6), (4, 5, 3, 7)], ids=["poses", "maps"])
def test_normalising_a_row_that_stands_for_several(
    shape: tuple[int, ...], kind: str, dtype: torch.dtype, close: float
) -> None:
    """Against PyTorch's own layer in float64, which is given the last of four rows three times."""
    torch.manual_seed(0)
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1]).double()
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    per_row = shape[0] // 4
    x = torch.randn(shape, dtype=torch.float64) + 1
    whole = torch.cat([x, x[-per_row:], x[-per_row:]]).requires_grad_()
    push = torch.randn_like(whole)
    y = layer(whole)
    (y * push).sum().backward()

    def folded(t: Tensor) -> Tensor:
        return torch.cat([t[: 3 * per_row], t[3 * per_row :].view(3, per_row, *t.shape[1:]).sum(0)])

    ours = (BatchNorm1d if len(shape) == 2 else BatchNorm2d)(shape[1]).to(dtype)
    ours.load_state_dict(
        {**layer.state_dict(), "running_mean": ours.running_mean, "running_var": ours.running_var}
    )
    last = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    few = x.to(dtype, memory_format=last).detach().requires_grad_()
    repeats = Repeats(4, 3) if kind == "repeats" else Weights(torch.tensor([1, 1, 1, 3]))
    found = ours(few, repeats)
    (found * folded(push).to(dtype)).sum().backward()
    pairs = [(found, y[: len(x)]), (grad(few), folded(grad(whole))), (grad(ours.weight), grad(layer.weight))]
    pairs += [(grad(ours.bias), grad(layer.bias)), (ours.running_mean, layer.running_mean)]
    for ours_, exact in [*pairs, (ours.running_var, layer.running_var)]:
        torch.testing.assert_close(ours_.double(), exact, rtol=close, atol=close)


class SharedMask(nn.Module):
    """Dropout that gives absent rows one mask, the last of those that are drawn."""

    def __init__(self, p: float, place: Tensor) -> None:
        super().__init__()
        self.p, self.place = p, place

    def forward(self, x: Tensor) -> Tensor:
        few = int(self.place.max()) + 1
        mask = torch.rand(few, *x.shape[1:]) if len(x) == few else torch.rand(few, *x.shape[1:])[self.place]
        return x * (mask >= self.p) / (1 - self.p)


def test_once_shares_the_draws_of_absent_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"name": "stgcn", **SMALL["stgcn"], "dropout": 0.5, "absent_bodies": "once"}
    encoder = shaken(section).double().train()
    x = clips()
    computed = computed_rows(x, "once", random=True)
    assert computed is not None
    for block in encoder.blocks[1:]:  # type: ignore[index, union-attr]
        block.dropout = SharedMask(0.5, computed.place)  # type: ignore[arg-type, union-attr]

    def seeded() -> dict[str, Tensor]:
        torch.manual_seed(7)
        return step(encoder, x)

    expected = plainly(monkeypatch, seeded)
    for key, tensor in seeded().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-6, atol=1e-6)


def test_as_papers_draws_for_every_row_in_training_and_for_none_in_evaluation() -> None:
    encoder = build_encoder({"name": "stgcn", **SMALL["stgcn"], "dropout": 0.5}, COCO)
    x = clips(dtype=torch.float32)
    rows = []
    encoder.blocks[5].register_forward_hook(lambda module, given, y: rows.append(len(y)))
    encoder.train()(x)
    encoder.eval()(x)
    encoder(x.clone().requires_grad_())  # whose gradients are those of every row
    encoder(x[:, ..., :1])  # one body slot: absent only in an empty clip
    assert rows == [10, 6, 10, 5]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", list(SMALL))
def test_masked_is_the_network_on_those_present(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = clips()
    encoder = shaken({"name": name, **SMALL[name], "absent_bodies": "masked"}).double().train(training)
    alone = copy.deepcopy(encoder)
    people = torch.stack([x[n, ..., m] for n in range(5) for m in range(2) if PRESENT[n, m]])[..., None]
    maps, rows = iter(alone.features(people)), torch.zeros(5, 12 if name == "stgcn" else 16, dtype=x.dtype)  # type: ignore[operator]
    for n in range(5):
        means = [next(maps).mean((1, 2)) for m in range(2) if PRESENT[n, m]]
        rows[n] = sum(means) / len(means) if means else 0.0  # type: ignore[assignment]
    for known in (True, False):
        network = copy.deepcopy(encoder)
        h = network(x) if known else plainly(monkeypatch, lambda network=network: network(x))
        torch.testing.assert_close(h, rows)
        for (key, ours), theirs in zip(network.named_buffers(), alone.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, msg=lambda text, key=key: f"{key}: {text}")
        assert not network.features(x)[3].any()  # the first body of the second clip alone is present


RECIPES: dict[str, dict[str, Any]] = {
    "skeletonclr": {},
    "aimclr": {},
    "crosclr": {},
    "msmclr": {},
    "skelemixclr": {"skelemixclr": {"blocks": [1, 2]}},
    "skeattnclr": {"skeattnclr": {"blocks": [1, 2], "heads": 2}},
    "actclr": {"actclr": {"moco_epochs": 0, "blocks": [1, 2]}},
}


@pytest.mark.parametrize("method", list(RECIPES))
def test_a_further_slot_for_bodies_changes_nothing_where_absent_ones_are_left_out(method: str) -> None:
    skeleton = layout("kinect-v2-25")
    x = torch.randn(4, 3, 8, 25, 2)
    x[1:3, ..., 1] = 0
    losses = []
    for further in (0, 1):
        torch.manual_seed(0)
        encoder = {"name": "stgcn", **SMALL["stgcn"], "absent_bodies": "masked"}
        recipe = {
            "method": method,
            "encoder": encoder,
            "head": {"hidden": 8, "dim": 6},
            "queue": 16,
            "init": "default",
        }
        built = build_method({**recipe, **RECIPES[method]}, skeleton, "joint", lambda: torch.zeros(3, 8, 25, 2))
        wide = torch.nn.functional.pad(x, (0, further))
        views = {name: wide.roll(i, 2) for i, name in enumerate(built.views())}
        mask = torch.arange(25) < 9
        extras = {f"{name}_donor": torch.tensor([1, 2, 3, 0]) for name in views}
        extras |= {f"{name}_mask": mask.expand(4, 2, 25) for name in views}
        if method == "actclr":
            extras = {f"{name}_mask": mask.float()[:, None].expand(4, 8, 25, 2 + further) for name in views}
            built.with_actionlets = True
        losses.append(
            built.double()(SimpleNamespace(views={k: v.double() for k, v in views.items()}, extras=extras)).loss
        )
    torch.testing.assert_close(losses[0], losses[1])


def test_a_batch_without_anybody_gives_zeros_where_absent_bodies_are_left_out() -> None:
    for dtype in (torch.float32, torch.float64):
        encoder = build_encoder({"name": "stgcn", **SMALL["stgcn"], "absent_bodies": "masked"}, COCO).to(dtype)
        h = encoder(torch.zeros(3, 3, 9, 17, 2, dtype=dtype))
        h.sum().backward()
        assert not h.any()
        assert not any(p.grad.any() for p in encoder.parameters() if p.grad is not None)
        assert all(buffer.isfinite().all() for buffer in encoder.buffers())


def test_elsewhere_than_on_a_cpu_rows_are_left_out_that_are_told() -> None:
    with torch.device("meta"):
        encoder = build_encoder({"name": "stgcn", **SMALL["stgcn"]}, COCO).eval()
    rows = []
    encoder.blocks[5].register_forward_hook(lambda module, given, y: rows.append(len(y)))
    x = torch.empty(5, 3, 9, 17, 2, device="meta")
    assert encoder(x).shape == (5, 12)
    assert encoder(tell_present(x, PRESENT)).shape == (5, 12)
    assert rows == [10, 6]


def test_what_is_no_number_is_present() -> None:
    x = torch.zeros(2, 3, 4, 5, 2)
    x[1, 2, 3, 4, 0] = torch.nan
    assert present_bodies(x).tolist() == [[False, False], [True, False]]
