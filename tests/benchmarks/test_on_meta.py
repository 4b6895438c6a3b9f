"""Training steps and evaluations run on torch's meta device: nothing waits for the device, or stays on the host.

A new method in `METHODS` is tested without a change here.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.dataset import Dataset
from skelpipe.models import absent_bodies, gpu_block
from skelpipe.models.build import METHODS
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout
from skelpipe.train.evaluation import embedding, segmenter
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.evaluation.linear_head import LinearHead, linear_scores
from skelpipe.train.evaluation.segmenter import frame_scores
from skelpipe.train.evaluation.segmenter_settings import SegmenterSettings
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import LinearOptimiser

sys.path.append(str(Path(__file__).parent))  # as for the benchmarks run as scripts
from on_meta import META, Dropped, MetaRun, WaitsError, Watch, as_on_a_gpu, copied

SMALL = ("encoder.width=4", "encoder.out_channels=16", "queue=64", "head.hidden=16", "head.dim=16")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic_clips(tmp_path_factory.mktemp("clips"), 48, 8)


@pytest.mark.parametrize("share", [0.0, 0.9], ids=["first-stage", "last-stage"])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_nothing(dataset: Dataset, method: str, variant: str, share: float) -> None:
    recipe = with_overrides(load_recipe(method), [f"variant={variant}", "frames=48", *SMALL])
    with as_on_a_gpu():
        run = MetaRun(recipe, dataset, share, 8)
        if share and not _has_stages(run):
            return  # the same step as the first
        run.step(lambda part: Watch())


def _has_stages(run: MetaRun) -> bool:
    """Say whether the method's step changes within a run, by more than numbers."""
    method, found = run.method, []
    for epoch in (0, run.start.epoch):
        method.advance(replace(run.start, epoch=epoch))
        found.append({name: value for name, value in vars(method).items() if isinstance(value, bool)})
    return found[0] != found[1]


class Watched(nn.Module):
    """A network whose forward pass must not wait for the device."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with Watch(beside=True):
            found: Tensor = self.network(x)
            return found


@pytest.fixture
def one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the copies for which nobody waits on a GPU be the only ones: any other from the meta device fails."""
    for module in (embedding, segmenter, absent_bodies, gpu_block):
        monkeypatch.setattr(module, "sent", copied)
    for module in (embedding, segmenter):
        monkeypatch.setattr(module, "Fetched", Dropped)


@pytest.fixture
def encoder() -> STGCN:
    with META:
        return STGCN(layout("kinect-v2-25"), width=4, out_channels=16)


@pytest.mark.usefixtures("one_way")
def test_embedding_waits_for_nothing(dataset: Dataset, encoder: STGCN) -> None:
    """Also where absent bodies are left out, which the host knows of the clips that it has read."""
    assert embed(Watched(encoder), dataset, "train", "joint", device=META, batch_size=3).features.shape == (8, 16)


@pytest.mark.usefixtures("one_way")
@pytest.mark.parametrize("finetune", [False, True])
def test_segmentation_waits_for_nothing(encoder: STGCN, finetune: bool) -> None:
    windows: Any = SimpleNamespace(
        draw=lambda count, seed, epoch: np.arange(12),
        clips=lambda rows: torch.zeros(len(rows), 3, 16, 25, 2),
        labels=np.zeros(12, np.int64),
        spread=lambda stride: (np.arange(12), np.arange(12)),
    )
    settings = SegmenterSettings(epochs=1, batch_size=6, finetune=finetune)
    optimiser = Mock(wraps=torch.optim.SGD(encoder.parameters(), lr=0.1))
    head = nn.Linear(16, 5, device=META)
    given = segmenter._batches(Watched(encoder), windows, settings, 1, META)
    with as_on_a_gpu(), pytest.raises(RuntimeError, match="meta"):  # the mean loss is asked for, after the epoch
        segmenter._train_epoch(head, optimiser, given)
    assert optimiser.step.call_count == 2
    assert frame_scores(Watched(encoder), head, windows, META, quiet=True).shape == (12, 5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_step_of_the_linear_classifier_waits_for_nothing(name: str) -> None:
    features, labels = torch.zeros(6, 16, device=META), torch.zeros(6, dtype=torch.int64, device=META)
    with as_on_a_gpu():
        head = LinearHead(16, 5, LinearOptimiser(name=name), seed=0, device=META)
        head.step(features, labels, 0.1)  # makes the optimiser's state
        with Watch():
            head.step(features, labels, 0.1)
    with Watch():
        linear_scores(head.weight, head.bias, features)


BAD: dict[str, Callable[[Tensor], Any]] = {
    "a number for the host": lambda x: x.sum().item(),
    "a decision": lambda x: bool(x.any()),
    "a list": lambda x: x[:, 0].tolist(),
    "places of what is not zero": lambda x: x.nonzero(),
    "a boolean index": lambda x: x[x > 0],
    "a boolean index written": lambda x: x.index_put_((x > 0,), torch.zeros((), device=META)),
    "distinct values": lambda x: x.unique(),
    "a masked selection": lambda x: x.masked_select(x > 0),
    "rows repeated by counts of the device": lambda x: x.repeat_interleave(x[:, 0].long(), 0),
    "a copy to the host": lambda x: x.cpu(),
    "a table of the host": lambda x: torch.tensor([1.0, 2.0]).to(META),
    "an index of the host": lambda x: x[torch.tensor([0, 1])],
    "equality": lambda x: torch.equal(x, x),
}


@pytest.mark.parametrize("step", BAD)
def test_a_bad_step_fails(step: str) -> None:
    x = torch.zeros(4, 3, device=META)
    with pytest.raises(WaitsError), Watch():
        BAD[step](x)
