"""Files of networks: any number of clips and of frames, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models import build_encoder
from skelpipe.skeleton import layout
from skelpipe.train.evaluation import model_file
from skelpipe.train.evaluation.deployed_network import ClassScores, DeployedNetwork
from skelpipe.train.evaluation.model_file import export_network
from skelpipe.views import derive


class Pooled(nn.Module):
    """A network that is exported at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.layer(clips.mean(dim=(2, 3, 4)))


def deployed(module: nn.Module, joints: int = 17) -> DeployedNetwork:
    facts = {"layout": "coco-17", "classes": ["a", "b"]}
    return DeployedNetwork(module.eval(), ("scores",), (3, 12, joints, 1), True, facts)


def test_onnx_takes_any_number_of_clips_and_frames_of_bones(tmp_path: Path) -> None:
    skeleton = layout("coco-17")
    encoder = build_encoder({"name": "stgcn", "width": 2, "out_channels": 4}, skeleton)
    encoder.blocks = nn.ModuleList(encoder.blocks[n] for n in (0, 4))  # the second halves the frames
    network = nn.Sequential(encoder, nn.Linear(4, 5)).eval()
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    clips = torch.randn(4, 3, 12, 17, 1)
    check = export_network(deployed(ClassScores({"bone": network}, skeleton)), "onnx", path, clips)
    assert check.by.startswith("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["a", "b"]
    for n, frames in ((1, 12), (5, 8), (2, 9), (2, 31)):
        x = torch.randn(n, 3, frames, 17, 1)
        with torch.no_grad():
            expected = network(derive(x, "bone", skeleton)).numpy()
        found = session.run(None, {"clips": x.numpy()})[0]
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_graph_that_differs_from_its_network_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's weights change between the two runs, as a fault of the exporter would show."""
    network = deployed(Pooled())
    saved = torch.export.save

    def spoil(*given: object, **more: object) -> None:
        saved(*given, **more)
        with torch.no_grad():
            network.module.layer.bias += 0.1

    monkeypatch.setattr(torch.export, "save", spoil)
    with pytest.raises(SkelpipeError, match="not written: run by torch .* differs from the network by 0.1"):
        export_network(network, "torch-export", tmp_path / "model.pt2", torch.randn(4, 3, 12, 17, 1))
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = torch.randn(4, 3, 12, 17, 1)
    monkeypatch.setattr(model_file, "_onnx", lambda program, network: b"a graph")  # exporting one takes seconds
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check = export_network(deployed(Pooled()), "onnx", tmp_path / "model.onnx", clips)
    assert (check.by, check.clips) == ("", 0)
    assert (tmp_path / "model.onnx").read_bytes() == b"a graph"
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"needs onnxscript: pip install 'skelpipe\[onnx\]'"):
        export_network(deployed(Pooled()), "onnx", tmp_path / "other.onnx", clips)
    with pytest.raises(UsageError, match="--to tflite: known: onnx, torch-export"):
        export_network(deployed(Pooled()), "tflite", tmp_path / "other", clips)


class Unrolled(nn.Module):
    """A backbone that takes as many steps as there are frames when it is traced."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        h = clips[:, :, 0].mean(dim=(2, 3))
        for frame in range(1, clips.shape[2]):
            h = torch.tanh(h + clips[:, :, frame].mean(dim=(2, 3)))
        return h


def test_a_network_that_fixes_its_frames_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    network = deployed(Unrolled())
    check = export_network(network, "torch-export", path, torch.randn(4, 3, 12, 17, 1))
    assert check.about["frames_allowed"] == "12"
    module = torch.export.load(path).module()
    assert module(torch.zeros(7, 3, 12, 17, 1)).shape == (7, 3)
    with pytest.raises((AssertionError, RuntimeError)):
        module(torch.zeros(7, 3, 13, 17, 1))
