"""DSTA against a plain float64 transcription, and its published size."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.dsta import DSTA, AttentionUnit, sinusoid
from skelpipe.models.encoders import initialise
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
CHAIN = Layout("chain", tuple("abcd"), (0, 0, 1, 2), 0, 1, 3, tuple(range(4)), {}, {})
BLOCKS = [(64, 64, 16, 1), (64, 128, 32, 2), (128, 128, 32, 1), (128, 256, 64, 2), (256, 256, 64, 1)]


def shaken(encoder: DSTA) -> DSTA:
    """Give every parameter and running statistic a random value, so that swapped ones are found."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in encoder.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                buffer.normal_(std=0.3)
    return encoder


def norm(x: Tensor, module: nn.Module, training: bool) -> Tensor:
    """Batch normalisation of [R, C, T, V]."""
    mean, variance = module.running_mean.double(), module.running_var.double()
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    shape = (1, -1, 1, 1)
    y = (x - mean.view(shape)) / torch.sqrt(variance.view(shape) + 1e-5)
    return y * module.weight.double().view(shape) + module.bias.double().view(shape)


def conv(x: Tensor, module: nn.Module) -> Tensor:
    """A 1x1 convolution of [R, C, T, V]: a matrix applied to the channels."""
    weight = module.weight.double().flatten(1)
    return torch.einsum("oc,rctv->rotv", weight, x) + module.bias.double().view(1, -1, 1, 1)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, 0.1 * x)


def code(position: int, channels: int) -> Tensor:
    values = torch.zeros(channels, dtype=torch.float64)
    for i in range(0, channels, 2):
        values[i] = math.sin(position / 10000 ** (i / channels))
        values[i + 1] = math.cos(position / 10000 ** (i / channels))
    return values


def shortcut(x: Tensor, module: nn.Module, training: bool) -> Tensor:
    if isinstance(module, nn.Identity):
        return x
    return norm(conv(x, module[0]), module[1], training)


def spatial(unit: AttentionUnit, x: Tensor, training: bool) -> Tensor:
    """[R, C, T, V], heads by loops."""
    rows, channels, frames, joints = x.shape
    placed = x + torch.stack([code(v, channels) for v in range(joints)], dim=1)[None, :, None, :]
    both = conv(placed, unit.match).view(rows, 2, unit.heads, unit.inner, frames, joints)
    heads = []
    for s in range(unit.heads):
        q, k = both[:, 0, s], both[:, 1, s]
        att = torch.tanh(torch.einsum("rctu,rctv->ruv", q, k) / (unit.inner * frames)) * unit.alpha[s].double()
        att = att + unit.shared[s].double()
        heads.append(torch.einsum("rctu,ruv->rctv", x, att))
    y = norm(conv(torch.cat(heads, dim=1), unit.gather), unit.gather_norm, training)
    y = leaky(shortcut(x, unit.around_gather, training) + y)
    y = norm(conv(y, unit.feed), unit.feed_norm, training)
    return leaky(shortcut(x, unit.around_feed, training) + y)


def temporal(unit: AttentionUnit, y: Tensor, stride: int, training: bool) -> Tensor:
    rows, channels, frames, joints = y.shape
    placed = y + torch.stack([code(t, channels) for t in range(frames)], dim=1)[None, :, :, None]
    both = conv(placed, unit.match).view(rows, 2, unit.heads, unit.inner, frames, joints)
    heads = []
    for s in range(unit.heads):
        q, k = both[:, 0, s], both[:, 1, s]
        att = torch.tanh(torch.einsum("rctv,rcuv->rtu", q, k) / (unit.inner * joints)) * unit.alpha[s].double()
        heads.append(torch.einsum("rctv,rtu->rcuv", y, att))
    z = norm(conv(torch.cat(heads, dim=1), unit.gather), unit.gather_norm, training)
    z = leaky(shortcut(y, unit.around_gather, training) + z)
    z = norm(conv(z, unit.feed)[:, :, ::stride], unit.feed_norm, training)
    if isinstance(unit.around_feed, nn.Identity):
        return leaky(y + z)
    passed = norm(conv(y, unit.around_feed[0])[:, :, ::stride], unit.around_feed[1], training)
    return leaky(passed + z)


def plain(encoder: DSTA, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    clips, axes, frames, joints, bodies = x.shape
    y = x.double().permute(0, 4, 1, 2, 3).reshape(clips * bodies, axes, frames, joints)
    y = leaky(norm(conv(y, encoder.stem), encoder.stem_norm, training))
    for block, (_, _, _, stride) in zip(encoder.blocks, BLOCKS, strict=True):
        y = temporal(block.temporal, spatial(block.spatial, y, training), stride, training)
    return y, y.mean((2, 3)).view(clips, bodies, -1).mean(1)


@pytest.mark.parametrize("training", [True, False])
def test_matches_plain_network(training: bool) -> None:
    encoder = shaken(DSTA(CHAIN, width=8, heads=2, in_channels=2)).train(training)
    x = torch.randn(3, 2, 10, 4, 2)
    x[0, ..., 1] = 0  # an absent second body
    with torch.no_grad():
        maps, expected = plain(encoder, x, training)
        size = max(1.0, float(maps.abs().max()))
        assert (encoder.features(x) - maps).abs().max() < 2e-5 * size
        assert (encoder(x) - expected).abs().max() < 2e-5 * size

    encoder, push = shaken(encoder).double(), torch.randn(expected.shape, dtype=torch.float64)
    parameters = list(encoder.parameters())
    exact = torch.autograd.grad(plain(encoder, x, training)[1], parameters, push)
    for gradient, wanted in zip(torch.autograd.grad(encoder(x.double()), parameters, push), exact, strict=True):
        assert (gradient - wanted).abs().max() <= 1e-9 * max(1.0, float(wanted.abs().max()))


def test_published_size() -> None:
    with torch.device("meta"):
        encoder = DSTA(KINECT)
        count = sum(p.numel() for p in encoder.parameters()) + 256 * 60 + 60
    assert round(count / 1e6, 3) == 1.951
    found = [
        (block.spatial.match.in_channels, block.spatial.gather.out_channels, block.spatial.inner)
        for block in encoder.blocks
    ]
    assert found == [block[:3] for block in BLOCKS]
    assert [block.temporal.feed.stride[1] for block in encoder.blocks] == [block[3] for block in BLOCKS]


@pytest.mark.parametrize(("frames", "left"), [(50, 13), (64, 16), (1, 1), (7, 2)])
def test_feature_sizes(frames: int, left: int) -> None:
    encoder = DSTA(KINECT, width=4).eval()
    x = torch.randn(2, 3, frames, 25, 2)
    assert encoder.features(x).shape == (4, 16, left, 25)
    assert encoder(x).shape == (2, 16)
    assert encoder.feature_dim == 16
    assert encoder.joint_map


def test_rows_are_clip_major() -> None:
    encoder = DSTA(CHAIN, width=4).eval()
    x = torch.randn(3, 3, 8, 4, 2)
    assert torch.allclose(encoder.features(x)[1 * 2 + 1], encoder.features(x[1:2, ..., 1:])[0], atol=1e-5)


def test_position_encoding_is_interleaved() -> None:
    found = sinusoid(6, 8, torch.zeros((), dtype=torch.float64))
    wanted = torch.stack([code(p, 8) for p in range(6)], dim=1)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_attention_starts_uniform_and_tanh_bounds_it() -> None:
    encoder = DSTA(KINECT, width=4)
    unit = encoder.blocks[0].spatial
    assert torch.equal(unit.shared, torch.full((3, 25, 25), 1 / 25))
    assert unit.alpha.flatten().tolist() == [1, 1, 1]
    assert encoder.blocks[0].temporal.shared is None
    maps = unit.attention(1000 * torch.randn(2, 4, 5, 25)).detach()
    assert maps.shape == (2, 3, 25, 25)
    assert float((maps - 1 / 25).abs().max()) <= 1 + 1e-6


def test_the_two_initialisations() -> None:
    encoder = DSTA(KINECT)
    weight = encoder.blocks[4].spatial.gather.weight.detach()  # [256, 768]
    assert abs(float(weight.std()) - math.sqrt(2 / 256)) < 0.002
    initialise(encoder)
    assert abs(float(encoder.blocks[4].spatial.gather.weight.detach().std()) - 0.02) < 0.0005


def test_wrong_skeleton_and_width_are_named() -> None:
    with pytest.raises(UsageError, match=r"kinect-v2-25 \(25 joints, 3 channels\).*20 joints"):
        DSTA(KINECT, width=4)(torch.randn(1, 3, 8, 20, 2))
    with pytest.raises(UsageError, match="is 6; dsta needs a multiple of 4"):
        DSTA(KINECT, width=6)


def test_half_precision_stays_close() -> None:
    torch.manual_seed(2)
    encoder = DSTA(CHAIN, width=8)  # in training mode, as an untrained network has no running statistics of use
    x = torch.randn(8, 3, 12, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        low = encoder(x)
    assert F.cosine_similarity(low.float(), encoder(x)).min() > 0.99
