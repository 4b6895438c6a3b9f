"""Donors: one shift per batch, uniform, and never the clip itself."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.augment.donor import below, donors, draw_donors, draw_turn, take
from skelpipe.augment.draws import Draws
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
LAYOUTS = st.sampled_from(["kinect-v2-25", "kinect-v1-20"]).map(layout)


def steps(count: int) -> Draws:
    """Draws of `count` batches of one clip each."""
    return Draws(5, 2, torch.zeros(count, dtype=torch.int64), 1, torch.arange(count))


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


@given(st.integers(3, 40), st.integers(0, (1 << 31) - 1))
def test_donors_are_one_shift_and_never_oneself(count: int, turn: int) -> None:
    donor = donors(torch.full((count,), turn), torch.arange(count), torch.full((count,), count)).tolist()
    shift = donor[0]
    assert 1 <= shift <= count - 2
    assert donor == [(i + shift) % count for i in range(count)]


def test_donors_of_tiny_batches() -> None:
    most = (1 << 31) - 1
    assert donors(torch.tensor([most, most]), torch.arange(2), torch.tensor([2, 2])).tolist() == [1, 0]
    assert donors(torch.tensor([most]), torch.arange(1), torch.tensor([1])).tolist() == [0]
    assert draw_donors(Draws(0, 0, torch.empty(0, dtype=torch.int64))).tolist() == []


def test_shifts_are_uniform() -> None:
    turns = draw_turn(steps(12_000))
    shifts = Counter(1 + int(n) for n in below(turns, 8 - 2))
    assert sorted(shifts) == [1, 2, 3, 4, 5, 6]
    assert chi_square(list(shifts.values())) < 20.5  # 5 degrees of freedom, p = 0.001
    first, eight = torch.zeros(200, dtype=torch.int64), torch.full((200,), 8)
    assert set(donors(turns[:200], first, eight).tolist()) == {1, 2, 3, 4, 5, 6}


def test_batches_drawn_together_have_the_donors_of_each() -> None:
    sizes = (5, 1, 4, 7)
    step = torch.cat([torch.full((size,), 3 + n) for n, size in enumerate(sizes)])
    together = draw_donors(Draws(5, 2, torch.arange(len(step)), 1, step)).split(sizes)
    for n, size in enumerate(sizes):
        alone = draw_donors(Draws(5, 2, torch.arange(size), 1, torch.full((size,), 3 + n)))
        assert together[n].tolist() == alone.tolist()
        assert together[n].tolist() == [(i + int(alone[0])) % size for i in range(size)]


def test_take_is_a_choice_of_clips_and_frames() -> None:
    x = torch.randn(4, 3, 6, 5, 2)
    donor, frames = torch.tensor([2, 0, 3, 3]), torch.randint(0, 6, (4, 6))
    expected = np.stack([x.numpy()[j][:, f] for j, f in zip(donor.tolist(), frames.numpy(), strict=True)])
    np.testing.assert_array_equal(take(x, donor, frames).numpy(), expected)
