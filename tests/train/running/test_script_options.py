"""Options that scripts share."""

from datetime import timedelta

import click
import pytest

from skelpipe.train.running.script_options import Interval


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10", 10),
        ("90s", timedelta(seconds=90)),
        ("30min", timedelta(minutes=30)),
        ("1.5h", timedelta(minutes=90)),
    ],
)
def test_an_interval_is_epochs_or_a_time(text: str, found: int | timedelta) -> None:
    assert Interval().convert(text, None, None) == found


@pytest.mark.parametrize("text", ["0", "-1", "0min", "30m", "min", "1 h", "1e3s", ""])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="neither a number of epochs nor a time such as 90s, 30min or 2h"):
        Interval().convert(text, None, None)
