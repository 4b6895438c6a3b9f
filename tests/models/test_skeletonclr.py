"""A SkeletonCLR step against one computed part by part, in the order of the method."""

import copy
import math
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.models import build_method
from skelpipe.models.method import spread
from skelpipe.models.moco import MoCo
from skelpipe.models.parts import projection_head
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.skeleton import layout

RECIPE = {
    "method": "skeletonclr",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16, "dropout": 0.0},
    "head": {"hidden": 16, "dim": 8},
    "queue": 12,
    "momentum": 0.9,
    "temperature": 0.07,
}


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def clips(n: int = 5) -> Clips:
    return Clips({name: torch.randn(n, 3, 12, 25, 2) for name in ("query", "key")})


def method(**changes: object) -> SkeletonCLR:
    torch.manual_seed(0)
    built = build_method({**RECIPE, **changes}, layout("kinect-v2-25"))
    assert isinstance(built, SkeletonCLR)
    return built


def test_step_follows_the_order_of_the_method() -> None:
    built, batch = method(), clips()
    with torch.no_grad():
        for parameter in built.moco.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # so that the update changes the key network
    before = copy.deepcopy(built.moco)

    q = F.normalize(before.head(before.encoder(batch.views["query"])), dim=1)
    with torch.no_grad():
        for query, key in ((before.encoder, before.key_encoder), (before.head, before.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        k = F.normalize(before.key_head(before.key_encoder(batch.views["key"])), dim=1)
    similar = torch.cat([(q * k).sum(1, keepdim=True), q @ before.queue.T], 1) / 0.07
    expected = -(similar[:, 0] - similar.logsumexp(1)).mean()

    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert torch.allclose(step.embeddings, q, atol=1e-5)
    assert torch.allclose(step.keys, k, atol=1e-5)
    assert torch.equal(built.moco.queue[:5], step.keys)
    assert torch.equal(built.moco.queue[5:], before.queue[5:])
    assert not step.embeddings.requires_grad
    assert set(step.logs) == {"loss", "top1", "std", "similar_key", "similar_queue"}
    assert float(step.logs["similar_key"]) == pytest.approx(float((q * k).sum(1).mean()), abs=1e-5)
    assert float(step.logs["similar_queue"]) == pytest.approx(float((q @ before.queue.T).mean()), abs=1e-5)
    assert all(not value.requires_grad and value.ndim == 0 for value in step.logs.values())
    assert float(step.logs["top1"]) == float((similar.argmax(1) == 0).float().mean())
    assert float(step.logs["std"]) == pytest.approx(float(spread(q.detach())), abs=1e-5)

    # Backward after the queue was written gives the gradients of the loss before it was.
    wanted = torch.autograd.grad(expected, list(before.encoder.parameters()))
    step.loss.backward()
    for parameter, gradient in zip(built.moco.encoder.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)
    assert all(p.grad is None for p in built.moco.key_encoder.parameters())


@pytest.mark.parametrize(("variant", "same"), [("paper", True), ("released", False)])
def test_where_the_key_network_starts(variant: str, same: bool) -> None:
    built = method(variant=variant)
    networks = ((built.moco.encoder, built.moco.key_encoder), (built.moco.head, built.moco.key_head))
    drawn = [(q, k) for query, key in networks for q, k in zip(query.parameters(), key.parameters(), strict=True)]
    assert all(torch.equal(q, k) for q, k in drawn if q.std() == 0)  # biases, edge importance
    assert {torch.equal(q, k) for q, k in drawn if q.std() > 0} == {same}


def test_both_views_are_normally_augmented() -> None:
    draws, clips = Draws(0, 0, torch.arange(4)), torch.randn(4, 3, 12, 25, 2)
    views = method(augment={"shear": 0.3, "crop": 4}).views()
    assert list(views) == ["query", "key"]
    wanted = chain("normal", shear=0.3, crop=4)(clips, draws)
    for view in views.values():
        assert isinstance(view, Chain)
        assert torch.equal(view(clips, draws), wanted)


def test_evaluation_uses_the_query_networks() -> None:
    built = method()
    assert built.networks("joint") == (built.moco.encoder, built.moco.head)
    assert built.streams("bone") == ("bone",)


def test_learns_to_tell_clips_apart() -> None:
    torch.manual_seed(0)
    moco = MoCo(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 25, 32)),
        projection_head(32, 32, 16),
        dim=16,
        queue_size=64,
        momentum=0.9,
    )
    built = SkeletonCLR(moco, 0.2, chain("normal"))
    optimiser = torch.optim.SGD([p for p in built.parameters() if p.requires_grad], lr=0.03, momentum=0.9)
    data = torch.randn(16, 3, 4, 25, 1)
    for _ in range(100):
        noisy = [data + 0.3 * torch.randn(data.shape) for _ in range(2)]
        step = built(Clips({"query": noisy[0], "key": noisy[1]}))
        optimiser.zero_grad()
        step.loss.backward()
        optimiser.step()
    # The queue holds each clip four times: the least loss is ln 5 = 1.6, and without learning it is ln 65 = 4.2.
    assert math.log(5) - 0.2 < float(step.loss.detach()) < 2.2
    assert float(step.logs["std"]) > 0.8


def test_step_under_autocast() -> None:
    built = method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = built(clips())
    assert step.loss.dtype == step.embeddings.dtype == torch.float32
    step.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in built.moco.encoder.parameters())


def test_resumed_steps_are_bit_identical() -> None:
    built, other = method(), method(momentum=0.9)
    built(clips())
    other.load_state_dict(built.state_dict())
    batch = clips()
    assert torch.equal(built(batch).loss, other(batch).loss)
    assert torch.equal(built.moco.queue, other.moco.queue)


def test_spread_measures_collapse() -> None:
    torch.manual_seed(0)
    even = F.normalize(torch.randn(5000, 64), dim=1)
    assert float(spread(even)) == pytest.approx(1, abs=0.02)
    assert float(spread(even[:1].expand(50, -1))) == pytest.approx(0, abs=1e-6)
    assert float(spread(even[:1])) == 0
