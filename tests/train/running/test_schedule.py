"""Learning rates against the papers' schedules and PyTorch's schedulers."""

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from skelpipe.train.recipes.schema import FinetuneOptimiser, LearningRates, LinearOptimiser, Optimiser
from skelpipe.train.running.schedule import learning_rate, rate_at


def test_a_milestone_acts_from_the_next_epoch_on() -> None:
    # Guo et al. 2022, "Experimental Settings": milestone 250 of 300 epochs, counted from 1.
    rates = {epoch: learning_rate(0.1, [250], epoch) for epoch in (1, 249, 250, 251, 300)}
    assert rates == {1: 0.1, 249: 0.1, 250: 0.1, 251: 0.01, 300: 0.01}
    assert [learning_rate(3.0, [2, 3], epoch) for epoch in (1, 2, 3, 4)] == [3.0, 3.0, 0.3, 0.03]
    assert learning_rate(0.1, [], 300) == 0.1


def test_warm_up_rises_to_the_rate() -> None:
    # Chen et al. 2022, "Finetune Protocol": lr * epoch / 10 in the first ten epochs, /10 at 50 and 70.
    rates = {epoch: learning_rate(0.1, [50, 70], epoch, warmup=10) for epoch in (1, 5, 9, 10, 11, 50, 51, 71)}
    wanted = {1: 0.01, 5: 0.05, 9: 0.09, 10: 0.1, 11: 0.1, 50: 0.1, 51: 0.01, 71: 0.001}
    assert rates == pytest.approx(wanted, rel=1e-12)


def rates_of_torch(lr: float, units: int, warmup: int, least: float) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=lr)
    schedule: LRScheduler = CosineAnnealingLR(optimiser, units - warmup, eta_min=least)
    if warmup:
        rise = LinearLR(optimiser, start_factor=1 / warmup, total_iters=max(warmup - 1, 1))
        schedule = SequentialLR(optimiser, [rise, schedule], milestones=[warmup])
    rates = []
    for _ in range(units):
        rates.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("kind", [Optimiser, FinetuneOptimiser, LinearOptimiser])
@pytest.mark.parametrize(("warmup", "least"), [(0, 0.0), (1, 1e-4), (3, 0.02)])
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step()`")
def test_cosine_is_that_of_pytorch(kind: type[LearningRates], warmup: int, least: float) -> None:
    epochs, steps = 11, 7
    values: dict[str, Any] = {"lr": 0.3, "schedule": "cosine", "warmup": warmup, "min_lr": least}
    times = [(epoch, step) for epoch in range(1, epochs + 1) for step in range(steps)]
    found = [rate_at(kind(**values), epoch, epochs, step, steps) for epoch, step in times]
    by_epoch = rates_of_torch(0.3, epochs, warmup, least)
    assert found == pytest.approx([by_epoch[epoch - 1] for epoch, _ in times], rel=1e-12)
    found = [rate_at(kind(**values, per="step"), epoch, epochs, step, steps) for epoch, step in times]
    assert found == pytest.approx(rates_of_torch(0.3, epochs * steps, warmup * steps, least), rel=1e-12)


def test_steps_may_rise_by_step_and_fall_by_epoch() -> None:
    settings = Optimiser(lr=0.4, warmup=2, milestones=[3], per="step")
    found = [rate_at(settings, epoch, 5, step, 4) for epoch in range(1, 6) for step in range(4)]
    expected = [0.4 * t / 8 for t in range(1, 9)] + [0.4] * 4 + [0.04] * 8
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_run_within_its_warmup_only_rises() -> None:
    settings = Optimiser(lr=0.4, warmup=10, schedule="cosine")
    assert [rate_at(settings, epoch, 2) for epoch in (1, 2)] == pytest.approx([0.04, 0.08])
