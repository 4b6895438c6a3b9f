"""An MsMCLR step against its parts taken one by one, in float64 where it is only numbers."""

import copy
import math
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.method import Progress
from skelpipe.models.msmclr import MsMCLR
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
OPTIONS = {"reduction": 4, "zero_pad": False, "mining_epoch": 3, "top_k": 1}
RECIPE = {
    "method": "msmclr",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16, "dropout": 0.0},
    "head": {"hidden": 16, "dim": 8},
    "queue": 12,
    "momentum": 0.9,
    "temperature": 0.2,
    "init": "default",
    "msmclr": OPTIONS,
}


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def clips(n: int = 5, joints: int = 25, frames: int = 12) -> Clips:
    return Clips({name: torch.randn(n, 3, frames, joints, 2) for name in ("query", "strong", "key")})


def method(skeleton: Layout = KINECT, options: dict[str, object] | None = None, **changes: object) -> MsMCLR:
    torch.manual_seed(0)
    section = {**OPTIONS, **(options or {})}
    built = build_method({**RECIPE, "msmclr": section, **changes}, skeleton)
    assert isinstance(built, MsMCLR)
    return built


def at(epoch: int) -> Progress:
    return Progress(epoch, 300, 0, 10)


def embeddings(before: MsMCLR, batch: Clips) -> tuple[Tensor, list[Tensor], Tensor]:
    """z_hat, z at the three scales, and z of the key network after it moved; `before` is used up."""
    moco = before.moco
    q = F.normalize(moco.head(moco.encoder(batch.views["query"])), dim=1)
    maps = before.attention(moco.encoder.features(batch.views["strong"]))
    pooled = [each.reshape(len(q), 2, *each.shape[1:]).mean(dim=(1, 3, 4)) for each in maps]  # persons too
    scales = [F.normalize(moco.head(each), dim=1) for each in pooled]
    with torch.no_grad():
        for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        k = F.normalize(moco.key_head(moco.key_encoder(batch.views["key"])), dim=1)
    return q, scales, k


def looped(q: Tensor, scales: list[Tensor], k: Tensor, queue: Tensor, mined: bool) -> tuple[float, float]:
    """L_Info, or L_N over the nearest of all views, and L_Ms (spec D7), one clip and one entry at a time."""

    def chances(u: list[float], positive: list[float]) -> list[float]:
        choices = [positive, *queue.tolist()]
        weights = [math.exp(sum(a * b for a, b in zip(u, c, strict=True)) / 0.2) for c in choices]
        return [weight / math.fsum(weights) for weight in weights]

    alike = taught = 0.0
    for n, positive in enumerate(k.tolist()):
        hat, *others = (chances(u[n].tolist(), positive) for u in (q, *scales))
        found = {0} | ({max(range(1, len(p)), key=p.__getitem__) for p in (hat, *others)} if mined else set())
        alike -= math.fsum(math.log(hat[j]) for j in found) / len(found)
        for other in others:
            taught -= math.fsum(p * math.log(u) for p, u in zip(hat, other, strict=True)) / 3
    return alike / len(k), taught / len(k)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("epoch", [2, 3])
@pytest.mark.parametrize("n", [5, 8])
def test_step_follows_the_order_of_the_method(variant: str, epoch: int, n: int) -> None:
    built, batch = method(variant=variant), clips(n)
    built.double()
    batch.views = {name: view.double() for name, view in batch.views.items()}
    with torch.no_grad():
        for parameter in built.moco.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # so that the update moves the key network
    before = copy.deepcopy(built)
    queue = built.moco.queue.clone()
    q, scales, k = embeddings(before, batch)
    alike, taught = looped(q.detach(), scales, k, queue, mined=variant == "released" and epoch == 3)

    built.advance(at(epoch))
    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(alike + taught, rel=1e-10)
    assert torch.allclose(step.embeddings, q)
    assert torch.allclose(step.keys, k)
    assert torch.equal(built.moco.queue[:n], step.keys)
    assert torch.equal(built.moco.queue[n:], queue[n:])
    assert not step.embeddings.requires_grad
    assert set(step.logs) == {"loss", "info", "ms", "top1", "std"}
    assert all(not value.requires_grad and value.ndim == 0 for value in step.logs.values())
    assert float(step.logs["info"]) == pytest.approx(alike)
    assert float(step.logs["ms"]) == pytest.approx(taught)


def test_gradients_are_those_of_the_loss_with_a_fixed_teacher() -> None:
    built, batch = method(), clips()
    before = copy.deepcopy(built)
    queue = built.moco.queue.clone()
    q, scales, k = embeddings(before, batch)
    normal, *strong = (torch.cat([(u * k).sum(1, keepdim=True), u @ queue.T], 1) / 0.2 for u in (q, *scales))
    teacher = normal.softmax(1).detach()
    loss = F.cross_entropy(normal, torch.zeros(5, dtype=torch.long))
    loss = loss + sum(F.cross_entropy(logits, teacher) for logits in strong) / 3
    names = [name for name, p in before.named_parameters() if p.requires_grad]
    wanted = torch.autograd.grad(loss, [before.get_parameter(name) for name in names])
    built(batch).loss.backward()
    for name, gradient in zip(names, wanted, strict=True):
        assert torch.allclose(built.get_parameter(name).grad, gradient, atol=1e-5), name
    assert all(p.grad is None for p in (*built.moco.key_encoder.parameters(), *built.moco.key_head.parameters()))
    assert any(name.startswith("attention") for name in names)


def test_counts_of_weights() -> None:
    """1.8735 M as the paper's code has them without its unused block: the attention once for either network."""
    encoder = {"name": "stgcn", "width": 16, "out_channels": 256, "dropout": 0.5}
    built = method(encoder=encoder, head={"hidden": 256, "dim": 128}, options={"reduction": 8})
    attention = sum(p.numel() for p in built.attention.parameters())
    networks = sum(p.numel() for p in built.moco.parameters())
    assert attention == 16_672
    assert round((networks + 2 * attention) / 1e6, 4) == 1.8735
    assert sum(p.numel() for p in built.parameters()) == networks + attention


@pytest.mark.parametrize(
    ("variant", "zero_pad", "over", "pads"),
    [("paper", False, "frames", False), ("paper", True, "frames", True), ("released", False, "rows", True)],
)
def test_variants_of_the_attention(variant: str, zero_pad: bool, over: str, pads: bool) -> None:
    built = method(variant=variant, options={"zero_pad": zero_pad})
    assert (built.attention.motion.over, built.attention.motion.zero_pad) == (over, pads)


def test_key_networks_start_as_copies_or_elsewhere() -> None:
    for variant, same in (("paper", True), ("released", False)):
        moco = method(variant=variant, init="paper").moco
        pairs = zip(moco.encoder.state_dict().values(), moco.key_encoder.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == same


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_views(variant: str) -> None:
    draws, x = Draws(0, 0, torch.arange(4)), torch.randn(4, 3, 12, 25, 2)
    built = method(variant=variant, augment={"shear": 0.3, "crop": 4})
    views = built.views()
    assert list(views) == ["query", "strong", "key"]
    names = {"query": "normal", "strong": "msmclr-strong", "key": "normal"}
    for name, view in views.items():
        assert isinstance(view, Chain)
        wanted = chain(names[name], layout=KINECT, variant=variant, shear=0.3, crop=4)
        assert torch.equal(view(x, draws), wanted(x, draws))
    built.advance(at(200))
    assert all(built.views()[name] is view for name, view in views.items())


def test_the_networks_to_judge_are_the_querys() -> None:
    built = method()
    assert built.networks("bone") == (built.moco.encoder, built.moco.head)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_resumed_steps_are_the_same_bits(variant: str) -> None:
    built, other = method(variant=variant), method(variant=variant, seed=1)
    built.advance(at(0))
    built(clips())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(built.state_dict())
    batch = clips()
    for each in (built, other):
        each.advance(at(4))
    steps = [each(batch) for each in (built, other)]
    for step in steps:
        step.loss.backward()
    assert torch.equal(steps[0].loss, steps[1].loss)
    for name, parameter in built.named_parameters():
        gradient = other.get_parameter(name).grad
        assert parameter.grad is gradient is None or torch.equal(parameter.grad, gradient), name
    assert all(torch.equal(a, b) for a, b in zip(built.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_odd_batches_go_around_the_queue(variant: str) -> None:
    built = method(variant=variant)
    built.advance(at(5))
    kept: list[Tensor] = []
    for n in (1, 5, 13, 3, 7):  # 13 are more than the queue holds
        step = built(clips(n))
        assert bool(step.loss.isfinite())
        kept = [*kept, *step.keys][-12:]
    rows = {tuple(row) for row in built.moco.queue.tolist()}
    assert rows == {tuple(row) for row in torch.stack(kept).tolist()}


@pytest.mark.parametrize("encoder", [RECIPE["encoder"], {"name": "dsta"}])
@pytest.mark.parametrize("name", ["kinect-v2-25", "kinect-v1-20", "coco-17"])
def test_layouts_backbones_and_frames(encoder: dict[str, object], name: str) -> None:
    built = method(layout(name), encoder=encoder)
    for frames in (5, 16):
        step = built(clips(2, len(layout(name)), frames))
        step.loss.backward()
        assert bool(step.loss.isfinite())


def test_a_backbone_without_joints_is_refused() -> None:
    with pytest.raises(UsageError, match=r"msmclr merges joints.*BIGRU has none.*encoder\.name"):
        method(encoder={"name": "bigru"})


def test_a_layout_without_levels_is_refused() -> None:
    plain = {**KINECT.to_plain(), "name": "mine", "levels": {}}
    with pytest.raises(UsageError, match=r"mine.*lacks levels\.part"):
        method(Layout.from_plain(plain))


def test_step_under_autocast() -> None:
    for variant in ("paper", "released"):
        built = method(variant=variant)
        built.advance(at(9))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step = built(clips())
        assert step.loss.dtype == step.embeddings.dtype == torch.float32
        step.loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in built.moco.encoder.parameters())
