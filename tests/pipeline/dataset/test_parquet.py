"""Parquet files are read without threads of pyarrow, which may outlive the interpreter."""

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
