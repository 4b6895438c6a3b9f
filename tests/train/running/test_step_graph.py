"""Steps that are recorded and replayed are those of plain training; on a CPU, with a recorder in place of CUDA's.

It behaves as a CUDA graph does in what matters here: recording runs nothing, and a replay reads the memory and has
the numbers of the host that were there when it was recorded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.loader import Loader, Stream
from skelpipe.models.method import Progress
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.running.loop import build_optimiser, set_rate, train_epoch
from skelpipe.train.running.networks import initialised
from skelpipe.train.running.run import RunOptions
from skelpipe.train.running.step_graph import WARM, Outcome, StepGraph, Work, numbers_of

CPU = torch.device("cpu")
SMALL = ("encoder.width=4", "encoder.out_channels=8", "queue=32", "head.hidden=8", "head.dim=8", "init=default")
EPOCHS, STEPS = 2, 5  # steps per epoch


class Repeater:
    """Stands for CUDA's recorder. A graph knows the learning rate and the stage of its recording only."""

    def __init__(self, method: Any, optimiser: Any) -> None:
        self.method, self.optimiser = method, optimiser
        self.ran = self.recorded = self.replayed = 0

    def run(self, work: Work) -> Outcome:
        self.ran += 1
        return work()

    def record(self, work: Work) -> tuple[Callable[[], None], Outcome]:
        self.recorded += 1
        numbers = numbers_of(self.method, self.optimiser)
        outcome: Outcome = (torch.zeros(()), {})

        def replay() -> None:
            self.replayed += 1
            assert numbers_of(self.method, self.optimiser) == numbers
            loss, logs = work()
            outcome[0].copy_(loss)
            outcome[1].update({name: each.clone() for name, each in logs.items()})

        return replay, outcome


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic_clips(tmp_path_factory.mktemp("clips"), 16, 4 * STEPS)


def train(dataset: Dataset, name: str, *, recorded: bool, **more: str) -> tuple[dict[str, Tensor], Any, list[Any]]:
    """Train for two epochs, the second at another rate."""
    given = [f"{key.replace('__', '.')}={value}" for key, value in more.items()]
    recipe = with_overrides(load_recipe(name), [*SMALL, "frames=16", "batch_size=4", *given], epochs=EPOCHS)
    method = initialised(recipe, dataset.layout, 0, anchor=lambda: torch.from_numpy(dataset.anchor("joint")))
    optimiser = build_optimiser(method, recipe.optimiser)
    recorder = Repeater(method, optimiser)
    graph = StepGraph(method, optimiser, recorder) if recorded else None
    stream, results = Stream(dataset, "train", ["joint"], 4, seed=0), []
    for epoch in range(EPOCHS):
        start = Progress(epoch, EPOCHS, 0, STEPS)
        method.advance(start)
        set_rate(optimiser, 0.01 if epoch else 0.02)
        loader = Loader(stream, "cpu", method.views())
        done = train_epoch(
            method,
            optimiser,
            loader,
            start,
            device=CPU,
            amp=False,
            accumulate=1,
            ids=dataset.ids("train"),
            working=lambda step, speed: None,
            graph=graph,
        )
        assert done is not None
        results.append(done.learned)
        loader.close()
    return method.state_dict(), recorder, results


def test_replayed_steps_are_those_of_plain_training(dataset: Dataset) -> None:
    """Through both stages of AimCLR, to the last bit."""
    plain, _, logs = train(dataset, "aimclr", recorded=False, aimclr__mining_epoch="1")
    replayed, recorder, found = train(dataset, "aimclr", recorded=True, aimclr__mining_epoch="1")
    assert found == logs
    assert all(torch.equal(plain[key], replayed[key]) for key in plain)
    # In each epoch some steps run as they are, then one is recorded and replayed with the rest.
    assert (recorder.ran, recorder.recorded, recorder.replayed) == (2 * WARM, 2, 2 * (STEPS - WARM))


def test_numbers_that_change_with_every_step_are_named(dataset: Dataset) -> None:
    with pytest.raises(SkelpipeError, match=r"one value of moco\.momentum, which changes with every step"):
        train(dataset, "skeattnclr", recorded=True, skeattnclr__blocks="[1,2]")


def test_a_graph_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cuda-graph needs a GPU, and the device is cpu"):
        RunOptions(tmp_path, CPU, cuda_graph=True)
