"""Values for pyarrow are those that it makes itself, and preparing and opening a dataset imports no pandas."""

import subprocess
import sys

import pyarrow as pa

from skelpipe.dataset.arrow_values import text, texts, whole

WORK = """
import sys
from skelpipe.prepare.completeness import completeness
from skelpipe.dataset import Dataset
dataset = Dataset.open(sys.argv[1])
completeness(dataset.table(), dataset.card)
assert len(dataset.ids("train")) == len(dataset.labels("train"))
print(sorted({"pandas"} & sys.modules.keys()))
"""


def test_values_are_those_of_pyarrow() -> None:
    values = ["", "a", None, "ä\n", "x" * 999]
    assert texts(values).equals(pa.array(values, pa.string()))
    assert text("ä") == pa.scalar("ä", pa.string())
    assert whole(-(2**40)) == pa.scalar(-(2**40), pa.int64())


def test_opening_a_dataset_and_summing_it_up_imports_no_pandas(folder) -> None:
    done = subprocess.run([sys.executable, "-c", WORK, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
