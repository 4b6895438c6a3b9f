"""The interface of every backbone, with any skeleton, number of frames and of bodies; initial weights."""

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skelpipe.errors import UsageError
from skelpipe.models import build_encoder, build_method
from skelpipe.models.encoders import ENCODERS, initialise
from skelpipe.models.stgcn import STGCN
from skelpipe.settings import nested
from skelpipe.skeleton import layout

SMALL: dict[str, dict[str, Any]] = {
    "stgcn": {"width": 4, "out_channels": 12},
    "bigru": {"hidden": 6, "layers": 2, "persons": 3},
    "dsta": {"width": 4, "heads": 2},
}
# The blocks that differ in kind: the first, one that keeps its width, both that halve the frames, the last.
ONE_OF_EACH = {"stgcn": (0, 1, 4, 7, 9), "dsta": (0, 1, 3)}


def test_all_backbones_are_tested() -> None:
    assert set(SMALL) == set(ENCODERS)


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize(
    ("name_of_layout", "frames", "bodies"),
    [
        ("kinect-v2-25", 50, 2),
        ("coco-17", 9, 1),
        ("kinect-v1-20", 16, 3),
        ("mediapipe-33", 8, 1),
        ("openpose-18", 8, 2),
    ],
)
def test_features_pool_to_h(name: str, name_of_layout: str, frames: int, bodies: int) -> None:
    skeleton = layout(name_of_layout)
    encoder = build_encoder({"name": name, **SMALL[name]}, skeleton).eval()
    x = torch.randn(4, 3, frames, len(skeleton), bodies)
    features = encoder.features(x)
    assert features.shape[1] == encoder.feature_dim
    assert len(features) in (4, 4 * bodies)
    assert features.shape[3] == (len(skeleton) if encoder.joint_map else 1)
    h = encoder(x)
    assert h.shape == (4, encoder.feature_dim)
    assert torch.equal(encoder.pool(features, bodies), h)
    assert torch.allclose(encoder(x[1:3]), h[1:3], atol=1e-5)
    assert encoder.layout is skeleton


@pytest.mark.parametrize(
    "section",
    [
        {"name": "stgcn", "width": 16, "out_channels": 16},  # wide enough for both orders of its products
        {"name": "dsta", **SMALL["dsta"]},
        {"name": "bigru", "hidden": 6, "layers": 1},
        {"name": "bigru", "hidden": 6, "layers": 1, "variant": "released"},
    ],
)
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch on nn.GRU's own weights
def test_a_classifier_exported_with_two_clips_takes_any_number(section: dict[str, Any]) -> None:
    encoder = build_encoder(section, layout("coco-17"))
    if section["name"] in ONE_OF_EACH:  # exporting ten blocks takes ten times as long as exporting one
        encoder.blocks = nn.ModuleList(encoder.blocks[n] for n in ONE_OF_EACH[section["name"]])
    scores = nn.Sequential(encoder, nn.Linear(encoder.feature_dim, 5)).eval()
    sizes, more, lengths = {0: torch.export.Dim("n", min=1, max=64)}, {}, [12]
    if section["name"] != "bigru":  # a recurrent network takes the number of frames that it was exported with
        sizes[2] = torch.export.Dim("t", min=8)
        more, lengths = {"prefer_deferred_runtime_asserts_over_guards": True}, [12, 8, 9, 31]
    # The kind of tracing that refuses any call of Python's own on an object of ours.
    strict = section.get("width") == 16
    given = (torch.randn(2, 3, 12, 17, 2),)
    exported = torch.export.export(scores, given, dynamic_shapes=(sizes,), strict=strict, **more).module()
    for clips in (torch.randn(n, 3, frames, 17, 2) for n in (1, 2, 7, 64) for frames in lengths):
        with torch.no_grad():
            torch.testing.assert_close(exported(clips), scores(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(SMALL))
def test_settings_are_the_constructors(name: str) -> None:
    parameters = inspect.signature(ENCODERS[name]).parameters
    settings = nested(ENCODERS[name].Settings())
    assert settings.pop("name") == name
    assert {key: parameters[key].default for key in settings} == settings
    with pytest.raises(UsageError, match=r"unknown key 'encoder.depth'; .*known: "):
        build_encoder({"name": name, "depth": 3}, layout("coco-17"))


@pytest.mark.parametrize("name", list(SMALL))
def test_it_learns_to_tell_clips_apart(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder({"name": name, **SMALL[name]}, layout("coco-17"), init="default")
    network = nn.Sequential(encoder, nn.Linear(encoder.feature_dim, 3))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    clips, labels = torch.randn(9, 3, 8, 17, 1), torch.arange(9) % 3
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(clips), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", list(SMALL))
def test_a_method_steps_on_it(name: str) -> None:
    torch.manual_seed(0)
    recipe: dict[str, Any] = {"method": "skeletonclr", "queue": 12, "momentum": 0.9, "temperature": 0.2}
    recipe |= {"encoder": {"name": name, **SMALL[name]}, "head": {"hidden": 8, "dim": 6}}
    method = build_method(recipe, layout("coco-17"))
    clips = torch.randn(6, 3, 8, 17, 2)
    step = method(SimpleNamespace(views={"query": clips, "key": clips.flip(2)}, extras={}))
    step.loss.backward()
    assert step.embeddings.shape == (6, 6)
    assert step.loss.isfinite()
    encoder, head = method.networks("joint")
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [*encoder.parameters(), *head.parameters()])


def test_initial_weights_are_those_of_the_papers() -> None:
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
    # every layer was drawn again, none kept PyTorch's uniform values (bounded by 1/sqrt(fan in))
    assert all(abs(float(k.std()) - 0.02) < 0.004 for k in kernels)


def test_initialise_leaves_layer_norm_and_statistics() -> None:
    module = nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False))
    with torch.no_grad():
        module[0].weight.fill_(3.0)
        module[1].running_mean.fill_(5.0)
    initialise(module)
    assert torch.equal(module[0].weight, torch.full((4,), 3.0))
    assert torch.equal(module[1].running_mean, torch.full((4,), 5.0))


def test_initialise_repeats_with_the_seed() -> None:
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    for module in (first, second):
        torch.manual_seed(4)
        initialise(module)
    assert torch.equal(first.weight, second.weight)
