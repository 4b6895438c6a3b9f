"""Initialisation: which parts are drawn, from what, and which are left alone."""

import torch
from torch import nn

from skelpipe.models.encoders import initialise
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout


def test_weights_of_a_network_follow_the_papers() -> None:
    torch.manual_seed(0)
    encoder = STGCN(layout("kinect-v2-25"))
    initialise(encoder)
    kernels, scales = [], []
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(False)
        if name.endswith("importance"):
            assert torch.equal(parameter, torch.ones_like(parameter))
        elif name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            scales.append(parameter.flatten())
        else:
            kernels.append(parameter.flatten())
    kernel, scale = torch.cat(kernels), torch.cat(scales)
    assert len(kernel) > 700_000
    assert len(scale) > 1_500
    assert abs(float(kernel.mean())) < 1e-4
    assert abs(float(kernel.std()) - 0.02) < 1e-4
    assert abs(float(scale.mean()) - 1) < 2e-3
    assert abs(float(scale.std()) - 0.02) < 2e-3
    # every layer was drawn, none kept PyTorch's uniform values (bounded by 1/sqrt(fan in))
    assert all(abs(float(k.std()) - 0.02) < 0.004 for k in kernels)


def test_layer_norm_and_statistics_stay() -> None:
    module = nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False))
    with torch.no_grad():
        module[0].weight.fill_(3.0)
        module[1].running_mean.fill_(5.0)
    initialise(module)
    assert torch.equal(module[0].weight, torch.full((4,), 3.0))
    assert torch.equal(module[1].running_mean, torch.full((4,), 5.0))


def test_repeats_with_the_seed() -> None:
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    for module in (first, second):
        torch.manual_seed(4)
        initialise(module)
    assert torch.equal(first.weight, second.weight)
