"""Pre-training through webdataset: on prepared datasets, and directly on shards that others wrote."""

import io
import re
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.train.pretrain import main
from skelpipe.train.running import loop

RUN = ["--epochs", "2", "--save-every", "1", "--knn-every", "2"]


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of others: two plain ones to train on, a compressed one to test on, of 8 clips each."""
    folder, rng = tmp_path_factory.mktemp("tars"), np.random.default_rng(0)
    for name, mode in (("train-0.tar", "w"), ("train-1.tar", "w"), ("test.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for n in range(8):
                file = io.BytesIO()
                np.save(file, rng.normal(size=(6 + n, 25, 3)).astype(np.float32))
                for suffix, content in (("cls", str(n % 3).encode()), ("npy", file.getvalue())):
                    info = tarfile.TarInfo(f"{name.partition('.')[0]}-{n}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture
def train(tars: Path, small_options: list[str]) -> Callable[..., Result]:
    def run(out: Path, *more: str) -> Result:
        shards = ["--shards", str(tars / "train-{0..1}.tar"), "--test-shards", str(tars / "test.tar.gz")]
        options = ["--loader", "webdataset", "--layout", "kinect-v2-25", "--out", str(out), *small_options, *RUN]
        return CliRunner().invoke(main, [*shards, *options, *more])

    return run


def test_shards_of_others_train_stop_and_go_on(
    train: Callable[..., Result],
    tmp_path: Path,
    same_run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    assert "16 clips, 2 steps of 8 per epoch" in whole.stderr
    assert "knn@20" in whole.stdout

    plain = loop.Stepper.learn

    def learn(self: loop.Stepper, batch: int, loss: torch.Tensor) -> None:
        signal.raise_signal(signal.SIGTERM)
        plain(self, batch, loss)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Stepper, "learn", learn)
        assert train(tmp_path / "stopped").exit_code == 143
    assert (tmp_path / "stopped" / "checkpoints" / "epoch-0000-step-000001.pt").exists()
    result = train(tmp_path / "stopped", "--resume")
    assert result.exit_code == 0, result.output
    same_run(tmp_path / "whole", tmp_path / "stopped", 2)


def test_a_prepared_dataset_gives_the_same_run(
    tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Callable[..., Result], same_run: Callable[..., None]
) -> None:
    for reader in ("native", "webdataset"):
        result = pretrain_small(tiny_dataset, tmp_path / reader, *RUN, "--loader", reader)
        assert result.exit_code == 0, result.output
    same_run(tmp_path / "native", tmp_path / "webdataset", 2)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--loader", "native"], 2, "tars of others are read with --loader webdataset"),
        (["--layout", "none-such"], 2, "none-such"),
        (["--layout", "coco-17"], 1, r"train-0-0: .*\[6, 25, 3\]"),
        (["--axes", "T,V"], 2, "--axes T,V: T, V and C are expected"),
        (["--array", "pkl"], 1, "train-0-0.pkl: would have to be unpickled"),
        (["--label", "json:label"], 1, "has no member .json"),
        (["--weight", "2"], 2, "--weight is for several datasets"),
        (["--shards", "pipe:cat x.tar"], 2, "pipe: would run a program"),
        (["--shards", "s3://bucket/ds"], 2, "names tars and a dataset"),
        (["--bodies", "0"], 2, "--bodies"),
    ],
)
def test_what_is_refused(
    train: Callable[..., Result], tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    result = train(tmp_path / "run", *options)
    assert result.exit_code == code, result.output
    assert not (tmp_path / "run").exists()
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert re.search(message, line)


@pytest.mark.parametrize("options", [["--layout", "none-such.yaml"], ["--bodies", "1"], ["--array", "npy"]])
def test_a_dataset_says_itself_what_it_holds(
    tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Callable[..., Result], options: list[str]
) -> None:
    result = pretrain_small(tiny_dataset, tmp_path / "run", *options)
    assert result.exit_code == 2
    assert f"{options[0]} is for shards that others wrote" in result.stderr
    result = pretrain_small(
        tiny_dataset, tmp_path / "run", *options, "--shards", "http://me:secret@127.0.0.1:9/ds?s=secret"
    )
    assert result.exit_code
    assert "secret" not in result.output


def test_recordings_of_both_subsets_are_noted(
    train: Callable[..., Result],
    tars: Path,
    tiny_dataset: Dataset,
    pretrain_small: Callable[..., Result],
    tmp_path: Path,
) -> None:
    result = train(tmp_path / "run", "--test-shards", str(tars / "train-1.tar"), "--bodies", "1", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "8 of 16 recordings of the test subset have the id of one of the train subset" in result.stderr
    words = ["--shards", "s3://bucket/other", "--loader", "webdataset"]
    result = pretrain_small(tiny_dataset, tmp_path / "two", *words)
    assert result.exit_code == 2
    assert "webdataset reads one dataset: several are read with --loader native" in result.stderr
