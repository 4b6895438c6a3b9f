"""MsM attention against its eight steps written out in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models.msmclr import MotionAttention, MsMAttention, attend, motion_of
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
# The joints of Kinect v2, counted from 1, as MsMCLR's code groups them (spec A6).
PARTS = [[1, 2, 21], [3, 4], [5, 6, 7], [8, 22, 23], [9, 10, 11], [12, 24, 25], [13, 14], [15, 16], [17, 18]]
PARTS += [[19, 20]]
BODY = [[5, 6, 7, 8, 22, 23], [9, 10, 11, 12, 24, 25], [13, 14, 15, 16], [17, 18, 19, 20], [1, 2, 3, 4, 21]]

Nested = list[list[list[list[float]]]]  # [R][T][V][channels]


def differences(y: Nested, zero_pad: bool) -> Nested:
    """(y[t+1] - y[t] + y[v+1] - y[v]) / 2, one number at a time."""
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
                    out[r][t][v][c] = (d_t + d_v) / 2
    return out


def attention(tokens: list[list[float]]) -> list[list[float]]:
    """softmax(D D^T / sqrt(E)) D for one group of tokens."""
    length = len(tokens[0])
    out = []
    for a in tokens:
        scores = [math.fsum(x * z for x, z in zip(a, b, strict=True)) / math.sqrt(length) for b in tokens]
        weights = [math.exp(score - max(scores)) for score in scores]
        shares = [weight / math.fsum(weights) for weight in weights]
        out.append([math.fsum(p * b[e] for p, b in zip(shares, tokens, strict=True)) for e in range(length)])
    return out


def weighted(module: MotionAttention, x: Tensor) -> Tensor:
    """H = W X + X of maps [R, T, V, D] by spec D7, steps 1 to 8."""
    y = torch.einsum("rtvd,cd->rtvc", x, module.down.weight) + module.down.bias
    mean = y.mean(dim=2, keepdim=True)
    normal = (y - mean) / torch.sqrt(((y - mean) ** 2).mean(dim=2, keepdim=True) + 1e-5)
    d = torch.tensor(differences(normal.tolist(), module.zero_pad), dtype=torch.float64)
    out = torch.zeros_like(d)
    if module.over == "frames":
        for r in range(len(d)):
            tokens = [d[r, t].flatten().tolist() for t in range(d.shape[1])]
            out[r] = torch.tensor(attention(tokens), dtype=torch.float64).view_as(d[r])
    else:
        for first in range(0, len(d), 8):
            group = d[first : first + 8]
            mixed = attention([row.flatten().tolist() for row in group])
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
    seed=st.integers(0, 99),
)
def test_is_the_formula(over: str, rows: int, frames: int, nodes: int, zero_pad: bool, seed: int) -> None:
    torch.manual_seed(seed)
    module = MotionAttention(16, 4, over=over, zero_pad=zero_pad).double()
    x = torch.randn(rows, frames, nodes, 16, dtype=torch.float64)
    wanted = weighted(module, x).detach()
    found = module(x)
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10)
    assert torch.allclose(module.float()(x.float()).double(), wanted, rtol=1e-3, atol=1e-4)


def test_scales_are_the_parts_and_body_parts_of_the_paper() -> None:
    torch.manual_seed(0)
    module = MsMAttention(KINECT, 16, 4).double()
    x = torch.randn(3, 16, 4, 25, dtype=torch.float64)
    found = module(x)
    for scale, groups in zip(found, ([[v] for v in range(1, 26)], PARTS, BODY), strict=True):
        merged = torch.stack([x[..., [v - 1 for v in group]].mean(dim=3) for group in groups], dim=3)
        wanted = weighted(module.motion, merged.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert scale.shape == (3, 16, 4, len(groups))
        assert torch.allclose(scale, wanted)


def test_weights_of_the_paper() -> None:
    module = MsMAttention(KINECT, 256)
    assert sum(p.numel() for p in module.parameters()) == 16_672
    assert set(module.state_dict()) == {f"motion.{name}" for name in dict(module.motion.named_parameters())}


@pytest.mark.parametrize("over", ["frames", "rows"])
def test_who_attends_to_whom(over: str) -> None:
    """Row r's output depends on itself alone, or on the rows of its eight."""
    torch.manual_seed(0)
    module = MotionAttention(8, 2, over=over)
    x = torch.randn(19, 3, 5, 8, requires_grad=True)
    out = module(x)
    for row, group in ((2, range(8)), (9, range(8, 16)), (17, range(16, 19))):
        reached = torch.autograd.grad(out[row].sum(), x, retain_graph=True)[0].abs().sum(dim=(1, 2, 3)) > 0
        assert reached.nonzero().flatten().tolist() == ([row] if over == "frames" else list(group))


def test_what_stands_still_in_all_nodes_has_no_motion() -> None:
    same = torch.randn(2, 1, 1, 6).expand(2, 5, 7, 6)
    assert torch.equal(motion_of(same), torch.zeros(2, 5, 7, 6))
    padded = motion_of(same, zero_pad=True)
    assert torch.equal(padded[:, :-1, :-1], torch.zeros(2, 4, 6, 6))
    assert torch.allclose(padded[:, -1, :-1], -same[:, -1, :-1] / 2)
    assert torch.allclose(padded[:, -1, -1], -same[:, -1, -1])


def test_equal_tokens_attend_evenly() -> None:
    token = torch.randn(1, 1, 9)
    assert torch.allclose(attend(token.expand(2, 5, 9)), token.expand(2, 5, 9), atol=1e-6)


def test_the_weights_lie_between_0_and_1() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 16, 3, 25) + 0.1
    joints = MsMAttention(KINECT, 16, 4)(x)[0]
    assert bool(((joints > x) & (joints < 2 * x)).all())


@pytest.mark.parametrize("over", ["frames", "rows"])
@pytest.mark.parametrize("name", ["kinect-v2-25", "kinect-v1-20", "coco-17"])
def test_all_layouts_and_short_maps(over: str, name: str) -> None:
    module = MsMAttention(layout(name), 12, 8, over=over)
    for rows, frames in ((5, 1), (16, 13)):
        maps = module(torch.randn(rows, 12, frames, len(layout(name))))
        assert [tuple(scale.shape) for scale in maps] == [
            (rows, 12, frames, nodes) for nodes in (len(layout(name)), 10, 5)
        ]
        assert all(bool(scale.isfinite().all()) for scale in maps)


def test_gradients_reach_all_weights_and_all_joints() -> None:
    torch.manual_seed(0)
    module = MsMAttention(KINECT, 16, 4)
    x = torch.randn(2, 16, 4, 25, requires_grad=True)
    for scale in module(x):
        module.zero_grad()
        gradient = torch.autograd.grad(scale.square().sum(), [x, *module.parameters()], retain_graph=True)
        assert bool((gradient[0] != 0).all())
        assert all(float(each.abs().sum()) > 0 for each in gradient[1:])


def test_computes_under_autocast() -> None:
    torch.manual_seed(0)
    module = MsMAttention(KINECT, 16, 4)
    x = torch.randn(4, 16, 4, 25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(x)
    for scale, wanted in zip(found, module(x), strict=True):
        assert torch.allclose(scale.float(), wanted, atol=0.05)


@pytest.mark.parametrize("level", ["part", "body"])
def test_a_layout_without_groups_is_refused(level: str) -> None:
    plain = KINECT.to_plain()
    del plain["levels"][level]
    with pytest.raises(UsageError, match=rf"kinect-v2-25.*lacks levels\.{level}"):
        MsMAttention(Layout.from_plain(plain), 16)
