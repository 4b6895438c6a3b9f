"""The options of a synthetic dataset."""

import pytest

from skelpipe.errors import UsageError
from skelpipe.synth.options import SynthOptions


@pytest.mark.parametrize(
    "change", [{"seed": -1}, {"difficulty": -0.1}, {"difficulty": float("nan")}, {"frames": 3}]
)
def test_options_out_of_range_are_refused(change):
    with pytest.raises(UsageError, match=f"--{next(iter(change))}"):
        SynthOptions("ntu60", **change)
