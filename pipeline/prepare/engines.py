"""The engines that run the jobs of `prepare`: this process, worker processes, or a dask cluster.

Jobs are independent, write separate files and may be repeated; the files do not depend on the engine.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import Any

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.plugins import load, loaded

__all__ = ["Job", "run_jobs", "run_on_dask", "start_method", "workers_ready"]

Job = Callable[[], None]

CONNECT_SECONDS = 20
PATIENCE_SECONDS = 5.0  # that workers have to leave their jobs
START_METHOD = "SKELPIPE_START_METHOD"
FORKSERVER = "forkserver"
PRELOADED = ["skelpipe.prepare.preloaded"]
_HIDING = threading.Lock()


@contextmanager
def workers_ready(count: int) -> Iterator[Executor | None]:
    """Start worker processes while the caller plans the work; yields None if `count` is 1.

    The workers are forked from a process that has loaded everything they need and has no threads or locks; a
    thread waits until it is ready. Where there is no such process, or $SKELPIPE_START_METHOD is spawn, each is
    started and loads that by itself. A terminal sends Ctrl-C to all processes; it reaches a worker only while it
    runs a job, since anywhere else the worker would print a traceback. A worker does not run the script of the
    user again, which therefore needs no `if __name__ == "__main__"`.
    """
    method = start_method()
    if count == 1:
        yield None
        return
    context = multiprocessing.get_context(method)
    if method == FORKSERVER:
        context.set_forkserver_preload(PRELOADED)
    begun_with = (dict(os.environ), [each.module for each in loaded()])
    with _Workers(count, context, initializer=_begin, initargs=begun_with) as pool:
        pool.starting.start()
        try:
            yield pool
        except BaseException:
            pool.end_early()
            raise
        finally:
            pool.starting.join()


class _Workers(ProcessPoolExecutor):
    """Worker processes, which the thread `starting` starts, and which end early where nobody needs their work."""

    def __init__(self, count: int, context: Any, **how: Any) -> None:
        super().__init__(count, context, **how)
        self.starting = threading.Thread(target=_start, args=(self, count), name="skelpipe-start")
        self._server_before = _fork_server()

    def end_early(self) -> None:
        """Interrupt the jobs, end workers that do not leave theirs in time, and wait until all have ended."""
        server = _fork_server()
        if self.starting.is_alive() and server is not None and server != self._server_before:
            # Until it is ready, this pool's lock is held: for half a minute where it compiles kernels, and for
            # many times that where the machine is busy.
            with suppress(OSError):
                os.kill(server, signal.SIGKILL)
        self.starting.join()
        processes = list((self._processes or {}).values())
        for process in processes:
            with suppress(OSError):  # it has ended already
                if hasattr(signal, "pthread_sigmask") and process.pid is not None:
                    os.kill(process.pid, signal.SIGINT)  # held back by those without a job
                else:
                    process.terminate()

        def kill() -> None:
            for process in processes:
                process.kill()

        late = threading.Timer(PATIENCE_SECONDS, kill)
        late.daemon = True
        late.start()
        self.shutdown(wait=True, cancel_futures=True)
        late.cancel()


def _fork_server() -> int | None:
    """Return the process id of this process's fork server, if it has one that can be found."""
    found: int | None = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    return found


def start_method() -> str:
    """Return how worker processes are started: forkserver where there is one, else spawn.

    $SKELPIPE_START_METHOD chooses one of them; UsageError for anything else.
    """
    known = [name for name in (FORKSERVER, "spawn") if name in multiprocessing.get_all_start_methods()]
    chosen = os.environ.get(START_METHOD) or known[0]
    if chosen not in known:
        raise UsageError(f"{START_METHOD}={chosen}: on this system it can be {' or '.join(known)}")
    return chosen


def _start(pool: Executor, count: int) -> None:
    """Make the pool start its processes by giving it work. They inherit the blocked signals of this thread."""
    _hold_interrupts()
    with suppress(Exception):  # the caller gets the same error for real work
        for _ in range(count):
            _submit(pool, _nothing)


def _nothing() -> None:
    pass


def _submit(pool: Executor, function: Callable[..., None], *arguments: Any) -> "Future[None]":
    """Submit a job; a process that this starts does not import `__main__`, of which no job needs anything."""
    main = sys.modules["__main__"]
    with _HIDING:
        hidden: dict[str, Any] = {
            name: main.__dict__.pop(name) for name in ("__spec__", "__file__") if name in main.__dict__
        }
        main.__spec__ = None
        try:
            return pool.submit(function, *arguments)
        finally:
            main.__dict__.update(hidden)


def run_jobs(jobs: Sequence[Job], pool: Executor | None) -> Iterator[None]:
    """Run the jobs on this machine and yield after each; the first error ends the work, finished jobs stay.

    Jobs that run are finished after an error, and interrupted where a signal ends the command.
    """
    if pool is None or len(jobs) <= 1:
        for job in jobs:
            yield job()
        return
    try:
        futures = [_submit(pool, _interruptible, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise SkelpipeError(
            "a worker process was killed (out of memory?); run prepare again to continue"
        ) from None
    except Exception:
        raise
    except BaseException:  # a signal, or nobody takes the results: a shard may take minutes
        if isinstance(pool, _Workers):
            pool.end_early()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _interruptible(job: Job) -> None:
    _release_interrupts()
    try:
        job()
    finally:
        _hold_interrupts()


def _hold_interrupts() -> None:
    """Keep Ctrl-C from this thread and the processes that it starts; on Windows from this process, a worker."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    elif multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _release_interrupts() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _begin(environment: dict[str, str], plugins: Sequence[str]) -> None:
    """Set the environment, which may hold credentials, make the worker end with its parent, and load plug-ins.

    The fork server has only the environment of its start. A killed parent cannot stop its workers, so they
    watch it.
    """
    _hold_interrupts()
    os.environ.clear()
    os.environ.update(environment)
    for module in plugins:
        load(module)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_on_dask(jobs: Sequence[Job], scheduler: str) -> Iterator[None]:
    """Run the jobs on a dask.distributed cluster and yield after each.

    The jobs of a lost worker are repeated by others. Workers need skelpipe, and the raw files and the dataset's
    folder under the same paths. Raises UsageError without the `dask` extra or if no scheduler answers.
    """
    try:
        from distributed import Client
        from distributed import as_completed as completed
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise UsageError("--engine dask needs the extra: pip install 'skelpipe[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the errors below are shorter than its messages
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"--scheduler {scheduler}: no dask scheduler answers there: {error}") from None
    with client:
        futures = client.map(_run, jobs, plugins=[each.module for each in loaded()], pure=False)
        try:
            for _, _ in completed(futures, with_results=True):
                yield
            if not all(future.done() and future.status == "finished" for future in futures):
                raise CommClosedError
        except (CommClosedError, FutureCancelledError, CancelledError):
            raise SkelpipeError(f"{scheduler}: the dask cluster was lost; run prepare again to continue") from None
        except KilledWorker:
            raise SkelpipeError(
                "several dask workers were lost on the same shard; run prepare again to continue"
            ) from None
        finally:
            client.cancel(futures)


def _run(job: Job, plugins: Sequence[str]) -> None:
    for module in plugins:
        load(module)
    job()
