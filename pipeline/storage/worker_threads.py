"""A few threads that run jobs in the order of submission: started when there is work, ended when there is none."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from skelpipe.storage.deadlines import run_into

__all__ = ["WorkerThreads"]

T = TypeVar("T")


class WorkerThreads:
    """At most `size` daemon threads: the process can end while they work. A forked process starts its own."""

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

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Run `job` after all earlier ones. Its Future can be cancelled until it starts."""
        if self._pid != os.getpid():  # the threads, and the lock they may hold, stayed with the parent
            self._begin()
        future: Future[T] = Future()
        with self._lock:
            self._jobs.append((future, job))
            if self._running < self._size:
                self._running += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def run_next(self, future: "Future[Any]") -> None:
        """Move a job to the front, because somebody waits for it."""
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
                future, job = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            run_into(future, job)
            del future, job  # an idle thread must not keep a file mapped
