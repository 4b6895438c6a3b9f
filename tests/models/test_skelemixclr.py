"""A SkeleMixCLR step against its equations in float64, its views and its errors."""

import copy
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import On
from skelpipe.models import build_method
from skelpipe.models.moco import MoCo
from skelpipe.models.skelemixclr import SkeleMixCLR
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
OWN: Mapping[str, Any] = {"repeats": 1, "weight": 0.7, "parts": [2, 3], "blocks": [1, 2]}
RECIPE: Mapping[str, Any] = {
    "method": "skelemixclr",
    "encoder": {"name": "stgcn", "graph": "agcn", "width": 4, "out_channels": 16, "dropout": 0.0},
    "head": {"hidden": 16, "dim": 8, "batch_norm": True},
    "queue": 12,
    "momentum": 0.9,
    "temperature": 0.2,
}


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def method(own: Mapping[str, Any] = {}, **changes: Any) -> SkeleMixCLR:
    torch.manual_seed(0)
    built = build_method({**RECIPE, **changes, "skelemixclr": {**OWN, **own}}, KINECT)
    assert isinstance(built, SkeleMixCLR)
    with torch.no_grad():
        for parameter in built.moco.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # so that updates change the key network
    return built


def clips(built: SkeleMixCLR, n: int = 5, frames: int = 12, dtype: torch.dtype = torch.float32) -> Clips:
    """Random clips, mixed by the method's own views."""
    batch = Clips({name: torch.randn(n, 3, frames, 25, 2, dtype=dtype) for name in ("query", "key")})
    for slot, (name, entry) in enumerate(built.views().items()):
        if name not in ("query", "key") and not isinstance(entry, On):
            batch.views[name] = torch.randn(n, 3, frames, 25, 2, dtype=dtype)
        elif isinstance(entry, On):
            x = batch.views["query"]
            mixed = entry.op.mix(x, entry.op.sample(Draws(1, n, torch.arange(n), slot), x.shape))
            batch.views[name] = mixed.clip
            batch.extras |= {f"{name}_mask": mixed.mask, f"{name}_donor": mixed.donor}
    return batch


def by_region(features: Tensor, mask: Tensor, inside: bool) -> Tensor:
    """Eq. 3 for one body's map [D, T', V] and one mask, by loops."""
    total, count = torch.zeros(features.shape[0], dtype=features.dtype), 0
    for t in range(mask.shape[0]):
        for v in range(mask.shape[1]):
            if bool(mask[t, v]) == inside:
                total, count = total + features[:, t, v], count + 1
    return total / count


def loss_of(rows: Tensor, keys: Tensor, queue: Tensor, other: Tensor | None, t: float) -> Tensor:
    """Eq. 1, 4 and 5: the mean over samples."""
    losses = []
    for i, row in enumerate(rows):
        logits = [row @ keys[i], *(row @ past for past in queue), *([] if other is None else [row @ other[i]])]
        losses.append(-torch.log(torch.exp(logits[0] / t) / sum(torch.exp(x / t) for x in logits)))
    return sum(losses) / len(losses)


def naive(
    moco: MoCo,
    batch: Clips,
    names: list[str],
    weight: float,
    average: bool,
    cosines: dict[str, float],
    losses: str = "both",
    hard: str = "detached",
) -> tuple[Tensor, Tensor]:
    """Return loss and keys of a step; updates the key network, and the mean cosines of pairs by name.

    `losses` and `hard` are columns of table VII.
    """
    q = F.normalize(moco.head(moco.encoder(batch.views["query"])), dim=1)
    with torch.no_grad():
        for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        k = F.normalize(moco.key_head(moco.key_encoder(batch.views["key"])), dim=1)
    loss = loss_of(q, k, moco.queue, None, 0.2)
    cosines["similar_key"] = float((q * k).sum(1).mean().detach())
    cosines["similar_queue"] = float((q @ moco.queue.T).mean().detach())
    for name in names:
        if name not in batch.views or f"{name}_mask" not in batch.extras:  # Cont: one more query
            q = F.normalize(moco.head(moco.encoder(batch.views[name])), dim=1)
            loss = loss + weight * loss_of(q, k, moco.queue, None, 0.2)
            continue
        mask, donor = batch.extras[f"{name}_mask"], batch.extras[f"{name}_donor"].tolist()
        maps = moco.encoder.features(batch.views[name])
        pooled = [
            torch.stack(
                [sum(by_region(maps[2 * i + m], mask[i], inside) for m in (0, 1)) / 2 for i in range(len(k))]
            )
            for inside in (True, False)
        ]
        p, g = (F.normalize(moco.head(h), dim=1) for h in pooled)
        others = {"detached": (g.detach(), p.detach()), "attached": (g, p), "none": (None, None)}[hard]
        pasted = loss_of(p, torch.stack([k[j] for j in donor]), moco.queue, others[0], 0.2)
        host = loss_of(g, k, moco.queue, others[1], 0.2)
        mixed = {"both": (pasted + host) / 2, "trimmed": pasted, "truncated": host}[losses]
        loss = loss + weight * mixed / (len(names) if average else 1)
        for what, pairs in {"pasted": (p, [k[j] for j in donor]), "host": (g, k), "parts": (p, g)}.items():
            cosine = sum(float((a @ b).detach()) for a, b in zip(*pairs, strict=True)) / len(k)
            cosines[f"similar_{what}"] += cosine / len(names)
    return loss, k


@pytest.mark.parametrize(
    ("variant", "repeats", "how", "n"),
    [("paper", 1, "sum", 5), ("paper", 3, "sum", 3), ("released", 3, "sum", 4), ("released", 2, "mean", 2)],
)
def test_step_is_the_papers_equations(variant: str, repeats: int, how: str, n: int) -> None:
    built = method({"repeats": repeats, "repeats_loss": how}, variant=variant).double()
    batch = clips(built, n, dtype=torch.float64)
    names = ["mixed"] if repeats == 1 else [f"mixed{r + 1}" for r in range(repeats)]
    assert set(batch.views) == {"query", "key", *names}
    before = copy.deepcopy(built.moco)
    cosines: dict[str, float] = defaultdict(float)
    expected, k = naive(before, batch, names, 0.7, how == "mean", cosines)

    step = built(batch)
    torch.testing.assert_close(step.loss, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.keys, k)
    assert torch.equal(built.moco.queue[:n], step.keys)
    assert torch.equal(built.moco.queue[n:], before.queue[n:])
    assert not step.embeddings.requires_grad
    similar = {name: float(value) for name, value in step.logs.items() if name.startswith("similar_")}
    assert similar == pytest.approx(dict(cosines), abs=1e-9)
    assert set(step.logs) == {"loss", "info", "mix", "top1", "std", *similar}
    assert all(not value.requires_grad and value.ndim == 0 for value in step.logs.values())
    assert float(step.logs["info"] + 0.7 * step.logs["mix"]) == pytest.approx(float(step.loss.detach()))

    # Backward after the queue was written gives the gradients of the loss before; hard negatives are detached.
    learned = [*before.encoder.parameters(), *before.head.parameters()]
    wanted = torch.autograd.grad(expected, learned)
    step.loss.backward()
    for parameter, gradient in zip(
        [*built.moco.encoder.parameters(), *built.moco.head.parameters()], wanted, strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-10)
    assert all(p.grad is None for p in built.moco.key_encoder.parameters())


@pytest.mark.parametrize(
    "own",
    [
        {"losses": "trimmed", "hard_negative": "none"},
        {"losses": "truncated", "hard_negative": "none"},
        {"hard_negative": "none", "fill": "zeros"},
        {"hard_negative": "attached", "cropping": "random"},
        {"losses": "trimmed", "hard_negative": "attached", "per": "sample", "repeats": 2},
        {"pairs": "cont", "repeats": 2, "blocks": [7, 11]},
    ],
    ids=str,
)
def test_rows_of_the_ablations(own: dict[str, Any]) -> None:
    built = method(own).double()
    batch = clips(built, 4, dtype=torch.float64)
    names = [name for name in batch.views if name not in ("query", "key")]
    assert len(names) == own.get("repeats", 1)
    before = copy.deepcopy(built.moco)
    losses, hard = own.get("losses", "both"), own.get("hard_negative", "detached")
    cosines: dict[str, float] = defaultdict(float)
    expected, k = naive(before, batch, names, 0.7, False, cosines, losses, hard)
    step = built(batch)
    torch.testing.assert_close(step.loss, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.keys, k)
    assert len(step.logits) == 1 + len(names) * (1 if losses != "both" or "pairs" in own else 2)
    learned = [*before.encoder.parameters(), *before.head.parameters()]
    wanted = torch.autograd.grad(expected, learned)
    step.loss.backward()
    for parameter, gradient in zip(
        [*built.moco.encoder.parameters(), *built.moco.head.parameters()], wanted, strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({}, ("batch", None, "mix")),
        ({"per": "sample"}, ("sample", None, "mix")),
        ({"cropping": "random", "random_joints": [3, 8]}, ("batch", (3, 8), "mix")),
        ({"fill": "zeros"}, ("batch", None, "zeros")),
    ],
)
def test_switches_reach_the_region(own: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    op = method(own).views()["mixed"].op
    assert (op.region.per, op.region.joints, op.fill) == wanted


def test_views_are_the_papers() -> None:
    views = method({"repeats": 3}, augment={"shear": 0.3, "crop": 4}).views()
    assert list(views) == ["query", "key", "mixed1", "mixed2", "mixed3"]
    for name in ("mixed1", "mixed2", "mixed3"):
        entry = views[name]
        assert isinstance(entry, On)
        assert (entry.view, entry.stage) == ("query", "view")
        assert isinstance(entry.op, SkeleMix)
        assert (entry.op.region.parts, entry.op.region.blocks) == ((2, 3), (1, 2))
    built = method()
    assert built.views() is built.views()
    assert built.networks("bone") == (built.moco.encoder, built.moco.head)


@pytest.mark.parametrize(("variant", "init", "same"), [("paper", "paper", True), ("released", "paper", False)])
def test_where_the_key_network_starts(variant: str, init: str, same: bool) -> None:
    torch.manual_seed(0)
    built = build_method({**RECIPE, "variant": variant, "init": init, "skelemixclr": OWN}, KINECT)
    assert isinstance(built, SkeleMixCLR)
    pairs = zip(built.moco.head.parameters(), built.moco.key_head.parameters(), strict=True)
    assert all(torch.equal(query, key) for query, key in pairs) == same


@pytest.mark.parametrize("encoder", [{"name": "dsta", "width": 8, "heads": 1}, RECIPE["encoder"]])
def test_backbones_with_a_map_of_joints(encoder: dict[str, Any]) -> None:
    built = method(encoder=encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = built(clips(built))
    assert step.loss.dtype == torch.float32
    step.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in built.moco.encoder.parameters() if p.grad is not None)


def test_resumed_steps_are_bit_identical() -> None:
    built, other = method({"repeats": 3}), method({"repeats": 3})
    for n in (5, 3, 7):  # more keys than the queue has rows
        built(clips(built, n))
    other.load_state_dict(built.state_dict())
    batch = clips(built, 3)
    steps = [each(batch) for each in (built, other)]
    assert torch.equal(steps[0].loss, steps[1].loss)
    for step in steps:
        step.loss.backward()
    gradients = [[p.grad for p in each.moco.encoder.parameters()] for each in (built, other)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(built.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_learns_to_tell_clips_apart() -> None:
    built = method(init="default", queue=32)
    optimiser = torch.optim.Adam([p for p in built.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    data = torch.randn(8, 3, 12, 25, 1)
    mix = built.views()["mixed"].op
    for epoch in range(30):
        query, key = (data + 0.1 * torch.randn(data.shape) for _ in range(2))
        mixed = mix.mix(query, mix.sample(Draws(0, epoch, torch.arange(8)), query.shape))
        views = {"query": query, "key": key, "mixed": mixed.clip}
        step = built(Clips(views, {"mixed_mask": mixed.mask, "mixed_donor": mixed.donor}))
        optimiser.zero_grad()
        step.loss.backward()
        optimiser.step()
        losses.append(float(step.loss.detach()))
    assert losses[-1] < 0.75 * losses[4]  # the queue of the first steps is noise
    assert math.isfinite(losses[-1])


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"blocks": [3, 1]}, r"skelemixclr.blocks must be \[least, most\], not \[3, 1\]"),
        ({"parts": [2]}, r"skelemixclr.parts must be \[least, most\]"),
        ({"parts": [2, 6]}, "2 to 6 of 5 body parts"),
        ({"cropping": "random", "random_joints": [10, 26]}, "10 to 26 of the 25 joints"),
        ({"losses": "host"}, "skelemixclr.losses is 'host'; .*known: both, trimmed, truncated"),
        ({"fill": "donor"}, "skelemixclr.fill is 'donor'; .*known: mix, zeros"),
        ({"repeats": 0}, "skelemixclr.repeats is 0"),
        ({"repeats_loss": "average"}, "skelemixclr.repeats_loss is 'average'; known: sum, mean"),
        ({"weight": -1}, "skelemixclr.weight is -1"),
    ],
)
def test_settings_that_do_not_fit(own: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(own)


def test_a_backbone_without_a_map_of_joints_is_refused() -> None:
    with pytest.raises(UsageError, match="skelemixclr pools by joints.*BIGRU has no map of joints.*stgcn"):
        method(encoder={"name": "bigru", "hidden": 4, "layers": 1})
