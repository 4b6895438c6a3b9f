"""Features of actionlets and of the rest, against loops over frames and joints, and on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.models import build_method
from skelpipe.models.actclr import ActCLR
from skelpipe.skeleton import layout
from skelpipe.train.evaluation.region import RegionFeatures
from skelpipe.train.knn import main as knn
from skelpipe.train.linear import main as linear
from skelpipe.train.pretrain import main as pretrain

KINECT = layout("kinect-v2-25")
FRAMES = 12
RECIPE: dict[str, Any] = {
    "method": "actclr",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 16},
    "head": {"hidden": 16, "dim": 8},
    "init": "default",
    "queue": 12,
    "actclr": {"blocks": [1, 2], "threshold": 0.8},
}
ANCHOR = torch.randn(3, FRAMES, 25, 2, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def method() -> ActCLR:
    torch.manual_seed(0)
    built = build_method(RECIPE, KINECT, anchor=lambda: ANCHOR)
    assert isinstance(built, ActCLR)
    with torch.no_grad():
        for parameter in built.moco.key_encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(3):  # running statistics as after training
            built.moco.key(torch.randn(4, 3, FRAMES, 25, 2))
            built.moco.query(torch.randn(4, 3, FRAMES, 25, 2))
    return built.eval()


@pytest.mark.parametrize("head", [False, True])
def test_features_are_means_over_the_region(method: ActCLR, head: bool) -> None:
    clips = torch.randn(3, 3, FRAMES, 25, 2)
    with torch.no_grad():
        found = {
            region: RegionFeatures(method, region, "features", method.moco.head if head else None)(clips)
            for region in ("actionlet", "non-actionlet")
        }
        mask = method.actionlet(clips)
        maps = method.moco.encoder.features(clips).view(3, 2, 16, -1, 25)
    assert 0 < float(mask.mean()) < 1
    for region, features in found.items():
        expected = []
        for n in range(3):
            bodies = []
            for m in range(2):
                weight = mask[n, :, :, m] if region == "actionlet" else 1 - mask[n, :, :, m]
                total = torch.zeros(16)
                for t in range(maps.shape[3]):
                    for v in range(25):
                        total = total + maps[n, m, :, t, v] * weight[t, v]
                bodies.append(total / (weight.sum() + 1e-5))
            h = (bodies[0] + bodies[1]) / 2
            expected.append(method.moco.head(h[None])[0] if head else h)
        torch.testing.assert_close(features, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_clips_are_the_anchor_outside_the_region(method: ActCLR) -> None:
    clips = torch.randn(2, 3, FRAMES, 25, 2)
    clips[1, ..., 1] = 0  # an absent body
    seen: list[Tensor] = []
    method.moco.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        RegionFeatures(method, "actionlet", "clips")(clips)
        RegionFeatures(method, "non-actionlet", "clips")(clips)
        steps = method.actionlet(clips).movedim(3, 1).flatten(0, 1)[:, None]
    size = (FRAMES, 25)
    inside = F.interpolate(steps, size, mode="bilinear", align_corners=True).view(2, 1, 2, *size).movedim(2, 4)
    for clip, share in zip(seen, (inside, 1 - inside), strict=True):
        expected = share * clips + (1 - share) * ANCHOR
        expected[1, ..., 1] = 0
        torch.testing.assert_close(clip, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "act"
    values = ["encoder.width=2", "encoder.out_channels=8", "head.hidden=8", "head.dim=4", "queue=20"]
    values += ["actclr.blocks=[1, 2]", "actclr.moco_epochs=1"]
    options = [part for value in values for part in ("--set", value)]
    arguments = ["--shards", str(tiny_dataset.path), "--method", "actclr", "--epochs", "1", "--knn-every", "0"]
    result = CliRunner().invoke(pretrain, [*arguments, "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    return out


def test_nearest_neighbours_of_a_region(tiny_dataset: Dataset, run: Path, tmp_path: Path) -> None:
    common = ["--shards", str(tiny_dataset.path), "--device", "cpu", "--checkpoint", str(run), "--json"]
    names = set()
    for region in ("actionlet", "non-actionlet"):
        result = CliRunner().invoke(knn, [*common, "--region", region, "--region-of", "clips"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["region"] == f"{region}, of clips"
        assert found["reported"] is None  # the papers' figures are of whole clips
        names.add(found["what"])
    assert len(names) == 2
    out = tmp_path / "linear"
    result = CliRunner().invoke(
        linear, [*common, "--region", "actionlet", "--epochs", "1", "--out", str(out), "--features", "h"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads((out / "result.json").read_text())["region"] == "actionlet, of features"
    assert not (out / "classifier.safetensors").exists()  # it could not be applied to whole clips


def test_what_has_no_regions_is_refused(tiny_dataset: Dataset, run: Path, tmp_path: Path) -> None:
    def refused(*options: str) -> str:
        common = ["--shards", str(tiny_dataset.path), "--device", "cpu", "--region", "actionlet"]
        result = CliRunner().invoke(knn, [*common, *options])
        assert result.exit_code == 2, result.output
        return result.output

    assert "trained networks of an actclr run" in refused("--baseline", "raw")
    assert "only checkpoints have" in refused("--checkpoint", str(run / "encoder.safetensors"))
