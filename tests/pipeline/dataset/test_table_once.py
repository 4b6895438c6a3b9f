"""A table is read once, beside other work if it was begun, and again where reading failed."""

import threading
from typing import Any, cast

import pytest

from skelpipe.dataset.table_once import ComingIds, TableOnce
from skelpipe.errors import DatasetError


class Rows:
    is_pending = False


def test_it_is_read_once_by_many_threads() -> None:
    read: list[int] = []
    table = TableOnce(lambda: cast("Any", read.append(1) or Rows()))
    assert table.is_pending
    table.begin()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(table.rows())) for _ in range(4)]
    for thread in threads:
        thread.start()
    table.begin()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == len(read) == 1
    assert not table.is_pending


@pytest.mark.parametrize("begun", [False, True])
def test_it_is_read_again_after_an_error(begun: bool) -> None:
    answers: list[object] = [DatasetError("no"), Rows()]

    def read() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    table = TableOnce(read)
    if begun:
        table.begin()
    with pytest.raises(DatasetError):
        table.rows()
    assert isinstance(table.rows(), Rows)


def test_a_forked_process_reads_for_itself() -> None:
    table = TableOnce(lambda: cast("Any", Rows()))
    table._lock.acquire()  # by a thread of the parent
    table._pid += 1
    assert isinstance(table.rows(), Rows)


def test_ids_are_read_when_the_first_is_needed() -> None:
    read: list[int] = []
    ids = ComingIds(lambda: read.append(1) or ["a", "b", "c"], 3)
    assert (len(ids), read) == (3, [])
    assert (ids[1:], ids[-1], list(ids)) == (["b", "c"], "c", ["a", "b", "c"])
