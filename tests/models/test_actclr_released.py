"""The second stage of ActCLR as released, against a step that is computed part by part."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.chain import Chain
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import BatchInProgress, view_recipes
from skelpipe.models import build_method
from skelpipe.models.actclr import ActCLR
from skelpipe.models.actclr_released import ReleasedState, mixed_keys, shares_of_mixed
from skelpipe.models.method import Progress
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
FRAMES = 20
QUERIES = ("non", "blended", "mixed")  # where actionlets are empty
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
        zbar = key_head(key_encoder(views["key"].mean(0)[None]))  # in training mode and first, as released
        features = key_encoder.features(views["key"])
        mask = masks(key_encoder, key_head, features, zbar)
        maps = features.unflatten(0, (5, 2))
        moving = ((maps * mask[:, :, None]).sum((3, 4)) / (mask.sum((2, 3)) + 1e-5)[:, :, None]).mean(1)
        k = F.normalize(0.5 * key_head(maps.mean((1, 3, 4))) + 0.5 * key_head(moving), dim=1)
        found, wide = {}, {}
        for name in ("act", "plain"):
            found[name] = masks(before.encoder, before.head, before.encoder.features(views[name]), zbar)
            wide[name] = to_frames(found[name], FRAMES).movedim(1, 3)[:, None]
    first = wide["act"] * views["act"] + (1 - wide["act"]) * views["non"]
    second = wide["plain"] * views["styled"] + (1 - wide["plain"]) * views["blended"]
    q = [F.normalize(before.head(before.encoder(x)), dim=1) for x in (first, second, views["mixed"])]
    donor = batch.extras["mixed_donor"]
    pasted, taken = (batch.extras[f"mixed_{name}"][:, ::4] for name in ("mask", "taken"))
    p, c = naive_shares(found["plain"], found["plain"][donor], pasted, taken)
    k_mix = F.normalize(c[:, None] * k + p[:, None] * k[donor], dim=1)
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
    for name, value in before.state_dict().items():
        if "running" in name:
            assert torch.allclose(built.moco.state_dict()[name], value, atol=1e-6), name


def test_running_statistics_take_notice_of_every_pass(built: ActCLR) -> None:
    built(batch_of(built))
    for network, passes in ((built.moco.encoder, 5), (built.moco.key_encoder, 2)):  # and one in the fixture
        counts = [b for name, b in network.named_buffers() if name.endswith("num_batches_tracked")]
        assert {int(count) for count in counts} == {1 + passes}
        assert network.training


def test_the_newest_state_finds_no_actionlets(built: ActCLR) -> None:
    """Its queries are the views outside of them, its mixed keys follow the sizes of the regions."""
    newest = build_method({**RECIPE, "actclr": {**RECIPE["actclr"], "state": "head"}}, KINECT)
    assert isinstance(newest, ActCLR)
    newest.advance(Progress(2, 6, 1, 3))
    newest.load_state_dict(built.state_dict())
    batch = batch_of(newest)
    before = copy.deepcopy(newest.moco)
    step = newest(batch)
    assert float(step.logs["actionlet"]) == 0
    key_encoder, key_head = before.key_encoder, before.key_head
    with torch.no_grad():
        for query, key in ((before.encoder, key_encoder), (before.head, key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        h = key_encoder.features(batch.views["key"]).unflatten(0, (5, 2)).mean((1, 3, 4))
        k = F.normalize(key_head(h) + key_head(torch.zeros_like(h)), dim=1)
        queries = [F.normalize(before.head(before.encoder(batch.views[name])), dim=1) for name in QUERIES]
    assert step.keys is not None
    assert torch.allclose(step.keys, k, atol=1e-5)
    assert torch.allclose(step.embeddings, queries[0], atol=1e-5)
    assert float(step.logs["loss_blend"]) == pytest.approx(
        float(divergence(queries[1], k, before.queue)), rel=1e-3
    )


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


def test_augmentations_are_those_of_the_stage(built: ActCLR) -> None:
    views = built.views()
    assert list(views) == ["act", "non", "plain", "styled", "blended", "mixed", "key"]
    for name in ("act", "non", "plain", "key"):
        chain = views[name]
        assert isinstance(chain, Chain)
        assert chain.curriculum is not None
        assert chain.curriculum.begins == 2
    assert views["blended"].op.begins == views["styled"].op.begins == 2


def unit_rows(n: int) -> Tensor:
    return F.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)


def naive_shares(mask: Tensor, donor_mask: Tensor, pasted: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """Shares p, c [N] of clips with actionlets [N,M,T',V], number by number."""
    p, c = torch.zeros(2, len(mask), dtype=torch.float64)
    bodies, steps, joints = mask.shape[1:]
    for i in range(len(mask)):
        for m in range(bodies):
            host = [[math.exp(float(mask[i, m, t, v]) / 0.1) for v in range(joints)] for t in range(steps)]
            donor = [[math.exp(float(donor_mask[i, m, t, v]) / 0.1) for v in range(joints)] for t in range(steps)]
            places = [(t, v) for t in range(steps) for v in range(joints)]
            given = sum(donor[t][v] * float(taken[i, t, v]) for t, v in places)
            left = sum(host[t][v] * (1 - float(pasted[i, t, v])) for t, v in places)
            p[i] += given / sum(donor[t][v] + 1e-5 for t, v in places) / bodies
            c[i] += left / (sum(host[t][v] for t, v in places) + 1e-5) / bodies
    return (p / (p + c)).to(pasted.dtype), (c / (p + c)).to(pasted.dtype)


def test_shares_of_mixed_clips() -> None:
    torch.manual_seed(0)
    mask = torch.rand(3, 2, 4, 5)
    pasted = (torch.rand(3, 4, 5) > 0.6).double()
    taken = torch.maximum(pasted, (torch.rand(3, 4, 5) > 0.6).double())
    donor = torch.tensor([2, 0, 1])
    found = shares_of_mixed(mask, mask[donor], pasted, taken)
    for share, expected in zip(found, naive_shares(mask, mask[donor], pasted, taken), strict=True):
        torch.testing.assert_close(share, expected, rtol=1e-6, atol=0)
    for weight in (0.0, 0.25, 1.0):  # as Mixup does
        p, c = shares_of_mixed(mask, mask[donor], *2 * [torch.full((3, 4, 5), weight)])
        torch.testing.assert_close(p, torch.full((3,), weight), rtol=1e-5, atol=0)
        torch.testing.assert_close(p + c, torch.ones(3))


def test_mixed_keys_weigh_clips_or_channels() -> None:
    keys, donor = unit_rows(6), torch.tensor([2, 0, 1, 5, 3, 4])
    p = torch.linspace(0.1, 0.9, 6)
    for i in range(6):
        clips = (1 - p[i]) * keys[i] + p[i] * keys[donor[i]]
        found = mixed_keys(keys, keys[donor], p[:, None], 1 - p[:, None])[i]
        torch.testing.assert_close(found, clips / clips.norm(), rtol=1e-6, atol=1e-9)
        channels = torch.stack([(1 - p[j]) * keys[i, j] + p[j] * keys[donor[i], j] for j in range(6)])
        found = mixed_keys(keys, keys[donor], p, 1 - p)[i]
        torch.testing.assert_close(found, channels / channels.norm(), rtol=1e-6, atol=1e-9)


def test_channels_are_weighed_where_the_batch_has_as_many_clips() -> None:
    assert ReleasedState().weighs_channels(128, 128)
    assert not ReleasedState().weighs_channels(256, 128)
    assert not ReleasedState("head").weighs_channels(128, 128)
    assert not ReleasedState(mixed_keys="clips").weighs_channels(128, 128)
    assert ReleasedState("head", "channels").weighs_channels(128, 128)
    with pytest.raises(UsageError, match=r"actclr\.mixed_keys is 'channels'.* batch_size is 64, head\.dim 128"):
        ReleasedState(mixed_keys="channels").weighs_channels(64, 128)


@pytest.mark.parametrize("section", [{"safp": "none"}, {"transformations": []}, {"noise_area": "full"}])
def test_ablations_of_the_paper_are_refused(section: dict[str, Any]) -> None:
    (name,) = section
    with pytest.raises(UsageError, match=rf"actclr\.{name} is .*, and variant 'released' has no such switch"):
        build_method({**RECIPE, "actclr": section}, KINECT)


def test_unknown_states_are_refused() -> None:
    with pytest.raises(UsageError, match=r"actclr\.state is '2024'; .*known: 2023-12, head"):
        build_method({**RECIPE, "actclr": {"state": "2024"}}, KINECT)
