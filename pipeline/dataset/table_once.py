"""The sample table of a dataset, read once: when it is needed or, once begun, beside other work.

What is read here needs no pyarrow until it is read, so that opening a card imports none.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, overload

from skelpipe.dataset.first_use import at_end
from skelpipe.storage.deadlines import result_of, run_into

if TYPE_CHECKING:
    from skelpipe.dataset.table_rows import TableRows

__all__ = ["ComingIds", "TableOnce"]


class TableOnce:
    """What `read` returns, read again where it raised; for any thread, also of a process forked meanwhile."""

    def __init__(self, read: Callable[[], "TableRows"]) -> None:
        self._read = read
        self._found: TableRows | None = None
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._begun: Future[TableRows] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether waiting for the rows, or for what `TableRows.require` waits for, would take time."""
        return self._found is None or self._found.is_pending

    def begin(self) -> None:
        """Read on a thread."""
        if self._pid != os.getpid():  # the thread, and who held the lock, stayed with the parent
            self._start()
        with self._lock:
            if self._found is not None or self._begun is not None:
                return
            self._begun = Future()
            thread = threading.Thread(
                target=run_into, args=(self._begun, self._read), name="skelpipe-table", daemon=True
            )
            thread.start()
        at_end(thread)

    def require(self) -> None:
        """Wait until the rows of what was read are hashed; DatasetError where they are not those of the digest."""
        if self._found is not None:
            self._found.require()

    def rows(self) -> "TableRows":
        """Return the table, once it is there; raises as `read`."""
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            if self._found is None:
                begun, self._begun = self._begun, None
                self._found = self._read() if begun is None else result_of(begun)
            return self._found


class ComingIds(Sequence[str]):
    """`count` ids that are read when the first of them is needed."""

    def __init__(self, find: Callable[[], Sequence[str]], count: int) -> None:
        self._find, self._count = find, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        return self._find()[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._find())
