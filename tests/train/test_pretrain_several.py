"""Pre-training on several datasets: what a run says and keeps, exact resume, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.train.pretrain import main
from skelpipe.train.report import main as report
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.run_log import read_log

FOLDERS = Callable[..., Result]


@pytest.fixture(scope="module")
def second(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """NTU-60 xview with clips of two classes."""
    return make_dataset(ntu_names(actions=2, subjects=(4, 7)), split="xview")


@pytest.fixture
def train(tiny_dataset: Dataset, second: Dataset, tmp_path: Path, small_options: list[str]) -> FOLDERS:
    """`train/pretrain.py` on both datasets, into a folder."""

    def run(out: str, *words: str) -> Result:
        both = ["--shards", str(tiny_dataset.path), "--shards", str(second.path), "--out", str(tmp_path / out)]
        return CliRunner().invoke(main, [*both, *small_options, *words])

    return run


def test_a_run_on_two_datasets_resumes_exactly(
    train: FOLDERS, tiny_dataset: Dataset, second: Dataset, tmp_path: Path, same_run: Callable[..., None]
) -> None:
    words = ("--weight", "1", "--weight", "0.5", "--save-every", "1", "--knn-every", "2")
    whole = train("whole", *words, "--epochs", "4")
    assert whole.exit_code == 0, whole.output
    clips = tiny_dataset.count("train"), second.count("train")
    assert f"ntu60-xsub+ntu60-xview with weights 1, 0.5 (joint): {sum(clips)} clips" in whole.output
    assert train("cut", *words, "--epochs", "2").exit_code == 0
    resumed = train("cut", *words, "--epochs", "4", "--resume")
    assert resumed.exit_code == 0, resumed.output
    same_run(tmp_path / "whole", tmp_path / "cut", epoch=4)

    digests = f"{tiny_dataset.digest}+{second.digest}"
    with safe_open(tmp_path / "whole" / "encoder.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["dataset"] == "ntu60-xsub+ntu60-xview"
    assert metadata["digest"] == digests
    assert metadata["weights"] == "1 0.5"
    state = read_checkpoint(tmp_path / "whole" / "checkpoints" / "epoch-0004.pt").loader
    assert (state["digest"], state["weights"]) == (digests, [1.0, 0.5])
    measured = [name for name in read_log(tmp_path / "whole" / "log.jsonl")[-1] if name.startswith("knn")]
    assert measured == ["knn@20", "knn@20-ntu60-xview"]

    others = [("--weight", "1", "--weight", "0.6"), ()]
    for other in others:
        refused = train("cut", *other, "--epochs", "4", "--resume")
        assert refused.exit_code == 2
        assert "weights of the datasets: 1 0.5, now" in refused.output
    alone = CliRunner().invoke(main, ["--shards", str(second.path), "--out", str(tmp_path / "cut"), "--resume"])
    assert alone.exit_code == 2
    assert "another run" in alone.output
    drawn = CliRunner().invoke(report, [str(tmp_path / "whole"), "--shards", str(second.path), "--json"])
    assert drawn.exit_code == 0, drawn.output


def test_actclr_takes_the_mean_of_all_clips_for_its_anchor(train: FOLDERS, tmp_path: Path) -> None:
    blocks = ("--set", "actclr.blocks=[1, 2]", "--set", "actclr.moco_epochs=0")
    done = train("act", "--recipe", "actclr", *blocks, "--epochs", "1", "--knn-every", "0", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["epochs"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weight", "1"], "--shards names 2 datasets and --weight 1 weight: give one"),
        (["--weight", "1", "--weight", "0"], "must be above 0"),
        (["--weight", "1", "--weight", "0.001"], "leaves no clip"),
    ],
)
def test_weights_that_do_not_fit_are_refused(train: FOLDERS, words: list[str], message: str) -> None:
    refused = train("none", *words, "--epochs", "1")
    assert refused.exit_code == 2
    assert message in refused.output


def test_datasets_that_do_not_fit_are_refused(
    tiny_dataset: Dataset,
    make_dataset: Callable[..., Dataset],
    ntu_names: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    longer = make_dataset(ntu_names(actions=1, subjects=(1,)), frames=12)
    for shards, message in (
        (
            [tiny_dataset, longer],
            f"{tiny_dataset.path} and {longer.path} cannot be trained on together: frames 8 and 12",
        ),
        ([tiny_dataset, tiny_dataset], "hold the same dataset"),
    ):
        words = [word for each in shards for word in ("--shards", str(each.path))]
        refused = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")])
        assert refused.exit_code == 2
        assert message in refused.output
    alone = CliRunner().invoke(main, ["--shards", str(longer.path), "--weight", "2"])
    assert alone.exit_code == 2
    assert "--weight is for several datasets" in alone.output


def test_the_environment_names_one_dataset_with_any_name(
    tiny_dataset: Dataset, tmp_path: Path, small_options: list[str]
) -> None:
    (tmp_path / "with spaces").symlink_to(tiny_dataset.path)
    words = [*small_options, "--epochs", "1", "--knn-every", "0", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words, env={"SKELPIPE_SHARDS": str(tmp_path / "with spaces")})
    assert done.exit_code == 0, done.output
