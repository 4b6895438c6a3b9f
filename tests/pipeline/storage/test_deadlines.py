"""Waits that end: with the result, at a deadline, or because nobody needs the result any more."""

import threading
import time
from concurrent.futures import Future

import pytest

from skelpipe.errors import SkelpipeError
from skelpipe.storage import deadlines, open_filesystem, retry
from skelpipe.storage.deadlines import DeadlineError, StoppedError, call_within, give_up_when, pause, result_of
from skelpipe.storage.retry import ExhaustedError, MinimumSpeed, TransientError

LONG = 300.0  # seconds that no test waits


def on_a_thread(work) -> BaseException | None:
    """Return what `work` raises on a thread of its own; `give_up_when` in it concerns that thread only."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_what_was_done_in_time_comes_as_it_is() -> None:
    assert call_within(LONG, lambda: 5) == 5
    assert call_within(None, lambda: threading.current_thread().name) == "skelpipe-call"
    for error in (ValueError("mine"), TimeoutError("mine"), DeadlineError("mine")):
        with pytest.raises(type(error), match="mine"):
            call_within(LONG, lambda error=error: (_ for _ in ()).throw(error))


def test_a_deadline_ends_the_wait_and_not_the_call() -> None:
    go, done = threading.Event(), threading.Event()

    def call() -> None:
        go.wait(LONG)
        done.set()

    with pytest.raises(DeadlineError):
        call_within(0.05, call)
    assert not done.is_set()
    go.set()
    assert done.wait(LONG)


@pytest.mark.parametrize(
    "wait", [lambda: result_of(Future()), lambda: pause(LONG), lambda: call_within(LONG, lambda: time.sleep(LONG))]
)
def test_a_thread_whose_work_is_stopped_ends_its_waits(wait) -> None:
    stopped = threading.Event()

    def work() -> None:
        give_up_when(stopped.is_set)
        threading.Timer(0.1, stopped.set).start()
        wait()

    assert isinstance(on_a_thread(work), StoppedError)


def test_only_the_thread_that_asked_gives_up(monkeypatch) -> None:
    monkeypatch.setattr(deadlines, "STEP_SECONDS", 0.01)
    assert on_a_thread(lambda: give_up_when(lambda: True)) is None
    assert on_a_thread(lambda: pause(0.05)) is None
    pause(0.05)


def test_a_wait_between_two_tries_ends_as_well(monkeypatch) -> None:
    """And is not taken for another failure."""
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=5, first=LONG, longest=LONG))
    tries = []

    def busy() -> None:
        tries.append(1)
        raise TransientError("busy")

    def work() -> None:
        give_up_when(lambda: bool(tries))
        retry.Retries().call(busy)

    assert isinstance(on_a_thread(work), StoppedError)
    assert len(tries) == 1


def test_a_speed_too_low_for_long_is_an_error() -> None:
    """8 KiB per second over 30 s are enough, a byte less is not; earlier fast reads do not count."""
    speed = MinimumSpeed("here")
    for _ in range(10):
        speed.add(3.0, 1 << 20)
    for _ in range(10):
        speed.add(3.0, 3 * 8192)
    for _ in range(9):
        speed.add(3.0, 3 * 8192)
    with pytest.raises(TransientError, match=r"^here: only 245,759 bytes came in 30 s$"):
        speed.add(3.0, 3 * 8192 - 1)


@pytest.mark.parametrize("kind", ["trickle", "head"])
def test_a_server_that_trickles_is_given_up(url, server, fault, folder, monkeypatch, kind) -> None:
    """Each byte resets the time-out, so such a read could take half an hour with the usual constants."""
    import skelpipe.storage.bucket
    import skelpipe.storage.http

    for module in (retry, skelpipe.storage.bucket, skelpipe.storage.http):
        monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(skelpipe.storage.http, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(skelpipe.storage.bucket, "SLOWEST", 50_000_000)
    filesystem = open_filesystem(url)
    server.faults["/bucket/ds/samples.parquet"] = [fault(kind, 2, method=method) for method in ("GET", "HEAD")]
    assert filesystem.read("samples.parquet") == (folder / "samples.parquet").read_bytes()
    server.faults["/bucket/ds/samples.parquet"] = [fault(kind, 99)]
    begun = time.monotonic()
    with pytest.raises(ExhaustedError, match="came in|no complete answer came in time") as caught:
        filesystem.read("samples.parquet")
    assert "given up after 5 attempts" in str(caught.value)
    assert time.monotonic() - begun < LONG
    assert isinstance(caught.value, SkelpipeError)
