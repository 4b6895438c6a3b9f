"""What is tried again, how often, and after how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import SkelpipeError
from skelpipe.storage import retry
from skelpipe.storage.retry import FIRST_ATTEMPTS, ExhaustedError, Retries, RetryPolicy, TransientError


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(retry, "pause", seconds.append)
    return seconds


def test_waits_double_up_to_a_longest_and_differ_by_chance(slept) -> None:
    policy = RetryPolicy(attempts=9, first=0.2, longest=5.0)
    for failures in range(1, 9):
        for _ in range(50):
            policy.wait(failures)
    for failures in range(8):
        own = slept[50 * failures : 50 * failures + 50]
        span = min(5.0, 0.2 * 2**failures)
        assert span / 2 <= min(own) < max(own) <= span


def test_a_server_that_asks_for_time_gets_it_within_reason(slept) -> None:
    RetryPolicy(first=0.1).wait(1, asked=7.0)
    RetryPolicy(first=0.1).wait(1, asked=86_400.0)
    assert 7.0 <= slept[0] <= 7.1
    assert 60.0 <= slept[1] <= 60.1


def test_the_default_policy_waits_between_20_and_60_seconds(slept) -> None:
    for failures in range(1, RetryPolicy().attempts):
        RetryPolicy().wait(failures)
    assert 20 < sum(slept) < 60


@pytest.mark.parametrize("failing", range(6))
def test_a_request_is_repeated_until_it_works_or_attempts_end(slept, failing) -> None:
    tries = []

    def call() -> str:
        tries.append(1)
        if len(tries) <= failing:
            raise TransientError("busy")
        return "done"

    if failing < 5:
        assert Retries().call(call) == "done"
        assert len(tries) == failing + 1
        assert len(slept) == failing
    else:
        with pytest.raises(ExhaustedError, match="busy; given up after 5 attempts"):
            Retries().call(call)
        assert len(tries) == 5


def test_another_failure_is_not_tried_again(slept) -> None:
    def call() -> None:
        raise SkelpipeError("refused")

    with pytest.raises(SkelpipeError, match="^refused$"):
        Retries().call(call)
    assert slept == []


def test_a_server_that_never_answered_is_given_up_soon(slept, monkeypatch) -> None:
    """Its name may be wrong; one that answered before may be starting anew."""
    monkeypatch.setattr(retry, "POLICY", RetryPolicy(attempts=9))

    def tries(retries: Retries, unreachable: bool) -> int:
        count = 0

        def call() -> None:
            nonlocal count
            count += 1
            raise TransientError("nobody", unreachable=unreachable)

        with pytest.raises(ExhaustedError):
            retries.call(call)
        return count

    retries = Retries()
    assert tries(retries, unreachable=True) == FIRST_ATTEMPTS
    assert tries(retries, unreachable=False) == 9
    assert tries(retries, unreachable=True) == 9


@given(breaks=st.lists(st.integers(0, 300), max_size=4))
def test_a_stream_goes_on_with_the_byte_it_lacks(breaks) -> None:
    content = bytes(i % 256 for i in range(300))
    ends = list(breaks)

    def read_from(start: int):
        end = max(start, ends.pop()) if ends else None
        yield from (bytes([byte]) for byte in content[start:end])
        if end is not None:
            raise TransientError("broken")

    assert b"".join(Retries().stream(read_from)) == content


def test_progress_renews_the_attempts(slept, monkeypatch) -> None:
    monkeypatch.setattr(retry, "PROGRESS", 10)
    reads = []

    def read_from(start: int):
        reads.append(start)
        yield bytes(10 if len(reads) < 20 else 0)
        raise TransientError("broken")

    with pytest.raises(ExhaustedError, match="after 5 attempts"):
        list(Retries().stream(read_from))
    assert len(reads) == 19 + 4


def test_a_failure_of_the_consumer_is_its_own() -> None:
    def read_from(start: int):
        yield b"a"

    pieces = Retries().stream(read_from)
    next(pieces)
    with pytest.raises(KeyError):
        pieces.throw(KeyError("mine"))
