import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.outcome import read_features, read_scores
from skelpipe.train.knn import main
from skelpipe.train.pretrain import main as pretrain

SMALL = ["encoder.width=2", "encoder.out_channels=8", "head.hidden=8", "head.dim=4", "queue=20"]


def evaluate(dataset: Dataset, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--device", "cpu", *options])


def evaluated(dataset: Dataset, *options: str) -> dict:
    result = evaluate(dataset, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bone"
    options = [part for setting in SMALL for part in ("--set", setting)]
    arguments = ["--shards", str(tiny_dataset.path), "--view", "bone", "--epochs", "2"]
    result = CliRunner().invoke(pretrain, [*arguments, "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    return out


def test_raw_coordinates_equal_naive_loops(tiny_dataset: Dataset) -> None:
    found = evaluated(tiny_dataset, "--baseline", "raw", "--view", "motion", "--k", "1,3", "--k", "30")
    clips = {
        split: tiny_dataset.reader(split, "motion").gather(np.arange(24)).reshape(24, -1).astype(float)
        for split in ("train", "test")
    }
    labels = {split: [int(name[-3:]) - 1 for name in tiny_dataset.ids(split)] for split in ("train", "test")}
    for k in (1, 3, 30):
        right = 0
        for query, truth in zip(clips["test"], labels["test"], strict=True):
            similar = sorted(
                (-float(query @ other) / (math.sqrt(query @ query) * math.sqrt(other @ other)), row)
                for row, other in enumerate(clips["train"])
            )
            scores = [0.0] * 60
            for negative, row in similar[:k]:
                scores[labels["train"][row]] += math.exp(-negative / 0.1)
            right += scores.index(max(scores)) == truth
        assert found["figures"][f"knn@{k}"] == pytest.approx(100 * right / 24)
    assert found["chance"] == pytest.approx(100 / 3)
    assert found["features"] == "raw"
    assert found["clips"] == {"train": 24, "test": 24}
    assert found["reported"] is None


def test_run_export_and_checkpoint_are_the_same_network(tiny_dataset: Dataset, run: Path) -> None:
    results = [
        evaluated(tiny_dataset, "--checkpoint", str(path), "--k", "1,5,20")
        for path in (run, run / "encoder.safetensors", run / "checkpoints" / "epoch-0002.pt")
    ]
    assert results[0] == results[1] == results[2]
    assert results[0]["view"] == "bone"  # the checkpoint's own
    assert set(results[0]["figures"]) == {"knn@1", "knn@5", "knn@20"}
    # The monitor measured the same network in the same way.
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert results[0]["figures"]["knn@20"] == log[-1]["knn@20"]


def test_a_run_without_export_is_evaluated_by_its_newest_checkpoint(
    tiny_dataset: Dataset, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    newest = (run / "checkpoints" / "epoch-0002.pt").read_bytes()
    (tmp_path / "checkpoints" / "epoch-0002.pt").write_bytes(newest)
    found = evaluated(tiny_dataset, "--checkpoint", str(tmp_path))
    assert found["figures"] == evaluated(tiny_dataset, "--checkpoint", str(run))["figures"]


def test_random_baseline_states_initialiser_and_seed(tiny_dataset: Dataset, run: Path) -> None:
    first = evaluated(tiny_dataset, "--baseline", "random", "--checkpoint", str(run), "--seed", "3")
    assert "N(0, 0.02)" in first["what"]
    assert "seed 3" in first["what"]
    assert first["reported"] is None
    assert first == evaluated(tiny_dataset, "--baseline", "random", "--checkpoint", str(run), "--seed", "3")
    recipe = run / "recipe.yaml"
    options = ["--baseline", "random", "--view", "bone", "--seed", "3", "--network"]
    assert evaluated(tiny_dataset, *options, str(recipe)) == first

    earlier = [*options[:-1], "--recipe", str(recipe)]  # the option's name in earlier versions
    assert evaluated(tiny_dataset, *earlier) == first
    changed = [
        evaluated(tiny_dataset, *earlier, name, "init=default")["what"] for name in ("--network-set", "--set")
    ]
    assert changed[0] == changed[1] != first["what"]

    other = run.with_name("default.yaml")
    other.write_text(recipe.read_text().replace("init: paper", "init: default"))
    assert "PyTorch's default" in evaluated(tiny_dataset, *options, str(other))["what"]


def test_features_h_and_z_differ_in_width(tiny_dataset: Dataset, run: Path, tmp_path: Path) -> None:
    for features, width in (("h", 8), ("z", 4)):
        out = tmp_path / features
        options = ["--features", features, "--out", str(out), "--save-features"]
        evaluated(tiny_dataset, "--checkpoint", str(run), *options)
        for split in ("train", "test"):
            saved, about = read_features(out / f"features-{split}.parquet")
            assert saved.features.shape == (24, width)
            assert saved.ids == tiny_dataset.ids(split)
            assert (about["features"], about["split"]) == (features, split)


def test_the_outcome_holds_the_votes(tiny_dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--baseline", "raw", "--k", "1,5", "--out", str(out)]
    result = evaluated(tiny_dataset, *options)
    assert json.loads((out / "result.json").read_text()) == result
    scores = read_scores(out / "scores.parquet")
    assert scores.ids == tiny_dataset.ids("test")
    assert (scores.about["k"], scores.about["protocol"]) == ("5", "knn")
    assert scores.scores.shape == (24, 60)
    assert np.count_nonzero(scores.scores, axis=1).max() <= 5
    assert result["figures"]["knn@5"] == pytest.approx(100 * (scores.predicted == scores.labels).mean())
    refused = evaluate(tiny_dataset, *options)
    assert refused.exit_code == 2
    assert "give --overwrite" in refused.stderr
    assert evaluated(tiny_dataset, *options, "--overwrite") == result


def test_augmented_clips_are_other_clips(tiny_dataset: Dataset, run: Path) -> None:
    plain, augmented = (evaluated(tiny_dataset, "--checkpoint", str(run), *more) for more in ([], ["--augment"]))
    assert (plain["augmented"], augmented["augmented"]) == (False, True)
    assert plain["figures"].keys() == augmented["figures"].keys()


def test_options_about_a_folder_need_one(tiny_dataset: Dataset) -> None:
    result = evaluate(tiny_dataset, "--baseline", "raw", "--save-features")
    assert result.exit_code == 2
    assert "the folder that --out names" in result.stderr


def test_a_dataset_that_does_not_fit_is_refused_field_by_field(
    run: Path, make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    other = make_dataset(ntu_names(actions=2), frames=9, bodies=2)
    result = evaluate(other, "--checkpoint", str(run), "--view", "joint")
    assert result.exit_code == 2
    for text in (
        "view: trained on bone, asked for joint",
        "frames: trained on 8, asked for 9",
        "bodies: trained on 1, asked for 2",
    ):
        assert text in result.stderr
    assert "layout" not in result.stderr


def test_transfer_to_another_dataset_is_fine(
    run: Path, make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    other = make_dataset(ntu_names(actions=2), split="xview")
    assert evaluated(other, "--checkpoint", str(run))["dataset"] == "ntu60-xview"


def test_the_papers_figure_stands_beside_the_measured_one(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "joint"
    options = [part for setting in SMALL for part in ("--set", setting)]
    arguments = ["--shards", str(tiny_dataset.path), "--epochs", "1", "--out", str(out), *options]
    assert CliRunner().invoke(pretrain, arguments).exit_code == 0
    text = evaluate(tiny_dataset, "--checkpoint", str(out), "--k", "1,20").stdout.splitlines()
    assert "reported" not in text[1]
    assert "reported 60.7 % (Hua et al. (SkeAttnCLR), IJCAI 2023, table 4" in text[2]
    assert "40,091 + 16,487 clips, which this dataset does not have" in text[2]
    assert "trained by recipe skeletonclr, here with other epochs, batch_size, queue and" in text[2]
    assert "chance" in text[3]
    assert evaluated(tiny_dataset, "--checkpoint", str(out))["reported"]["complete"] is False


def test_earlier_names_are_not_shown() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    assert "--network NAME|FILE" in shown
    assert "--network-set KEY=VALUE" in shown
    assert "--recipe" not in shown
    assert "--set" not in shown


def test_k_above_the_training_clips_is_said(tiny_dataset: Dataset) -> None:
    result = evaluate(tiny_dataset, "--baseline", "raw", "--k", "25")
    assert result.exit_code == 0
    assert "k=25 is more than the 24 training clips" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name what to evaluate"),
        (["--checkpoint", "nowhere"], "nowhere: there is no such run or file"),
        (["--baseline", "raw", "--network", "demo"], "takes neither"),
        (["--baseline", "raw", "--k", "0"], "k must be at least 1"),
        (["--baseline", "raw", "--k", "a"], "expected whole numbers"),
    ],
)
def test_wrong_usage(tiny_dataset: Dataset, options: list[str], message: str) -> None:
    result = evaluate(tiny_dataset, *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_foreign_file_is_one_line(tiny_dataset: Dataset, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing of ours" * 50)
    result = evaluate(tiny_dataset, "--checkpoint", str(path))
    assert result.exit_code == 2
    assert f"{path}: holds no weights; weights are in a safetensors file" in result.stderr


def test_an_empty_subset_is_an_error(
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    only_test = make_dataset(ntu_names(actions=1, subjects=(3,)))
    result = evaluate(only_test, "--baseline", "raw")
    assert result.exit_code == 1
    assert "the train subset is empty" in result.stderr
