"""An MsMCLR step against one computed part by part; MsM attention against its steps in float64."""

import copy
import math
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe import manifests
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.method import Progress
from skelpipe.models.msmclr import MotionAttention, MsMAttention, MsMCLR, attend, motion_of
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
# The joints of Kinect v2, counted from 1, in the groups of MsMCLR's code.
PARTS = [[1, 2, 21], [3, 4], [5, 6, 7], [8, 22, 23], [9, 10, 11], [12, 24, 25], [13, 14], [15, 16], [17, 18]]
PARTS += [[19, 20]]
BODY = [[5, 6, 7, 8, 22, 23], [9, 10, 11, 12, 24, 25], [13, 14, 15, 16], [17, 18, 19, 20], [1, 2, 3, 4, 21]]
Nested = list[list[list[list[float]]]]  # [R][T][V][channels]


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
    """z_hat, z at the three scales, and z of the key network after its update; changes `before`."""
    moco = before.moco
    q = F.normalize(moco.head(moco.encoder(batch.views["query"])), dim=1)
    maps = before.attention(moco.encoder.features(batch.views["strong"]))
    pooled = [each.reshape(len(q), 2, *each.shape[1:]).mean(dim=(1, 3, 4)) for each in maps]  # over bodies too
    scales = [F.normalize(moco.head(each), dim=1) for each in pooled]
    with torch.no_grad():
        for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.copy_(0.9 * theta_k + 0.1 * theta_q)
        k = F.normalize(moco.key_head(moco.key_encoder(batch.views["key"])), dim=1)
    return q, scales, k


def looped(q: Tensor, scales: list[Tensor], k: Tensor, queue: Tensor, mined: bool) -> tuple[float, float]:
    """L_Info, or L_N over the nearest of all views, and L_Ms, one clip and one entry at a time."""

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
            parameter.add_(0.05 * torch.randn_like(parameter))  # so that the update changes the key network
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


def test_gradients_are_those_of_the_loss_with_a_fixed_target() -> None:
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


@pytest.mark.parametrize(
    "options",
    [
        {"scales": ["joint"], "attention": False, "reduction": 8},  # table 4: without MsM attention
        {"scales": ["joint"]},  # table 4: without multi-scale
        {"scales": ["body", "part"]},
        {"attention": False, "reduction": 8},
        {"strong_loss": "nce"},  # table 7
        {"strong_loss": "nce", "scales": ["part"], "differences": "inter-node"},
    ],
)
def test_step_of_the_ablations(options: dict[str, object]) -> None:
    built, batch = method(options=options).double(), clips(3)
    batch.views = {name: view.double() for name, view in batch.views.items()}
    queue, before = built.moco.queue.clone(), copy.deepcopy(built)
    moco, groups = before.moco, {"joint": [[v] for v in range(1, 26)], "part": PARTS, "body": BODY}
    maps = moco.encoder.features(batch.views["strong"])
    scales = []
    for name in options.get("scales", list(groups)):  # type: ignore[attr-defined]
        scale = torch.stack([maps[..., [v - 1 for v in group]].mean(dim=3) for group in groups[name]], dim=3)
        if options.get("attention", True):
            assert isinstance(before.attention.motion, MotionAttention)
            scale = naive_weighted(before.attention.motion, scale.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        scales.append(F.normalize(moco.head(scale.reshape(3, 2, *scale.shape[1:]).mean(dim=(1, 3, 4))), dim=1))
    moco.update_key()
    q, k = moco.query(batch.views["query"]), moco.key(batch.views["key"])
    if options.get("strong_loss") == "nce":
        alike = looped(q.detach(), [], k, queue, mined=False)[0]
        wanted = alike + sum(looped(z.detach(), [], k, queue, mined=False)[0] for z in scales) / len(scales)
    else:
        alike, taught = looped(q.detach(), scales, k, queue, mined=False)
        wanted = alike + taught * 3 / len(scales)
    step = built(batch)
    assert float(step.loss.detach()) == pytest.approx(wanted, rel=1e-9)
    step.loss.backward()
    assert all(p.grad is not None for p in built.parameters() if p.requires_grad)


def test_without_attention_there_are_no_weights_of_it_and_joints_need_no_levels() -> None:
    plain = Layout.from_plain({**KINECT.to_plain(), "name": "mine", "levels": {}})
    built = method(plain, {"scales": ["joint"], "attention": False, "reduction": 8})
    assert not list(built.attention.parameters())
    assert not list(built.attention.buffers())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": []}, r"msmclr\.scales must be a list of one or more of joint, part, body, each once"),
        ({"scales": ["part", "part"]}, r"msmclr\.scales must be a list of one or more of joint, part, body"),
        ({"scales": ["hand"]}, r"msmclr\.scales is 'hand'; known: joint, part, body"),
        ({"differences": "frames"}, r"msmclr\.differences is 'frames'; .*inter-frame, inter-node"),
        ({"strong_loss": "d3m"}, r"msmclr\.strong_loss is 'd3m'; known: ms, nce"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(options=options)


def test_counts_of_weights() -> None:
    """1.8735 M, as in the released code without its unused block and with one attention per network."""
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


def test_key_networks_start_as_copies_or_not() -> None:
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


def test_evaluation_uses_the_query_networks() -> None:
    built = method()
    assert built.networks("bone") == (built.moco.encoder, built.moco.head)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_resumed_steps_are_bit_identical(variant: str) -> None:
    built, other = method(variant=variant), method(variant=variant)
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
    for n in (1, 5, 13, 3, 7):  # 13 keys are more than the queue has room for
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


def naive_motion(y: Nested, zero_pad: bool, differences: str) -> Nested:
    """(y[t+1] - y[t] + y[v+1] - y[v]) / 2 or one of both, one number at a time."""
    share_t, share_v = {"all": (0.5, 0.5), "inter-frame": (1, 0), "inter-node": (0, 1)}[differences]
    rows, frames, nodes, channels = len(y), len(y[0]), len(y[0][0]), len(y[0][0][0])
    out = [[[[0.0] * channels for _ in range(nodes)] for _ in range(frames)] for _ in range(rows)]
    for r in range(rows):
        for t in range(frames):
            for v in range(nodes):
                for c in range(channels):
                    here = y[r][t][v][c]
                    last = -here if zero_pad else 0.0
                    d_t = y[r][t + 1][v][c] - here if t + 1 < frames else last
                    d_v = y[r][t][v + 1][c] - here if v + 1 < nodes else last
                    out[r][t][v][c] = share_t * d_t + share_v * d_v
    return out


def naive_attention(tokens: list[list[float]]) -> list[list[float]]:
    """softmax(D D^T / sqrt(E)) D for one group of tokens."""
    length = len(tokens[0])
    out = []
    for a in tokens:
        scores = [math.fsum(x * z for x, z in zip(a, b, strict=True)) / math.sqrt(length) for b in tokens]
        weights = [math.exp(score - max(scores)) for score in scores]
        shares = [weight / math.fsum(weights) for weight in weights]
        out.append([math.fsum(p * b[e] for p, b in zip(shares, tokens, strict=True)) for e in range(length)])
    return out


def naive_weighted(module: MotionAttention, x: Tensor) -> Tensor:
    """H = W X + X of maps [R, T, V, D], by the steps of docs/methods.md."""
    y = torch.einsum("rtvd,cd->rtvc", x, module.down.weight) + module.down.bias
    mean = y.mean(dim=2, keepdim=True)
    normal = (y - mean) / torch.sqrt(((y - mean) ** 2).mean(dim=2, keepdim=True) + 1e-5)
    d = torch.tensor(naive_motion(normal.tolist(), module.zero_pad, module.differences), dtype=torch.float64)
    out = torch.zeros_like(d)
    if module.over == "frames":
        for r in range(len(d)):
            tokens = [d[r, t].flatten().tolist() for t in range(d.shape[1])]
            out[r] = torch.tensor(naive_attention(tokens), dtype=torch.float64).view_as(d[r])
    else:
        for first in range(0, len(d), 8):
            group = d[first : first + 8]
            mixed = naive_attention([row.flatten().tolist() for row in group])
            out[first : first + 8] = torch.tensor(mixed, dtype=torch.float64).view_as(group)
    z = out + y
    w = 1 / (1 + torch.exp(-(torch.einsum("rtvc,dc->rtvd", z, module.up.weight) + module.up.bias)))
    return w * x + x


@pytest.mark.parametrize("over", ["frames", "rows"])
@settings(max_examples=12)
@given(
    rows=st.sampled_from([1, 3, 8, 11, 16]),
    frames=st.integers(1, 4),
    nodes=st.integers(1, 4),
    zero_pad=st.booleans(),
    differences=st.sampled_from(["all", "inter-frame", "inter-node"]),
    seed=st.integers(0, 99),
)
def test_motion_attention_is_its_formula(
    over: str, rows: int, frames: int, nodes: int, zero_pad: bool, differences: str, seed: int
) -> None:
    torch.manual_seed(seed)
    module = MotionAttention(16, 4, over=over, zero_pad=zero_pad, differences=differences).double()
    x = torch.randn(rows, frames, nodes, 16, dtype=torch.float64)
    wanted = naive_weighted(module, x).detach()
    found = module(x)
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10)
    assert torch.allclose(module.float()(x.float()).double(), wanted, rtol=1e-3, atol=1e-4)


def test_attention_scales_are_the_parts_and_body_parts_of_the_paper() -> None:
    torch.manual_seed(0)
    module = MsMAttention(KINECT, 16, 4).double()
    x = torch.randn(3, 16, 4, 25, dtype=torch.float64)
    found = module(x)
    for scale, groups in zip(found, ([[v] for v in range(1, 26)], PARTS, BODY), strict=True):
        merged = torch.stack([x[..., [v - 1 for v in group]].mean(dim=3) for group in groups], dim=3)
        wanted = naive_weighted(module.motion, merged.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert scale.shape == (3, 16, 4, len(groups))
        assert torch.allclose(scale, wanted)


def test_attention_has_the_weights_of_the_paper() -> None:
    module = MsMAttention(KINECT, 256)
    assert sum(p.numel() for p in module.parameters()) == 16_672
    assert set(module.state_dict()) == {f"motion.{name}" for name in dict(module.motion.named_parameters())}


@pytest.mark.parametrize("over", ["frames", "rows"])
def test_attention_stays_within_a_row_or_eight_rows(over: str) -> None:
    """Row r's output depends on itself alone, or on the eight rows of its group."""
    torch.manual_seed(0)
    module = MotionAttention(8, 2, over=over)
    x = torch.randn(19, 3, 5, 8, requires_grad=True)
    out = module(x)
    for row, group in ((2, range(8)), (9, range(8, 16)), (17, range(16, 19))):
        reached = torch.autograd.grad(out[row].sum(), x, retain_graph=True)[0].abs().sum(dim=(1, 2, 3)) > 0
        assert reached.nonzero().flatten().tolist() == ([row] if over == "frames" else list(group))


def test_equal_frames_and_nodes_have_no_motion() -> None:
    same = torch.randn(2, 1, 1, 6).expand(2, 5, 7, 6)
    assert torch.equal(motion_of(same), torch.zeros(2, 5, 7, 6))
    padded = motion_of(same, zero_pad=True)
    assert torch.equal(padded[:, :-1, :-1], torch.zeros(2, 4, 6, 6))
    assert torch.allclose(padded[:, -1, :-1], -same[:, -1, :-1] / 2)
    assert torch.allclose(padded[:, -1, -1], -same[:, -1, -1])


def test_equal_tokens_attend_evenly() -> None:
    token = torch.randn(1, 1, 9)
    assert torch.allclose(attend(token.expand(2, 5, 9)), token.expand(2, 5, 9), atol=1e-6)


def test_attention_weights_lie_between_0_and_1() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 16, 3, 25) + 0.1
    joints = MsMAttention(KINECT, 16, 4)(x)[0]
    assert bool(((joints > x) & (joints < 2 * x)).all())


@pytest.mark.parametrize("over", ["frames", "rows"])
@pytest.mark.parametrize("name", manifests.names("layouts"))
def test_attention_on_all_layouts_and_short_maps(over: str, name: str) -> None:
    module = MsMAttention(layout(name), 12, 8, over=over)
    for rows, frames in ((5, 1), (16, 13)):
        maps = module(torch.randn(rows, 12, frames, len(layout(name))))
        assert [tuple(scale.shape) for scale in maps] == [
            (rows, 12, frames, nodes) for nodes in (len(layout(name)), 10, 5)
        ]
        assert all(bool(scale.isfinite().all()) for scale in maps)


def test_attention_gradients_reach_all_weights_and_all_joints() -> None:
    torch.manual_seed(0)
    module = MsMAttention(KINECT, 16, 4)
    x = torch.randn(2, 16, 4, 25, requires_grad=True)
    for scale in module(x):
        module.zero_grad()
        gradient = torch.autograd.grad(scale.square().sum(), [x, *module.parameters()], retain_graph=True)
        assert bool((gradient[0] != 0).all())
        assert all(float(each.abs().sum()) > 0 for each in gradient[1:])


def test_attention_under_autocast() -> None:
    torch.manual_seed(0)
    module = MsMAttention(KINECT, 16, 4)
    x = torch.randn(4, 16, 4, 25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(x)
    for scale, wanted in zip(found, module(x), strict=True):
        assert torch.allclose(scale.float(), wanted, atol=0.05)


@pytest.mark.parametrize("level", ["part", "body"])
def test_attention_refuses_a_layout_without_groups(level: str) -> None:
    plain = KINECT.to_plain()
    del plain["levels"][level]
    with pytest.raises(UsageError, match=rf"kinect-v2-25.*lacks levels\.{level}"):
        MsMAttention(Layout.from_plain(plain), 16)
