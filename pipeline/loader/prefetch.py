"""Items produced ahead on one background thread: a bounded number, with errors raised in the consumer."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from skelpipe.storage.deadlines import give_up_when

__all__ = ["Prefetch"]

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Run the iterator `produce(idle)` on a thread and keep at most `depth` items ready.

    `idle()` tells the iterator whether an item is still ready: then there is time for work that the consumer would
    do otherwise.

    An error of the iterator is raised by `next` after the items before it. The thread ends with the iterator, with
    `close`, when this object is deleted, and when the interpreter exits; `produce` must therefore not hold a
    reference to this object.
    """

    def __init__(
        self,
        produce: Callable[[Callable[[], bool]], Iterator[T]],
        depth: int,
        name: str = "prefetch",
    ) -> None:
        self._queue: _Queue[T] = _Queue(depth)
        thread = threading.Thread(target=_run, args=(produce, self._queue), name=name, daemon=True)
        self._stop = weakref.finalize(self, _stop, self._queue, thread)
        thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._queue.get()

    def close(self) -> None:
        """Stop the thread, wait until it has ended, and drop the items that were ready. May be called twice."""
        self._stop()


class _Queue(Generic[T]):
    """A bounded queue that both producer and consumer can end; each is woken only when it may be waiting."""

    def __init__(self, depth: int) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._depth = depth
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Append an item when there is room; return False if the queue was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._depth)
            if self._ended:
                return False
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify_all()
            return True

    def get(self) -> T:
        """Return the next item; after the last one raise the producer's error, or StopIteration."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) > 0)
            if self._items:
                item = self._items.popleft()
                if len(self._items) == self._depth - 1:
                    self._changed.notify_all()
                return item
            error, self._error = self._error, None
            raise StopIteration if error is None else error

    def end(self, error: BaseException | None = None) -> None:
        """The producer has no more items, because of `error` if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def holds_any(self) -> bool:
        return bool(self._items)

    def is_closed(self) -> bool:
        return self._ended

    def close(self) -> None:
        """The consumer needs no more items."""
        with self._changed:
            self._ended = True
            self._items.clear()
            self._changed.notify_all()


def _run(produce: Callable[[Callable[[], bool]], Iterator[T]], queue: _Queue[T]) -> None:
    give_up_when(queue.is_closed)  # otherwise `close` would wait as long as a server hangs
    try:
        for item in produce(queue.holds_any):
            if not queue.put(item):
                return
    except BaseException as error:  # of any kind: the consumer raises it
        queue.end(error)
    else:
        queue.end()


def _stop(queue: _Queue[T], thread: threading.Thread) -> None:
    queue.close()
    if thread is not threading.current_thread():
        thread.join()
