"""The second stage of ActCLR as released, against a step that is computed part by part."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.loader.view_recipes import BatchInProgress, view_recipes
from skelpipe.models import build_method
from skelpipe.models.actclr import ActCLR
from skelpipe.models.actclr_released import FromEpoch, MixingFromEpoch, mixed_keys
from skelpipe.models.method import Progress
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
FRAMES = 20
RECIPE = {
    "method": "actclr",
    "variant": "released",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16, "dropout": 0.0},
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
    extras: dict[str, Tensor]


@pytest.fixture
def built() -> ActCLR:
    """The method in its second stage, with different query and key networks and moved running statistics."""
    torch.manual_seed(0)
    method = build_method(RECIPE, KINECT)
    assert isinstance(method, ActCLR)
    method.advance(Progress(2, 6, 1, 3))
    with torch.no_grad():
        for parameter in [*method.moco.encoder.parameters(), *method.moco.head.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
        for head in (method.moco.head, method.moco.key_head):
            head[0].bias.zero_()  # then h and the gradient are orthogonal: some positions are active, some are not
            head[2].bias.zero_()
        for network in (method.moco.encoder, method.moco.key_encoder):
            network(torch.randn(4, 3, FRAMES, 25, 2))
    return method


def batch_of(built: ActCLR, n: int = 5, epoch: int = 2) -> Clips:
    joints = torch.randn(n, 3, FRAMES, 25, 2)
    scene, index = BatchInProgress(joints, lambda x: x), torch.arange(n)
    for slot, (name, entry) in enumerate(view_recipes(built.views()).items()):
        drawn = entry.sample(Draws(0, epoch, index, slot), joints.shape)
        scene.made[name] = entry.make(scene, entry.folded(drawn, joints.shape))
    extras = {f"{name}_{key}": x for name, view in scene.made.items() for key, x in view.extras.items()}
    return Clips({name: made.clip for name, made in scene.made.items()}, extras)


def masks(encoder: Any, head: nn.Module, features: Tensor, zbar: Tensor) -> Tensor:
    """Masks [N,M,T',V] as released: the gradient of the batch's mean, parts averaged, 1e-8, clipped to 1."""
    leaf = features.detach().requires_grad_()
    with torch.enable_grad():
        z = head(encoder.pool(leaf, 2))
        difference = (1 - (F.normalize(z, dim=1) * F.normalize(zbar, dim=1)).sum(1)).mean()
    (gradient,) = torch.autograd.grad(difference, leaf)
    cam = (gradient.mean((2, 3), keepdim=True) * leaf.detach()).mean(1).clamp(min=0) / 1e-8
    mask = torch.zeros_like(cam)
    for part in KINECT.parts.values():
        mask[..., list(part)] = cam[..., list(part)].mean(-1, keepdim=True).clamp(max=1)
    return mask.unflatten(0, (-1, 2))


def divergence(q: Tensor, k: Tensor, bank: Tensor) -> Tensor:
    total = torch.zeros(())
    for each, key in zip(q, k, strict=True):
        t = bank @ key
        t = torch.where(t > 0.95, torch.tensor(-1.0), t)
        order = t.argsort(descending=True)[:8]
        p_t, p_s = (t[order] / 0.04).softmax(0), ((bank @ each)[order] ** 2 / 0.1).softmax(0)
        total = total + (p_t * (p_t / p_s).log()).sum()
    return total / len(q)


def test_the_step(built: ActCLR) -> None:
    batch = batch_of(built)
    views, before = batch.views, copy.deepcopy(built.moco)
    key_encoder, key_head = before.key_encoder, before.key_head
    with torch.no_grad():
        for query, key in ((before.encoder, key_encoder), (before.head, key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        features = key_encoder.features(views["key"])
        zbar = key_head(key_encoder(views["key"].mean(0)[None]))  # in training mode, as released
        mask = masks(key_encoder, key_head, features, zbar)
        maps = features.unflatten(0, (5, 2))
        moving = ((maps * mask[:, :, None]).sum((3, 4)) / (mask.sum((2, 3)) + 1e-5)[:, :, None]).mean(1)
        k = F.normalize(0.5 * key_head(maps.mean((1, 3, 4))) + 0.5 * key_head(moving), dim=1)
        wide = {}
        for name in ("act", "plain"):
            before.encoder.eval()
            seen = before.encoder.features(views[name])
            before.encoder.train()
            wide[name] = to_frames(masks(before.encoder, before.head, seen, zbar), FRAMES).movedim(1, 3)[:, None]
    first = wide["act"] * views["act"] + (1 - wide["act"]) * views["non"]
    second = wide["plain"] * views["styled"] + (1 - wide["plain"]) * views["mixed"]
    q = [F.normalize(before.head(before.encoder(x)), dim=1) for x in (first, second, views["mixed"])]
    mass = (wide["plain"][:, 0] / 0.1).exp()
    mass = mass / mass.sum((1, 2, 3), keepdim=True)
    donor, share = batch.extras["mixed_donor"], batch.extras["mixed_mask"].float()[..., None]
    p, c = (mass[donor] * share).sum((1, 2, 3)), (mass * (1 - share)).sum((1, 2, 3))
    k_mix = F.normalize((c / (p + c))[:, None] * k + (p / (p + c))[:, None] * k[donor], dim=1)
    bank = before.queue
    parts = [divergence(q[0], k, bank), divergence(q[1], k, bank), divergence(q[2], k_mix, bank)]

    step = built(batch)
    assert step.keys is not None
    assert torch.allclose(step.keys, k, atol=1e-5)
    assert torch.allclose(step.embeddings, q[0], atol=1e-5)
    for name, part in zip(("act", "blend", "mixed"), parts, strict=True):
        assert float(step.logs[f"loss_{name}"]) == pytest.approx(float(part.detach()), rel=1e-3)
    assert torch.equal(built.moco.queue[:5], step.keys)
    assert not torch.allclose(k_mix, k, atol=1e-3)
    assert float(wide["act"].std()) > 0.1

    wanted = torch.autograd.grad(sum(parts), list(before.encoder.parameters()))
    step.loss.backward()
    for parameter, gradient in zip(built.moco.encoder.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4)
    assert all(p.grad is None for p in built.moco.key_encoder.parameters())


def test_masks_of_the_queries_do_not_change_the_query_network(built: ActCLR) -> None:
    built(batch_of(built))
    counts = [b for name, b in built.moco.encoder.named_buffers() if name.endswith("num_batches_tracked")]
    assert {int(count) for count in counts} == {4}  # one in the fixture, three queries
    assert built.moco.encoder.training


def test_the_stage_starts_with_a_copy_and_an_empty_queue(built: ActCLR) -> None:
    before = built.moco.queue.clone()
    built.moco.pointer.fill_(5)
    built.advance(Progress(3, 6, 0, 3))
    assert torch.equal(built.moco.queue, before)
    drawn = []
    for _ in range(2):
        torch.manual_seed(9)
        built.advance(Progress(2, 6, 0, 3))
        drawn.append(built.moco.queue.clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], before)
    assert torch.allclose(built.moco.queue.norm(dim=1), torch.ones(12))
    assert int(built.moco.pointer) == 0
    pairs = [(built.moco.encoder, built.moco.key_encoder), (built.moco.head, built.moco.key_head)]
    for query, key in pairs:
        state = key.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in query.state_dict().items())


def test_resumed_steps_are_bit_identical(built: ActCLR) -> None:
    other = build_method(RECIPE, KINECT)
    built(batch_of(built)).loss.backward()
    other.load_state_dict(built.state_dict())
    other.advance(Progress(2, 6, 1, 3))
    batch = batch_of(built)
    assert torch.equal(built(batch).loss, other(batch).loss)
    assert all(torch.equal(a, b) for a, b in zip(built.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("epoch", [50, 150, 350])
def test_the_curriculum_counts_from_the_second_stage_on(epoch: int) -> None:
    first, index, shape = 300, torch.arange(3), (3, 3, FRAMES, 25, 2)
    op = chain("actclr-actionlet", layout=KINECT, variant="released", curriculum=True)
    drawn = FromEpoch(op, first).sample(Draws(0, first + epoch, index), shape)
    kept = sum(params is not None for params in drawn)
    assert kept == {50: 7, 150: 5, 350: 0}[epoch]
    clips = torch.randn(shape)
    assert torch.equal(FromEpoch(op, first).apply(clips, drawn), op.apply(clips, drawn))


def test_the_regions_shrink_in_the_second_stage_only() -> None:
    mixing = MixingFromEpoch(SkeletonMix(KINECT, curriculum=True), 300)
    index, shape, clips = torch.arange(3), (3, 3, FRAMES, 25, 2), torch.randn(3, 3, FRAMES, 25, 2)
    lengths: dict[int, set[int]] = {}
    for epoch in (310, 510):
        for seed in range(30):
            drawn = mixing.sample(Draws(seed, epoch, index), shape)
            lengths.setdefault(epoch, set()).update(drawn["length"].tolist())
            assert torch.equal(mixing.mix(clips, drawn).clip, mixing.apply(clips, drawn))
    assert lengths == {310: {3, 4, 5}, 510: {1, 2, 3}}


def test_augmentations_are_those_of_the_stage(built: ActCLR) -> None:
    views = built.views()
    assert list(views) == ["act", "non", "plain", "styled", "mixed", "key"]
    assert isinstance(views["act"], FromEpoch)
    assert isinstance(views["non"], FromEpoch)
    assert views["act"].first == views["mixed"].op.first == 2
    assert not isinstance(views["key"], FromEpoch)


def unit_rows(n: int) -> Tensor:
    return F.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)


def test_mixed_keys() -> None:
    torch.manual_seed(0)
    keys, donor = unit_rows(3), torch.tensor([2, 0, 1])
    mask = torch.rand(3, 4, 5, 2, dtype=torch.float64)
    share = (torch.rand(3, 4, 5) > 0.6).float()
    found = mixed_keys(keys, mask, keys[donor], mask[donor], share)
    for i in range(3):
        j = int(donor[i])
        host_mass, donor_mass = ((mask[each] / 0.1).exp() / (mask[each] / 0.1).exp().sum() for each in (i, j))
        p = sum(float(donor_mass[t, v].sum()) for t in range(4) for v in range(5) if share[i, t, v])
        c = sum(float(host_mass[t, v].sum()) for t in range(4) for v in range(5) if not share[i, t, v])
        expected = (c * keys[i] + p * keys[j]) / (c + p)
        torch.testing.assert_close(found[i], expected / expected.norm(), rtol=1e-10, atol=0)


def test_mixed_keys_of_clips_mixed_as_a_whole() -> None:
    keys, donor = unit_rows(3), torch.tensor([1, 2, 0])
    mask = torch.rand(3, 4, 5, 2, dtype=torch.float64)
    for share in (0.0, 0.25, 1.0):  # as Mixup does
        found = mixed_keys(keys, mask, keys[donor], mask[donor], torch.full((3, 4, 5), share))
        expected = F.normalize((1 - share) * keys + share * keys[donor], dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
