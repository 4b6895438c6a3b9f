"""Training with labels on classes of different sizes, drawn equally often."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from skelpipe.dataset import Dataset
from skelpipe.loader.sampling import balanced
from skelpipe.train import finetune, linear
from skelpipe.train.evaluation.linear_head import batches
from skelpipe.train.training.classifier import Classifier

SMALL = ["--set", "encoder.width=2", "--set", "encoder.out_channels=8", "--device", "cpu"]


@pytest.fixture(scope="module")
def uneven(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """Twelve training clips of the first class, four of the second."""
    names = ntu_names(actions=2, subjects=(1, 2, 3))
    large = [name for name in names if name.endswith("A001")]
    return make_dataset([*large, *[name for name in names if name.endswith("A002")][::3]])


def test_a_run_sees_all_classes_equally_often(
    uneven: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[int] = Counter()
    forward = Classifier.forward

    def counted(self: Classifier, batch: Any) -> Any:
        seen.update(batch.label.tolist())
        return forward(self, batch)

    monkeypatch.setattr(Classifier, "forward", counted)
    common = ["--shards", str(uneven.path), "--recipe", "supervised", *SMALL, "--epochs", "2"]
    count = len(uneven.labels("train"))
    common += ["--batch-size", str(count)]
    assert CliRunner().invoke(finetune.main, [*common, "--out", str(tmp_path / "plain")]).exit_code == 0
    assert seen == {label: 2 * times for label, times in Counter(uneven.labels("train").tolist()).items()}
    seen.clear()
    done = CliRunner().invoke(finetune.main, [*common, "--balanced", "--out", str(tmp_path / "even")])
    assert done.exit_code == 0, done.output
    assert sum(seen.values()) == 2 * count
    assert max(seen.values()) - min(seen.values()) <= 1
    assert "balanced: true" in (tmp_path / "even" / "recipe.yaml").read_text()
    assert "balanced" not in (tmp_path / "plain" / "recipe.yaml").read_text()
    other = CliRunner().invoke(
        finetune.main, [*common, "--epochs", "3", "--out", str(tmp_path / "even"), "--resume"]
    )
    assert other.exit_code == 2
    assert "balanced" in other.output


def test_linear_evaluation_does_so_too(uneven: Dataset, tmp_path: Path) -> None:
    for words in ([], ["--augment"]):
        out = tmp_path / f"out{len(words)}"
        given = [
            "--shards",
            str(uneven.path),
            "--baseline",
            "random",
            "--network-set",
            "encoder.width=2",
            "--json",
        ]
        given += ["--network-set", "encoder.out_channels=8", "--epochs", "2", "--device", "cpu", "--out", str(out)]
        done = CliRunner().invoke(linear.main, [*given, "--balanced", *words])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["epochs"] == 2
        assert "balanced: true" in (out / "recipe.yaml").read_text()


def test_batches_of_features_are_balanced() -> None:
    labels = torch.tensor([0] * 9 + [1] * 3)
    features = torch.arange(12.0)[:, None]
    sampling = balanced(labels.numpy())
    for epoch in (1, 2, 3):
        found = list(batches(features, labels, 4, seed=0, epoch=epoch, sampling=sampling))
        assert [len(each) for each, _ in found] == [4, 4, 4]
        counts = torch.cat([own for _, own in found]).bincount()
        assert counts.tolist() == [6, 6]
        for clips, own in found:
            assert (own == labels[clips[:, 0].long()]).all()
