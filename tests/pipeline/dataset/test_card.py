"""Cards and sample tables, also of version 1, as skelpipe 0.2.0 wrote them: they are read and used as before."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.dataset.card import parse_card, parse_samples, rows_hash
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

# The keys of version 1 that its digest covered, in any order.
DIGESTED = (
    *("name", "split", "options", "profile", "shape", "dtype"),
    *("layout", "classes", "views", "splits", "anchors", "samples"),
)
NEW_OPTIONS = ("body_choice", "empty_frames", "missing_joints")
NEW_COLUMNS = ("real_frames", "joints", "real_joints", "bodies_left_out")
RAW_COLUMNS = ("raw_file", "raw_item", "raw_size", "raw_time", "raw_xxh128")


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def old(tmp_path, raw_folder, ntu_names) -> Path:
    """A dataset of today, with the card and the sample table that version 1 would have."""
    out = tmp_path / "ds"
    prepare(load_manifest("ntu60"), [raw_folder(ntu_names())], out, Options("xsub", frames=8), quiet=True)
    table = pq.read_table(out / "samples.parquet").drop_columns([*NEW_COLUMNS, *RAW_COLUMNS])
    pq.write_table(table, out / "samples.parquet")
    card = json.loads((out / "dataset.json").read_text())
    card["format"]["version"] = 1
    card["options"] = {key: value for key, value in card["options"].items() if key not in NEW_OPTIONS}
    del card["channels"], card["like_score"], card["provenance"]
    lines = b"".join(canonical(list(row.values())) + b"\n" for row in table.to_pylist())
    card["samples"] = {"rows": table.num_rows, "sha256": sha256(lines), "columns": table.column_names}
    card["samples_file"] = {"sha256": sha256((out / "samples.parquet").read_bytes())}
    card["digest"] = sha256(canonical({key: card[key] for key in DIGESTED}))
    (out / "dataset.json").write_text(json.dumps(card))
    return out


def test_a_dataset_of_version_1_is_read(old: Path) -> None:
    dataset = Dataset.open(old)
    assert (dataset.channels, dataset.shape) == (("x", "y", "z"), (3, 8, 25, 2))
    assert damages(dataset, quiet=True) == []
    assert dataset.reader("test", "bone").gather(np.arange(2)).shape == (2, 3, 8, 25, 2)
    for command in ("info", "stats", "verify"):
        result = CliRunner().invoke(main, [command, "--shards", str(old)])
        assert result.exit_code == 0, result.output


def test_prepare_of_a_dataset_of_version_1_says_that_it_is_complete(old: Path, tmp_path) -> None:
    fixed = ["--dataset", "ntu60", "--split", "xsub", "--raw", str(tmp_path / "raw"), "--out", str(old)]
    result = CliRunner().invoke(main, ["prepare", *fixed, "--frames", "8", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "already complete, nothing to do" in result.stdout
    assert "real:" not in result.stdout
    result = CliRunner().invoke(main, ["prepare", *fixed, "--frames", "8", "--empty-frames", "held"])
    assert result.exit_code == 2
    assert "empty_frames was as-authors, is held" in result.stderr


def test_a_card_of_version_1_that_was_changed_is_refused(old: Path) -> None:
    card = json.loads((old / "dataset.json").read_text())
    with pytest.raises(DatasetError, match="its digest does not match"):
        parse_card(json.dumps({**card, "classes": card["classes"][::-1]}).encode(), "ds")


@pytest.mark.parametrize(
    ("version", "shown"), [(0, "0"), (4, "4"), ("2", "'2'"), (None, "nothing"), (True, "True")]
)
def test_other_versions_are_refused(old: Path, version: object, shown: str) -> None:
    card = json.loads((old / "dataset.json").read_text())
    card["format"]["version"] = version
    with pytest.raises(DatasetError, match=f"format skelpipe-dataset {shown}; this skelpipe reads 1, 2 and 3$"):
        parse_card(json.dumps(card).encode(), "ds")


@pytest.mark.parametrize("text", ['a"b', "\\", "é", "\x7f", "\x00", "\n", "\N{GRINNING FACE}", " ~!#[]^", "", "/"])
def test_rows_are_hashed_as_json(text: str) -> None:
    """Texts of any characters, nulls, negative numbers, and rows that begin within an array."""
    names, numbers = [text, None, "S001"] * 3, [None, -5, 2**40] * 3
    table = pa.table({"name": names, "number": pa.array(numbers, pa.int64())})
    for start in (0, 4, 9):
        rows = zip(names[start:], numbers[start:], strict=True)
        lines = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
        assert rows_hash(table.slice(start)) == sha256(lines)


@pytest.mark.parametrize(
    ("name", "column", "says"),
    [
        ("label", pa.array(["0", "1"]), "column label holds string, not whole numbers"),
        ("raw_time", pa.array(["now", None]), "column raw_time holds string, not whole numbers"),
        ("id", pa.array([1, 2], pa.int64()), "column id holds int64, not texts"),
        ("shard", pa.array([0, None], pa.int32()), "column shard holds int32, not texts"),
        ("camera", pa.array([1.0, 2.0]), "column camera holds double, not texts or whole numbers"),
        ("camera", pa.array(["north", "south"]), None),  # a field of names may be a text
        ("label", pa.array([0, 1], pa.int64()), None),
        ("weather", pa.array(["dry", "wet"]), None),
    ],
)
def test_columns_of_another_kind_are_refused(name: str, column: pa.Array, says: str | None, tmp_path) -> None:
    """A table of others, which its card describes exactly."""
    table = pa.table({"id": pa.array(["a", "b"]), "label": pa.array([0, 1], pa.int32())})
    if name in table.column_names:
        table = table.set_column(table.column_names.index(name), name, column)
    else:
        table = table.append_column(name, column)
    pq.write_table(table, tmp_path / "samples.parquet")
    content = (tmp_path / "samples.parquet").read_bytes()
    lines = "".join(json.dumps(list(row.values()), separators=(",", ":")) + "\n" for row in table.to_pylist())
    card = {
        "samples_file": {"sha256": sha256(content)},
        "samples": {"rows": 2, "columns": table.column_names, "sha256": sha256(lines.encode())},
    }
    if says is None:
        assert parse_samples(content, card, "ds").equals(table)
    else:
        with pytest.raises(DatasetError, match=f"^ds/samples.parquet: {says}$"):
            parse_samples(content, card, "ds")
