"""Datasets small enough to train on in seconds: clips of one action, and untrimmed videos with two actions."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import Browser
from click.testing import CliRunner, Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train.pretrain import main
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.ranks import Ranks

# The untrimmed videos.
VIDEOS = {"0002-L": 230, "0003-M": 205, "0004-R": 240, "0291-M": 220, "0292-L": 40}  # the last two are test videos
ROWS = "3,21,90,2\n7,111,180,2\n3,186,200,1\n"  # of a label file: class, first and last frame, confidence
TWO_BODIES = slice(60, 100)  # frames that show a second body
FRAMES = 10  # of a clip


@pytest.fixture(scope="session")
def single() -> dict[str, str]:
    """The environment of a process that computes as these tests do."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no browser is installed: chromium or google-chrome")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(program, Path(profile))
        yield running
        running.close()


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


@pytest.fixture(scope="session")
def positions() -> Callable[[int, int], np.ndarray]:
    """A function that makes the joints of a video from a seed and its number of frames."""

    def make(seed: int, frames: int) -> np.ndarray:
        """Two bodies [F,2,25,3]: action 3 lifts the arms, action 7 bends the legs; all else stands, with noise."""
        rng = np.random.default_rng(seed)
        pose = np.random.default_rng(7).normal(0, 0.4, (2, 25, 3)) + np.array([0, 0, 3])
        xyz = np.tile(pose, (frames, 1, 1, 1)) + rng.normal(0, 0.02, (frames, 2, 25, 3))
        xyz[20:90, 0, 4:12, 1] += 1.0
        xyz[185:200, 0, 4:12, 1] += 1.0
        xyz[110:180, 0, 12:20, 1] += 1.0
        hidden = np.ones(frames, bool)
        hidden[TWO_BODIES] = False
        xyz[hidden, 1] = 0
        return xyz.round(6)

    return make


@pytest.fixture(scope="session")
def truth() -> Callable[[int], list[int]]:
    """A function that returns the class of every frame of a video, from its number of frames."""

    def make(frames: int) -> list[int]:
        """The class of every frame, from the label file."""
        spans = [(3, 21, 90), (7, 111, 180), (3, 186, 200)] if frames > 100 else [(3, 21, 30)]
        return [next((label for label, a, b in spans if a <= f <= b), 0) for f in range(1, frames + 1)]

    return make


@pytest.fixture(scope="session")
def untrimmed(tmp_path_factory: pytest.TempPathFactory, positions: Callable[[int, int], np.ndarray]) -> Dataset:
    """PKU-MMD I xsub with three training and two test videos, one of them shorter than a window."""
    root = tmp_path_factory.mktemp("pku")
    for kind in ("skeleton", "label"):
        (root / "raw" / kind).mkdir(parents=True)
    for seed, (name, frames) in enumerate(VIDEOS.items()):
        lines = [" ".join(f"{value:.6f}" for value in frame.ravel()) for frame in positions(seed, frames)]
        (root / "raw" / "skeleton" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        (root / "raw" / "label" / f"{name}.txt").write_text(ROWS if frames > 100 else "3,21,30,2\n")
    options = Options("xsub", frames=FRAMES, untrimmed=True)
    prepare(load_manifest("pkummd1"), [root / "raw"], root / "ds", options, quiet=True)
    return Dataset.open(root / "ds")


class OneOfTwo(Ranks):
    """A rank that reaches no other: it gathers only its own rows."""

    def gather(self, x: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
        return x

    def on_main(self, action: Callable[[], None]) -> None:
        if self.is_main:
            action()


@pytest.fixture(scope="session")
def one_of_two() -> Callable[[int], Ranks]:
    """One of two ranks, by its number."""
    return lambda rank: OneOfTwo(rank, 2)
