"""An AimCLR step against its parts taken one by one, in both stages, as in the paper and as released."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.aimclr import AimCLR
from skelpipe.models.crosclr import cross_view
from skelpipe.models.method import Progress
from skelpipe.models.moco import MoCo
from skelpipe.skeleton import layout
from skelpipe.views import derive

KINECT = layout("kinect-v2-25")
TAU, K = 0.2, 12
NAMES = ("query", "extreme", "key")
RECIPE: dict[str, Any] = {
    "method": "aimclr",
    "aimclr": {
        "views": 1,
        "mining_epoch": 4,
        "top_k": 2,
        "neighbours": "mean",
        "alpha": 1.0,
        "beta": 1.0,
        "kappa": 0.7,
        "kappa_mode": "quantile",
        "energy_lambda": 1e-4,
    },
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16, "dropout": 0.0},
    "head": {"hidden": 16, "dim": 8},
    "init": "default",
    "queue": K,
    "momentum": 0.9,
    "temperature": TAU,
}


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def clips(n: int = 5) -> Clips:
    return Clips({name: torch.randn(n, 3, 8, 25, 2) for name in NAMES})


def method(variant: str = "paper", epoch: int = 0, view: str = "joint", **changes: Any) -> AimCLR:
    torch.manual_seed(0)
    changes, other = (
        {k: v for k, v in changes.items() if (k in RECIPE["aimclr"]) is own} for own in (True, False)
    )
    recipe = {**RECIPE, "variant": variant, **other, "aimclr": {**RECIPE["aimclr"], **changes}}
    built = build_method(recipe, KINECT, view)
    assert isinstance(built, AimCLR)
    with torch.no_grad():
        for name in built.names:
            for parameter in built.moco(name).encoder.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))  # so that updates move the key networks
    built.advance(Progress(epoch, 8, 0, 3))
    return built


def dropped(x: Tensor, released: bool, kappa: float, margin: bool = False) -> Tensor:
    """The masks of algorithm 1 applied: the paper's keep a share of joints and frames, or have a margin."""
    mu, sigma = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=int(released))
    alpha = torch.sigmoid(((x - mu) ** 2 + 2 * sigma + 2e-4) / (4 * (sigma + 1e-4))).detach()
    joints, frames = alpha.mean((1, 2)), alpha.mean((1, 3))
    if released:
        spatial, temporal = (joints < kappa).float()[:, None, None], (alpha < kappa).float()
    elif margin:
        spatial, temporal = (joints < kappa).float()[:, None, None], (frames < kappa).float()[:, None, :, None]
    else:
        masks = []
        for means in (joints, frames):
            mask = torch.zeros_like(means)
            kept = means.argsort(1)[:, : math.ceil(kappa * means.shape[1])]
            masks.append(mask.scatter(1, kept, 1.0))
        spatial, temporal = masks[0][:, None, None], masks[1][:, None, :, None]
    return x * spatial / spatial.mean() * temporal / temporal.mean()


def similarities(moco: MoCo, views: dict[str, Tensor], released: bool, kappa: float = 0.7) -> list[Tensor]:
    """Move the key network and return [u.z ; u.Q] for z_hat, z_tilde and z_drop."""
    z = [moco.head(moco.encoder(views["query"]))]
    maps = moco.encoder.features(views["extreme"])
    for each in (maps, dropped(maps, released, kappa)):
        z.append(moco.head(each.mean((2, 3)).unflatten(0, (-1, 2)).mean(1)))
    with torch.no_grad():
        for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        k = F.normalize(moco.key_head(moco.key_encoder(views["key"])), dim=1)
    z = [F.normalize(each, dim=1) for each in z]
    return [torch.cat([(u * k).sum(1, keepdim=True), u @ moco.queue.T], 1).double() for u in z]


def losses(s: list[Tensor], mining: bool, top_k: int, mean: bool) -> tuple[Tensor, Tensor]:
    """Return eq. 1 or eq. 9, and eq. 7 and 8 halved and summed, clip by clip."""
    logs = [(each / TAU).log_softmax(1) for each in s]
    alike = taught = torch.zeros((), dtype=torch.float64)
    for i in range(len(logs[0])):
        near = {int(j) for each in s for j in each[i, 1:].argsort(descending=True)[:top_k]} if mining else set()
        terms = [logs[0][i, 0], *(logs[0][i, 1 + j] for j in near)]
        alike = alike - sum(terms) / (len(terms) if mean else 1)
        for each in logs[1:]:
            taught = taught - (logs[0][i].exp().detach() * each[i]).sum() / 2
    return alike / len(logs[0]), taught / len(logs[0])


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(
    ("epoch", "changes"),
    [
        (0, {}),
        (3, {"alpha": 0.5, "beta": 2.0}),
        (4, {"neighbours": "sum"}),
        (7, {"top_k": 1}),
        (4, {"kappa": 0.66}),
    ],
)
def test_a_step(variant: str, epoch: int, changes: dict[str, Any]) -> None:
    built, batch = method(variant, epoch, **changes), clips()
    before, options = copy.deepcopy(built), {**RECIPE["aimclr"], **changes}
    s = similarities(before.moco("joint"), batch.views, variant == "released", options["kappa"])
    alike, taught = losses(s, epoch >= 4, options["top_k"], options["neighbours"] == "mean")
    wanted = options["alpha"] * alike + options["beta"] * taught

    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert float(step.logs["info"]) == pytest.approx(float(alike.detach()), rel=1e-5)
    assert float(step.logs["d3m"]) == pytest.approx(float(taught.detach()), rel=1e-5)
    assert float(step.logs["top1"]) == float((s[0].argmax(1) == 0).float().mean())
    assert set(step.logs) == {"loss", "info", "d3m", "top1", "std"}
    assert not any(value.requires_grad or value.ndim for value in step.logs.values())
    assert torch.equal(built.moco("joint").queue[:5], step.keys)
    assert torch.equal(built.moco("joint").queue[5:], before.moco("joint").queue[5:])
    cosines = (step.embeddings * step.keys).sum(1)
    torch.testing.assert_close(cosines, s[0][:, 0].float().detach(), atol=1e-5, rtol=1e-5)

    # Backward after the queue was written gives the gradients of the loss before it was.
    step.loss.backward()
    pairs = [(p, q) for p, q in zip(built.parameters(), before.parameters(), strict=True) if q.requires_grad]
    gradients = torch.autograd.grad(wanted, [theirs for _, theirs in pairs])
    for (parameter, _), gradient in zip(pairs, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient.float(), atol=2e-5, rtol=2e-3)
    assert all(p.grad is None for p in built.moco("joint").key_encoder.parameters())


def test_the_drop_is_not_idle_in_either_variant() -> None:
    for variant in ("paper", "released"):
        built, batch = method(variant), clips()
        _, whole, rest = built._queries(batch, "joint")
        assert float((whole - rest).detach().abs().max()) > 1e-4
        built.options["kappa"] = 2.0
        _, whole, rest = built._queries(batch, "joint")
        assert torch.equal(whole, rest)


def test_the_margin_of_the_paper_s_masks_can_be_absolute() -> None:
    built, batch = method(kappa_mode="absolute", kappa=0.68), clips()
    moco = built.moco("joint")
    maps = moco.encoder.features(batch.views["extreme"])
    rest = dropped(maps, released=False, kappa=0.68, margin=True)
    assert not torch.allclose(rest, dropped(maps, released=False, kappa=0.68))
    wanted = F.normalize(moco.head(rest.mean((2, 3)).unflatten(0, (-1, 2)).mean(1)), dim=1)
    torch.testing.assert_close(built._queries(batch, "joint")[2], wanted, atol=1e-5, rtol=1e-5)
    released = [
        method("released", kappa_mode=mode)._queries(batch, "joint")[2] for mode in ("absolute", "quantile")
    ]
    assert torch.equal(*released)


def test_the_normal_view_is_a_teacher() -> None:
    built, batch = method(alpha=0.0), clips()
    for view in batch.views.values():
        view.requires_grad_(True)
    built(batch).loss.backward()
    # The networks' gradient through z_hat is none: the clips it came from feel nothing, nor do the keys'.
    assert not batch.views["query"].grad.any()
    assert batch.views["key"].grad is None
    assert batch.views["extreme"].grad.abs().sum() > 0


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_views(variant: str) -> None:
    built = method(variant, view="motion", augment={"shear": 0.25, "crop": 4})
    views = built.views()
    assert tuple(views) == NAMES
    assert views is built.views()  # so that the loader stays
    normal, extreme = (list(views[name].ops) for name in ("query", "extreme"))
    assert views["key"] is views["query"]
    assert [(op.ratio if i == 0 else op.amplitude) for i, op in enumerate(normal)] == [4, 0.25]
    assert any(isinstance(op, TemporalFlip) for op in extreme) is (variant == "paper")
    assert len(extreme) == (8 if variant == "paper" else 7)
    (blur,) = (op for op in extreme if isinstance(op, GaussianBlur))
    assert blur.normalise is (variant == "paper")
    assert built.streams("motion") == ("motion",)
    assert built.networks("motion") == (built.moco("motion").encoder, built.moco("motion").head)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("epoch", "views"), [(3, 1), (4, 1), (4, 3)])
def test_resumed_steps_are_the_same_bits(variant: str, epoch: int, views: int) -> None:
    built, other = method(variant, epoch, views=views), method(variant, views=views)
    built(clips())
    other.load_state_dict(built.state_dict())
    other.advance(Progress(epoch, 8, 1, 3))
    batch = clips()
    assert torch.equal(built(batch).loss, other(batch).loss)
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())


@pytest.mark.parametrize("epoch", [3, 4])
def test_views_that_mine_in_each_other_s_queues(epoch: int) -> None:
    built, batch = method(epoch=epoch, views=3, alpha=0.5), clips()
    before = copy.deepcopy(built)
    s = {}
    wanted = torch.zeros((), dtype=torch.float64)
    for name in built.streams("joint"):
        views = {view: derive(x, name, KINECT) for view, x in batch.views.items()}
        s[name] = similarities(before.moco(name), views, released=False)
        alike, taught = losses(s[name], epoch >= 4, 2, mean=True)
        wanted = wanted + 0.5 * alike + taught
    if epoch >= 4:
        wanted = wanted + 0.5 * cross_view({name: each[0] / TAU for name, each in s.items()}, 2, TAU)
    step = built(batch)
    assert tuple(s) == ("joint", "motion", "bone")
    assert float(step.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert {"std", "std-motion", "std-bone"} <= set(step.logs)
    with pytest.raises(UsageError, match="aimclr with 3 views trains its views together"):
        method(views=3, view="bone").views()


@pytest.mark.parametrize(("variant", "same"), [("paper", True), ("released", False)])
def test_where_the_key_network_starts(variant: str, same: bool) -> None:
    moco = build_method({**RECIPE, "variant": variant, "init": "paper"}, KINECT).moco("joint")
    assert torch.equal(moco.encoder.blocks[9].temporal.weight, moco.key_encoder.blocks[9].temporal.weight) is same
    assert torch.equal(moco.head[0].weight, moco.key_head[0].weight) is same
    assert not moco.key_head[0].bias.any()


def test_other_backbones() -> None:
    built = method(epoch=4, encoder={"name": "dsta", "width": 8})
    step = built(clips(2))
    step.loss.backward()
    assert step.loss.isfinite()
    with pytest.raises(UsageError, match="drops frames and joints of the feature map"):
        method(encoder={"name": "bigru", "hidden": 8})


def test_odd_batches_and_autocast() -> None:
    built = method("released", epoch=4)
    for n in (5, 3, 13, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step = built(clips(n))
        assert step.loss.dtype == torch.float32
        assert step.loss.isfinite()
    assert int(built.moco("joint").pointer) == (5 + 3 + 13 + 1) % K
