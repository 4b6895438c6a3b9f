"""BIGRU against gated recurrent units written out in float64, and the published count of its weights."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.bigru import BIGRU
from skelpipe.models.encoders import initialise
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
CHAIN = Layout("chain", tuple("abcd"), (0, 0, 1, 2), 0, 1, 3, tuple(range(4)), {}, {})


def small(variant: str = "paper", output: str = "last", persons: int = 2) -> BIGRU:
    torch.manual_seed(0)
    encoder = BIGRU(CHAIN, hidden=5, layers=3, persons=persons, output=output, variant=variant)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        encoder.input_norm.running_mean.normal_()
        encoder.input_norm.running_var.uniform_(0.5, 2)
    return encoder.eval()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def cell(gru: nn.GRU, suffix: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """One step of a gated recurrent unit (Cho et al. 2014, with the reset behind the matrix product)."""
    wi, wh, bi, bh = (array(getattr(gru, f"{kind}_{suffix}")) for kind in WEIGHTS)
    size = len(h)
    a, b = wi @ x + bi, wh @ h + bh
    reset = sigmoid(a[:size] + b[:size])
    update = sigmoid(a[size : 2 * size] + b[size : 2 * size])
    new = np.tanh(a[2 * size :] + reset * b[2 * size :])
    return (1 - update) * new + update * h


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def normalised(encoder: BIGRU, clip: np.ndarray) -> np.ndarray:
    """[T, V*C*M], index (v * C + c) * M + m, batch-normalised by the running statistics."""
    channels, frames, joints, bodies = clip.shape
    poses = np.zeros((frames, joints * channels * bodies))
    norm = encoder.input_norm
    mean, var = array(norm.running_mean), array(norm.running_var)
    weight, bias = array(norm.weight), array(norm.bias)
    for t in range(frames):
        for v in range(joints):
            for c in range(channels):
                for m in range(bodies):
                    i = (v * channels + c) * bodies + m
                    x = clip[c, t, v, m]
                    poses[t, i] = (x - mean[i]) / np.sqrt(var[i] + 1e-5) * weight[i] + bias[i]
    return poses


def both_ways(encoder: BIGRU, clip: np.ndarray) -> np.ndarray:
    """[T, D], layer by layer, the second direction from the last frame to the first."""
    y = normalised(encoder, clip)
    for layer in range(3):
        h, forward = np.zeros(5), []
        for x in y:
            h = cell(encoder.gru, f"l{layer}", x, h)
            forward.append(h)
        h, backward = np.zeros(5), []
        for x in y[::-1]:
            h = cell(encoder.gru, f"l{layer}_reverse", x, h)
            backward.insert(0, h)
        y = np.concatenate([forward, backward], axis=1)
    return y


def frame_by_frame(encoder: BIGRU, clip: np.ndarray) -> np.ndarray:
    """[T, D] as in the released code: each frame passes all layers before the next."""
    states = {(layer, way): np.zeros(5) for layer in range(3) for way in ("", "_reverse")}
    outputs = []
    for frame in normalised(encoder, clip):
        x = frame
        for layer in range(3):
            for way in ("", "_reverse"):
                states[layer, way] = cell(encoder.gru, f"l{layer}{way}", x, states[layer, way])
            x = np.concatenate([states[layer, ""], states[layer, "_reverse"]])
        outputs.append(x)
    return np.array(outputs)


@pytest.mark.parametrize(("variant", "plain"), [("paper", both_ways), ("released", frame_by_frame)])
def test_matches_the_units_written_out(variant: str, plain: object) -> None:
    encoder = small(variant)
    x = torch.randn(3, 3, 7, 4, 2)
    wanted = np.stack([plain(encoder, clip) for clip in x.double().numpy()])  # type: ignore[operator]
    features = encoder.features(x)
    assert features.shape == (3, 10, 7, 1)
    assert np.abs(array(features)[..., 0] - wanted.transpose(0, 2, 1)).max() < 1e-5
    assert np.abs(array(encoder(x)) - wanted[:, -1]).max() < 1e-5
    assert np.abs(array(small(variant, "mean")(x)) - wanted.mean(axis=1)).max() < 1e-5


def test_the_released_form_is_causal_in_both_directions_and_the_papers_is_not() -> None:
    x = torch.randn(1, 3, 6, 4, 2)
    later = x.clone()
    later[:, :, 4:] += 1
    causal = small("released")
    assert torch.allclose(causal.features(x)[:, :, :4], causal.features(later)[:, :, :4], atol=1e-6)
    encoder = small("paper")
    changed = (encoder.features(x) - encoder.features(later))[0, :, 0, 0].abs()
    assert changed[5:].min() > 1e-6


def test_the_frame_by_frame_form_of_torch_itself_agrees() -> None:
    encoder = small("released")
    x = torch.randn(2, 3, 5, 4, 2)
    poses = encoder.input_norm(x.permute(0, 2, 3, 1, 4).reshape(10, -1)).view(2, 5, -1)
    state, outputs = None, []
    for t in range(5):
        output, state = encoder.gru(poses[:, t : t + 1], state)
        outputs.append(output)
    assert torch.allclose(encoder.features(x)[..., 0].transpose(1, 2), torch.cat(outputs, dim=1), atol=1e-6)


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        encoder = BIGRU(KINECT)
    assert round(sum(p.numel() for p in encoder.gru.parameters()) / 1e6, 3) == 44.999
    assert encoder.input_norm.num_features == 150
    assert encoder.feature_dim == 2048
    assert not encoder.joint_map


def test_fewer_bodies_are_zeros_and_more_are_refused() -> None:
    encoder = small(persons=3)
    x = torch.randn(2, 3, 5, 4, 2)
    filled = torch.cat([x, torch.zeros(2, 3, 5, 4, 1)], dim=4)
    assert torch.equal(encoder(x), encoder(filled))
    with pytest.raises(UsageError, match="at most 2 bodies; the clips have 4 joints, 3 channels, 3 bodies"):
        small()(filled)
    with pytest.raises(UsageError, match=r"chain \(4 joints, 3 channels\).*25 joints"):
        small()(torch.randn(1, 3, 5, 25, 2))


def test_weights_start_xavier_uniform_and_the_papers_init_leaves_the_recurrent_ones() -> None:
    encoder = BIGRU(KINECT, hidden=64, layers=2)
    bound = (6 / (3 * 64 + 150)) ** 0.5
    weight = encoder.gru.weight_ih_l0_reverse.detach()
    assert 0.97 * bound < float(weight.abs().max()) <= bound
    before = {name: p.clone() for name, p in encoder.gru.named_parameters()}
    initialise(encoder)
    assert all(torch.equal(p, before[name]) for name, p in encoder.gru.named_parameters())
    assert 0.005 < float(encoder.input_norm.weight.detach().std()) < 0.04


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_gradients_reach_every_weight(variant: str) -> None:
    encoder = small(
        variant, "mean"
    ).train()  # with "last", the second direction of the last layer sees one frame only
    encoder(torch.randn(4, 3, 6, 4, 2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())
