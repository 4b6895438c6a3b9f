"""An AimCLR step against one computed part by part, in both stages and variants; EADM, D3M, NNM."""

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.aimclr import AimCLR, d3m, eadm, energy_attention, keep_masks, nearest, nnm
from skelpipe.models.crosclr import cross_view
from skelpipe.models.losses import contrastive_logits, positive_first
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
        "eadm": True,
        "nnm": True,
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
LAM = 1e-4


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
                parameter.add_(0.05 * torch.randn_like(parameter))  # so that updates change the key networks
    built.advance(Progress(epoch, 8, 0, 3))
    return built


def dropped(x: Tensor, released: bool, kappa: float, margin: bool = False) -> Tensor:
    """Apply the masks of algorithm 1: the paper's keep a share of joints and frames, or have a margin."""
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
    """Update the key network and return [u.z ; u.Q] for z_hat, z_tilde and z_drop."""
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
    """Return eq. 1 or eq. 9, and eq. 7 and 8 halved and added, clip by clip."""
    logs = [(each / TAU).log_softmax(1) for each in s]
    info = distribution = torch.zeros((), dtype=torch.float64)
    for i in range(len(logs[0])):
        near = {int(j) for each in s for j in each[i, 1:].argsort(descending=True)[:top_k]} if mining else set()
        terms = [logs[0][i, 0], *(logs[0][i, 1 + j] for j in near)]
        info = info - sum(terms) / (len(terms) if mean else 1)
        for each in logs[1:]:
            distribution = distribution - (logs[0][i].exp().detach() * each[i]).sum() / 2
    return info / len(logs[0]), distribution / len(logs[0])


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
    info, distribution = losses(s, epoch >= 4, options["top_k"], options["neighbours"] == "mean")
    wanted = options["alpha"] * info + options["beta"] * distribution

    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert float(step.logs["info"]) == pytest.approx(float(info.detach()), rel=1e-5)
    assert float(step.logs["d3m"]) == pytest.approx(float(distribution.detach()), rel=1e-5)
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


@pytest.mark.parametrize("epoch", [0, 4])
@pytest.mark.parametrize(("with_eadm", "with_nnm"), [(False, False), (True, False), (False, True)])
def test_rows_of_table_1(with_eadm: bool, with_nnm: bool, epoch: int) -> None:
    """Without EADM the loss is L_d1 whole, and two views have neighbours; without NNM stage 2 is stage 1."""
    built, batch = method(epoch=epoch, eadm=with_eadm, nnm=with_nnm, top_k=2 if with_nnm else 1), clips()
    s = similarities(copy.deepcopy(built).moco("joint"), batch.views, released=False)
    s = s if with_eadm else s[:2]
    info, distribution = losses(s, with_nnm and epoch >= 4, 2, mean=True)
    wanted = info + distribution * 2 / (len(s) - 1)
    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert list(step.logits) == ["query", "extreme", "dropped"][: len(s)]


def test_eadm_drops_features_in_both_variants() -> None:
    for variant in ("paper", "released"):
        built, batch = method(variant), clips()
        _, whole, rest = built._queries(batch, "joint")
        assert float((whole - rest).detach().abs().max()) > 1e-4
        built.settings = replace(built.settings, kappa=2.0)
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


def test_no_gradient_flows_into_the_normal_view() -> None:
    built, batch = method(alpha=0.0), clips()
    for view in batch.views.values():
        view.requires_grad_(True)
    built(batch).loss.backward()
    # No gradient flows through z_hat: the clips of the query have none, nor have those of the key.
    assert not batch.views["query"].grad.any()
    assert batch.views["key"].grad is None
    assert batch.views["extreme"].grad.abs().sum() > 0


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_views(variant: str) -> None:
    built = method(variant, view="motion", augment={"shear": 0.25, "crop": 4})
    views = built.views()
    assert tuple(views) == NAMES
    assert views is built.views()  # so that the loop keeps its loader
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
def test_resumed_steps_are_bit_identical(variant: str, epoch: int, views: int) -> None:
    built, other = method(variant, epoch, views=views), method(variant, views=views)
    built(clips())
    other.load_state_dict(built.state_dict())
    other.advance(Progress(epoch, 8, 1, 3))
    batch = clips()
    assert torch.equal(built(batch).loss, other(batch).loss)
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())


@pytest.mark.parametrize("epoch", [3, 4])
def test_views_mine_in_each_other_s_queues(epoch: int) -> None:
    built, batch = method(epoch=epoch, views=3, alpha=0.5), clips()
    before = copy.deepcopy(built)
    s = {}
    wanted = torch.zeros((), dtype=torch.float64)
    for name in built.streams("joint"):
        views = {view: derive(x, name, KINECT) for view, x in batch.views.items()}
        s[name] = similarities(before.moco(name), views, released=False)
        info, distribution = losses(s[name], epoch >= 4, 2, mean=True)
        wanted = wanted + 0.5 * info + distribution
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


def feature_maps(rows: int = 3, channels: int = 4, frames: int = 5, joints: int = 6, seed: int = 0) -> Tensor:
    """Feature maps as after a ReLU, in which some joints and frames stand out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, frames, joints, generator=generator, dtype=torch.float64)
    x[0, :, :, 2] += 2.5
    x[1, :, 3] += 2.5
    return x.relu()


def naive_attention(x: np.ndarray, unbiased: bool) -> np.ndarray:
    alpha = np.zeros_like(x)
    for r, c in np.ndindex(x.shape[:2]):
        neurons = x[r, c].ravel()
        mu = sum(neurons) / len(neurons)
        variance = sum((value - mu) ** 2 for value in neurons) / (len(neurons) - unbiased)
        for t, v in np.ndindex(x.shape[2:]):
            energy = 4 * (variance + LAM) / ((x[r, c, t, v] - mu) ** 2 + 2 * variance + 2 * LAM)
            alpha[r, c, t, v] = 1 / (1 + math.exp(-1 / energy))
    return alpha


def naive_kept(means: list[float], kappa: float, relative: bool) -> list[float]:
    if not relative:
        return [0.0 if mean >= kappa else 1.0 for mean in means]
    order = sorted(range(len(means)), key=lambda i: means[i])
    kept = order[: math.ceil(kappa * len(means))]
    return [1.0 if i in kept else 0.0 for i in range(len(means))]


def naive_eadm(x: np.ndarray, kappa: float, relative: bool, released: bool) -> tuple[np.ndarray, ...]:
    rows, _, frames, joints = x.shape
    alpha = naive_attention(x, released)
    spatial, temporal = np.ones((rows, joints)), np.ones(x.shape if released else (rows, frames))
    for r in range(rows):
        spatial[r] = naive_kept([alpha[r, :, :, v].mean() for v in range(joints)], kappa, relative)
        if not released:
            temporal[r] = naive_kept([alpha[r, :, t].mean() for t in range(frames)], kappa, relative)
    if released:
        temporal[alpha >= kappa] = 0
    y = x * spatial[:, None, None, :] * (spatial.size / spatial.sum())
    wide = temporal if released else temporal[:, None, :, None]
    return y * wide * (temporal.size / temporal.sum()), spatial, temporal


@pytest.mark.parametrize("unbiased", [False, True])
def test_energy_attention(unbiased: bool) -> None:
    x = feature_maps()
    alpha = energy_attention(x, LAM, unbiased=unbiased)
    np.testing.assert_allclose(alpha.numpy(), naive_attention(x.numpy(), unbiased), rtol=1e-12)


def test_energy_attention_stays_within_its_bounds() -> None:
    x = feature_maps(channels=16, frames=9, joints=8)
    alpha = energy_attention(x)
    assert float(alpha.min()) >= 1 / (1 + math.exp(-0.5))
    assert float(alpha.mean(dim=(2, 3)).max()) <= 1 / (1 + math.exp(-0.75))  # sigmoid is concave there
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = x.var(dim=(2, 3), keepdim=True, correction=0)
    far = (x - mean) ** 2 >= 4 * (math.log(0.7 / 0.3) - 0.5) * (variance + LAM)
    assert torch.equal(alpha >= 0.7, far)
    assert 0 < float(far.double().mean()) < 0.5


@pytest.mark.parametrize(
    ("kappa", "relative", "released"),
    [(0.67, False, False), (0.7, True, False), (0.4, True, False), (0.67, False, True), (0.7, False, True)],
)
def test_eadm_is_algorithm_1(kappa: float, relative: bool, released: bool) -> None:
    x = feature_maps(channels=8)
    wanted, spatial, temporal = naive_eadm(x.numpy(), kappa, relative, released)
    assert 0 < temporal.mean() < 1  # something is dropped, something kept
    assert 0 < spatial.mean() < 1 or kappa == 0.7
    found = eadm(x, kappa, lam=LAM, relative=relative, released=released)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-14)
    single = eadm(x.float(), kappa, lam=LAM, relative=relative, released=released)
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_eadm_scales_by_the_whole_batch() -> None:
    x = feature_maps(rows=2, channels=8)
    x[1] = 1.0  # all info: nothing of this row is dropped
    y = eadm(x, 0.67)
    dropped = (y[0] == 0) & (x[0] != 0)
    assert dropped.any()
    assert float((y[1] / x[1]).min()) == float((y[1] / x[1]).max()) > 1


@given(st.floats(0.01, 1), st.integers(1, 25), st.integers(1, 13))
def test_eadm_keeps_the_share_kappa(share: float, joints: int, frames: int) -> None:
    generator = torch.Generator().manual_seed(joints * 100 + frames)
    alpha = torch.rand(2, 3, frames, joints, generator=generator, dtype=torch.float64)
    for mask, number in zip(keep_masks(alpha, share, relative=True), (joints, frames), strict=True):
        kept = mask.flatten(1).sum(dim=1)
        assert (kept >= share * number - 1e-6).all()
        assert (kept < share * number + 1).all()


def test_eadm_keeps_ties() -> None:
    x = torch.ones(2, 3, 4, 5)
    assert torch.equal(eadm(x, 0.3, relative=True), x)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("released", [False, True])
def test_eadm_with_kappa_above_1_drops_nothing(relative: bool, released: bool) -> None:
    x = feature_maps()
    x[2, 0] = 0
    x[2, 0, 0, 0] = 1000.0  # attention 1 in float32
    assert torch.equal(eadm(x.float(), 1.5, relative=relative, released=released), x.float())


def test_eadm_that_keeps_nothing_returns_zeros() -> None:
    assert not eadm(feature_maps(), 0.1).any()


@pytest.mark.parametrize("released", [False, True])
def test_eadm_masks_carry_no_gradient(released: bool) -> None:
    x = (feature_maps() + 0.1).requires_grad_(True)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = eadm(x, 0.67, released=released)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    torch.testing.assert_close(gradient, weights * (y / x).detach())


@pytest.mark.parametrize("shape", [(2, 4, 6, 1), (2, 4, 1, 1)])
@pytest.mark.parametrize("released", [False, True])
def test_eadm_of_maps_without_joints(shape: tuple[int, ...], released: bool) -> None:
    x = torch.rand(shape) + 0.5
    y = eadm(x, 0.7, relative=not released, released=released)
    assert y.isfinite().all()
    if shape[2] == 1:
        assert torch.equal(y, x)


def test_eadm_keeps_half_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = eadm(feature_maps().bfloat16(), 0.7, relative=True)
    assert y.dtype == torch.bfloat16
    assert (y == 0).double().mean() > (feature_maps() == 0).double().mean()


def naive_softmax(row: list[float]) -> list[float]:
    largest = max(row)
    weights = [math.exp(value - largest) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def naive_d3m(target: Tensor, logits: Tensor) -> float:
    """-1/N sum_n sum_i P(target)_ni log P(logits)_ni."""
    rows = [
        -math.fsum(p * math.log(q) for p, q in zip(naive_softmax(a), naive_softmax(b), strict=True))
        for a, b in zip(target.tolist(), logits.tolist(), strict=True)
    ]
    return math.fsum(rows) / len(rows)


@given(st.integers(1, 6), st.integers(0, 12), st.sampled_from([0.1, 1.0, 14.0]), st.integers(0, 999))
def test_d3m_is_its_formula(clips: int, size: int, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    target, logits = (scale * torch.randn(clips, 1 + size, dtype=torch.float64) for _ in range(2))
    wanted = naive_d3m(target, logits)
    assert float(d3m(target, logits)) == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert float(d3m(target.float(), logits.float())) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_minimum_of_d3m_is_the_entropy_of_the_target() -> None:
    torch.manual_seed(0)
    target = torch.randn(4, 9, dtype=torch.float64)
    p = target.softmax(1)
    least = float(d3m(target, target))
    assert least == pytest.approx(float(-(p * p.log()).sum(1).mean()), rel=1e-12)
    assert all(float(d3m(target, target + torch.randn_like(target))) > least for _ in range(20))


def test_d3m_gradient_is_the_difference_of_the_distributions() -> None:
    torch.manual_seed(0)
    target, logits = (torch.randn(4, 9, dtype=torch.float64, requires_grad=True) for _ in range(2))
    d3m(target, logits).backward()
    assert target.grad is None
    assert logits.grad is not None
    assert torch.allclose(logits.grad, (logits.softmax(1) - target.softmax(1)).detach() / 4)


def test_d3m_is_finite_where_a_softmax_underflows() -> None:
    target, logits = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 300.0]], requires_grad=True)
    loss = d3m(target, logits)
    assert float(loss.detach()) == pytest.approx(300 / (1 + math.e), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_d3m_of_a_certain_target_is_infonce() -> None:
    torch.manual_seed(0)
    q, k, queue = (torch.nn.functional.normalize(torch.randn(n, 5), dim=1) for n in (3, 3, 7))
    logits = contrastive_logits(q, k, queue, 0.07)
    certain = torch.zeros_like(logits)
    certain[:, 0] = 1000
    assert torch.allclose(d3m(certain, logits), positive_first(logits), atol=1e-6)


def test_d3m_is_float32_under_autocast() -> None:
    torch.manual_seed(0)
    target, logits = torch.randn(3, 50), torch.randn(3, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = d3m(target, logits)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, d3m(target, logits))


def naive_neighbours(views: list[Tensor], row: int, top_k: int) -> set[int]:
    """Column 0 and, for each view, the columns of its largest similarities to the queue."""
    found = {0}
    for view in views:
        values = view[row].tolist()
        found |= set(sorted(range(1, len(values)), key=lambda j: -values[j])[:top_k])
    return found


def naive_nnm(logits: Tensor, sets: list[set[int]], divided: bool) -> float:
    total = 0.0
    for row, found in zip(logits.tolist(), sets, strict=True):
        norm = math.log(math.fsum(math.exp(value) for value in row))
        each = -math.fsum(row[j] - norm for j in found)
        total += each / len(found) if divided else each
    return total / len(sets)


@given(
    clips=st.integers(1, 5),
    size=st.integers(1, 12),
    views=st.integers(1, 4),
    top_k=st.integers(1, 4),
    divided=st.booleans(),
    seed=st.integers(0, 999),
)
def test_nnm_is_its_formula(clips: int, size: int, views: int, top_k: int, divided: bool, seed: int) -> None:
    torch.manual_seed(seed)
    logits = [torch.randn(clips, 1 + size, dtype=torch.float64) for _ in range(views)]
    sets = [naive_neighbours(logits, row, top_k) for row in range(clips)]
    positives = nearest(logits, top_k)
    assert [set(row.nonzero().flatten().tolist()) for row in positives] == sets
    loss = nnm(logits[0], positives, divided=divided)
    assert float(loss) == pytest.approx(naive_nnm(logits[0], sets, divided), rel=1e-12)


def test_nnm_without_neighbours_is_infonce() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 9)
    alone = torch.zeros(4, 9, dtype=torch.bool)
    alone[:, 0] = True
    assert torch.allclose(nnm(logits, alone), positive_first(logits))
    assert torch.allclose(nnm(logits, alone, divided=False), positive_first(logits))


def test_nearest_is_the_union_over_views() -> None:
    near, far = torch.tensor([[0.0, 3.0, 1.0, 2.0]]), torch.tensor([[9.0, 0.0, 1.0, 0.5]])
    assert nearest([near, near, near], 1).tolist() == [[True, True, False, False]]
    assert nearest([near, far], 1).tolist() == [[True, True, True, False]]


def test_nnm_gradients_reach_the_first_view_alone() -> None:
    torch.manual_seed(0)
    views = [torch.randn(3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    positives = nearest(views, 1)
    nnm(views[0], positives).backward()
    wanted = (views[0].softmax(1) - positives / positives.sum(1, keepdim=True)).detach() / 3
    assert views[0].grad is not None
    assert torch.allclose(views[0].grad, wanted)
    assert views[1].grad is None
    assert views[2].grad is None


def test_nnm_is_float32_under_autocast() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nnm(logits, nearest([logits], 1))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nnm(logits, nearest([logits], 1)))
