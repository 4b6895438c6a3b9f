"""A CrosSCLR step against one computed part by part, in both stages and variants; cross-view loss."""

import copy
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.crosclr import VIEW_SETS, CrosSCLR, cross_view, require_joint_view
from skelpipe.models.losses import contrastive_logits
from skelpipe.models.method import Progress
from skelpipe.models.moco import MoCo
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
TAU, K = 0.2, 12
RECIPE: dict[str, Any] = {
    "method": "crosclr",
    "crosclr": {"views": 3, "mining_epoch": 4, "top_k": 2, "context": True},
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16, "dropout": 0.0},
    "head": {"hidden": 16, "dim": 8},
    "init": "default",
    "queue": K,
    "momentum": 0.9,
    "temperature": TAU,
}
TAU = 0.2


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def clips(n: int = 5) -> Clips:
    return Clips({name: torch.randn(n, 3, 12, 25, 2) for name in ("query", "key")})


def method(variant: str = "paper", epoch: int = 0, view: str = "joint", **changes: Any) -> CrosSCLR:
    torch.manual_seed(0)
    recipe = {**RECIPE, "variant": variant, "crosclr": {**RECIPE["crosclr"], **changes}}
    built = build_method(recipe, KINECT, view)
    assert isinstance(built, CrosSCLR)
    with torch.no_grad():
        for name in built.names:
            for parameter in built.moco(name).encoder.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))  # so that updates change the key networks
    built.advance(Progress(epoch, 8, 0, 3))
    return built


def derived(x: Tensor, view: str) -> Tensor:
    y = torch.zeros_like(x)
    if view == "motion":
        for t in range(x.shape[2] - 1):
            y[:, :, t] = x[:, :, t + 1] - x[:, :, t]
    elif view == "bone":
        for joint, parent in enumerate(KINECT.parents):
            y[:, :, :, joint] = x[:, :, :, joint] - x[:, :, :, parent]
    return x if view == "joint" else y


def follow(moco: MoCo) -> None:
    with torch.no_grad():
        for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)


def expected(built: CrosSCLR, batch: Clips, mining: bool, moving: tuple[str, ...]) -> tuple[Tensor, dict, dict]:
    """Return loss, queries and keys; updates the key networks of `moving`."""
    q, k, s = {}, {}, {}
    for view in built.names:
        moco = built.moco(view)
        q[view] = F.normalize(moco.head(moco.encoder(derived(batch.views["query"], view))), dim=1)
    for view in moving:
        follow(built.moco(view))
    for view in built.names:
        moco = built.moco(view)
        with torch.no_grad():
            k[view] = F.normalize(moco.key_head(moco.key_encoder(derived(batch.views["key"], view))), dim=1)
        s[view] = torch.cat([(q[view] * k[view]).sum(1, keepdim=True), q[view] @ moco.queue.T], 1).double()
    loss = torch.zeros((), dtype=torch.float64)
    for u in built.names:
        if not mining:
            loss = loss - (s[u] / TAU).log_softmax(1)[:, 0].mean()
            continue
        others = [v for v in built.names if v != u]
        for v in others:
            logits = torch.cat([s[u], s[u][:, 1:] * s[v][:, 1:]], 1) / TAU
            for i, row in enumerate(logits.log_softmax(1)):
                near = s[v][i, 1:].argsort(descending=True)[: built.settings.top_k]
                terms = [row[0], *row[1 + near], *row[1 + K + near]]
                loss = loss - sum(terms) / len(terms) / len(logits) / len(others)
    return loss, q, k


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("epoch", [0, 3, 4, 7])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_step(views: int, epoch: int, variant: str) -> None:
    built, batch = method(variant, epoch, views=views), clips()
    before = copy.deepcopy(built)
    names = ("joint", "motion", "bone")[:views]
    assert built.names == built.streams("joint") == names
    moving = ("motion",) if variant == "released" and epoch >= 4 else names
    wanted, q, k = expected(before, batch, epoch >= 4, moving)
    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    torch.testing.assert_close(step.embeddings, q["joint"].detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step.keys, k["joint"], atol=1e-5, rtol=1e-5)
    for name in names:
        torch.testing.assert_close(built.moco(name).queue[:5], k[name], atol=1e-5, rtol=1e-5)
        assert torch.equal(built.moco(name).queue[5:], before.moco(name).queue[5:])
        for ours, theirs in zip(built.moco(name).parameters(), before.moco(name).parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
    step.loss.backward()
    learned = [parameter for parameter in before.parameters() if parameter.requires_grad]
    for parameter, gradient in zip(
        (parameter for parameter in built.parameters() if parameter.requires_grad),
        torch.autograd.grad(wanted, learned),
        strict=True,
    ):
        torch.testing.assert_close(parameter.grad, gradient.float(), atol=2e-5, rtol=1e-3)
    assert all(p.grad is None for name in names for p in built.moco(name).key_encoder.parameters())
    assert all(not value.requires_grad and value.ndim == 0 for value in step.logs.values())
    assert set(step.logs) == {"loss"} | {f"{log}{end}" for log in ("top1", "std") for end in ends(names)}


def ends(names: tuple[str, ...]) -> list[str]:
    return ["" if name == "joint" else f"-{name}" for name in names]


def test_paper_networks_share_nothing() -> None:
    built = method()
    sizes = [sum(p.numel() for p in built.moco(name).parameters()) for name in built.names]
    assert sum(p.numel() for p in built.parameters()) == sum(sizes)
    assert len(set(sizes)) == 1


def test_released_heads_end_in_the_joint_head() -> None:
    built = method("released")
    joint = built.moco("joint")
    for name in ("motion", "bone"):
        moco = built.moco(name)
        for mine, shared in ((moco.head, joint.head), (moco.key_head, joint.key_head)):
            assert mine[2] is shared
            assert mine[0].weight.shape == (16, 16)
        assert moco.head[0] is not moco.key_head[0]
    x = torch.randn(2, 16)
    head = built.moco("bone").head
    torch.testing.assert_close(head(x), joint.head(F.relu(head[0](x))))
    own = sum(p.numel() for p in method().moco("joint").parameters() if p.requires_grad)
    learned = sum(p.numel() for p in built.parameters() if p.requires_grad)
    shared = sum(p.numel() for p in joint.head.parameters())
    assert learned == 3 * (own - shared) + shared + 2 * (16 * 16 + 16)


@pytest.mark.parametrize(("variant", "same"), [("paper", True), ("released", False)])
def test_where_key_networks_start(variant: str, same: bool) -> None:
    built = build_method({**RECIPE, "variant": variant, "init": "paper"}, KINECT)
    for name in built.names:
        moco = built.moco(name)
        weights = [network.blocks[9].temporal.weight for network in (moco.encoder, moco.key_encoder)]
        assert torch.equal(*weights) is same
        assert abs(float(weights[1].std()) - 0.02) < 0.003
        assert not any(p.requires_grad for p in (*moco.key_encoder.parameters(), *moco.key_head.parameters()))


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("epoch", [3, 4])
def test_resumed_steps_are_bit_identical(variant: str, epoch: int) -> None:
    built, other = method(variant, epoch), method(variant)
    built(clips())
    other.load_state_dict(built.state_dict())
    other.advance(Progress(epoch, 8, 1, 3))
    batch = clips()
    assert torch.equal(built(batch).loss, other(batch).loss)
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())


def test_queues_stay_aligned_with_odd_batches() -> None:
    built = method(epoch=4)
    for n in (5, 3, 13, 1):
        assert built(clips(n)).loss.isfinite()
        pointers = {int(built.moco(name).pointer) for name in built.names}
        assert len(pointers) == 1
    assert pointers == {(5 + 3 + 13 + 1) % K}


def test_under_autocast() -> None:
    built = method(epoch=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = built(clips())
    assert step.loss.dtype == step.embeddings.dtype == torch.float32
    step.loss.backward()
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.requires_grad)


def test_views_and_networks() -> None:
    built = method()
    assert list(built.views()) == ["query", "key"]
    assert built.views()["query"] is built.views()["key"]
    for name in built.names:
        assert built.networks(name) == (built.moco(name).encoder, built.moco(name).head)
    with pytest.raises(UsageError, match="--view joint"):
        method(view="bone").views()
    with pytest.raises(UsageError, match="views is 4"):
        method(views=4)


def cosines(views: tuple[str, ...], n: int = 4, k: int = 9) -> dict[str, Tensor]:
    """Cosines [N, 1 + K] to the key and to the queue."""
    generator = torch.Generator().manual_seed(len(views))
    return {view: torch.rand(n, 1 + k, generator=generator, dtype=torch.float64) * 2 - 1 for view in views}


def naive_cross_view(s: dict[str, np.ndarray], top_k: int, context: bool) -> float:
    total = 0.0
    for u, v in itertools.permutations(s, 2):
        each = []
        for own, other in zip(s[u], s[v], strict=True):
            neighbours = sorted(range(1, len(own)), key=lambda i: -other[i])[:top_k]
            entries = list(own / TAU)
            positives = [0, *neighbours]
            if context:
                entries += [own[i] * other[i] / TAU for i in range(1, len(own))]
                positives += [len(own) + i - 1 for i in neighbours]
            norm = math.log(sum(math.exp(entry) for entry in entries))
            each.append(-sum(entries[i] - norm for i in positives) / len(positives))
        total += sum(each) / len(each) / (len(s) - 1)
    return total


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("context", [True, False])
def test_cross_view(number: int, top_k: int, context: bool) -> None:
    s = cosines(VIEW_SETS[number])
    found = cross_view({view: each / TAU for view, each in s.items()}, top_k, TAU, context=context)
    assert float(found) == pytest.approx(
        naive_cross_view({v: e.numpy() for v, e in s.items()}, top_k, context), rel=1e-12
    )


def test_cross_view_takes_the_neighbours_of_the_other_view() -> None:
    own = torch.tensor([[0.0, 5.0, 0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0, 0.0, 4.0]])
    (gradient,) = torch.autograd.grad(
        cross_view({"joint": own.requires_grad_(True), "motion": other}, 1, TAU, context=False), own
    )
    assert gradient[0, 3] < 0  # pulled towards what the other view finds,
    assert gradient[0, 1] > 0  # and away from what it finds itself


def test_cross_view_gradients_reach_both_queries_and_no_key() -> None:
    torch.manual_seed(0)
    z, k, queue = (
        [torch.nn.functional.normalize(torch.randn(n, 6), dim=1).requires_grad_(True) for _ in range(2)]
        for n in (3, 3, 7)
    )
    views = {
        name: contrastive_logits(*each, TAU)
        for name, each in zip("ab", zip(z, k, queue, strict=True), strict=True)
    }
    cross_view({"a": views["a"], "b": views["b"]}, 1, TAU).backward()
    assert all(each.grad.abs().sum() > 0 for each in z)
    assert all(each.grad is None for each in (*k, *queue))


@pytest.mark.parametrize("context", [True, False])
def test_cross_view_gradients_are_complete(context: bool) -> None:
    # Finite differences see both factors of the context and no change in the neighbours.
    s = [each.requires_grad_(True) for each in cosines(VIEW_SETS[3]).values()]

    def loss(*each: Tensor) -> Tensor:
        logits = {view: one / TAU for view, one in zip(VIEW_SETS[3], each, strict=True)}
        return cross_view(logits, 2, TAU, context=context)

    assert torch.autograd.gradcheck(loss, s)


def test_views_are_derived_from_joints_alone() -> None:
    require_joint_view("crosclr", "joint")
    with pytest.raises(UsageError, match="crosclr trains its views together.*--view joint, not bone"):
        require_joint_view("crosclr", "bone")
