"""Readers that move to another process, and reopen their files there."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.dataset import Dataset, Reader
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

ROWS = np.array([7, 0, 3, 7])


def moved(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("view", ["joint", "motion"])
def test_a_reader_can_be_pickled(folder: Path, view: str) -> None:
    reader = Dataset.open(folder).reader("train", view)
    again = moved(reader)
    assert isinstance(again, Reader)
    np.testing.assert_array_equal(again.gather(ROWS), reader.gather(ROWS))
    assert again.mapped(ROWS) is not None


def test_a_reader_of_hdf5_can_be_pickled(folder: Path, tmp_path: Path) -> None:
    raw = folder.parent / "raw"
    options = Options("xsub", 10, 2, 3)
    prepare(load_manifest("ntu60"), [raw], tmp_path / "h5", options, formats=("hdf5",), quiet=True)
    wanted = Dataset.open(folder).reader("train", "joint").gather(ROWS)
    np.testing.assert_array_equal(
        moved(Dataset.open(tmp_path / "h5").reader("train", "joint")).gather(ROWS), wanted
    )


def test_a_remote_reader_can_be_pickled_while_it_fetches(folder: Path, url: str, tmp_path: Path) -> None:
    wanted = Dataset.open(folder).reader("train", "joint").gather(ROWS)
    for cache in (None, tmp_path / "cache"):
        reader = Dataset.open(url, cache=cache).reader("train", "joint")
        reader.gather(ROWS[:1])
        np.testing.assert_array_equal(moved(reader).gather(ROWS), wanted)


def test_a_spawned_process_reads_by_a_reader_of_its_parent(folder: Path) -> None:
    reader = Dataset.open(folder).reader("train", "joint")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(methodcaller("gather", ROWS), reader).result(120)
    np.testing.assert_array_equal(found, reader.gather(ROWS))
