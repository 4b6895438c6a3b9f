"""The region that mixing replaces: whole parts over whole blocks, uniform over its choices."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.augment.draws import Draws
from skelpipe.augment.region import Region
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
LAYOUTS = st.sampled_from(["kinect-v2-25", "kinect-v1-20"]).map(layout)


def steps(count: int) -> Draws:
    """Draws of `count` batches of one clip each."""
    return Draws(5, 2, torch.zeros(count, dtype=torch.int64), 1, torch.arange(count))


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


@settings(max_examples=40)
@given(LAYOUTS, st.integers(8, 80), st.sampled_from([((1, 1), (1, 2)), ((2, 3), (1, 1)), ((1, 5), (2, 2))]))
def test_region_is_whole_parts_over_whole_blocks(skeleton, frames: int, bounds) -> None:  # type: ignore[no-untyped-def]
    region = Region(skeleton, *bounds, per="sample")
    params = region.sample(Draws(0, 0, torch.arange(20)), (20, 3, frames, len(skeleton), 2))
    fine, coarse = region.mask(params, frames, 4), region.mask(params, frames // 4)
    for n in range(20):
        first, length = int(params["first"][n]), int(params["length"][n])
        names = [name for name, on in zip(skeleton.parts, params["parts"][n].tolist(), strict=True) if on]
        joints = {joint for name in names for joint in skeleton.parts[name]}
        assert bounds[0][0] <= len(names) <= bounds[0][1]
        assert bounds[1][0] <= length <= bounds[1][1]
        assert 0 <= first <= frames // 4 - length
        expected = np.zeros((frames // 4, len(skeleton)), bool)
        expected[first : first + length, sorted(joints)] = True
        np.testing.assert_array_equal(coarse[n].numpy(), expected)
        whole = np.pad(expected.repeat(4, axis=0), [(0, frames % 4), (0, 0)])
        np.testing.assert_array_equal(fine[n].numpy(), whole)


@pytest.mark.parametrize(("parts", "least", "most"), [(2, 8, 12), (3, 13, 17), (4, 19, 21)])
def test_numbers_of_joints_of_kinect_regions(parts: int, least: int, most: int) -> None:
    region = Region(KINECT, (parts, parts), (1, 1))
    masks = region.mask(region.sample(steps(2000), (2000, 3, 8, 25, 2)), 2)
    counts = masks.any(1).sum(1)
    assert (int(counts.min()), int(counts.max())) == (least, most)


def test_regions_are_uniform_over_their_choices() -> None:
    count = 24_000
    drawn = Region(KINECT, (2, 3), (7, 11)).sample(steps(count), (count, 3, 64, 25, 2))
    sizes = drawn["parts"].sum(1)
    assert chi_square([int((sizes == k).sum()) for k in (2, 3)]) < 10.8  # p = 0.001 in all of these
    pairs = Counter(tuple(row.nonzero()[:, 0].tolist()) for row in drawn["parts"][sizes == 2])
    assert set(pairs) == set(combinations(range(5), 2))
    assert chi_square(list(pairs.values())) < 27.9
    lengths = Counter(drawn["length"].tolist())
    assert sorted(lengths) == [7, 8, 9, 10, 11]
    assert chi_square(list(lengths.values())) < 18.5
    for length in lengths:
        first = Counter(drawn["first"][drawn["length"] == length].tolist())
        assert sorted(first) == list(range(16 - length + 1))
        assert chi_square(list(first.values())) < 29.6
    together = torch.stack([sizes.double(), drawn["length"].double(), drawn["parts"][:, 0].double()])
    assert abs(float(torch.corrcoef(together)[0, 1])) < 4 / math.sqrt(count)
    assert abs(float(torch.corrcoef(together)[1, 2])) < 4 / math.sqrt(count)


def test_random_joints_are_uniform_over_their_choices() -> None:
    count = 6000
    skeleton = layout("kinect-v1-20")
    region = Region(skeleton, (2, 3), (7, 11), joints=(1, 3))
    drawn = region.sample(steps(count), (count, 3, 64, 20, 2))
    assert set(drawn) == {"joints", "first", "length"}
    sizes = Counter(drawn["joints"].sum(1).tolist())
    assert sorted(sizes) == [1, 2, 3]
    assert chi_square(list(sizes.values())) < 13.8  # p = 0.001 in both of these
    assert chi_square(drawn["joints"].sum(0).tolist()) < 43.8
    mask = region.mask(drawn, 16)
    assert torch.equal(mask.any(1), drawn["joints"])
    assert torch.equal(mask.any(2).sum(1), drawn["length"])
    for joints in [(0, 2), (3, 2), (1, 21)]:
        with pytest.raises(UsageError, match="of the 20 joints of kinect-v1-20"):
            Region(skeleton, (2, 3), (7, 11), joints=joints)


def test_a_region_per_batch_and_per_sample() -> None:
    draws = Draws(0, 0, torch.arange(30), 0, torch.arange(30) // 10)
    shape = (30, 3, 64, 25, 2)
    common = Region(KINECT, (2, 3), (7, 11)).sample(draws, shape)
    rows = torch.cat([common["parts"].long(), common["first"][:, None], common["length"][:, None]], 1)
    assert [len(rows[i : i + 10].unique(dim=0)) for i in (0, 10, 20)] == [1, 1, 1]
    assert len(rows.unique(dim=0)) == 3
    own = Region(KINECT, (2, 3), (7, 11), per="sample").sample(draws, shape)
    assert len(torch.cat([own["parts"].long(), own["first"][:, None]], 1).unique(dim=0)) > 15
    some = torch.tensor([25, 3])
    again = Region(KINECT, (2, 3), (7, 11), per="sample").sample(Draws(0, 0, some), (2, *shape[1:]))
    assert all(torch.equal(again[key], own[key][some]) for key in own)


@pytest.mark.parametrize(
    ("parts", "blocks", "per"),
    [
        ((0, 2), (1, 2), "batch"),
        ((3, 2), (1, 2), "batch"),
        ((2, 6), (1, 2), "batch"),
        ((1, 2), (0, 2), "batch"),
        ((1, 2), (3, 2), "batch"),
        ((1, 2), (1, 2), "clip"),
    ],
)
def test_impossible_regions_are_refused(parts: tuple[int, int], blocks: tuple[int, int], per: str) -> None:
    with pytest.raises(UsageError):
        Region(KINECT, parts, blocks, per)


def test_clips_that_do_not_fit_are_refused() -> None:
    region = Region(KINECT, (2, 3), (7, 11))
    with pytest.raises(UsageError, match=r"11 blocks.*40; .*at least 44.*at most 10"):
        region.sample(steps(1), (1, 3, 40, 25, 2))
    with pytest.raises(UsageError, match="20 joints"):
        region.sample(steps(1), (1, 3, 64, 20, 2))
