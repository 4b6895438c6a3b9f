"""Untrimmed videos with two actions, and a rank that is alone."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train.running.ranks import Ranks

FRAMES = 10  # of a clip


ROWS = "3,21,90,2\n7,111,180,2\n3,186,200,1\n"


VIDEOS = {"0002-L": 230, "0003-M": 205, "0004-R": 240, "0291-M": 220, "0292-L": 40}  # the last two are test videos


TWO_BODIES = slice(60, 100)  # frames that show a second body


@pytest.fixture(scope="session")
def positions() -> Callable[[int, int], np.ndarray]:
    """Joints of a video with so many frames, by its seed."""

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
    """The classes of the frames of a video with so many."""

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
    """A rank that reaches nobody: what it gathers is its own."""

    def gather(self, x: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
        return x

    def on_main(self, action: Callable[[], None]) -> None:
        if self.is_main:
            action()


@pytest.fixture(scope="session")
def one_of_two() -> Callable[[int], Ranks]:
    """One of two ranks, by its number."""
    return lambda rank: OneOfTwo(rank, 2)
