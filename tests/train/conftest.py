"""A dataset small enough to pre-train on in seconds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skelpipe.dataset import Dataset
from skelpipe.prepare import Options, prepare
from skelpipe.schema import load_manifest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: networks this small only lose by more, most of all beside other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def single() -> dict[str, str]:
    """The environment of a process that computes as these tests do."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def make_dataset(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., Any],
) -> Callable[..., Dataset]:
    """A maker of datasets from recordings with these names, in shards of ten clips."""

    def make(names: list[str], split: str = "xsub", frames: int = 8, bodies: int = 1) -> Dataset:
        root: Path = tmp_path_factory.mktemp("dataset")
        (root / "raw").mkdir()
        for seed, name in enumerate(names):
            text = skeleton_text(moving_bodies(seed, 10 + seed % 5))
            (root / "raw" / f"{name}.skeleton").write_text(text)
        options = Options(split=split, frames=frames, bodies=bodies, shard_size=10)
        prepare(load_manifest("ntu60"), [root / "raw"], root / "set", options, quiet=True)
        return Dataset.open(root / "set")

    return make


@pytest.fixture(scope="session")
def tiny_dataset(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """NTU-60 xsub with 24 training and 24 test clips of three classes, [3,8,25,1]."""
    return make_dataset(ntu_names(actions=3, subjects=(1, 2, 3, 6)))
