"""Draws: exact against plain integer arithmetic, uniform, independent, and dependent on the sample alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.augment.draws import Draws

WORD = 1 << 64
GOLDEN = 0x9E3779B97F4A7C15
N = 20_000


def fold(key: int, word: int) -> int:
    z = (key + (word + 1) * GOLDEN) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def scramble(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)


def words(path: list[int], index: list[int], k: int) -> np.ndarray:
    """The hash in numpy's uint64, whose shifts are logical and whose products wrap."""
    key = 0
    for word in path:
        key = fold(key, word)
    rows = scramble((np.array(index, np.uint64) + np.uint64(1)) * np.uint64(GOLDEN))
    columns = np.arange(1, k + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return scramble((rows ^ np.uint64(key))[:, None] + columns)


@given(
    st.integers(0, WORD),
    st.integers(0, 1 << 20),
    st.lists(st.integers(0, (1 << 62)), max_size=5),
    st.integers(0, 50),
    st.lists(st.integers(0, 50), max_size=3),
    st.integers(1, 7),
)
def test_draws_are_those_of_unsigned_arithmetic(
    seed: int, epoch: int, index: list[int], slot: int, children: list[int], k: int
) -> None:
    draws = Draws(seed, epoch, torch.tensor(index, dtype=torch.int64), slot)
    for child in children:
        draws = draws.child(child)
    bits = words([seed, epoch, slot, *children], index, k)
    unit = draws.uniform(k)
    assert unit.dtype == torch.float32
    assert unit.shape == (len(index), k)
    expected = (bits >> np.uint64(40)).astype(np.float64) / 2**24
    assert unit.double().tolist() == expected.tolist()  # 24 bits: exact in float32
    whole = draws.integers(k, -3, 14)
    assert whole.dtype == torch.int64
    assert whole.tolist() == [[(int(b) >> 33) * 17 // 2**31 - 3 for b in row] for row in bits]


def test_scaled_uniform_is_the_unit_draw_scaled() -> None:
    draws = Draws(1, 2, torch.arange(N))
    unit, scaled = draws.uniform(3).double(), draws.uniform(3, -0.5, 0.5).double()
    torch.testing.assert_close(scaled, unit - 0.5, rtol=0, atol=0)
    assert scaled.min() >= -0.5
    assert scaled.max() < 0.5
    thirty = draws.uniform(3, 0.0, 30.0).double()
    torch.testing.assert_close(thirty, unit * 30, rtol=1e-6, atol=0)


def test_a_sample_gets_the_same_whatever_batch_it_is_in() -> None:
    index = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    whole = Draws(5, 6, index, 1).child(2)
    part = Draws(5, 6, index[300:310], 1).child(2)
    assert torch.equal(whole.uniform(6)[300:310], part.uniform(6))
    assert torch.equal(whole.integers(2, 0, 17)[300:310], part.integers(2, 0, 17))
    assert torch.equal(whole.uniform(6)[:, :2], whole.uniform(2))


def test_nothing_is_changed_by_drawing() -> None:
    index = torch.arange(5)
    draws = Draws(0, 0, index)
    first = draws.uniform(3)
    draws.child(1).uniform(2)
    draws.integers(2, 0, 9)
    assert torch.equal(draws.uniform(3), first)
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert len(draws) == 5


def ks_distance(values: np.ndarray) -> float:
    """Kolmogorov-Smirnov: the largest gap between the empirical and the uniform distribution function."""
    ordered = np.sort(values)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


CRITICAL = 1.95 / math.sqrt(N)  # p = 0.001


@pytest.mark.parametrize(("seed", "epoch", "slot"), [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (12345, 299, 3)])
@pytest.mark.parametrize("step", [1, 128, 1 << 32])
def test_values_are_uniform(seed: int, epoch: int, slot: int, step: int) -> None:
    drawn = Draws(seed, epoch, torch.arange(N) * step, slot).uniform(6).double().numpy()
    for column in drawn.T:
        assert ks_distance(column) < CRITICAL
    assert ks_distance(drawn[:3000].ravel()[:N]) < 1.95 / math.sqrt(18_000)


def test_one_sample_over_many_epochs_is_uniform() -> None:
    drawn = torch.cat([Draws(3, epoch, torch.tensor([17])).uniform(1) for epoch in range(3000)])
    assert ks_distance(drawn.double().numpy().ravel()) < 1.95 / math.sqrt(3000)


def test_columns_slots_epochs_seeds_and_neighbours_are_uncorrelated() -> None:
    def drawn(seed: int = 0, epoch: int = 0, slot: int = 0, child: int | None = None) -> torch.Tensor:
        draws = Draws(seed, epoch, torch.arange(N), slot)
        return (draws if child is None else draws.child(child)).uniform(3).double()

    columns = [*drawn().T, *drawn(slot=1).T, *drawn(slot=2).T, *drawn(epoch=1).T, *drawn(epoch=2).T]
    columns += [*drawn(seed=1).T, *drawn(seed=2).T, *drawn(child=0).T, *drawn(child=1).T]
    columns += [drawn()[:, 0].roll(1), drawn()[:, 0].roll(2), drawn()[:, 0].roll(128)]
    table = torch.stack(columns)
    for moments in (table, (table - 0.5) ** 2):  # of the values and of their spread
        correlation = torch.corrcoef(moments).fill_diagonal_(0)
        assert correlation.abs().max() < 4.5 / math.sqrt(N)  # 435 pairs: chance of a false alarm 0.3 %
    assert len({tuple(column[:4].tolist()) for column in columns[:-3]}) == len(columns) - 3


def test_integers_are_uniform_over_their_range() -> None:
    drawn = Draws(7, 8, torch.arange(17_000)).integers(1, 0, 17)
    counts = torch.bincount(drawn[:, 0], minlength=17).double()
    assert len(counts) == 17
    assert ((counts - 1000) ** 2 / 1000).sum() < 39.3  # 16 degrees of freedom, p = 0.001
    assert Draws(0, 0, torch.arange(9)).integers(4, 5, 6).tolist() == [[5] * 4] * 9


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, 3), (0, (1 << 31) + 1)])
def test_integers_from_an_impossible_range_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=str(high)):
        Draws(0, 0, torch.arange(2)).integers(1, low, high)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_draws_are_the_same_on_the_gpu() -> None:
    index = torch.arange(N) * 977
    here, there = Draws(4, 5, index, 6).child(7), Draws(4, 5, index.cuda(), 6).child(7)
    assert torch.equal(here.uniform(6, -0.5, 0.5), there.uniform(6, -0.5, 0.5).cpu())
    assert torch.equal(here.integers(3, 0, 17), there.integers(3, 0, 17).cpu())


def steps(count: int) -> Draws:
    """Draws of `count` batches of one clip each."""
    return Draws(5, 2, torch.zeros(count, dtype=torch.int64), 1, torch.arange(count))


def test_shared_draws_follow_the_step_and_nothing_of_the_samples() -> None:
    index, step = torch.tensor([4, 9, 7, 1, 8]), torch.tensor([0, 0, 1, 1, 1])
    drawn = Draws(1, 2, index, 3, step).child(4).shared().uniform(2)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[4])
    assert not torch.equal(drawn[1], drawn[2])
    part = Draws(1, 2, torch.tensor([100]), 3, torch.tensor([1])).child(4).shared().uniform(2)
    assert torch.equal(part[0], drawn[3])  # another rank's share of batch 1
    for other in [Draws(0, 2, index, 3, step), Draws(1, 3, index, 3, step), Draws(1, 2, index, 5, step)]:
        assert not torch.equal(other.child(4).shared().uniform(2), drawn)
    own = Draws(1, 2, step, 3, step).child(4)
    assert not torch.equal(own.uniform(2), own.shared().uniform(2))


def test_without_a_step_the_first_sample_stands_for_the_batch() -> None:
    drawn = Draws(1, 2, torch.tensor([6, 2, 9])).shared().uniform(2)
    assert torch.equal(drawn, drawn[:1].expand(3, 2))
    assert not torch.equal(Draws(1, 2, torch.tensor([2, 6])).shared().uniform(2), drawn[:2])
    assert Draws(1, 2, torch.empty(0, dtype=torch.int64)).shared().uniform(2).shape == (0, 2)


def test_shared_draws_are_uniform_over_steps() -> None:
    drawn = steps(20_000).shared().uniform(1)[:, 0].double().sort().values
    assert (drawn - torch.arange(20_000) / 20_000).abs().max() < 1.95 / math.sqrt(20_000)


def test_what_a_batch_shares_is_drawn_once_for_it() -> None:
    """The draws with one row per batch are those of `shared`, whose rows are equal in a batch."""
    for step in (None, torch.tensor([3, 3, 3, 4, 4, 9])):
        draws = Draws(1, 2, torch.tensor([6, 2, 9, 1, 0, 7]), 3, step).child(4)
        once, rows = draws.shared_once()
        assert len(once) == (1 if step is None else 3)
        for drawn, every in ((once, draws.shared()), (once.child(2), draws.shared().child(2))):
            assert torch.equal(drawn.uniform(3)[rows], every.uniform(3))
            assert torch.equal(drawn.integers(2, 0, 99)[rows], every.integers(2, 0, 99))
