"""What streams are measured against: other readers of the same files, which yield the same clips."""

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from skelpipe.bench import streams
from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.bench.workload import Workload
from skelpipe.dataset import Dataset

CPU = torch.device("cpu")


def nine_clips(folder: Path, container: str) -> Path:
    """Nine synthetic clips of 12 frames, in one container."""
    dataset = synthetic_clips(folder / "nine", 12, 9)
    if container == "hdf5":
        from skelpipe.prepare.hdf5_writer import remove_shards, write_hdf5_subsets

        card = {**dataset.card, "formats": ["hdf5"]}
        card["hdf5"] = write_hdf5_subsets(card, dataset.path)
        (dataset.path / "dataset.json").write_text(json.dumps(card))
        remove_shards(card, dataset.path)
    return dataset.path


@pytest.mark.parametrize("container", ["shards", "hdf5"])
def test_a_stream_is_measured_in_both_containers(tmp_path: Path, container: str) -> None:
    dataset = Dataset.open(nine_clips(tmp_path, container))
    (work,) = streams.stream_rows(Workload(dataset, 500, CPU, 0.0))
    row = work()
    assert row.against.startswith("webdataset" if container == "shards" else "h5py")
    assert row.batch_size == 9  # no more than there are
    assert min(row.ours, row.reference) > 0


@pytest.mark.parametrize("way", ["webdataset", "tarfile", "h5py"])
def test_the_other_reader_yields_the_datasets_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "tarfile":
        monkeypatch.setitem(sys.modules, "webdataset", None)
    dataset = Dataset.open(nine_clips(tmp_path, "hdf5" if way == "h5py" else "shards"))
    rows = dataset.reader("train", "joint").gather(np.arange(9))
    against, samples = streams.other_reader(Workload(dataset, 4, CPU, 0.0))
    assert against.startswith(way)
    seen = set()
    for clip, label in islice(samples, 40):
        (match,) = [n for n, row in enumerate(rows) if np.array_equal(row, clip)]
        assert label == dataset.labels("train")[match]
        seen.add(match)
    assert len(seen) == 9
    assert not rows[1, ..., 1].any()
    assert rows[5, ..., 1].any()
