"""Verifying a dataset, or a part of it: the digest is computed again from the content of its files.

What counts is not the card's word on a file but the content that training gets: the bytes of shards, the decoded
rows of the sample table, the clips of HDF5 files (by the hash of the shard that they would be), and the anchors.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import SAMPLES, parse_samples, rows_hash
from skelpipe.dataset.hash_tree import digest_of, leaves, part_hash, part_leaves
from skelpipe.dataset.hdf5_clips import Hdf5Clips
from skelpipe.dataset.inventory import DATA_FILE, DataFile, inventory
from skelpipe.dataset.tar_shard import TAIL, Geometry, index_text, new_block
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import size_and_hash_of
from skelpipe.manifest import SUBSETS
from skelpipe.progress import progress
from skelpipe.storage.deadlines import give_up_when
from skelpipe.storage.filesystem import Filesystem, at_most

__all__ = ["Verified", "damages", "verify"]

AT_ONCE = 64  # clips of an HDF5 file in memory, per worker


@dataclass(frozen=True)
class Verified:
    """What `verify` found: a line per damage.

    `digest` is that of the content, None where a file is missing or only parts were verified; `parts` are the
    hashes of the parts that were asked for, as the digest has them (`skelpipe.dataset.hash_tree.part_hash`).
    """

    damages: list[str]
    digest: str | None
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: lines about damage, and the hashes that the content has, by the leaf's name."""

    damages: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)


Check = Callable[[], Finding]


def damages(dataset: Dataset, *, workers: int = 1, quiet: bool = False) -> list[str]:
    """Return one line for everything of a dataset that is missing or differs from its digest; see `verify`."""
    return verify(dataset, workers=workers, quiet=quiet).damages


def verify(
    dataset: Dataset,
    parts: Sequence[str] = (),
    *,
    deep: bool = False,
    workers: int = 1,
    quiet: bool = False,
) -> Verified:
    """Compare the content of a dataset with its digest; of the `parts` alone if there are any.

    A part is a leaf of `skelpipe.dataset.hash_tree`, a folder of them, or an HDF5 file. `deep` also compares the
    containers with each other (`skelpipe.dataset.agreement`). A remote dataset is streamed from its server,
    without a cache; its HDF5 files lie in a temporary folder meanwhile. Raises UsageError for a part that is not
    there.
    """
    card = dataset.card
    chosen = {part: _leaves_of(card, part) for part in parts}
    files = {facts["file"] for facts in card.get("hdf5", {}).values()}
    wanted = {leaf for each in chosen.values() for leaf in each} | (files & {*parts}) if parts else None
    known = leaves(card)
    found: list[str] = []
    hashes: dict[str, str] = {}
    with TemporaryDirectory(prefix="skelpipe-verify-", ignore_cleanup_errors=True) as folder:
        hdf5 = {
            subset: Hdf5Clips(dataset, subset, Path(folder))
            for subset in SUBSETS
            if subset in card.get("hdf5", {})
        }
        checks: list[Check] = [
            partial(check, known) for names, check in _checks(dataset, hdf5) if wanted is None or wanted & names
        ]
        if wanted is None:
            checks += [partial(_container_facts, dataset), partial(_unlisted, dataset)]
        if deep:
            from skelpipe.dataset.agreement import comparisons

            checks += [partial(_compared, each) for each in comparisons(dataset, hdf5, wanted)]
        for finding in progress(
            _run(checks, workers), f"verify {dataset.filesystem}: files", len(checks), quiet=quiet
        ):
            found += finding.damages
            hashes |= finding.hashes
    digest = digest_of(card, hashes) if wanted is None and hashes.keys() >= known.keys() else None
    return Verified(list(dict.fromkeys(found)), digest, {part: part_hash(each) for part, each in chosen.items()})


def _leaves_of(card: Mapping[str, Any], part: str) -> dict[str, str]:
    for subset, facts in card.get("hdf5", {}).items():
        if part == facts["file"]:
            return {
                leaf: hashed
                for leaf, hashed in leaves(card).items()
                if leaf.startswith(f"{subset}/") and leaf.endswith(".tar")
            }
    return part_leaves(card, part)


def _run(checks: Sequence[Check], workers: int) -> Iterator[Finding]:
    stop = Event()
    # Threads suffice: hashing and reading release Python's global lock.
    with ThreadPoolExecutor(workers, initializer=give_up_when, initargs=(stop.is_set,)) as pool:
        try:
            yield from pool.map(_called, checks)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _compared(comparison: Callable[[], list[str]]) -> Finding:
    return Finding(tuple(comparison()))


def _called(check: Check) -> Finding:
    try:
        return check()
    except UsageError:
        raise
    except SkelpipeError as error:
        return Finding((str(error),))


def _checks(
    dataset: Dataset, hdf5: Mapping[str, Hdf5Clips]
) -> Iterator[tuple[frozenset[str], Callable[[Mapping[str, str]], Finding]]]:
    """Yield each check of content with the leaves or files that it looks at; it takes the hash of every leaf."""
    filesystem, clips = dataset.filesystem, {file.name: file for file in hdf5.values()}
    for file in inventory(dataset.card):
        own = clips.get(file.name)
        check = partial(_file, filesystem, file, own.size_and_hash if own else partial(_hashed, filesystem, file))
        if file.name == SAMPLES:
            yield frozenset([SAMPLES]), partial(_table, filesystem, file, dataset.card, check)
        else:
            yield frozenset([file.name]), check
    for each in hdf5.values():
        yield from _hdf5_checks(each)


def _hashed(filesystem: Filesystem, file: DataFile) -> tuple[int, str]:
    return size_and_hash_of(at_most(filesystem.stream(file.name), file.most))


def _file(
    filesystem: Filesystem, expected: DataFile, found: Callable[[], tuple[int, str]], _known: Mapping[str, str]
) -> Finding:
    """Compare the bytes of a file, of which `found` returns size and hash, with the card."""
    size, sha256 = found()
    hashes, name = {expected.name: sha256}, f"{filesystem}/{expected.name}"
    if expected.size is None and size > expected.most:
        return Finding((f"{name}: is longer than {expected.most:,} bytes, which no such file is",), hashes)
    if expected.size is not None and size != expected.size:
        stands = f"more than {expected.size:,} bytes" if size > expected.size else f"{size:,} bytes"
        return Finding((f"{name}: {stands}, the card says {expected.size:,}",), hashes)
    if sha256 != expected.sha256:
        return Finding((f"{name}: damaged: its sha256 differs from the card",), hashes)
    return Finding(hashes=hashes)


def _table(
    filesystem: Filesystem,
    expected: DataFile,
    card: Mapping[str, Any],
    check: Callable[[Mapping[str, str]], Finding],
    known: Mapping[str, str],
) -> Finding:
    """Compare the rows of the sample table with the digest, and the card's counts with the rows.

    `check` compares the bytes of its file.
    """
    if (found := check(known)).damages:
        return found
    table = parse_samples(
        filesystem.read(SAMPLES, expected.most), card, filesystem
    )  # which compares the hash of the rows
    dropped = dict(Counter(filter(None, table["reason"].to_pylist())))
    wrong = [] if dropped == card["dropped"] else [f"{filesystem}/{SAMPLES}: dropped samples are not the card's"]
    if "provenance" in card:  # no part of the digest, since times differ between machines
        raw = rows_hash(table.select(card["provenance"]["columns"]))
        if raw != card["provenance"]["sha256"]:
            wrong.append(f"{filesystem}/{SAMPLES}: what it says of raw files is not the card's")
    return Finding(tuple(wrong), {SAMPLES: card["samples"]["sha256"]})


def _hdf5_checks(file: Hdf5Clips) -> Iterator[tuple[frozenset[str], Callable[[Mapping[str, str]], Finding]]]:
    dataset, subset = file.dataset, file.subset
    clips = frozenset(
        f"{subset}/{view}/{shard['name']}.tar" for shard in dataset.shards(subset) for view in shard["views"]
    )
    yield clips | {file.name}, partial(_hdf5_facts, file)
    only = "shards" not in dataset.card["formats"]
    start = 0
    for shard in dataset.shards(subset):
        rows = range(start, start := start + shard["samples"])
        for view in shard["views"]:
            stem = f"{subset}/{view}/{shard['name']}"
            names = frozenset([f"{stem}.tar", *([f"{stem}.idx"] if only else [])])
            yield names, partial(_hdf5_shard, file, view, stem, rows, only)


def _hdf5_facts(file: Hdf5Clips, _known: Mapping[str, str]) -> Finding:
    return Finding(tuple(file.wrong_facts()))


def _hdf5_shard(
    file: Hdf5Clips, view: str, stem: str, rows: range, only: bool, known: Mapping[str, str]
) -> Finding:
    """Compare clips with the hash of their shard; they are the only container of it where `only`."""
    start, geometry = rows.start, file.dataset.geometry(view)
    ids, labels = file.names()
    ids, labels = ids[start : rows.stop], labels[start : rows.stop].tolist()
    tar = _shard_hash(geometry, ids, labels, lambda first, last: file.rows(view, start + first, start + last))
    hashes = {f"{stem}.tar": tar}
    if only:
        index = index_text(geometry, ids, labels).encode()
        hashes[f"{stem}.idx"] = hashlib.sha256(index).hexdigest()
    wrong = any(known[name] != hashed for name, hashed in hashes.items())
    line = (f"{file.where}: clips, ids or labels of {stem} are not those of the digest",) if wrong else ()
    return Finding(line, hashes if only else {})


def _shard_hash(
    geometry: Geometry, ids: Sequence[str], labels: Sequence[int], rows: Callable[[int, int], np.ndarray]
) -> str:
    """Return the hash of the shard of these samples; `rows` returns some of its clips, [n,C*T*V*M]."""
    hasher = hashlib.sha256()
    for first in range(0, len(ids), AT_ONCE):
        last = min(first + AT_ONCE, len(ids))
        block = new_block(geometry, ids[first:last], labels[first:last])
        geometry.arrays(block)[:] = rows(first, last).reshape(last - first, *geometry.shape)
        hasher.update(block.data.cast("B"))
    hasher.update(TAIL)
    return hasher.hexdigest()


def _container_facts(dataset: Dataset) -> Finding:
    """Refuse an entry for HDF5 files in a card whose formats do not name them, and the reverse."""
    card, name = dataset.card, dataset.filesystem
    listed, described = "hdf5" in card["formats"], bool(card.get("hdf5"))
    if listed == described:
        return Finding()
    what = "describes HDF5 files that its formats do not name" if described else "does not describe its HDF5 files"
    return Finding((f"{name}/dataset.json: {what}: it was changed after prepare",))


def _unlisted(dataset: Dataset) -> Finding:
    """Name data files that the card does not list: programs that read `train/joint/*.tar` would take them."""
    try:
        names = dataset.filesystem.names()
    except UsageError:  # a web server lists no files
        return Finding()
    listed = {file.name for file in inventory(dataset.card)}
    stray = [name for name in names if name not in listed and DATA_FILE.fullmatch(name)]
    return Finding(tuple(f"{dataset.filesystem}/{name}: is not a file of this dataset's card" for name in stray))
