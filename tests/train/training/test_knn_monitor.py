from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.train.training.knn_monitor import KnnMonitor

CPU = torch.device("cpu")


def test_monitor_measures_test_clips_against_training_clips(tiny_dataset: Dataset) -> None:
    monitor = KnnMonitor(tiny_dataset, "joint", CPU, k=1)
    assert monitor.name == "knn@1"
    assert monitor.missing() is None
    bank, queries = (
        dataset_clips / np.linalg.norm(dataset_clips, axis=1, keepdims=True)
        for dataset_clips in (
            tiny_dataset.reader(split, "joint").gather(np.arange(24)).reshape(24, -1).astype(np.float64)
            for split in ("train", "test")
        )
    )
    nearest = (queries @ bank.T).argmax(axis=1)
    expected = 100 * np.mean(tiny_dataset.labels("train")[nearest] == tiny_dataset.labels("test"))
    assert monitor.measure(nn.Flatten()) == pytest.approx(expected)


def test_monitor_says_which_subset_is_empty(
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    only_training = make_dataset(ntu_names(actions=1, subjects=(1,)))
    assert "the test subset is empty" in (KnnMonitor(only_training, "joint", CPU).missing() or "")
