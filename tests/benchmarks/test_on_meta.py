"""A training step of every method runs on torch's meta device: nothing waits for the device, or stays on the host.

A new method in `METHODS` is tested without a change here.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.dataset import Dataset
from skelpipe.models.build import METHODS
from skelpipe.train.recipes.reader import load_recipe, with_overrides

sys.path.append(str(Path(__file__).parent))  # as for the benchmarks run as scripts
from on_meta import META, MetaRun, WaitsError, Watch, as_on_a_gpu

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
