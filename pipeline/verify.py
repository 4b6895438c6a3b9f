"""`verify`: do a dataset's shards, indices, anchors and sample table hold what its card says, byte for byte."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from skelpipe.dataset import Dataset
from skelpipe.files import size_and_hash
from skelpipe.inventory import DataFile, inventory
from skelpipe.progress import progress

__all__ = ["damages"]


def damages(dataset: Dataset, *, workers: int = 1, quiet: bool = False) -> list[str]:
    """Hash every data file of the dataset; return a line for each that is missing or differs from the card."""
    files = list(inventory(dataset.card))
    found = []
    with ThreadPoolExecutor(workers) as pool:  # hashing and reading leave Python's lock alone
        checks = pool.map(partial(_damage, dataset.path), files)
        for damage in progress(checks, f"verify {dataset.path}: files", len(files), quiet=quiet):
            if damage:
                found.append(damage)
    return found


def _damage(folder: Path, expected: DataFile) -> str | None:
    path = folder / expected.name
    try:
        size, sha256 = size_and_hash(path)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    if expected.size is not None and size != expected.size:
        return f"{path}: {size} bytes, the card says {expected.size}"
    if sha256 != expected.sha256:
        return f"{path}: damaged: its sha256 is not the card's"
    return None
