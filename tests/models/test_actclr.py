"""The paper's ActCLR: its two stages, its views, and its step against one computed part by part."""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import carried
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import BatchInProgress, view_recipes
from skelpipe.models import build_method
from skelpipe.models.actclr import ActCLR
from skelpipe.models.method import Progress
from skelpipe.skeleton import layout
from skelpipe.views import derive

KINECT = layout("kinect-v2-25")
FRAMES = 20
RECIPE: dict[str, Any] = {
    "method": "actclr",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16, "dropout": 0.5},
    "head": {"hidden": 16, "dim": 8},
    "init": "default",
    "queue": 12,
    "momentum": 0.9,
    "temperature": 0.07,
    "actclr": {
        "moco_epochs": 2,
        "query_temperature": 0.1,
        "key_temperature": 0.04,
        "threshold": 0.5,
        "inner": False,
        "nearest": 8,
        "parts": [2, 3],
        "blocks": [3, 5],
    },
}


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def clips(n: int = 5, *names: str) -> Clips:
    return Clips({name: torch.randn(n, 3, FRAMES, 25, 2) for name in names or ("query", "key")})


def anchor() -> Tensor:
    return torch.randn(3, FRAMES, 25, 2, generator=torch.Generator().manual_seed(7))


def method(epoch: int = 2, view: str = "joint", **changes: Any) -> ActCLR:
    torch.manual_seed(0)
    built = build_method({**RECIPE, **changes}, KINECT, view, anchor)
    assert isinstance(built, ActCLR)
    built.advance(Progress(epoch, 4, 0, 3))
    return built


def shaken(built: ActCLR) -> ActCLR:
    """The method with different query and key networks and moved running statistics, as after training."""
    with torch.no_grad():
        for parameter in [*built.moco.encoder.parameters(), *built.moco.head.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(3):
            built.moco.key(torch.randn(4, 3, FRAMES, 25, 2))
    return built


def batch_of(built: ActCLR, joints: Tensor, view: str = "joint", epoch: int = 2) -> Clips:
    """The method's views of clips, as the loader makes them."""
    scene, index = BatchInProgress(joints, lambda x: derive(x, view, KINECT)), torch.arange(len(joints))
    with torch.no_grad():
        for slot, (name, entry) in enumerate(view_recipes(built.views()).items()):
            drawn = entry.sample(Draws(0, epoch, index, slot), joints.shape)
            scene.made[name] = entry.make(scene, entry.folded(drawn, joints.shape))
    extras = {f"{name}_{key}": x for name, view in scene.made.items() for key, x in view.extras.items()}
    return Clips({name: made.clip for name, made in scene.made.items()}, extras)


def masks(encoder: Any, head: nn.Module, features: Tensor, zbar: Tensor) -> Tensor:
    """Actionlets [N*M,T',V] of feature maps by eq. 3 to 5 as printed, with half of the maximum as threshold."""
    leaf = features.detach().requires_grad_()
    z = head(encoder.pool(leaf, 2))
    similarity = (z * zbar).sum(1) / (z.norm(dim=1) * zbar.norm())
    (gradient,) = torch.autograd.grad(-similarity.sum(), leaf)
    cam = torch.einsum("rc,rctv->rtv", gradient.mean((2, 3)), leaf.detach()).clamp(min=0)
    graph = torch.eye(25)
    for a, b in KINECT.edges:
        graph[a, b] = graph[b, a] = 1
    smooth = cam @ (graph / graph.sum(0))
    return (smooth > 0.5 * smooth.amax((1, 2), keepdim=True)).float()


def embedded(encoder: Any, head: nn.Module, clip: Tensor) -> Tensor:
    encoder.eval()
    z = head(encoder(clip[None])).detach()
    encoder.train()
    return z


def resized(mask: Tensor, steps: int) -> Tensor:
    """Masks [R,T,V] at `steps` steps, interpolated in time with aligned ends."""
    at = torch.linspace(0, mask.shape[1] - 1, steps, dtype=torch.float64)
    lower = at.floor().long().clamp(max=mask.shape[1] - 2)
    share = (at - lower).float()[:, None]
    return (1 - share) * mask[:, lower] + share * mask[:, lower + 1]


@pytest.mark.parametrize("mask_of", ["the clip as read", "the key's clip"])
def test_the_step_of_the_second_stage(mask_of: str) -> None:
    built, batch = shaken(method()), clips()
    before = copy.deepcopy(built.moco)
    torch.manual_seed(3)
    q = F.normalize(before.head(before.encoder(batch.views["query"])), dim=1)
    with torch.no_grad():
        pairs = ((before.encoder, before.key_encoder), (before.head, before.key_head))
        for query, key in pairs:
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        zbar = embedded(before.key_encoder, before.key_head, anchor())
        features = before.key_encoder.features(batch.views["key"])
    if mask_of == "the clip as read":
        batch.extras["key_mask"] = (torch.rand(5, FRAMES, 25, 2) > 0.6).float()
        mask = resized(batch.extras["key_mask"].movedim(3, 1).flatten(0, 1), features.shape[2])
    else:
        mask = masks(before.key_encoder, before.key_head, features, zbar)
    pooled = (features * mask[:, None]).sum((2, 3)) / (mask.sum((1, 2)) + 1e-5)[:, None]
    k = F.normalize(before.key_head(pooled.view(5, 2, -1).mean(1)), dim=1).detach()
    p_k, p_q = (k @ before.queue.T / 0.04).softmax(1), (q @ before.queue.T / 0.1).softmax(1)
    expected = -(p_k * p_q.log()).sum(1).mean()

    torch.manual_seed(3)  # for dropout
    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert torch.allclose(step.embeddings, q, atol=1e-5)
    assert step.keys is not None
    assert torch.allclose(step.keys, k, atol=1e-5)
    assert torch.equal(built.moco.queue[:5], step.keys)
    assert torch.equal(built.moco.queue[5:], before.queue[5:])
    assert float(step.logs["actionlet"]) == pytest.approx(float(mask.mean()), abs=1e-6)
    assert all(not value.requires_grad and value.ndim == 0 for value in step.logs.values())
    assert not torch.allclose(built.moco.key_project(before.key_encoder.pool(features, 2)), k, atol=1e-3)

    wanted = torch.autograd.grad(expected, list(before.encoder.parameters()))
    step.loss.backward()
    for parameter, gradient in zip(built.moco.encoder.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4)
    keys = [*built.moco.key_encoder.parameters(), *built.moco.key_head.parameters()]
    assert all(parameter.grad is None for parameter in keys)


@pytest.mark.parametrize("stream", ["none", "offline", "online", "both"])
def test_the_streams_that_are_pooled_over_actionlets(stream: str) -> None:
    section = {**RECIPE["actclr"], "safp": stream}
    encoder = {**RECIPE["encoder"], "dropout": 0.0}
    built = shaken(method(actclr=section, encoder=encoder)).double()
    batch = clips(3)
    batch.views = {name: view.double() for name, view in batch.views.items()}
    batch.extras = {f"{name}_mask": (torch.rand(3, FRAMES, 25, 2) > 0.6).double() for name in ("query", "key")}
    before = copy.deepcopy(built.moco)
    before.update_key()

    def embedded_by(encoder: Any, head: nn.Module, name: str, over_actionlet: bool) -> Tensor:
        maps = encoder.features(batch.views[name])
        weights = torch.ones(len(maps), *maps.shape[2:], dtype=torch.float64)
        least = 0.0
        if over_actionlet:
            at = batch.extras[f"{name}_mask"].float().movedim(3, 1).flatten(0, 1)
            weights, least = resized(at, maps.shape[2]).double(), 1e-5
        pooled = torch.stack([
            sum(m[:, t, v] * w[t, v] for t in range(m.shape[1]) for v in range(25)) / (w.sum() + least)
            for m, w in zip(maps, weights, strict=True)
        ])  # fmt: skip
        return F.normalize(head(pooled.view(3, 2, -1).mean(1)), dim=1)

    q = embedded_by(before.encoder, before.head, "query", stream in ("online", "both"))
    k = embedded_by(before.key_encoder, before.key_head, "key", stream in ("offline", "both")).detach()
    p_k, log_q = (k @ before.queue.T / 0.04).softmax(1), (q @ before.queue.T / 0.1).log_softmax(1)
    expected = -(p_k * log_q).sum(1).mean()
    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-7)
    wanted = torch.autograd.grad(expected, before.encoder.blocks[0].temporal.weight)[0]
    step.loss.backward()
    assert torch.allclose(built.moco.encoder.blocks[0].temporal.weight.grad, wanted, rtol=1e-4, atol=1e-9)


def test_clips_are_compared_with_other_anchors() -> None:
    joints = torch.randn(4, 3, FRAMES, 25, 2)
    masks = {}
    for kind, same in (
        ("zero", torch.zeros_like(joints[0])),
        ("mean-batch", joints.mean(0)),
        ("mean-clip", anchor()),
    ):
        built = shaken(method(actclr={**RECIPE["actclr"], "anchor": kind}))
        torch.manual_seed(0)
        other = build_method(RECIPE, KINECT, anchor=lambda clip=same: clip)
        assert isinstance(other, ActCLR)
        other.load_state_dict(built.state_dict())
        masks[kind] = built.actionlet(joints)
        assert torch.equal(masks[kind], other.actionlet(joints))
    assert not torch.equal(masks["zero"], masks["mean-batch"])
    assert not torch.equal(masks["mean-clip"], masks["mean-batch"])
    without = build_method({**RECIPE, "actclr": {**RECIPE["actclr"], "anchor": "mean-batch"}}, KINECT)
    without.advance(Progress(2, 4, 0, 3))  # these anchors need no dataset


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"transformations": ["act", "act"]}, r"actclr\.transformations must be a list of act, adain and non"),
        ({"transformations": ["mix"]}, r"actclr\.transformations is 'mix'; known: act, adain, non"),
        ({"noise_area": "body"}, r"actclr\.noise_area is 'body'; known: non-actionlet, actionlet, full"),
        ({"safp": "all"}, r"actclr\.safp is 'all'; known: offline, online, both, none"),
        ({"anchor": "mean"}, r"actclr\.anchor is 'mean'; .*mean-clip, mean-batch, zero"),
        (
            {"state": "head"},
            r"actclr\.state is 'head', and variant 'paper' has no such switch: .*variant=released",
        ),
    ],
)
def test_settings_that_do_not_fit(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(actclr={**RECIPE["actclr"], **section})


def test_the_first_stage_is_skeletonclrs() -> None:
    built, batch = method(epoch=0), clips()
    recipe = {key: value for key, value in RECIPE.items() if key != "actclr"} | {"method": "skeletonclr"}
    torch.manual_seed(0)
    plain = build_method(recipe, KINECT)
    torch.manual_seed(5)
    step = built(batch)
    torch.manual_seed(5)
    assert torch.equal(plain(batch).loss, step.loss)
    assert torch.equal(plain.moco.queue, built.moco.queue)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_views_change_with_the_stage_and_are_otherwise_the_same_objects(variant: str) -> None:
    built = method(epoch=0, variant=variant)
    first = built.views()
    assert list(first) == ["query", "key"]
    built.advance(Progress(1, 4, 2, 3))
    assert all(built.views()[name] is entry for name, entry in first.items())
    built.advance(Progress(2, 4, 0, 3))
    second = built.views()
    assert "non" in second
    built.advance(Progress(3, 4, 1, 3))
    assert list(built.views()) == list(second)
    assert all(built.views()[name] is entry for name, entry in second.items())
    built.advance(Progress(1, 4, 0, 3))
    assert list(built.views()) == ["query", "key"]


@pytest.mark.parametrize("view", ["joint", "bone", "motion"])
@pytest.mark.parametrize("mask_of", ["carried", "recomputed"])
def test_the_query_joins_two_views_by_the_key_networks_actionlet(view: str, mask_of: str) -> None:
    built = shaken(method(view=view, actclr={**RECIPE["actclr"], "mask": mask_of}))
    before = copy.deepcopy(built.state_dict())
    joints = torch.randn(3, 3, FRAMES, 25, 2)
    batch = batch_of(built, joints, view)
    act = batch.views["act"]
    encoder = built.moco.key_encoder.eval()
    features = encoder.features(derive(joints, view, KINECT) if mask_of == "carried" else act)
    encoder.train()
    zbar = embedded(encoder, built.moco.key_head, anchor())
    mask = masks(encoder, built.moco.key_head, features, zbar)
    wide = to_frames(mask.view(3, 2, -1, 25), FRAMES).movedim(1, 3)
    if mask_of == "carried":
        ops, key = built.views()["spread"], built.views()["key"].augmentation
        draws = [Draws(0, 2, torch.arange(3), slot) for slot in (0, 5)]
        moved = [
            carried(wide, op, op.sample(each, joints.shape)) for op, each in zip((ops, key), draws, strict=True)
        ]
        assert torch.allclose(batch.extras["key_mask"], moved[1], atol=1e-6)
        wide = moved[0]
    assert torch.allclose(batch.extras["query_mask"], wide, atol=1e-6)
    share = wide[:, None]
    expected = share * act + (1 - share) * batch.views["non"]
    assert torch.allclose(batch.views["query"], expected, atol=1e-5)
    assert 0.02 < float(wide.mean()) < 0.98
    # Nothing has changed, and the key network is in training mode again.
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert built.moco.key_encoder.training


def test_resumed_steps_are_bit_identical() -> None:
    built, other = shaken(method()), method()
    built(batch_of(built, torch.randn(5, 3, FRAMES, 25, 2))).loss.backward()
    assert "anchor" not in built.state_dict()
    other.load_state_dict(built.state_dict())
    joints, after = torch.randn(5, 3, FRAMES, 25, 2), []
    for each in (built, other):
        torch.manual_seed(4)
        after.append((each(batch_of(each, joints)).loss, each.moco.queue.clone()))
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("n", [1, 2, 7, 13])
def test_any_batch_size(variant: str, n: int) -> None:
    built = method(variant=variant)
    for _ in range(2):
        step = built(batch_of(built, torch.randn(n, 3, FRAMES, 25, 2)))
        step.loss.backward()
        assert torch.isfinite(step.loss)
    assert int(built.moco.pointer) == 2 * n % 12
    assert step.keys is not None
    assert torch.equal(built.moco.queue[(torch.arange(2 * n - min(n, 12), 2 * n)) % 12], step.keys[-12:])


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_step_under_autocast(variant: str) -> None:
    built = method(variant=variant)
    batch = batch_of(built, torch.randn(4, 3, FRAMES, 25, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = built(batch)
    assert step.keys is not None
    assert step.loss.dtype == step.embeddings.dtype == step.keys.dtype == torch.float32
    step.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in built.moco.encoder.parameters())


def test_an_anchor_is_needed_where_actionlets_are() -> None:
    built = build_method(RECIPE, KINECT)
    assert isinstance(built, ActCLR)
    assert built.networks("joint") == (built.moco.encoder, built.moco.head)
    built.advance(Progress(0, 2, 0, 3))  # a run of the first stage only
    with pytest.raises(UsageError, match="static anchor"):
        built.advance(Progress(0, 3, 0, 3))  # refused at once, not when the second stage begins
    with pytest.raises(UsageError, match="no static anchor"):
        built.actionlet(torch.zeros(2, 3, FRAMES, 25, 2))
    build_method({**RECIPE, "variant": "released"}, KINECT).advance(Progress(2, 4, 0, 3))
    with pytest.raises(UsageError, match=r"at least 20 frames, or lower actclr\.blocks"):
        build_method(RECIPE, KINECT, anchor=lambda: torch.zeros(3, 16, 25, 2))


def test_a_backbone_without_joints_is_refused() -> None:
    small = {"name": "bigru", "hidden": 4, "layers": 1}
    with pytest.raises(UsageError, match=r"actclr.*'bigru'"):
        build_method({**RECIPE, "encoder": small}, KINECT, anchor=anchor)


def test_dsta_has_actionlets_too() -> None:
    built = method(encoder={"name": "dsta"})
    step = built(batch_of(built, torch.randn(2, 3, FRAMES, 25, 2)))
    assert torch.isfinite(step.loss)
