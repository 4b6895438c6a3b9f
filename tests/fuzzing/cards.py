"""Cards with odd values and sample tables with odd columns, under digests that vouch for them.

Everything of the dataset is then read.
"""

import hashlib
import io
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing import seeds

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD, SAMPLES, card_digest, rows_hash
from skelpipe.dataset.traced import traced
from skelpipe.dataset.verify import verify
from skelpipe.manifest import SUBSETS
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

__all__ = ["card", "damaged_card", "damaged_table", "paths", "read_all", "read_with_table", "table"]

REMOVED = object()
NESTED: list[Any] = []
for _ in range(500):
    NESTED = [NESTED]
ODD: tuple[Any, ...] = (
    *(REMOVED, None, True, 0, -1, 1.5, 1e300, 2**70, 10**400, float("nan"), "", "x", "000000", "joint"),
    *(
        "../../etc/passwd",
        "\x1b[31m",
        "٣",
        "1_0",
        "a" * 10_000,
        [],
        {},
        [[]],
        {"a": 1},
        [1] * 1000,
        NESTED,
        {"a" * 10_000: 1},
    ),
)
FIRST = 3  # entries of a list that are changed
BODIES = 25  # joints of NTU's layout


@cache
def _dataset() -> Path:
    """A dataset of a few clips in this process's temporary folder."""
    root = Path(tempfile.mkdtemp(prefix="skelpipe-fuzz-"))
    (root / "raw").mkdir()
    for number, name in enumerate(("S001C001P001R001A001", "S001C001P003R001A002", "S001C001P001R002A002")):
        rng = np.random.default_rng(number)
        (root / "raw" / f"{name}.skeleton").write_bytes(seeds.ntu_of(rng.normal(size=(5, 1, BODIES, 3))))
    prepare(load_manifest("ntu60"), [root / "raw"], root / "ds", Options("xsub", 4, 1, 2), quiet=True)
    return root / "ds"


@cache
def _beside() -> Path:
    """A folder with everything of the dataset but its card."""
    folder = _dataset().parent / "damaged"
    shutil.copytree(_dataset(), folder)
    return folder


@cache
def _contents() -> dict[tuple[str, str], bytes]:
    """The clips of each subset and view, and the labels of each subset."""
    dataset = Dataset.open(_dataset())
    return {
        (subset, view): dataset.reader(subset, view).gather(np.arange(dataset.count(subset))).tobytes()
        for subset in SUBSETS
        for view in dataset.views
    } | {(subset, "labels"): dataset.stored_labels(subset).tobytes() for subset in SUBSETS}


def card() -> bytes:
    """Return the card undamaged."""
    return (_dataset() / CARD).read_bytes()


def paths(content: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value of a card."""
    if before:
        yield before
    if isinstance(content, dict):
        for key, value in content.items():
            yield from paths(value, (*before, key))
    elif isinstance(content, list):
        for number, value in enumerate(content[:FIRST]):
            yield from paths(value, (*before, number))


def with_value(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a card with another value at a path, or without it, and the digest that belongs to that."""
    changed = json.loads(json.dumps(content))
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if value is REMOVED:
        place.pop(path[-1], None) if isinstance(place, dict) else place.pop(path[-1])
    else:
        place[path[-1]] = value
    if path != ("digest",):
        with suppress(KeyError, ValueError, TypeError, RecursionError):  # nobody can write such a card's digest
            changed["digest"] = card_digest(changed)
    return changed


def damaged_card(whole: bytes, random: Random) -> bytes:
    """Return a card of which one value is another one."""
    content = json.loads(whole)
    found = [*paths(content), ("further",)]
    changed = with_value(content, found[random.randrange(len(found))], ODD[random.randrange(len(ODD))])
    return json.dumps(changed).encode()


def read_all(content: bytes) -> object:
    """Open the dataset with this card and read everything; what is read must be what is there."""
    folder = _beside()
    (folder / CARD).write_bytes(content)
    dataset = Dataset.open(folder)
    assert repr(dataset).isprintable()
    _ = dataset.layout
    for subset in SUBSETS:
        for view in dataset.views:
            found = dataset.reader(subset, view).gather(np.arange(dataset.count(subset))).tobytes()
            assert found == _contents()[subset, view], "the clips differ"
        assert dataset.stored_labels(subset).tobytes() == _contents()[subset, "labels"], "the labels differ"
    for view in dataset.views:
        assert dataset.anchor(view).shape == dataset.shape
    _say_all(dataset)
    return dataset


def _say_all(dataset: Dataset) -> None:
    """Ask for what `verify`, `stats` and `info --id` say."""
    assert all(line.isprintable() for line in verify(dataset, quiet=True).damages)
    table = dataset.table()
    for identity in table["id"].to_pylist()[:2]:
        if identity is not None:
            traced(dataset, identity)


def table() -> bytes:
    """Return the sample table undamaged."""
    return (_dataset() / SAMPLES).read_bytes()


def damaged_table(whole: bytes, random: Random) -> bytes:
    """Return a sample table with a column less, twice, renamed, of another kind, or with an odd value."""
    content = pq.read_table(io.BytesIO(whole))
    names, columns = list(content.column_names), list(content.columns)
    place = random.randrange(len(names))
    what = random.choice(["drop", "twice", "rename", "text", "number", "real", "null", "value", "value", "value"])
    if what == "drop":
        del names[place], columns[place]
    elif what == "twice":
        other = random.randrange(len(names) + 1)
        names.insert(other, names[place])
        columns.insert(other, columns[place])
    elif what == "rename":
        names[place] = random.choice(["", "x", "\x1b[31m", "٣", "label", "a" * 5000])
    elif what in KINDS:
        columns[place] = pa.array([None if what == "null" else KINDS[what]] * len(content)).cast(
            {"text": pa.string(), "number": pa.int64(), "real": pa.float64(), "null": columns[place].type}[what]
        )
    else:
        values, row = columns[place].to_pylist(), random.randrange(len(content))
        is_text = pa.types.is_string(columns[place].type)
        values[row] = random.choice(["", "x", "\x1b[31m", "٣", "train", "a" * 5000] if is_text else NUMBERS)
        columns[place] = pa.array(values, pa.string() if is_text else pa.int64())
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names), file)
    return file.getvalue()


KINDS = {"text": "1", "number": 1, "real": 0.5, "null": None}
NUMBERS = (-100, -1, 0, 1, 59, 60, 2**31 - 1, 2**62)


def read_with_table(content: bytes) -> object:
    """Open the dataset with this sample table, under a card that describes it, and ask what commands ask."""
    folder = _with_table()
    (folder / SAMPLES).write_bytes(content)
    try:
        rows = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False)  # of which columns may have one name
    except (pa.ArrowException, OSError, UnicodeDecodeError):  # under the card of the whole table
        rows = pq.read_table(io.BytesIO(table()))
    kept = json.loads(card())
    raw = [name for name in rows.column_names if name in kept["provenance"]["columns"]]
    own = [name for name in rows.column_names if name not in raw]
    kept["samples"] |= {"rows": len(rows), "columns": own}
    kept["provenance"]["columns"] = raw
    kept["samples_file"]["sha256"] = hashlib.sha256(content).hexdigest()
    for part, columns in (("samples", own), ("provenance", raw)):
        with suppress(pa.ArrowException, KeyError, ValueError):  # of columns that have no such hash
            kept[part]["sha256"] = rows_hash(rows.select(columns))
    kept["dropped"] = dict(Counter(filter(None, rows["reason"].to_pylist()))) if own.count("reason") == 1 else {}
    with suppress(UnicodeError):
        kept["digest"] = card_digest(kept)
    (folder / CARD).write_text(json.dumps(kept), "utf-8")
    dataset = Dataset.open(folder)
    for subset in SUBSETS:
        assert len(dataset.ids(subset)) == dataset.count(subset)
        assert len(dataset.stored_labels(subset)) == dataset.count(subset)
    _say_all(dataset)
    return dataset


@cache
def _with_table() -> Path:
    """A folder with the dataset, whose card and sample table are replaced."""
    folder = _dataset().parent / "tables"
    shutil.copytree(_dataset(), folder)
    return folder
