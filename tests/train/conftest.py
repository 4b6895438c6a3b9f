"""A dataset small enough to pre-train on in seconds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train.pretrain import main
from skelpipe.train.running.checkpoint import read_checkpoint


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


@pytest.fixture(scope="session")
def small_settings() -> list[str]:
    """Options that make a method's networks tiny."""
    small = {"encoder.width": 2, "encoder.out_channels": 8, "head.hidden": 8, "head.dim": 8, "queue": 20}
    small |= {"optimiser.milestones": "[3]"}
    return [part for key, value in small.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def small_options(small_settings: list[str]) -> list[str]:
    """Options that make pre-training on the tiny dataset a matter of moments: three batches an epoch."""
    return ["--batch-size", "8", "--device", "cpu", "--set", "temperature=0.2", *small_settings]


@pytest.fixture(scope="session")
def pretrain_small(small_options: list[str]) -> Callable[..., Result]:
    """`train/pretrain.py` with the small options and more, in this process."""

    def run(dataset: Dataset, out: Path, *options: str) -> Result:
        return CliRunner().invoke(
            main, ["--shards", str(dataset.path), "--out", str(out), *small_options, *options]
        )

    return run


@pytest.fixture(scope="session")
def finished(
    tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, pretrain_small: Callable[..., Result]
) -> Path:
    """A run of six epochs, a checkpoint every two; nobody writes to it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = pretrain_small(tiny_dataset, out, "--epochs", "6", "--save-every", "2", "--knn-every", "3")
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def same_run() -> Callable[..., None]:
    """Assert that two run folders hold the same bits: recipe, log, weights and the checkpoint of an epoch."""

    def bits(state: Any) -> Any:
        if isinstance(state, torch.Tensor):
            return state.dtype, state.shape, state.numpy().tobytes()
        if isinstance(state, dict):
            return {key: bits(value) for key, value in state.items()}
        return [bits(value) for value in state] if isinstance(state, list | tuple) else state

    def exported(path: Path) -> dict[str, object]:
        with safe_open(path, framework="pt") as file:
            return {name: bits(file.get_tensor(name)) for name in file.keys()} | file.metadata()  # noqa: SIM118

    def compare(a: Path, b: Path, epoch: int = 6) -> None:
        for name in ("recipe.yaml", "log.jsonl"):
            assert (a / name).read_bytes() == (b / name).read_bytes(), name
        weights = [sorted(path.name for path in folder.glob("*.safetensors")) for folder in (a, b)]
        assert weights[0] == weights[1] != []
        assert all(exported(a / name) == exported(b / name) for name in weights[0])
        states = [read_checkpoint(path / "checkpoints" / f"epoch-{epoch:04}.pt") for path in (a, b)]
        for field in vars(states[0]):
            assert bits(getattr(states[0], field)) == bits(getattr(states[1], field)), field

    return compare
