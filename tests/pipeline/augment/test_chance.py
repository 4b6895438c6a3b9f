"""From uniform draws to whole numbers and subsets."""

import scipy
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.augment.chance import some, whole
from skelpipe.augment.draws import Draws

UNIT = st.floats(0, 1, exclude_max=True, width=32)


@given(st.lists(UNIT, min_size=1), st.integers(-5, 5), st.integers(1, 1 << 20))
def test_whole_numbers_stay_in_their_range(unit: list[float], low: int, steps: int) -> None:
    values = whole(torch.tensor(unit), low, low + steps)
    assert values.min() >= low
    assert values.max() < low + steps
    limits = torch.full((len(unit),), steps + low)
    assert torch.equal(whole(torch.tensor(unit), low, limits), values)


def test_subsets_of_a_size_are_equally_likely(many: Draws) -> None:
    drawn = some(many.uniform(4), torch.full((len(many),), 2))
    assert (drawn.sum(1) == 2).all()
    kinds = (drawn * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16)
    pairs = [3, 5, 6, 9, 10, 12]
    assert kinds[pairs].sum() == len(many)
    assert scipy.stats.chisquare(kinds[pairs].numpy()).pvalue > 1e-4
