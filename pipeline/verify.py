"""`verify`: do a dataset's shards, indices, anchors and sample table hold what its card says, byte for byte."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from skelpipe.card import SAMPLES
from skelpipe.dataset import Dataset
from skelpipe.manifest import SIDES
from skelpipe.progress import progress

__all__ = ["damages"]

CHUNK = 1 << 20


@dataclass(frozen=True)
class _Expected:
    path: Path
    sha256: str
    size: int | None


def damages(dataset: Dataset, *, workers: int = 1, quiet: bool = False) -> list[str]:
    """Hash every data file of the dataset; return a line for each that is missing or differs from the card."""
    files = list(_files(dataset))
    found = []
    with ThreadPoolExecutor(workers) as pool:  # hashing and reading leave Python's lock alone
        checks = pool.map(_damage, files)
        for damage in progress(checks, f"verify {dataset.path}: files", len(files), quiet=quiet):
            if damage:
                found.append(damage)
    return found


def _files(dataset: Dataset) -> Iterator[_Expected]:
    for split in SIDES:
        for shard in dataset.shards(split):
            for view, facts in shard["views"].items():
                path = dataset.shard_path(split, view, shard["name"])
                yield _Expected(path, facts["sha256"], facts["bytes"])
                yield _Expected(path.with_suffix(".idx"), facts["idx_sha256"], None)
    yield _Expected(dataset.path / SAMPLES, dataset.card["samples_file"]["sha256"], None)
    for view, facts in dataset.card["anchors"].items():
        if view != "absent":
            yield _Expected(dataset.path / "anchors" / f"{view}.npy", facts["sha256"], None)


def _damage(expected: _Expected) -> str | None:
    hasher = hashlib.sha256()
    size = 0
    try:
        with open(expected.path, "rb") as file:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except OSError as error:
        return f"{expected.path}: cannot be read: {error.strerror}"
    if expected.size is not None and size != expected.size:
        return f"{expected.path}: {size} bytes, the card says {expected.size}"
    if hasher.hexdigest() != expected.sha256:
        return f"{expected.path}: damaged: its sha256 is not the card's"
    return None
