"""A clip of NaN ends the training of any method with a message that names the clip, and nothing is saved."""

import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from skelpipe.dataset import Dataset
from skelpipe.loader.stream import Stream
from skelpipe.models.build import METHODS

BATCH = 8
OWN = {
    "skelemixclr": ["skelemixclr.blocks=[1, 2]"],
    "skeattnclr": ["skeattnclr.blocks=[1, 2]"],
    "actclr": ["actclr.blocks=[1, 2]", "actclr.moco_epochs=0"],
}


@pytest.fixture(scope="module")
def broken(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, str]:
    """A copy of the tiny dataset with one clip of NaN, and the clip's id."""
    folder = tmp_path_factory.mktemp("broken") / "set"
    shutil.copytree(tiny_dataset.path, folder)
    name = tiny_dataset.ids("train")[11]
    for shard in (folder / "train" / "joint").glob("*.tar"):
        with tarfile.open(shard) as tar:
            found = [member for member in tar if member.name == f"{name}.joint.npy"]
        for member in found:
            size = 4 * int(np.prod(tiny_dataset.shape))
            with shard.open("r+b") as file:
                file.seek(member.offset_data + member.size - size)
                file.write(np.full(size // 4, np.nan, np.float32).tobytes())
    return Dataset.open(folder), name


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process ends by SIGBUS")
@pytest.mark.parametrize(
    ("damage", "said"), [("cut", "now it has 0"), ("gone", "was removed while it was in use")]
)
def test_a_shard_that_is_lost_in_training_is_named(
    tiny_dataset: Dataset,
    pretrain_small: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    said: str,
) -> None:
    shutil.copytree(tiny_dataset.path, tmp_path / "set")
    shard = sorted((tmp_path / "set" / "train" / "joint").glob("*.tar"))[0]
    plain = Stream.passed

    def passed(stream: Stream, epoch: int, step: int) -> None:
        if damage == "cut":
            os.truncate(shard, 0)
        else:
            shard.unlink(missing_ok=True)
        plain(stream, epoch, step)

    monkeypatch.setattr(Stream, "passed", passed)
    result = pretrain_small(Dataset.open(tmp_path / "set"), tmp_path / "run", "--epochs", "2", "--save-every", "1")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"Error: {shard}: ")
    assert said in line
    assert not list((tmp_path / "run").rglob("*.pt"))


@pytest.mark.parametrize("method", METHODS)
def test_a_clip_of_nan_ends_the_run(
    broken: tuple[Dataset, str], pretrain_small: Callable[..., Result], tmp_path: Path, method: str
) -> None:
    dataset, name = broken
    out = tmp_path / "run"
    settings = [part for setting in OWN.get(method, []) for part in ("--set", setting)]
    result = pretrain_small(dataset, out, "--method", method, "--epochs", "2", "--save-every", "1", *settings)
    assert result.exit_code == 1
    line = next(line for line in result.stderr.splitlines() if "the loss is nan in epoch 1, step " in line)
    assert f"the clips of {name} hold values that are not finite" in line
    assert "skelpipe verify" in line
    assert not list(out.rglob("*.pt"))
    assert not (out / "encoder.safetensors").exists()
