"""One long table, one row per joint, as pandas and R take it: `clips.csv`, and `joints.csv`."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from isal import igzip

from skelpipe.export.clips import Block, Clips
from skelpipe.manifest import SUBSETS

__all__ = ["csv_names", "write_csv"]

JOINTS = "joints.csv"


def csv_names(clips: Clips, *, zipped: bool = False) -> list[str]:
    """Return the names of both tables."""
    return ["clips.csv.gz" if zipped else "clips.csv", JOINTS]


def write_csv(clips: Clips, folder: Path, *, zipped: bool = False) -> list[str]:
    """Write the tables. Frames, bodies, joints and labels count from 0; numbers are float32, written exactly.

    Bodies that are absent in the whole clip have no rows.
    """
    dataset, numbers = clips.dataset, clips.numbers
    name = csv_names(clips, zipped=zipped)[0]
    schema = pa.schema(
        [("id", pa.string()), ("subset", pa.string()), ("label", pa.int64()), ("class", pa.string())]
        + [(column, pa.int64()) for column in ("frame", "body", "joint")]
        + [(column, pa.float32()) for column in numbers]
    )
    rows = 0
    options = pa_csv.WriteOptions(quoting_style="needed")
    with open(folder / name, "wb") as file:
        opened = igzip.IGzipFile(filename="", mode="wb", fileobj=file, mtime=0) if zipped else file
        with pa_csv.CSVWriter(opened, schema, write_options=options) as writer:
            for table in _tables(clips, numbers, schema):
                writer.write_table(table)
                rows += len(table)
        if zipped:
            opened.close()
    layout = dataset.layout
    part = {joint: part for part, joints in layout.parts.items() for joint in joints}
    parents = ["" if parent == joint else parent for joint, parent in enumerate(layout.parents)]
    _write(
        folder / JOINTS,
        ["joint", "name", "parent", "part"],
        ([n, joint, parents[n], part.get(n, "")] for n, joint in enumerate(layout.joints)),
    )
    return [f"{name}: {rows:,} rows: {', '.join(schema.names)}"]


def _tables(clips: Clips, numbers: tuple[str, ...], schema: pa.Schema) -> Iterator[pa.Table]:
    for subset in SUBSETS:
        for block in clips.blocks(subset):
            yield _table(block, subset, clips.dataset.classes, clips.chosen(block.clips, numbers), schema)


def _table(block: Block, subset: str, classes: Sequence[str], chosen: np.ndarray, schema: pa.Schema) -> pa.Table:
    n, _, frames, joints, bodies = chosen.shape
    shown = np.asarray(chosen.any(axis=(1, 2, 3)))  # [n,M]
    present = np.broadcast_to(shown[:, None, :, None], (n, frames, bodies, joints))
    clip, frame, body, joint = np.nonzero(present)
    values = chosen.transpose(1, 0, 2, 4, 3)[:, present]
    labels = pa.array(block.labels, pa.int64(), mask=block.labels < 0)
    columns: list[Any] = [pa.array(block.names, pa.string()).take(pa.array(clip))]
    names = pa.array([None if label < 0 else classes[label] for label in block.labels.tolist()], pa.string())
    columns += [pa.repeat(pa.scalar(subset), len(clip)), labels.take(pa.array(clip)), names.take(pa.array(clip))]
    columns += [frame, body, joint]
    return pa.Table.from_arrays([*map(pa.array, columns), *map(pa.array, values)], schema=schema)


def _write(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "wb") as binary, TextIOWrapper(binary, "utf-8", newline="") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(names)
        table.writerows(rows)
