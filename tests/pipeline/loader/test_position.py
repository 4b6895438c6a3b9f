"""What workers of a DataLoader agree on: which iteration they are in, however they come and go."""

import multiprocessing
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import UsageError
from skelpipe.loader.position import WORKERS, Position


def forked(position: Position) -> Position:
    """A position of another process: the same memory, and no memory of its own."""
    rebuild, arguments = position.__reduce__()
    found: Position = rebuild(*arguments)
    return found


def test_it_stands_where_it_was_set() -> None:
    position = Position()
    assert (position.epoch, position.step) == (0, 0)
    position.set(4, 7)
    assert (position.epoch, position.step) == (4, 7)


def test_the_first_iteration_begins_there_and_others_at_the_next_epoch() -> None:
    position = Position(4, 7)
    assert [forked(position).begin(worker, 99) for worker in (1, 0, 2)] == [(4, 7)] * 3
    assert (position.epoch, position.step) == (5, 0)
    assert [forked(position).begin(worker, 5) for worker in (2, 0, 1)] == [(5, 0)] * 3
    position.set(1, 1)
    assert [forked(position).begin(worker, 5) for worker in (0, 1, 2)] == [(1, 1)] * 3


@given(st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=8), st.data())
def test_workers_agree_though_some_never_come(iterations: list[set[int]], data: st.DataObject) -> None:
    """A worker of an iteration that was left early may have ended before it began to iterate."""
    position = Position()
    for number, workers in enumerate(iterations):
        key = number + 8 * data.draw(st.integers(0, 2**60))
        for worker in data.draw(st.permutations(sorted(workers))):
            assert forked(position).begin(worker, key) == (number, 0)


def test_iterations_of_a_generator_that_is_seeded_alike_before_each() -> None:
    position = Position()
    for epoch in range(3):
        assert [forked(position).begin(worker, 7) for worker in (0, 1)] == [(epoch, 0)] * 2


@given(st.lists(st.permutations(range(3)), min_size=1, max_size=6))
def test_persistent_workers_agree(orders: list[list[int]]) -> None:
    position = Position()
    workers = [forked(position) for _ in range(3)]
    for epoch, order in enumerate(orders):
        assert [workers[number].begin(number, 7) for number in order] == [(epoch, 0)] * 3
    position.set(9, 2)
    assert [workers[number].begin(number, 7) for number in range(3)] == [(9, 2)] * 3
    assert [workers[number].begin(number, 7) for number in range(3)] == [(10, 0)] * 3


def test_a_persistent_worker_that_starts_late_catches_up() -> None:
    """The first iteration was left before its second worker had begun."""
    position = Position()
    first, second = forked(position), forked(position)
    assert [first.begin(0, 7), first.begin(0, 7)] == [(0, 0), (1, 0)]
    assert [second.begin(1, 7), second.begin(1, 7)] == [(0, 0), (1, 0)]
    assert [second.begin(1, 7), first.begin(0, 7)] == [(2, 0)] * 2


def test_a_worker_that_starts_after_the_stream_was_set_catches_up() -> None:
    position = Position()
    first, second = forked(position), forked(position)
    first.begin(0, 7)
    position.set(5, 1)
    second.begin(1, 7)  # of the iteration that was left
    assert [first.begin(0, 7), second.begin(1, 7)] == [(5, 1)] * 2
    assert [second.begin(1, 7), first.begin(0, 7)] == [(6, 0)] * 2


def begun(position: Position, worker: int, queue: "multiprocessing.Queue[tuple[int, int]]") -> None:
    queue.put(position.begin(worker, 3))


def test_processes_share_it() -> None:
    context = multiprocessing.get_context("fork")
    position, queue = Position(2, 5), context.Queue()
    processes = [context.Process(target=begun, args=(position, worker, queue)) for worker in range(2)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=120) for _ in processes] == [(2, 5), (2, 5)]
    for process in processes:
        process.join()
    assert (position.epoch, position.step) == (3, 0)
    position.set(0, 1)
    assert (position.epoch, position.step) == (0, 1)


def test_a_pickled_copy_is_another_position() -> None:
    position = Position(2, 5)
    copied = pickle.loads(pickle.dumps(position))
    position.set(0, 0)
    assert (copied.epoch, copied.step) == (2, 5)
    assert copied.begin(0, 1) == (2, 5)
    assert position.epoch == 0


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    position = Position()
    with pytest.raises(UsageError, match="at most"):
        position.begin(WORKERS, 1)

    def fail(*_: object) -> None:
        raise RuntimeError("unable to open shared memory object")

    monkeypatch.setattr("torch.Tensor.share_memory_", fail)
    alone = Position(1, 2)
    assert (alone.epoch, alone.step) == (1, 2)
    with pytest.raises(UsageError, match="/dev/shm"):
        alone.begin(0, 1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_workers_can_begin_in_an_epoch_of_their_own(order: tuple[int, int]) -> None:
    """As those that go on from a state: the iterations after it are in the next epochs."""
    position = Position()
    workers = [forked(position) for _ in range(2)]
    for worker in order:
        assert workers[worker].begin(worker, 7) == (0, 0)
    for worker in order:
        workers[worker].begin_in(4, worker, 8)
    assert (position.epoch, position.step) == (5, 0)
    for worker in order:
        assert workers[worker].begin(worker, 9) == (5, 0)
