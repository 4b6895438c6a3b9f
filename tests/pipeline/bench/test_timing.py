"""Two ways are timed in turns, medians count, and torch gets its threads back."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from skelpipe.bench import timing

CPU = torch.device("cpu")


class Clock:
    """A clock that the measured functions advance."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_ways_take_turns_and_medians_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr(timing, "time", clock)

    def way(name: str, seconds: float, samples: int) -> Callable[[], int]:
        def run() -> int:
            calls.append(name)
            slow = 50 if calls.count(name) == 8 else 1  # a hiccup, which no median sees
            clock.now += seconds * slow
            return samples

        return run

    rates = timing.compare(way("a", 0.125, 5), way("b", 0.5, 3), 22.0, CPU)
    assert (rates.ours, rates.reference) == (pytest.approx(40), pytest.approx(6))
    assert rates.spread == pytest.approx((40 / 6, 40 / 6))
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ["a", "b"] * (len(turns) // 2)
    assert len(turns) >= 10
    calls.clear()
    timing.compare(way("a", 1.0, 1), way("b", 1.0, 1), 0.0, CPU, skip=3)
    assert calls == ["a", "b"] + (["a"] * 4 + ["b"] * 4) * timing.TURNS


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()

    def fail_inside() -> None:
        with timing.threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.get_num_threads() == before


def test_half_of_the_ratios_of_turns_lie_within_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turn = Clock(), iter(range(1, 1000))
    monkeypatch.setattr(timing, "time", clock)

    def slower() -> int:
        clock.now += next(turn)
        return 1

    def steady() -> int:
        clock.now += 1
        return 1

    rates = timing.compare(slower, steady, 0.0, CPU)
    ratios = np.array([1 / seconds for seconds in range(2, 2 + timing.TURNS)])  # the first run is not counted
    low, high = rates.spread
    assert ((ratios >= low) & (ratios <= high)).sum() in (
        timing.TURNS // 2,
        timing.TURNS // 2 + 1,
        timing.TURNS // 2 + 2,
    )
    assert low < np.median(ratios) < high
