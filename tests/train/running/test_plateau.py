"""Rates that are lowered when the loss stalls, against PyTorch's scheduler, also over a checkpoint."""

import io
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from skelpipe.train.recipes.schema import FinetuneOptimiser, Optimiser
from skelpipe.train.running.plateau import base_rate, look


def optimiser() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.05, momentum=0.9)


def losses() -> list[float]:
    """Falls, stalls, falls a little, rises and stalls: 120 epochs."""
    noise = 0.02 * torch.rand(120, generator=torch.Generator().manual_seed(3))
    falling = [3 * 0.9 ** min(epoch, 15) - 0.1 * (epoch > 60) + 0.2 * (epoch > 90) for epoch in range(120)]
    return [a + float(b) for a, b in zip(falling, noise, strict=True)]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"patience": 3},
        {"patience": 0, "factor": 0.5, "threshold": 0.05, "min_lr": 1e-3},
        {"patience": 2, "cooldown": 4, "factor": 0.3},
    ],
)
def test_the_rates_are_those_of_pytorch(values: dict[str, Any]) -> None:
    settings = FinetuneOptimiser(lr=0.05, warmup=0, milestones=[], schedule="plateau", **values)
    mine, theirs = optimiser(), optimiser()
    given = {"factor": 0.1, "patience": 10, "threshold": 1e-4, **values}
    scheduler = ReduceLROnPlateau(theirs, **given)
    found, expected = [], []
    for epoch, loss in enumerate(losses()):
        if epoch == 40:  # as a run that is stopped and goes on
            file = io.BytesIO()
            torch.save(mine.state_dict(), file)
            file.seek(0)
            mine = optimiser()
            mine.load_state_dict(torch.load(file, weights_only=True))
        found.append(base_rate(mine, settings))
        expected.append(theirs.param_groups[0]["lr"])
        look(mine, settings, loss)
        scheduler.step(loss)
    assert found == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) > 1


def test_without_the_schedule_nothing_is_kept() -> None:
    plain, settings = optimiser(), Optimiser(lr=0.3)
    look(plain, settings, 1.0)
    assert base_rate(plain, settings) == 0.3
    assert plain.state_dict() == optimiser().state_dict()
