"""Ids and labels from the sample table: of a short one at once, of a long one beside the work."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from skelpipe.dataset import Dataset, table_rows
from skelpipe.dataset.table_rows import TableRows
from skelpipe.errors import DatasetError
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

COLUMNS = ["id", "label", "split", "shard", "row"]
SIZES = {"train": [3, 4, 1], "test": [2, 5]}


@pytest.fixture(params=["short", "long"], autouse=True)
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Let all tables count as short ones, or as long ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(table_rows, "AT_ONCE", 0 if request.param == "long" else 1 << 18)
    monkeypatch.setattr("skelpipe.dataset.first_use._hashed", set())
    return str(request.param)


def rows_of_a_table() -> list[dict[str, Any]]:
    """Return the rows of both subsets and one that was dropped, in no order."""
    rows: list[dict[str, Any]] = [{"id": "gone", "label": 1, "split": "train", "shard": None, "row": None}]
    for subset, sizes in SIZES.items():
        for shard, size in enumerate(sizes):
            for row in range(size):
                id_ = f"{subset}-é{shard}.{row}"
                rows.append(
                    {"id": id_, "label": (shard + row) % 5, "split": subset, "shard": f"{shard:06}", "row": row}
                )
    return [rows[at] for at in np.random.default_rng(0).permutation(len(rows))]


def written(rows: list[dict[str, Any]]) -> tuple[bytes, dict[str, Any]]:
    """Return a table's bytes, and what a card says of it; the hash of its rows is that of `rows_of_a_table`."""
    schema = pa.schema([(name, pa.int32() if name in ("label", "row") else pa.string()) for name in COLUMNS])
    file = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, row_group_size=4)
    content = file.getvalue().to_pybytes()
    lines = "".join(json.dumps(list(row.values()), separators=(",", ":")) + "\n" for row in rows_of_a_table())
    splits = {
        subset: {"shards": [{"name": f"{number:06}", "samples": size} for number, size in enumerate(sizes)]}
        for subset, sizes in SIZES.items()
    }
    return content, {
        "samples_file": {"sha256": hashlib.sha256(content).hexdigest()},
        "samples": {"rows": len(rows), "columns": COLUMNS, "sha256": hashlib.sha256(lines.encode()).hexdigest()},
        "splits": splits,
        "classes": list("abcde"),
        "digest": "0" * 64,
    }


def test_ids_and_labels_are_in_the_order_of_shards_and_rows() -> None:
    rows = rows_of_a_table()
    found = TableRows(*written(rows), "ds")
    for subset in SIZES:
        own = [row for row in rows if row["split"] == subset and row["shard"] is not None]
        own.sort(key=lambda row: (row["shard"], row["row"]))
        ids, labels = found.subset(subset)
        assert list(ids) == [row["id"] for row in own]
        assert labels.tolist() == [row["label"] for row in own]
        assert (len(ids), ids[0], ids[-1]) == (len(own), own[0]["id"], own[-1]["id"])
        assert (len(ids[2:5]), list(ids[2:5]), ids[2:5][1]) == (3, [row["id"] for row in own[2:5]], own[3]["id"])
    found.require()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 5}, "a shard, row or label, or no id"),
        ({"row": 9}, "a shard, row or label, or no id"),
        ({"row": None}, "a shard, row or label, or no id"),
        ({"shard": "000009"}, "a shard, row or label, or no id"),
        ({"id": None}, "a shard, row or label, or no id"),
        ({"id": ""}, "lists fewer train samples"),
        ({"label": None}, "lists fewer train samples"),
        ({"split": "elsewhere"}, "lists fewer train samples"),
    ],
)
def test_a_row_that_contradicts_the_card_is_refused(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rows, "rows_differ", lambda batches, *_: [batch for batch in batches][:0] or None)
    monkeypatch.setattr("skelpipe.dataset.card.rows_differ", lambda *_: None)
    rows = rows_of_a_table()
    at = next(at for at, row in enumerate(rows) if row["id"] == "train-é1.2")
    rows[at] |= change
    found = TableRows(*written(rows), "ds")
    with pytest.raises(DatasetError, match=message):
        found.subset("train")[0][0]
    assert len(list(found.subset("test")[0])) == sum(SIZES["test"])


def test_other_rows_than_those_of_the_digest_are_refused(length: str) -> None:
    rows = rows_of_a_table()
    rows[0]["label"], rows[1]["label"] = (rows[0]["label"] + 1) % 5, (rows[1]["label"] + 1) % 5
    for _ in range(2):  # nothing is remembered of a table that differs
        with pytest.raises(DatasetError, match="its rows are not those of the digest"):
            TableRows(*written(rows), "ds").require()
    ids = TableRows(*written(rows_of_a_table()), "ds").subset("test")[0]
    assert ids[0] == "test-é0.0"


def test_rows_are_hashed_once_per_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content, card = written(rows_of_a_table())
    TableRows(content, card, "ds").require()
    monkeypatch.setattr("skelpipe.dataset.first_use._hashed", set())  # as in another process
    hashed = []
    for module in ("table_rows", "card"):
        monkeypatch.setattr(
            f"skelpipe.dataset.{module}.rows_differ", lambda batches, *_: hashed.append(list(batches))
        )
    for _ in range(2):
        assert TableRows(content, card, "ds").subset("train")[0][0] == "train-é0.0"
    assert not hashed
    for other in (  # another fact, or nothing that was found out on this machine
        {**card, "samples": {**card["samples"], "sha256": "1" * 64}},
        {**card, "digest": "1" * 64},
    ):
        monkeypatch.setattr("skelpipe.dataset.first_use._hashed", set())
        TableRows(content, other, "ds").require()
    assert len(hashed) == 2
    with pytest.raises(DatasetError, match="damaged, or of another dataset"):
        TableRows(content[:-1] + b"?", card, "ds")


def test_a_short_table_whose_rows_are_known_is_still_held_to_the_card() -> None:
    content, card = written(rows_of_a_table())
    TableRows(content, card, "ds").require()
    with pytest.raises(DatasetError, match="cannot be read: 16 rows"):
        TableRows(content, {**card, "samples": {**card["samples"], "rows": 3}}, "ds").require()


@pytest.fixture
def changed(raw_folder, ntu_names, tmp_path) -> Path:
    """A dataset whose table gives two clips each other's label, with the file's hash in the card."""
    out = tmp_path / "ds"
    prepare(load_manifest("ntu60"), [raw_folder(ntu_names())], out, Options("xsub", frames=8), quiet=True)
    table = pq.read_table(out / "samples.parquet")
    labels = table["label"].to_pylist()
    number = table.schema.get_field_index("label")
    swapped = pa.array([labels[-1], *labels[1:-1], labels[0]], pa.int32())
    assert labels[0] != labels[-1]
    pq.write_table(table.set_column(number, table.schema.field(number), swapped), out / "samples.parquet")
    card = json.loads((out / "dataset.json").read_text())
    card["samples_file"]["sha256"] = hashlib.sha256((out / "samples.parquet").read_bytes()).hexdigest()
    (out / "dataset.json").write_text(json.dumps(card))
    return out


def _loader(dataset: Dataset) -> Loader:
    return Loader(Stream(dataset, "train", ["joint"], 2), torch.device("cpu"), {"clip": None})


def test_no_batch_id_or_label_comes_from_changed_rows(changed: Path) -> None:
    message = "its rows are not those of the digest"
    for use in (
        lambda dataset: dataset.labels("train"),
        lambda dataset: dataset.ids("test"),
        lambda dataset: dataset.reader("train", "joint").gather(np.arange(1)),
        lambda dataset: dataset.reader("train", "bone").mapped(np.arange(1)),
        lambda dataset: next(iter(Stream(dataset, "train", ["joint"], 2))),
        lambda dataset: next(iter(_loader(dataset))),
        lambda dataset: dataset.table(),
    ):
        with pytest.raises(DatasetError, match=message):
            use(Dataset.open(changed))


def test_a_process_that_was_forked_meanwhile_reads_for_itself(length: str) -> None:
    found = TableRows(*written(rows_of_a_table()), "ds")
    if length == "short":
        return
    assert found._later is not None
    found.require()
    found._later._pid = os.getpid() + 1  # as a child of the process that began
    found._later._content, found._later._card = written(rows_of_a_table())
    found._later._future = type(found._later._future)()  # which is never done here
    assert found.subset("test")[0][1] == "test-é0.1"
