"""Every dataset, split and container: synthetic recordings -> prepare -> verify -> an epoch of SkeletonCLR."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelpipe.cli import main as skelpipe
from skelpipe.train.pretrain import main as pretrain

SPLIT_FILES = {
    ("pkummd1", "xview"): "cross-view.txt",
    ("pkummd2", "xsub"): "cross_subject_v2.txt",
    ("pkummd2", "xview"): "cross_view_v2.txt",
}
CASES = [
    *(("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset"), ("msr-action3d", "xsub")),
    *(("pkummd1", "xsub"), ("pkummd1", "xview"), ("pkummd2", "xsub"), ("pkummd2", "xview")),
    ("nw-ucla", "xview"),
]
SYNTH = ["--subjects", "4", "--actions", "3", "--repeats", "2", "--frames", "20", "--workers", "1"]
SMALL = {"encoder.width": 2, "encoder.out_channels": 8, "head.hidden": 8, "head.dim": 8, "queue": 4}


def run(command, *words: object) -> str:
    result = CliRunner().invoke(command, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a dataset's synthetic recordings, once for each dataset."""
    root = tmp_path_factory.mktemp("raw")

    def make(dataset: str) -> Path:
        if not (root / dataset).exists():
            run(skelpipe, "synth", "--dataset", dataset, "--out", root / dataset, *SYNTH)
        return root / dataset

    return make


@pytest.mark.parametrize("container", ["shards", "hdf5", "both"])
@pytest.mark.parametrize(("dataset", "split"), CASES)
def test_from_recordings_to_an_epoch(raw, tmp_path, dataset: str, split: str, container: str) -> None:
    folder, out = raw(dataset), tmp_path / "ds"
    options = ["--dataset", dataset, "--split", split, "--raw", folder, "--out", out, "--format", container]
    if file := SPLIT_FILES.get((dataset, split)):
        options += ["--split-file", folder / "split" / file]
    counts = json.loads(
        run(skelpipe, "prepare", *options, "--frames", 8, "--shard-size", 7, "--workers", 1, "--json")
    )
    assert counts["train"] >= 4
    assert counts["test"] >= 4
    assert json.loads(run(skelpipe, "verify", "--shards", out, "--json"))["damages"] == []
    tar, hdf5 = list(out.rglob("*.tar")), list(out.glob("*.h5"))
    assert (bool(tar), bool(hdf5)) == (container != "hdf5", container != "shards")
    small = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    training = ["--epochs", 1, "--batch-size", 4, "--device", "cpu", *small]
    run(pretrain, "--shards", out, "--out", tmp_path / "run", *training)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [math.isfinite(line["loss"]) for line in log] == [True]
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
