"""Evaluations that keep no network: what is said instead, and what to name."""

import json
from pathlib import Path
from typing import Any

import pytest

from skelpipe.errors import UsageError
from skelpipe.train.evaluation.deployed_network import open_network
from skelpipe.train.inference import Classifier, Encoder
from skelpipe.train.running.kept_network import why_no_classifier, why_no_network


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"protocol": "linear", "view": "3s", "streams": [{"scores": "runs/j/scores.parquet"}]}, r"\(runs/j\)"),
        ({"protocol": "linear", "view": "joint", "region": "actionlet, of features"}, "actionlet.*--region"),
        ({"protocol": "linear", "view": "joint+bone"}, "joint.bone.*--view instead of --heads"),
        ({"protocol": "linear", "view": "3s"}, "--view instead of --heads"),
        ({"protocol": "linear", "view": "joint", "features": "z"}, "--features h"),
        ({"protocol": "knn", "view": "joint"}, r"an evaluation \(knn\).*the run that it evaluated"),
    ],
)
def test_it_is_said_what_to_name(tmp_path: Path, result: dict[str, Any], words: str) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result))
    for read in (
        lambda: open_network(str(tmp_path), None, None, None, print),
        lambda: Classifier.load(tmp_path),
        lambda: Encoder.load(tmp_path),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            read()
        assert str(caught.value).startswith(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_training_with_labels_names_its_run(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "epoch-0001.pt"
    assert "finish it with --resume" in why_no_classifier(checkpoint)
    checkpoint.parent.mkdir(parents=True)
    (tmp_path / "run" / "classifier.safetensors").touch()
    assert why_no_classifier(checkpoint).endswith(f"name {tmp_path / 'run'}")


def test_other_folders_are_none(tmp_path: Path) -> None:
    assert why_no_network(tmp_path) == ""
    (tmp_path / "result.json").write_text("no json")
    assert why_no_network(tmp_path) == ""
