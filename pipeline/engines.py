"""Who does the work of `prepare`: this process, processes of this machine, or a dask cluster.

Jobs are independent, write files of their own and may be run twice: whoever does them, the files are the same.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from skelpipe.errors import SkelpipeError, UsageError

__all__ = ["Job", "run_jobs", "run_on_dask"]

Job = Callable[[], None]

CONNECT_SECONDS = 20


def run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[None]:
    """Do the jobs on this machine, yielding after each; the first error ends the work, finished jobs stay."""
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield job()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise SkelpipeError(
                "a worker process was killed (out of memory?); run prepare again to go on"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run_on_dask(jobs: Sequence[Job], scheduler: str) -> Iterator[None]:
    """Do the jobs on a dask.distributed cluster, yielding after each.

    Jobs of a worker that is lost are done again by others. Workers need skelpipe, the raw files and the dataset's
    folder under the same paths. Raises UsageError without the `dask` extra or where no scheduler answers.
    """
    try:
        from distributed import Client
        from distributed import as_completed as completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise UsageError("--engine dask needs the extra: pip install 'skelpipe[dask]'") from None
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(f"--scheduler {scheduler}: no dask scheduler answers there: {error}") from None
    with client:
        futures = client.map(_run, jobs, pure=False)
        try:
            for _, _ in completed(futures, with_results=True):
                yield
        except KilledWorker:
            raise SkelpipeError(
                "several dask workers were lost over the same shard; run prepare again to go on"
            ) from None
        finally:
            client.cancel(futures)


def _run(job: Job) -> None:
    job()
