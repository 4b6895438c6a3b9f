"""ST-GCN against a plain float64 transcription, published parameter counts and its authors' own logits."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.parts import projection_head
from skelpipe.models.stgcn import STGCN, Dropout, GraphConvolution
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
SHARED = Path(__file__).parents[2].parent / "shared"
CHAIN = Layout("chain", tuple("abcdefg"), (0, 0, 1, 2, 3, 0, 5), 0, 1, 5, tuple(range(7)), {}, {})


def million(*modules: nn.Module) -> float:
    return round(sum(p.numel() for module in modules for p in module.parameters()) / 1e6, 4)


def test_published_parameter_counts() -> None:
    encoder = STGCN(KINECT, width=16)
    assert million(encoder, nn.Linear(256, 60)) == 0.8368
    pair = [encoder, projection_head(256, 256, 128)] * 2
    assert million(*pair) == 1.8401
    assert million(STGCN(KINECT, width=64), nn.Linear(256, 60)) == 3.0988


@pytest.mark.parametrize(("frames", "left"), [(50, 13), (64, 16), (32, 8), (1, 1), (7, 2)])
def test_feature_sizes(frames: int, left: int) -> None:
    encoder = STGCN(KINECT, width=4, out_channels=24).eval()
    x = torch.randn(2, 3, frames, 25, 2)
    assert encoder.features(x).shape == (4, 24, left, 25)
    assert encoder(x).shape == (2, 24)
    assert encoder.feature_dim == 24


# ---- one graph convolution, by loops


@pytest.mark.parametrize(("c_in", "c_out"), [(3, 5), (20, 4)])
def test_graph_convolution_is_the_triple_sum(c_in: int, c_out: int) -> None:
    torch.manual_seed(0)
    rows, frames, joints = 2, 3, 4
    convolution = GraphConvolution(c_in, c_out, joints)
    nn.init.uniform_(convolution.importance, 0.5, 1.5)
    graph = torch.rand(3, joints, joints)
    x = torch.randn(rows, frames, joints, c_in, requires_grad=True)
    weight = convolution.maps.weight.double().view(3, c_out, c_in)
    bias = convolution.maps.bias.double().view(3, c_out)
    edges = graph.double() * convolution.importance.double()
    expected = []
    for w in range(joints):
        total = torch.zeros(rows, frames, c_out, dtype=torch.float64)
        for k in range(3):
            for v in range(joints):
                total = total + edges[k, v, w] * (x[:, :, v].double() @ weight[k].T + bias[k])
        expected.append(total)
    wanted = torch.stack(expected, dim=2)
    found = convolution(x, graph)
    assert torch.allclose(found.double(), wanted, atol=1e-5)

    push = torch.randn_like(found)
    wrt = [x, convolution.maps.weight, convolution.maps.bias, convolution.importance]
    exact = torch.autograd.grad(wanted, wrt, push.double())
    for gradient, right in zip(torch.autograd.grad(found, wrt, push), exact, strict=True):
        assert torch.allclose(gradient.double(), right.double(), atol=2e-5)


# ---- the whole network, transcribed plainly from the paper's order of operations, [N, C, T, V], float64


def norm(x: Tensor, module: nn.Module, training: bool) -> Tensor:
    """Batch normalisation over all axes but 1."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, variance = module.running_mean.double(), module.running_var.double()  # type: ignore[union-attr, operator]
    if training:
        mean, variance = x.mean(axes), x.var(axes, correction=0)
    scaled = (x - mean.view(shape)) / torch.sqrt(variance.view(shape) + 1e-5)
    return scaled * module.weight.double().view(shape) + module.bias.double().view(shape)  # type: ignore[union-attr, operator]


def plain(encoder: STGCN, x: Tensor, training: bool) -> Tensor:
    """h [N, D]: convolve with 3 x C_out channels, contract with the graph, BN, ReLU, 9x1, BN, add, ReLU."""
    clips, axes, frames, joints, bodies = x.shape
    y = x.double().permute(0, 4, 3, 1, 2).reshape(clips * bodies, joints * axes, frames)
    y = norm(y, encoder.input_norm, training)
    y = y.view(clips * bodies, joints, axes, frames).permute(0, 2, 3, 1)
    for number, block in enumerate(encoder.blocks):
        stride = 2 if number in (4, 7) else 1
        maps, temporal = block.spatial.maps, block.temporal
        z = F.conv2d(y, maps.weight.double()[:, :, None, None], maps.bias.double())
        z = z.view(len(y), 3, -1, z.shape[2], joints)
        edges = encoder.adjacency.double() * block.spatial.importance.double()
        z = F.relu(norm(torch.einsum("nkctv,kvw->nctw", z, edges), block.spatial_norm, training))
        z = F.conv2d(z, temporal.weight.double(), temporal.bias.double(), (stride, 1), (4, 0))
        z = norm(z, block.temporal_norm, training)
        if block.shortcut is not None:
            kernel = block.shortcut.weight.double()[:, :, None, None]
            around = F.conv2d(y, kernel, block.shortcut.bias.double(), (stride, 1))
            z = z + norm(around, block.shortcut_norm, training)
        elif number > 0:
            z = z + y
        y = F.relu(z)
    return y.mean((2, 3)).view(clips, bodies, -1).mean(1)


def shaken(encoder: STGCN) -> STGCN:
    """Give every parameter and running statistic a random value, so that swapped ones are found."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in encoder.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                buffer.normal_()
    return encoder


@pytest.mark.parametrize(
    ("shape", "body", "graph", "width", "out"),
    [
        ((3, 3, 50, 25, 2), KINECT, "stgcn_capped", 16, 256),
        ((2, 3, 64, 25, 1), KINECT, "agcn", 4, 40),
        ((2, 2, 9, 7, 3), CHAIN, "stgcn_full", 5, 20),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_matches_plain_network(
    shape: tuple[int, ...], body: Layout, graph: str, width: int, out: int, training: bool
) -> None:
    encoder = STGCN(body, graph, width, out, dropout=0.0, in_channels=shape[1])
    encoder = shaken(encoder).train(training)
    x = torch.randn(shape)
    x[0, ..., -1] = 0  # an absent last body
    with torch.no_grad():
        expected = plain(encoder, x, training)
        assert (encoder(x) - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))

    # Gradients in float64: in float32 single ReLUs near zero switch, in any order of summation.
    encoder, push = shaken(encoder).double(), torch.randn(expected.shape, dtype=torch.float64)
    parameters = list(encoder.parameters())
    exact = torch.autograd.grad(plain(encoder, x, training), parameters, push)
    for gradient, wanted in zip(torch.autograd.grad(encoder(x.double()), parameters, push), exact, strict=True):
        assert (gradient - wanted).abs().max() <= 1e-9 * max(1.0, float(wanted.abs().max()))


def test_rows_are_clip_major_and_pool_averages_bodies_last() -> None:
    encoder = STGCN(KINECT, width=4, out_channels=16).eval()
    x = torch.randn(3, 3, 20, 25, 2)
    maps = encoder.features(x)
    alone = encoder.features(x[1:2, ..., 1:])
    assert torch.allclose(maps[1 * 2 + 1], alone[0], atol=1e-5)
    by_hand = torch.stack([maps[2 * n : 2 * n + 2].mean((0, 2, 3)) for n in range(3)])
    assert torch.allclose(encoder(x), by_hand, atol=1e-6)


def test_running_statistics_follow_the_batch() -> None:
    encoder = STGCN(KINECT, width=4, out_channels=16)
    x = torch.randn(4, 3, 10, 25, 2)
    encoder(x)
    by_joint = x.permute(3, 1, 0, 2, 4).reshape(75, -1)  # joint-major, then axis
    assert torch.allclose(encoder.input_norm.running_mean, 0.1 * by_joint.mean(1), atol=1e-5)
    assert torch.allclose(encoder.input_norm.running_var, 0.9 + 0.1 * by_joint.var(1), atol=1e-4)


def test_wrong_skeleton_is_named() -> None:
    with pytest.raises(UsageError, match=r"kinect-v2-25 \(25 joints, 3 channels\).*20 joints"):
        STGCN(KINECT, width=4)(torch.randn(1, 3, 8, 20, 2))


# ---- dropout


@pytest.mark.parametrize("p", [0.5, 0.25, 0.1])  # 0.1 is no multiple of 1/256: PyTorch's own masks
def test_dropout_keeps_its_share_and_the_mean(p: float) -> None:
    torch.manual_seed(3)
    size = 400_003  # not a multiple of eight
    y = Dropout(p)(torch.ones(size))
    kept = y != 0
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - p)))
    assert abs(float(kept.float().mean()) - (1 - p)) < 4 * math.sqrt(p * (1 - p) / size)
    # each of the eight bytes of a random word by itself, as the mean would hide a biased byte
    for column in kept[: size // 8 * 8].view(-1, 8).float().mean(0):
        assert abs(float(column) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / (size // 8))


def test_dropout_gradient_is_its_mask_and_eval_is_identity() -> None:
    dropout = Dropout(0.5)
    x = torch.randn(1000, requires_grad=True)
    y = dropout(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_draws_again_and_repeats_with_the_seed() -> None:
    dropout, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(5)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(5)
    assert not torch.equal(first, second)
    assert torch.equal(dropout(x), first)


def test_no_dropout_in_the_first_block() -> None:
    rates = [block.dropout.p for block in STGCN(KINECT, width=4, dropout=0.5).blocks]
    assert rates == [0.0] + [0.5] * 9


# ---- the released network on real recordings


def renamed(theirs: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names of AimCLR's released code by names here."""
    parts = {
        "gcn.conv": "spatial.maps",
        "tcn.0": "spatial_norm",
        "tcn.2": "temporal",
        "tcn.3": "temporal_norm",
        "residual.0": "shortcut",
        "residual.1": "shortcut_norm",
    }
    for key, value in theirs.items():
        name, tensor = key.removeprefix("encoder_q."), value
        if name == "A":
            name = "adjacency"
        elif name.startswith("edge_importance."):
            name = f"blocks.{name.removeprefix('edge_importance.')}.spatial.importance"
        elif name.startswith("st_gcn_networks."):
            _, number, rest = name.split(".", 2)
            part, leaf = rest.rsplit(".", 1)
            name = f"blocks.{number}.{parts[part]}.{leaf}"
            if parts[part] in ("spatial.maps", "shortcut") and leaf == "weight":
                tensor = value.flatten(1)
        else:
            name = name.replace("data_bn", "input_norm")
        yield name, tensor


def test_released_checkpoint_gives_the_released_logits() -> None:
    checkpoint = SHARED / "data/checkpoints/aimclr_ntu60_xview_joint_linear.pt"
    golden = SHARED / "facts/golden_ntu.npz"
    if not (checkpoint.exists() and golden.exists()):
        pytest.skip(f"needs the released checkpoint and golden clips under {SHARED}")
    weights = dict(renamed(torch.load(checkpoint, weights_only=True)))
    classifier = nn.Linear(256, 60)
    classifier.load_state_dict({"weight": weights.pop("fc.weight").flatten(1), "bias": weights.pop("fc.bias")})
    encoder = STGCN(KINECT, "stgcn_capped").eval()
    assert torch.allclose(weights["adjacency"], encoder.adjacency, atol=1e-7)
    encoder.load_state_dict(weights)
    with np.load(golden) as facts, torch.no_grad():
        logits = classifier(encoder(torch.from_numpy(facts["clip"])))
        assert np.abs(logits.numpy() - facts["aimclr_linear_logits"]).max() < 1e-4
        assert (logits.argmax(1) + 1).tolist() == [1, 3, 50]
