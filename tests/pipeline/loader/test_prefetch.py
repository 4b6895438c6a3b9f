"""The thread of the loader: it reads a bounded number ahead, always ends, and its errors are raised."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.loader import Loader
from skelpipe.loader.read_ahead import ReadAhead
from skelpipe.loader.stream import Stream

pytestmark = pytest.mark.usefixtures("threads")

NORMAL = chain("normal")
PAIR = {"query": NORMAL, "key": NORMAL}


def opened(dataset: Any, batch: int = 4, reads: Sequence[str] = ("joint",), **options: Any) -> Stream:
    return Stream(dataset, "train", reads, batch, **{"seed": 3, **options})


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_no_more_than_prefetch_is_read_ahead(memory_dataset: Any, prefetch: int) -> None:
    dataset = memory_dataset([200])
    batches = iter(Loader(opened(dataset), "cpu", {"x": None}, prefetch=prefetch))
    for handed_out in range(1, 4):
        next(batches)
        limit = handed_out + prefetch + 1  # the thread holds one more and waits for room
        wait_until(lambda limit=limit: dataset.readers["joint"].gathers == limit)
        time.sleep(0.05)
        assert dataset.readers["joint"].gathers == limit


def test_breaking_off_leaves_no_thread_and_the_rest_follows(memory_dataset: Any, threads: Any) -> None:
    loader = Loader(opened(memory_dataset([40])), "cpu", PAIR)
    for batch in loader:
        if batch.step == 3:
            break
    assert threads() == []
    assert [batch.step for batch in loader] == [4, 5, 6, 7, 8, 9]
    assert [(batch.epoch, batch.step) for batch in islice(loader, 2)] == [(1, 0), (1, 1)]


def test_an_error_of_the_consumer_leaves_no_thread(memory_dataset: Any, threads: Any) -> None:
    loader = Loader(opened(memory_dataset([40])), "cpu", PAIR)

    def consume() -> None:
        for _ in loader:
            raise KeyError("the model failed")

    with pytest.raises(KeyError) as caught:
        consume()
    assert threads() == []  # although the traceback is still alive
    assert caught.traceback


def test_closing_and_dropping_end_the_thread(memory_dataset: Any, threads: Any) -> None:
    loader = Loader(opened(memory_dataset([40])), "cpu", PAIR)
    batches = iter(loader)
    next(batches)
    assert len(threads()) == 1
    loader.close()
    loader.close()
    assert threads() == []
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)
    assert loader.state()["step"] == 1
    batches = iter(loader)
    assert next(batches).step == 1
    del loader, batches
    assert threads() == []


def test_a_new_iteration_ends_the_one_before(memory_dataset: Any, threads: Any) -> None:
    loader = Loader(opened(memory_dataset([40])), "cpu", PAIR)
    first = iter(loader)
    next(first)
    second = iter(loader)
    assert next(second).step == 1
    assert len(threads()) == 1
    with pytest.raises(RuntimeError, match="anew"):
        next(first)
    assert next(second).step == 2
    loader.close()


def test_an_error_of_the_thread_reaches_the_consumer_in_its_turn(memory_dataset: Any, threads: Any) -> None:
    dataset = memory_dataset([40])
    stream = opened(dataset, shuffle=False)
    loader = Loader(stream, "cpu", PAIR, prefetch=4)
    dataset.readers["joint"].broken_row = 13
    batches = iter(loader)
    assert [next(batches).step for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match=r"Input/output error: 'train/joint/000000.tar'") as caught:
        next(batches)
    assert caught.value.errno == 5
    assert threads() == []
    assert loader.state()["step"] == 3
    dataset.readers["joint"].broken_row = -1
    assert [batch.step for batch in loader] == list(range(3, 10))


def test_an_error_while_drawing_reaches_the_consumer(memory_dataset: Any) -> None:
    class Broken:
        def sample(self, draws: Draws, shape: torch.Size) -> Any:
            raise ValueError("cannot draw")

        def apply(self, x: Tensor, params: Any) -> Tensor:
            return x

    with pytest.raises(ValueError, match="cannot draw"):
        list(Loader(opened(memory_dataset([8])), "cpu", {"x": Broken()}))


def test_the_interpreter_ends_with_a_loader_left_open() -> None:
    script = """
import numpy as np
from skelpipe.loader.prefetch import Prefetch
def forever(idle):
    while True:
        yield np.zeros(1000)
left = Prefetch(forever, 2)
print(len(next(left)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n", "")


def test_views_made_ahead_are_those_made_at_their_turn(memory_dataset: Any, monkeypatch: Any) -> None:
    dataset = memory_dataset([40])
    ahead: list[int] = []
    make = ReadAhead._make

    def noted(source: ReadAhead, ready: Any, idle: Any) -> None:
        make(source, ready, idle)
        ahead.append(len(ready.made))

    monkeypatch.setattr(ReadAhead, "_make", noted)
    slow = []
    for batch in Loader(opened(dataset), "cpu", PAIR, prefetch=3):
        slow.append(batch)
        time.sleep(0.02)  # gives the thread enough time
    assert max(ahead) == 2
    monkeypatch.setattr(ReadAhead, "_make", lambda source, ready, idle: None)
    for one, other in zip(slow, Loader(opened(dataset), "cpu", PAIR), strict=True):
        assert torch.equal(one.query, other.query)
        assert torch.equal(one.key, other.key)


def test_state_counts_what_was_handed_out_not_what_was_read(memory_dataset: Any) -> None:
    dataset = memory_dataset([40])
    loader = Loader(opened(dataset), "cpu", PAIR, prefetch=3)
    batches = iter(loader)
    assert loader.state()["step"] == 0
    next(batches)
    wait_until(lambda: dataset.readers["joint"].gathers >= 4)
    assert loader.state()["step"] == 1
    assert loader.state() == loader.stream.state()
    loader.close()
