"""Whether the files of a dataset agree with each other, beyond being those of its digest.

A digest says that a dataset is what its maker wrote. Here it is compared with itself: ids and labels in shards
with the sample table, indices with their shards, views with those derived from the joints, clips in shards with
those in HDF5 files, frame labels of untrimmed videos with the clips that were cut from them, and anchors with the
mean of the training clips.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset, Reader
from skelpipe.dataset.containers import map_rows
from skelpipe.dataset.hdf5_clips import Hdf5Clips
from skelpipe.dataset.tar_shard import Geometry, index_text, new_block
from skelpipe.dataset.untrimmed import tar_name
from skelpipe.front.descriptions import counted
from skelpipe.manifest import SUBSETS
from skelpipe.mapped_files import map_file
from skelpipe.views import derive

__all__ = ["comparisons"]

AT_ONCE = 64  # clips of each view in memory
DIGITS = 18  # of a line's number at most
CLOSE = 1e-6  # of an anchor to the mean, relative to its largest number: it was added up in another order


def comparisons(
    dataset: Dataset, hdf5: Mapping[str, Hdf5Clips], wanted: Set[str] | None = None
) -> list[Callable[[], list[str]]]:
    """Return the comparisons of a dataset, or of the `wanted` leaves; each returns a line for what differs.

    `hdf5` has the HDF5 file of each subset that has one.
    """
    found: list[Callable[[], list[str]]] = []
    for subset in SUBSETS:
        start = 0
        for entry in dataset.shards(subset):
            stop = start + entry["samples"]
            stems = [f"{subset}/{view}/{entry['name']}" for view in entry["views"]]
            if wanted is None or any({f"{stem}.tar", f"{stem}.idx"} & wanted for stem in stems):
                found.append(partial(_shard, dataset, subset, hdf5.get(subset), entry, start, stop))
            start = stop
    for subset in SUBSETS if "untrimmed" in dataset.card else ():
        tars = {tar_name(subset, shard["name"]) for shard in dataset.card["untrimmed"][subset]["shards"]}
        if tars and (wanted is None or tars & wanted):
            found.append(partial(_videos, dataset, subset))
    anchors = [view for view in dataset.views if wanted is None or f"anchors/{view}.npy" in wanted]
    if anchors and "absent" not in dataset.card["anchors"]:
        found.append(partial(_anchors, dataset, hdf5.get("train"), anchors))
    return found


def _shard(
    dataset: Dataset, subset: str, hdf5: Hdf5Clips | None, entry: Mapping[str, Any], start: int, stop: int
) -> list[str]:
    """Compare one shard, of all views and in all containers."""
    ids, labels = dataset.ids(subset)[start:stop], dataset.stored_labels(subset)[start:stop].tolist()
    found: list[str] = []
    stored: dict[str, Callable[[slice], np.ndarray]] = {}
    where = {}
    if hdf5 is not None:
        found += _names(hdf5, ids, labels, start)
    for view in dataset.views:
        geometry, stem = dataset.geometry(view), f"{subset}/{view}/{entry['name']}"
        if "shards" in dataset.card["formats"]:
            name = where[view] = f"{dataset.filesystem}/{stem}.tar"
            tar = _bytes(dataset, f"{stem}.tar")
            clips = map_rows(tar, geometry, ids, name)
            found += _records(tar, geometry, ids, labels, name)
            index = index_text(geometry, ids, labels).encode()
            if dataset.filesystem.read(f"{stem}.idx", len(index)) != index:
                found.append(f"{dataset.filesystem}/{stem}.idx: is not the index of its shard")
            stored[view] = clips.__getitem__
            if hdf5 is not None:
                rows = partial(_rows, hdf5, view, start)
                what = f"its clip is not that of {hdf5.name}"
                found += _differing(clips.__getitem__, rows, ids, name, what)
        elif hdf5 is not None:
            where[view] = hdf5.where
            stored[view] = partial(_rows, hdf5, view, start)
    for view in [view for view in stored if view != "joint" and "joint" in stored]:
        derived = partial(_derived, dataset, stored["joint"], view)
        found += _differing(stored[view], derived, ids, where[view], f"its {view} is not derived from its joints")
    return found


def _videos(dataset: Dataset, subset: str) -> list[str]:
    """Compare the frame labels of untrimmed videos with the clips that the sample table says were cut from them.

    Of two clips in one frame the later line of the label file counts, which the clip's id ends with.
    """
    columns = ["recording", "id", "start", "end", "label"]
    rows: dict[str, list[tuple[int, int, int, int]]] = {}
    for recording, identity, start, end, label in zip(
        *(column.to_pylist() for column in dataset.table().select(columns).columns), strict=True
    ):
        if None not in (recording, start, end, label):
            rows.setdefault(recording, []).append((_line_of(identity), start, end, label))
    videos, found = dataset.videos(subset), []
    for number, identity in enumerate(videos.ids):
        stored = videos.label(number)
        expected = np.zeros(len(stored), np.int64)
        for _, start, end, label in sorted(rows.get(identity, [])):
            expected[max(start - 1, 0) : end] = label + 1
        wrong = np.flatnonzero(stored != expected)
        if len(wrong):
            frames = f"{counted(len(wrong), 'frame')}, the first is frame {wrong[0] + 1}"
            where = f"{dataset.filesystem}/untrimmed/{subset}: {identity}"
            found.append(f"{where}: the labels of {frames}, are not those of the sample table")
    return found


def _line_of(identity: str) -> int:
    """Return the line of a label file that a clip's id ends with; -1 where it ends with none."""
    digits = identity.rpartition("_")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < DIGITS else -1


def _bytes(dataset: Dataset, name: str) -> np.ndarray:
    if dataset.remote is None:
        return map_file(dataset.filesystem.local_path / name)
    return dataset.remote.map(name)


def _names(file: Hdf5Clips, ids: Sequence[str], labels: Sequence[int], start: int) -> Iterator[str]:
    """Yield a line that names the first sample whose id or label in an HDF5 file is another than in the table."""
    own_ids, own_labels = file.names()
    stop = start + len(ids)
    own = zip(own_ids[start:stop], own_labels[start:stop].tolist(), strict=True)
    for found, expected in zip(own, zip(ids, labels, strict=True), strict=True):
        if found != expected:
            yield f"{file.where}: {expected[0]}: its id or label is not that of the sample table"
            return


def _rows(file: Hdf5Clips, view: str, start: int, rows: slice) -> np.ndarray:
    return file.rows(view, start + rows.start, start + rows.stop)


def _gathered(reader: Reader, rows: slice) -> np.ndarray:
    return reader.gather(np.arange(rows.start, rows.stop))


def _derived(dataset: Dataset, joints: Callable[[slice], np.ndarray], view: str, rows: slice) -> np.ndarray:
    """Return clips of a view as `prepare` derives them from the stored joints."""
    clips = joints(rows)
    whole = clips.astype(np.float32).reshape(len(clips), *dataset.shape)
    made: np.ndarray = derive(whole, view, dataset.layout).astype(clips.dtype).reshape(clips.shape)
    return made


def _differing(
    first: Callable[[slice], np.ndarray],
    second: Callable[[slice], np.ndarray],
    ids: Sequence[str],
    where: str,
    what: str,
) -> Iterator[str]:
    """Yield a line that names the first clip in which two sources of the same rows differ."""
    for rows in _pieces(len(ids)):
        wrong = np.flatnonzero((first(rows) != second(rows)).any(axis=1))
        if len(wrong):
            yield f"{where}: {ids[rows.start + wrong[0]]}: {what}"
            return


def _records(
    tar: np.ndarray, geometry: Geometry, ids: Sequence[str], labels: Sequence[int], where: str
) -> Iterator[str]:
    """Yield a line that names the first sample whose record has another id, label or form than the table says."""
    records = tar[: len(ids) * geometry.stride].reshape(len(ids), geometry.stride)
    for rows in _pieces(len(ids)):
        expected = new_block(geometry, ids[rows], labels[rows])
        expected[:, geometry.data_offset : geometry.data_offset + geometry.array_bytes] = records[
            rows, geometry.data_offset : geometry.data_offset + geometry.array_bytes
        ]
        wrong = np.flatnonzero((records[rows] != expected).any(axis=1))
        if len(wrong):
            yield f"{where}: {ids[rows.start + wrong[0]]}: its id or label is not that of the sample table"
            return


def _pieces(count: int) -> Iterator[slice]:
    return (slice(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE))


def _anchors(dataset: Dataset, hdf5: Hdf5Clips | None, views: Sequence[str]) -> list[str]:
    """Compare anchors with the mean of the training clips."""
    count, total = dataset.count("train"), np.zeros(dataset.shape)
    if hdf5 is not None and "shards" not in dataset.card["formats"]:
        clips = partial(_rows, hdf5, "joint", 0)
    else:
        clips = partial(_gathered, dataset.reader("train", "joint"))
    for rows in _pieces(count):
        total += clips(rows).reshape(-1, *dataset.shape).sum(axis=0, dtype=np.float64)
    found = []
    for view in views:
        mean = derive(total / count, view, dataset.layout)
        if not np.abs(dataset.anchor(view) - mean).max() <= CLOSE * max(1.0, float(np.abs(mean).max())):
            found.append(f"{dataset.filesystem}/anchors/{view}.npy: is not the mean of the training clips")
    return found
