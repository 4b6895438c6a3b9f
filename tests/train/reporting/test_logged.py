"""What a finished evaluation tells the loggers."""

from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.running.run_loggers import ask_for_loggers


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed (extra dev)")
def test_an_evaluation_tells_figures_curves_and_pictures(own: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_outcome(own)
    assert not (own / "tensorboard").exists()
    with click.Context(click.Command("linear")):
        ask_for_loggers(["tensorboard"])
        log_outcome(own)
    drawn = EventAccumulator(str(own / "tensorboard")).Reload()
    assert [event.value for event in drawn.Scalars("train/top1")] == [10.0, 20.0, 30.0, 40.0]
    assert [event.value for event in drawn.Scalars("figures/top5")] == [91.25]
    if find_spec("matplotlib"):
        assert set(drawn.Tags()["images"]) == {"confusion"}
