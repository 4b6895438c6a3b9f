"""Parquet files are read without threads of pyarrow, which may outlive the interpreter."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skelpipe.dataset.parquet import read_parquet

SCRIPT = """
import os, sys
from pathlib import Path
from skelpipe.dataset.parquet import read_parquet
content = Path(sys.argv[1]).read_bytes()
before = len(os.listdir("/proc/self/task"))
rows = read_parquet(content, ["n"]).num_rows
print(rows, len(os.listdir("/proc/self/task")) - before, "pyarrow.dataset" in sys.modules, "pandas" in sys.modules)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table = pa.table({"n": list(range(1000)), "text": [str(n) for n in range(1000)]})
    pq.write_table(table.replace_schema_metadata({"about": "numbers"}), tmp_path / "a.parquet", row_group_size=100)
    return tmp_path / "a.parquet"


def test_it_reads_what_pyarrow_reads(file: Path) -> None:
    expected = pq.read_table(file)
    assert read_parquet(file.read_bytes()).equals(expected, check_metadata=True)
    assert read_parquet(file.read_bytes(), ["text"]).column_names == ["text"]
    with pytest.raises((OSError, pa.ArrowException)):
        read_parquet(file.read_bytes()[:-9])


def test_no_thread_is_left_behind(file: Path) -> None:
    words = [sys.executable, "-c", SCRIPT, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1000", "0", "False", "False"]


def test_what_unpacks_to_more_than_it_may_is_refused_before_it_is_there() -> None:
    """Both files have a few kilobytes: one text of a megabyte that stands in 5,000 rows, and a page of zeros."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * (1 << 20)]))
    often = pa.table({"text": texts})
    once = pa.table({"text": ["x" * (200 << 20)]})
    for table, rows in ((often, 5000), (once, 1)):
        file = pa.BufferOutputStream()
        pq.write_table(
            table.cast(pa.schema({"text": pa.string()})) if rows == 1 else table, file, compression="zstd"
        )
        content = file.getvalue().to_pybytes()
        assert len(content) < 100_000
        del file
        before = pa.total_allocated_bytes()
        with pytest.raises(pa.ArrowInvalid, match="bytes unpacked"):
            read_parquet(content, rows=rows, most=64 << 20)
        assert pa.total_allocated_bytes() - before < 64 << 20


def test_a_file_with_one_other_byte_is_refused_or_read_as_pyarrow_reads_it() -> None:
    """Two columns of different lengths, names and texts that are no UTF-8, names that come twice, and all else."""
    file, taken = io.BytesIO(), 0
    pq.write_table(pa.table({"n": [1, 2, 3], "m": ["x", "yz", None]}), file, compression="none")
    whole = file.getvalue()
    for place in range(len(whole)):
        for value in (0xFF, 0x80, 0, whole[place] ^ 1):
            content = whole[:place] + bytes([value]) + whole[place + 1 :]
            try:
                found = read_parquet(content, most=1 << 20)
            except (OSError, pa.ArrowException):
                continue
            taken += 1
            assert found.to_pydict() == pq.ParquetFile(io.BytesIO(content)).read(use_threads=False).to_pydict()
            assert len(found) == pq.ParquetFile(io.BytesIO(content)).metadata.num_rows
    assert taken > len(whole)  # most bytes are of no matter, or numbers


def test_columns_of_one_name_are_refused() -> None:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["n", "n"]), file)
    with pytest.raises(pa.ArrowInvalid, match="2 columns named 'n'"):
        read_parquet(file.getvalue())


def test_other_numbers_of_rows_are_refused_unread(file: Path) -> None:
    with pytest.raises(pa.ArrowInvalid, match="1,000 rows"):
        read_parquet(file.read_bytes(), rows=999)
    assert read_parquet(file.read_bytes(), rows=1000).num_rows == 1000
