"""Verifying that every data file of a dataset has the size and the hash that the card lists."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

from skelpipe.dataset import Dataset
from skelpipe.dataset.inventory import DataFile, inventory
from skelpipe.errors import SkelpipeError
from skelpipe.files import size_and_hash_of
from skelpipe.progress import progress
from skelpipe.storage.deadlines import give_up_when
from skelpipe.storage.filesystem import Filesystem, at_most

__all__ = ["damages"]


def damages(dataset: Dataset, *, workers: int = 1, quiet: bool = False) -> list[str]:
    """Hash every data file of the dataset; return one line for each that is missing or differs from the card.

    A remote dataset is streamed from its server, without a cache; nothing is kept on this machine.
    """
    files = list(inventory(dataset.card))
    found = []
    stop = Event()
    # Threads suffice: hashing and reading release Python's global lock.
    with ThreadPoolExecutor(workers, initializer=give_up_when, initargs=(stop.is_set,)) as pool:
        checks = pool.map(partial(_damage, dataset.filesystem), files)
        try:
            for damage in progress(checks, f"verify {dataset.filesystem}: files", len(files), quiet=quiet):
                if damage:
                    found.append(damage)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _damage(filesystem: Filesystem, expected: DataFile) -> str | None:
    name = f"{filesystem}/{expected.name}"
    try:
        size, sha256 = size_and_hash_of(at_most(filesystem.stream(expected.name), expected.most))
    except SkelpipeError as error:
        return str(error)
    if expected.size is not None and size != expected.size:
        return f"{name}: {size} bytes, the card says {expected.size}"
    if sha256 != expected.sha256:
        return f"{name}: damaged: its sha256 differs from the card"
    return None
