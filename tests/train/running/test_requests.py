"""What ranks agree to do: from any rank's signal, from the clock of rank 0, at few steps."""

import signal
from itertools import pairwise

import pytest
import torch

from skelpipe.train.running import requests
from skelpipe.train.running.ranks import ALONE, Ranks
from skelpipe.train.running.requests import Request, Requests


class Pair(Ranks):
    """Rank 0 of two; the other one, without a clock that counts, has got `other` as its signal."""

    other = 0
    sums = 0

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        Pair.sums += 1
        told = [Pair.other == each for each in requests.PREEMPTING]
        return x + torch.tensor([*told, 0, 0], dtype=x.dtype)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(requests.time, "monotonic", lambda: now[0])
    Pair.other = Pair.sums = 0
    return now


def test_alone_a_signal_is_seen_at_once_and_the_clock_counts(clock: list[float]) -> None:
    came = [0]
    asked = Requests(ALONE, lambda: came[0], 10.0)
    assert asked.ask() == Request()
    clock[0] += 10
    assert asked.ask() == asked.ask() == Request(0, True)  # until it is saved
    asked.saved()
    came[0] = signal.SIGTERM
    assert asked.ask() == Request(signal.SIGTERM, False)


def test_ranks_exchange_a_message_about_twice_a_second(clock: list[float]) -> None:
    asked = Requests(Pair(0, 2), lambda: 0, 3.0)
    looked, saved = [], []
    for step in range(1000):
        clock[0] += 0.01  # seconds per step
        before = Pair.sums
        if asked.ask().save:
            saved.append(step)
            asked.saved()
        if Pair.sums > before:
            looked.append(step)
    assert looked[0] == 0
    assert all(49 <= later - earlier <= 51 for earlier, later in pairwise(looked))
    assert len(saved) in (2, 3)
    assert all(300 <= later - earlier <= 351 for earlier, later in pairwise([0, *saved]))


def test_a_signal_of_the_other_rank_counts_and_is_remembered(clock: list[float]) -> None:
    asked = Requests(Pair(0, 2), lambda: 0)
    Pair.other = signal.SIGUSR1
    assert asked.ask(always=True) == Request(signal.SIGUSR1)
    Pair.other, before = 0, Pair.sums
    assert asked.ask() == asked.ask(always=True) == Request(signal.SIGUSR1)
    assert Pair.sums == before
