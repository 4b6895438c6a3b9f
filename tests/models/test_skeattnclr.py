"""A SkeAttnCLR step against its equations in float64, on every backbone, and its momentum over a run."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.skelemix import SkeleMix
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import On
from skelpipe.models import build_method
from skelpipe.models.method import Progress
from skelpipe.models.skeattnclr import MHSAM, SkeAttnCLR, momentum_at
from skelpipe.skeleton import layout
from skelpipe.train.recipes.reader import load_recipe

KINECT = layout("kinect-v2-25")
OWN: Mapping[str, Any] = {
    "mu": 0.3,
    "sharpness": 2.0,
    "heads": 2,
    "predictors": "variant",
    "parts": [3, 4],
    "blocks": [1, 2],
}
ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "stgcn": {"name": "stgcn", "graph": "agcn", "width": 4, "out_channels": 16, "dropout": 0.0},
    "dsta": {"name": "dsta", "width": 8, "heads": 1},
    "bigru": {"name": "bigru", "hidden": 4, "layers": 2},
}
RECIPE: Mapping[str, Any] = {
    "method": "skeattnclr",
    "encoder": ENCODERS["stgcn"],
    "head": {"hidden": 16, "dim": 8, "batch_norm": True},
    "queue": 12,
    "momentum": 0.9,
    "temperature": 0.2,
}


@dataclass
class Clips:
    views: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


def method(own: Mapping[str, Any] = {}, **changes: Any) -> SkeAttnCLR:
    torch.manual_seed(0)
    built = build_method({**RECIPE, **changes, "skeattnclr": {**OWN, **own}}, KINECT)
    assert isinstance(built, SkeAttnCLR)
    with torch.no_grad():
        for part in (built.moco.encoder, built.moco.head, built.attention, built.predictors):
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def clips(n: int = 5, dtype: torch.dtype = torch.float32) -> Clips:
    return Clips({name: torch.randn(n, 3, 8, 25, 2, dtype=dtype) for name in ("query", "key", "mixed")})


def loss_of(rows: Tensor, keys: Tensor, queue: Tensor, other: Tensor | None = None) -> Tensor:
    """Eq. 1, 8 and 9: the mean over samples."""
    losses = []
    for i, row in enumerate(rows):
        logits = [row @ keys[i], *(row @ past for past in queue), *([] if other is None else [row @ other[i]])]
        losses.append(-torch.log(torch.exp(logits[0] / 0.2) / sum(torch.exp(x / 0.2) for x in logits)))
    return sum(losses) / len(losses)


def masked(features: Tensor, mask: Tensor, clip_count: int, last: bool) -> tuple[Tensor, Tensor]:
    """Eq. 5 to 7 position by position, then the mean over a clip's rows; `last`: the last frame, not the mean."""
    results = []
    for share in (mask, torch.ones_like(mask) - mask):
        rows = []
        for f, m in zip(features, share, strict=True):
            positions = [(t, v) for t in range(f.shape[1]) for v in range(f.shape[2])]
            if last:
                positions = positions[-1:]
            rows.append(sum(f[:, t, v] * m[:, t, v] for t, v in positions) / len(positions))
        each = len(rows) // clip_count
        results.append(torch.stack([sum(rows[i * each : (i + 1) * each]) / each for i in range(clip_count)]))
    return results[0], results[1]


def perceptron(network: nn.Module, x: Tensor) -> Tensor:
    """Linear, batch normalisation by this batch, ReLU, Linear, from the weights and sample by sample."""
    weights = dict(network.named_parameters())
    zero = torch.zeros(())

    def linear(rows: list[Tensor], name: str) -> list[Tensor]:
        return [weights[f"{name}.weight"] @ row + weights.get(f"{name}.bias", zero) for row in rows]

    rows = linear(list(x), "0")
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / len(rows)
    rows = [(row - mean) / (variance + 1e-5).sqrt() * weights["1.weight"] + weights["1.bias"] for row in rows]
    return torch.stack(linear([row * (row > 0) for row in rows], "3"))


def naive(
    before: SkeAttnCLR, batch: Clips, mu: float, last: bool, predicts: bool, opposed: bool = True
) -> tuple[Tensor, Tensor]:
    """Return loss and keys of a step; updates the key network in the paper's variant."""
    moco, n = before.moco, len(batch.views["query"])

    def predicted(h: Tensor, which: str) -> Tensor:
        z = perceptron(moco.head, h)
        z = perceptron(before.predictors[which], z) if predicts else z
        return z / z.square().sum(dim=1, keepdim=True).sqrt()

    q = predicted(moco.encoder(batch.views["query"]), "z")
    features = moco.encoder.features(batch.views["mixed"])
    mask = before.attention(features)
    halves = masked(features, mask, n, last)
    q_s, q_ns = predicted(halves[0], "s"), predicted(halves[1], "ns")
    with torch.no_grad():
        for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                if not before.released:
                    theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        key_map = moco.key_encoder.features(batch.views["key"])
        pooled = [moco.key_encoder.pool(key_map, 2), *masked(key_map, mask, n, last)]
        k, k_s, k_ns = (F.normalize(perceptron(moco.key_head, h), dim=1) for h in pooled)
    loss = loss_of(q, k, moco.queue)
    others = (q_ns.detach(), q_s.detach()) if opposed else (None, None)
    loss = loss + mu * loss_of(q_s, k_s, moco.queue, others[0])
    return loss + (1 - mu) * loss_of(q_ns, k_ns, moco.queue, others[1]), k


@pytest.mark.parametrize(
    ("variant", "predictors", "predicts"),
    [
        ("paper", "variant", False),
        ("paper", "three", True),
        ("released", "variant", True),
        ("released", "none", False),
    ],
)
@pytest.mark.parametrize(("encoder", "n"), [("stgcn", 5), ("dsta", 3), ("bigru", 2)])
def test_step_is_the_papers_equations(variant: str, predictors: str, predicts: bool, encoder: str, n: int) -> None:
    built = method({"predictors": predictors}, variant=variant, encoder=ENCODERS[encoder]).double()
    assert sorted(built.predictors) == (["ns", "s", "z"] if predicts else [])
    batch = clips(n, torch.float64)
    before = copy.deepcopy(built)
    last = encoder == "bigru" and variant == "released"
    expected, k = naive(before, batch, 0.3, last, predicts)

    step = built(batch)
    torch.testing.assert_close(step.loss, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.keys, k)
    assert torch.equal(built.moco.queue[:n], step.keys)
    assert torch.equal(built.moco.queue[n:], before.moco.queue[n:])
    assert set(step.logs) == {"loss", "info", "salient", "other", "mask_std", "top1", "std"}
    assert all(not value.requires_grad and value.ndim == 0 for value in step.logs.values())
    logs = {name: float(value) for name, value in step.logs.items()}
    assert logs["info"] + 0.3 * logs["salient"] + 0.7 * logs["other"] == pytest.approx(logs["loss"])

    learned = {name: p for name, p in before.named_parameters() if p.requires_grad}
    wanted = torch.autograd.grad(expected, list(learned.values()), allow_unused=True)
    step.loss.backward()
    found = dict(built.named_parameters())
    for name, gradient in zip(learned, wanted, strict=True):
        assert (found[name].grad is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name].grad, gradient, rtol=1e-6, atol=1e-9, msg=name)
    assert all(p.grad is None for name, p in built.named_parameters() if ".key_" in name)
    assert float(built.attention.proj.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("mu", [0.3, 1.0])
def test_salient_and_other_features_need_not_be_negatives_of_each_other(mu: float) -> None:
    built = method({"hard_negative": False, "mu": mu}).double()
    batch = clips(3, torch.float64)
    expected, _ = naive(copy.deepcopy(built), batch, mu, last=False, predicts=False, opposed=False)
    torch.testing.assert_close(built(batch).loss, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_one_loss_can_be_left_out(mu: float) -> None:
    built = method({"mu": mu})
    step = built(clips())
    kept = step.logs["salient" if mu else "other"]
    assert float(step.loss.detach()) == pytest.approx(float(step.logs["info"] + kept), rel=1e-6)


def test_the_released_key_network_follows_after_the_step_with_its_statistics() -> None:
    built = method(variant="released")
    start = copy.deepcopy(built.moco.state_dict())
    step = built(clips())
    for name, _ in built.moco.key_encoder.named_parameters():
        assert torch.equal(built.moco.state_dict()[f"key_encoder.{name}"], start[f"key_encoder.{name}"])
    step.loss.backward()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    before = copy.deepcopy(built.moco.state_dict())
    built.finish()
    after = built.moco.state_dict()
    for name, value in before.items():
        if not name.startswith("key_") or not value.is_floating_point():
            assert torch.equal(after[name], value), name
            continue
        torch.testing.assert_close(after[name], 0.9 * value + 0.1 * before[name.removeprefix("key_")], msg=name)
    running = [name for name in before if name.startswith("key_") and name.endswith("running_mean")]
    assert len(running) > 10
    assert any(not torch.equal(after[name], before[name]) for name in running)


def test_the_papers_key_network_does_not_change_after_the_step() -> None:
    built = method()
    built(clips())
    before = copy.deepcopy(built.moco.state_dict())
    built.finish()
    assert all(torch.equal(value, before[name]) for name, value in built.moco.state_dict().items())


def test_momentum_rises_over_the_run() -> None:
    assert momentum_at(0, 100, 0.996) == pytest.approx(0.996, abs=1e-15)
    assert momentum_at(50, 100, 0.996) == pytest.approx(0.998, abs=1e-15)
    assert momentum_at(100, 100, 0.996) == 1.0
    paper, released = method(momentum=0.996), method(momentum=0.996, variant="released")
    for epoch, step in ((0, 0), (1, 3), (3, 9)):
        progress = Progress(epoch, epochs=4, step=step, steps=10)
        for built, it in ((paper, 10 * epoch + step), (released, 10 * (epoch + 1) + step)):
            built.advance(progress)
            expected = 1 - (1 - 0.996) * (math.cos(math.pi * it / 40) + 1) / 2
            assert built.moco.momentum == pytest.approx(expected, abs=1e-15)
    assert SkeAttnCLR.depends_on_run_length


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_released_schedule_is_an_epoch_ahead_and_has_an_end_on_bigru(encoder: str) -> None:
    built = method(momentum=0.996, variant="released", encoder=ENCODERS[encoder])
    found = []
    for step in range(3):
        built.advance(Progress(epoch=3, epochs=4, step=step, steps=3))
        found.append(built.moco.momentum)
    assert found[0] == 1.0  # step 12 of 12
    past = [1 - 0.004 * (math.cos(math.pi * step / 12) + 1) / 2 for step in (13, 14)]
    assert found[1:] == pytest.approx([0.999, 0.999] if encoder == "bigru" else past, abs=1e-15)


@pytest.mark.parametrize(("variant", "biased"), [("paper", True), ("released", False)])
def test_predictors_are_a_setting_of_their_own(variant: str, biased: bool) -> None:
    without = method({"predictors": "none"}, variant=variant)
    assert without.networks("joint") == (without.moco.encoder, without.moco.head)
    three = method({"predictors": "three"}, variant=variant)
    keys = sum(p.numel() for name, p in three.moco.named_parameters() if name.startswith("key_head"))
    assert keys == (16 * 16 + 2 * 16 + 16 * 8) + (16 + 8 if biased else 0)  # the key network has no predictors
    each = [sum(p.numel() for p in predictor.parameters()) for predictor in three.predictors.values()]
    assert each == [(8 * 16 + 2 * 16 + 16 * 8) + (16 + 8 if biased else 0)] * 3
    assert all(p.requires_grad for p in three.predictors.parameters())
    three(clips()).loss.backward()
    for name, p in three.predictors.named_parameters():
        assert p.grad is not None, name
    assert len({float(p[3].weight.detach().sum()) for p in three.predictors.values()}) == 3


def test_predictors_may_be_as_wide_as_the_released_codes() -> None:
    recipe = load_recipe("skeattnclr")
    assert recipe.settings.predictor_hidden == 256
    built = method({"predictors": "three", "predictor_hidden": 6})
    assert [tuple(built.predictors["s"][i].weight.shape) for i in (0, 3)] == [(6, 8), (8, 6)]
    assert built.moco.head[0].out_features == 16


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_released_code_also_predicts_the_whole_mixed_clip(variant: str) -> None:
    built = method({"predictors": "three"}, variant=variant).double()
    batch, before = clips(4, torch.float64), copy.deepcopy(built)
    seen: dict[str, list[Tensor]] = {"head": [], "z": []}
    built.moco.head[1].register_forward_hook(lambda layer, given, y: seen["head"].append(given[0].detach()))
    built.predictors["z"][1].register_forward_hook(lambda layer, given, y: seen["z"].append(given[0].detach()))
    built(batch)
    whole = before.moco.encoder
    passes = [batch.views["query"], batch.views["mixed"]][: 2 if variant == "released" else 1]
    expected = [before.moco.head[0](whole(x)) for x in passes]
    for wanted, found in zip(expected, seen["head"], strict=False):
        torch.testing.assert_close(found, wanted.detach())
    assert (len(seen["head"]), len(seen["z"])) == ((4, 2) if variant == "released" else (3, 1))


def test_heads_of_the_variants() -> None:
    def linear(module: nn.Module) -> list[nn.Linear]:
        return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]

    paper, released = method(), method(variant="released")
    assert len(paper.predictors) == 0
    assert paper.networks("joint") == (paper.moco.encoder, paper.moco.head)
    assert all(layer.bias is not None for layer in linear(paper.moco.head))
    assert sorted(released.predictors) == ["ns", "s", "z"]
    for predictor in released.predictors.values():
        assert [tuple(layer.weight.shape) for layer in linear(predictor)] == [(16, 8), (8, 16)]
        assert isinstance(predictor[1], nn.BatchNorm1d)
    for part in (released.moco.head, released.moco.key_head, released.predictors):
        assert all(layer.bias is None for layer in linear(part))
    # Evaluation uses the z that is trained.
    batch = clips()
    encoder, head = released.networks("joint")
    z = F.normalize(head(encoder(batch.views["query"])), dim=1)
    torch.testing.assert_close(released(batch).embeddings, z.detach())


def test_where_the_key_network_starts() -> None:
    for variant, same in (("paper", True), ("released", False)):
        torch.manual_seed(0)
        built = build_method({**RECIPE, "variant": variant, "skeattnclr": OWN}, KINECT)
        assert isinstance(built, SkeAttnCLR)
        weights = [network.blocks[2].temporal.weight for network in (built.moco.encoder, built.moco.key_encoder)]
        assert torch.equal(*weights) == same


def test_views_are_the_papers() -> None:
    built = method()
    views = built.views()
    assert list(views) == ["query", "key", "mixed"]
    entry = views["mixed"]
    assert isinstance(entry, On)
    assert (entry.view, entry.stage) == ("query", "joint")
    assert isinstance(entry.op, SkeleMix)
    assert (entry.op.region.parts, entry.op.region.blocks) == ((3, 4), (1, 2))
    assert built.views() is views


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_resumed_steps_are_bit_identical(variant: str) -> None:
    built, other = method(variant=variant), method(variant=variant)
    for epoch, n in enumerate((5, 3, 7)):  # more keys than the queue has rows
        built.advance(Progress(epoch, epochs=4, step=0, steps=1))
        built(clips(n))
        built.finish()
    other.load_state_dict(built.state_dict())
    batch = clips(3)
    gradients = []
    for each in (built, other):
        each.advance(Progress(3, epochs=4, step=0, steps=1))
        each(batch).loss.backward()
        gradients.append([p.grad for p in each.parameters() if p.requires_grad])
        each.finish()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(built.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_step_under_autocast() -> None:
    built = method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = built(clips())
    assert step.loss.dtype == step.embeddings.dtype == torch.float32
    step.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in built.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"heads": 3}, "3 attention heads cannot share 16 channels"),
        ({"mu": 1.5}, "skeattnclr.mu is 1.5"),
        ({"predictors": "two"}, "skeattnclr.predictors is 'two'; known: three, none, variant"),
        ({"predictors": True}, "skeattnclr.predictors is True; known: three, none, variant"),
        ({"blocks": [4]}, r"skeattnclr.blocks must be \[least, most\], not \[4\]"),
    ],
)
def test_settings_that_do_not_fit(own: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(own)


def test_learns_to_tell_clips_apart() -> None:
    built = method(init="default", queue=32)
    optimiser = torch.optim.Adam([p for p in built.parameters() if p.requires_grad], lr=3e-3)
    data, losses = torch.randn(8, 3, 8, 25, 1), []
    for _ in range(30):
        step = built(Clips({name: data + 0.1 * torch.randn(data.shape) for name in ("query", "key", "mixed")}))
        optimiser.zero_grad()
        step.loss.backward()
        optimiser.step()
        losses.append(float(step.loss.detach()))
    assert losses[-1] < 0.75 * losses[4]  # the queue of the first steps is noise


def naive_mhsam(module: MHSAM, row: Tensor, heads: int, sharpness: float) -> Tensor:
    """Eq. 2 to 4 for one row [D, T', V'] in float64."""
    channels, frames, joints = row.shape
    weights = {name: tensor.double() for name, tensor in module.state_dict().items()}
    tokens = []
    for t in range(frames):
        for v in range(joints):
            token = row[:, t, v].double()
            mean = token.sum() / channels
            variance = ((token - mean) ** 2).sum() / channels
            tokens.append(
                (token - mean) / (variance + 1e-5).sqrt() * weights["norm.weight"] + weights["norm.bias"]
            )
    w_q, w_k, w_v = weights["qkv.weight"].chunk(3)
    b_q, b_k, b_v = weights["qkv.bias"].chunk(3)
    q, k, value = ([w @ x + b for x in tokens] for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    size = channels // heads
    mask = torch.zeros(row.shape, dtype=torch.float64)
    for i in range(len(tokens)):
        found = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = [float(q[i][own] @ k[j][own]) / math.sqrt(size) for j in range(len(tokens))]
            total = sum(map(math.exp, scores))
            found.append(sum(math.exp(s) / total * value[j][own] for j, s in enumerate(scores)))
        projected = weights["proj.weight"] @ torch.cat(found) + weights["proj.bias"]
        mask[:, i // joints, i % joints] = 1 / (1 + torch.exp(-sharpness * projected))
    return mask


@pytest.mark.parametrize(
    ("shape", "heads", "sharpness"), [((8, 3, 5), 2, 2.0), ((6, 4, 1), 3, 0.5), ((4, 1, 1), 1, 8.0)]
)
def test_mhsam_is_its_equations(shape: tuple[int, int, int], heads: int, sharpness: float) -> None:
    torch.manual_seed(0)
    module = MHSAM(shape[0], heads, sharpness)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    features = torch.randn(3, *shape)
    mask = module(features)
    assert mask.shape == features.shape
    for row, got in zip(features, mask, strict=True):
        torch.testing.assert_close(got.double(), naive_mhsam(module, row, heads, sharpness), rtol=0, atol=1e-5)
    wide = module.double()(features.double())
    torch.testing.assert_close(wide[1], naive_mhsam(module, features[1], heads, sharpness), rtol=0, atol=1e-12)


def test_mhsam_has_the_size_of_the_paper() -> None:
    module = MHSAM(256)
    assert sum(p.numel() for p in module.parameters()) == 263_680  # docs/methods.md
    assert (module.heads, module.sharpness) == (8, 2.0)


def test_mhsam_treats_positions_alike_and_rows_apart() -> None:
    torch.manual_seed(1)
    module, features = MHSAM(8, 2), torch.randn(4, 8, 3, 5)
    mask = module(features)
    order = torch.randperm(15)
    shuffled = features.flatten(2)[:, :, order].unflatten(2, (3, 5))
    torch.testing.assert_close(module(shuffled).flatten(2), mask.flatten(2)[:, :, order])
    torch.testing.assert_close(module(features[2:3]), mask[2:3])


def test_sharper_mhsam_masks_are_nearer_to_0_and_1() -> None:
    torch.manual_seed(2)
    features, module = torch.randn(2, 8, 3, 5), MHSAM(8, 2, 1.0)
    soft = module(features)
    module.sharpness = 4.0
    sharp = module(features)
    odds = torch.log(soft / (1 - soft))
    torch.testing.assert_close(torch.log(sharp / (1 - sharp)), 4 * odds, rtol=1e-3, atol=1e-4)


def test_mhsam_heads_must_divide_the_channels() -> None:
    with pytest.raises(UsageError, match="5 attention heads cannot share 8 channels"):
        MHSAM(8, 5)
