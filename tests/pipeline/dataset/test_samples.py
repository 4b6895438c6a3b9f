"""The map-style dataset of torch: its samples, batches of them, and other processes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from skelpipe.dataset import Dataset, JoinedDataset
from skelpipe.dataset.samples import Samples
from skelpipe.errors import UsageError


@pytest.fixture(scope="module")
def samples(folder: Path) -> Samples:
    return Dataset.open(folder).samples("train", "motion")


def test_a_sample_is_a_clip_with_its_label_and_row(folder: Path, samples: Samples) -> None:
    dataset = Dataset.open(folder)
    stored = dataset.reader("train", "motion").gather(np.arange(24))
    assert isinstance(samples, TorchDataset)
    assert len(samples) == len(list(samples)) == 24
    for row, sample in enumerate(samples):
        assert sample["clip"].dtype == torch.float32
        np.testing.assert_array_equal(sample["clip"].numpy(), stored[row])
        assert (sample["label"], sample["index"]) == (dataset.labels("train")[row], row)
    assert samples[-1]["index"] == 23
    assert "24 clips" in repr(samples)


def test_a_batch_is_read_at_once(folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[list[int]] = []
    assert samples[0]
    assert samples._open is not None
    reader, gather = samples._open[0], samples._open[0].gather
    monkeypatch.setattr(reader, "gather", lambda rows: reads.append(rows.tolist()) or gather(rows))
    batches = list(DataLoader(samples, batch_size=10))
    assert reads == [[*range(10)], [*range(10, 20)], [*range(20, 24)]]
    whole = torch.cat([batch["clip"] for batch in batches])
    assert torch.equal(whole, torch.stack([sample["clip"] for sample in samples]))


def test_files_are_opened_where_they_are_read(folder: Path) -> None:
    samples = Dataset.open(folder).samples("test")
    assert samples._open is None
    samples[0]
    copied = pickle.loads(pickle.dumps(samples))
    assert copied._open is None
    assert torch.equal(copied[3]["clip"], samples[3]["clip"])


def test_workers_read_it(samples: Samples) -> None:
    loader = DataLoader(samples, batch_size=7, shuffle=True, num_workers=2)
    found = {int(row): clip for batch in loader for row, clip in zip(batch["index"], batch["clip"], strict=True)}
    assert sorted(found) == list(range(24))
    assert all(torch.equal(found[row], samples[row]["clip"]) for row in range(24))


def test_several_datasets_are_one(folder: Path, other_folder: Path) -> None:
    parts = [Dataset.open(folder), Dataset.open(other_folder)]
    joined = JoinedDataset(parts).samples("train")
    assert torch.equal(joined[24]["clip"], parts[1].samples("train")[0]["clip"])


def test_what_is_not_there_is_refused(folder: Path, samples: Samples) -> None:
    for row in (24, -25):
        with pytest.raises(IndexError, match="0 to 23"):
            samples[row]
    with pytest.raises(UsageError, match="'angle'.*joint"):
        Dataset.open(folder).samples("train", "angle")
    with pytest.raises(UsageError, match="subset 'val'"):
        Dataset.open(folder).samples("val")
