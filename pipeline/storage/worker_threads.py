"""A few threads that do jobs in the order asked: started when there is work, gone when there is none."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from skelpipe.storage.deadlines import settle

__all__ = ["WorkerThreads"]

T = TypeVar("T")


class WorkerThreads:
    """At most `size` threads. They are daemons and hold up no exit; a process that was forked starts its own."""

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._begin()

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerThreads, (self._size, self._name)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running = 0

    def submit(self, deed: Callable[[], T]) -> "Future[T]":
        """Have `deed` done after all that was submitted before; its Future can be cancelled until it is begun."""
        if self._pid != os.getpid():  # the threads and whatever they held stayed with the parent
            self._begin()
        future: Future[T] = Future()
        with self._lock:
            self._jobs.append((future, deed))
            if self._running < self._size:
                self._running += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def hurry(self, future: "Future[Any]") -> None:
        """Have a job done next, because somebody waits for it."""
        with self._lock:
            for job in self._jobs:
                if job[0] is future:
                    self._jobs.remove(job)
                    self._jobs.appendleft(job)
                    return

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running -= 1
                    return
                future, deed = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            settle(future, deed)
            del future, deed  # an idle thread keeps nothing mapped
