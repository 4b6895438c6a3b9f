"""Every method learns: after a short pre-training more of a clip's neighbours are of its class than before.

The recordings show five movements that differ in the limb that moves. Each is sheared and starts at any phase,
as the normal augmentation shears and crops, so that features which ignore augmentations separate the movements.
`tests/benchmarks/learning.py` does the same at length, on recordings of `skelpipe synth`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.models.build import METHODS
from skelpipe.prepare import Options, prepare
from skelpipe.train.pretrain import main
from skelpipe.train.running.networks import Networks, initialised, read_provenance
from skelpipe.train.running.run import COLLAPSED
from skelpipe.train.running.run_log import read_log
from skelpipe.train.training.knn_monitor import KnnMonitor

CPU = torch.device("cpu")
LIMBS = ([5, 6, 7, 21, 22], [9, 10, 11, 23, 24], [13, 14, 15], [17, 18, 19], [2, 3])
EPOCHS, GAIN = 12, 15.0  # accuracy in points: chance is 20, the start 22, and these runs gain 23 to 60
SMALL: Mapping[str, object] = {
    "batch_size": 16,
    "init": "default",
    "optimiser.name": "adam",
    "optimiser.lr": 0.003,
    "optimiser.milestones": [10],
    "temperature": 0.1,
    "momentum": 0.99,
    "queue": 128,
    "encoder.graph": "stgcn_capped",
    "encoder.width": 8,
    "encoder.out_channels": 64,
    "encoder.dropout": 0.0,
    "head.hidden": 64,
    "head.dim": 32,
    "head.batch_norm": False,
}
OWN: Mapping[str, Mapping[str, object]] = {
    # A queue of half of the clips: a longer one holds keys of a clip as negatives of itself, and its loss rises.
    "crosclr": {"crosclr.mining_epoch": 6, "crosclr.views": 2, "queue": 32},
    "aimclr": {"aimclr.mining_epoch": 6},
    "skelemixclr": {"skelemixclr.blocks": [2, 3]},
    "actclr": {"actclr.moco_epochs": 8, "actclr.blocks": [1, 2], "optimiser.milestones": [8]},
    "skeattnclr": {"skeattnclr.blocks": [1, 2], "skeattnclr.heads": 4},
}


def recording(rng: np.random.Generator, rest: np.ndarray, limb: int, frames: int = 24) -> np.ndarray:
    """Return joints [frames,25,3] of a body that swings a limb, sheared."""
    swing = 0.6 * np.sin(2 * np.pi * (np.arange(frames) / frames + rng.uniform()))
    joints = np.repeat(rest[None], frames, axis=0)
    joints[:, LIMBS[limb], limb % 3] += swing[:, None]
    shear = np.eye(3) + 0.3 * rng.uniform(-1, 1, (3, 3)) * (1 - np.eye(3))
    return (joints - rest[20]) @ shear.T + rest[20] + 0.01 * rng.normal(size=joints.shape)


@pytest.fixture(scope="module")
def movements(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    ntu_names: Callable[..., list[str]],
) -> Dataset:
    """NTU-60 xsub with twelve training and twelve test clips of each movement, [3,16,25,1]."""
    root = tmp_path_factory.mktemp("movements")
    (root / "raw").mkdir()
    rng = np.random.default_rng(0)
    rest = 0.3 * rng.normal(size=(25, 3)) + [0, 0, 3]
    rest[[4, 8, 20, 0]] = [-0.2, 0.3, 3], [0.2, 0.3, 3], [0, 0.35, 3], [0, 0, 3]
    for name in ntu_names(actions=len(LIMBS), subjects=(1, 2, 4, 3, 6, 7)):
        joints = recording(rng, rest, int(name[-3:]) - 1)
        text = skeleton_text([[(72057594037930001, frame)] for frame in joints])
        (root / "raw" / f"{name}.skeleton").write_text(text)
    options = Options(split="xsub", frames=16, bodies=1)
    prepare(load_manifest("ntu60"), [root / "raw"], root / "set", options, quiet=True)
    return Dataset.open(root / "set")


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_get_better(movements: Dataset, tmp_path: Path, method: str) -> None:
    settings = {**SMALL, **OWN.get(method, {})}
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    run = ["--shards", str(movements.path), "--method", method, "--out", str(tmp_path / "run"), "--seed", "1"]
    run += ["--device", "cpu", "--epochs", str(EPOCHS), "--knn-every", str(EPOCHS), *given]
    result = CliRunner().invoke(main, run)
    assert result.exit_code == 0, result.output

    log = read_log(tmp_path / "run" / "log.jsonl")
    provenance, _ = read_provenance(tmp_path / "run" / "encoder.safetensors")
    start = Networks.of(initialised(provenance.pretraining, movements.layout, provenance.seed), "joint")
    before = KnnMonitor(movements, "joint", CPU).measure(start.embedder("z"))
    assert log[-1]["knn@20"] > before + GAIN
    assert min(record["std"] for record in log) > 3 * COLLAPSED
    begins = next((int(str(value)) for key, value in settings.items() if key.endswith(("_epoch", "_epochs"))), 0)
    stage = [record["loss"] for record in log[begins:]]
    assert stage[-1] < 0.99 * max(stage)  # in the first epochs the queue still has random rows, which are easy
