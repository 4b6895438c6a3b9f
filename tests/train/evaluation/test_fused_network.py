"""Several classifiers as one graph: the sum that `fuse` computes of their scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.train.evaluation.deployed_network import DeployedNetwork
from skelpipe.train.evaluation.fused_network import fused_network
from skelpipe.train.evaluation.model_file import export_network

SHAPE = (3, 8, 25, 2)
CLASSES = ["a", "b", "c", "d"]


class Scores(nn.Module):
    """The mean clip by a matrix that is drawn."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(scale * torch.randn(3, len(CLASSES), generator=generator), requires_grad=False)

    def forward(self, clips: Tensor) -> Tensor:
        return clips.mean(dim=(2, 3, 4)) @ self.weight


def network(seed: int, view: str, scale: float = 1.0) -> DeployedNetwork:
    facts = {"kind": "classifier", "layout": "kinect-v2-25", "joints": [], "frames": 8, "bodies": 2}
    facts |= {"channels": ["x", "y", "z"], "profile": "crosclr", "classes": CLASSES, "views": [view]}
    return DeployedNetwork(Scores(seed, scale), ("scores",), SHAPE, True, facts)


NETWORKS = [network(0, "joint"), network(1, "bone"), network(2, "motion")]
NAMES = ["runs/j", "runs/b", "runs/m"]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.6, 0.6, 0.4)])
def test_scores_are_the_weighted_sum(weights: tuple[float, ...], tmp_path: Path) -> None:
    fused = fused_network(NETWORKS, NAMES, weights)
    clips = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    means = clips.numpy().astype(np.float64).mean(axis=(2, 3, 4))
    wanted = sum(
        weight * (means @ each.module.weight.numpy()) for weight, each in zip(weights, NETWORKS, strict=True)
    )
    np.testing.assert_allclose(fused.module(clips).numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert fused.facts["views"] == ["joint", "bone", "motion"]
    assert fused.facts["weights"] == list(weights)
    check = export_network(fused, "torch-export", tmp_path / "3s.pt2", clips)
    found = torch.export.load(tmp_path / "3s.pt2").module()(clips[:1])
    np.testing.assert_allclose(found.numpy(), wanted[:1], rtol=1e-5, atol=1e-6)
    assert check.difference < 1e-6


def test_a_stream_of_weight_0_is_left_out_with_its_infinite_scores() -> None:
    fused = fused_network([NETWORKS[0], network(1, "bone", float("inf"))], NAMES[:2], (1.0, 0.0))
    clips = torch.ones(2, *SHAPE)
    torch.testing.assert_close(fused.module(clips), NETWORKS[0].module(clips))
    assert fused.facts["weights"] == [1.0, 0.0]


def test_streams_that_do_not_go_together_are_refused() -> None:
    encoder = replace(NETWORKS[1], facts={**NETWORKS[1].facts, "kind": "encoder"})
    with pytest.raises(UsageError, match="runs/b: is an encoder"):
        fused_network([NETWORKS[0], encoder], NAMES[:2], (1.0, 1.0))
    other = replace(NETWORKS[1], facts={**NETWORKS[1].facts, "frames": 16, "classes": ["a"]})
    with pytest.raises(UsageError, match="runs/j and runs/b differ in frames, classes"):
        fused_network([NETWORKS[0], other], NAMES[:2], (1.0, 1.0))
