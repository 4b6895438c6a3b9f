"""The weights that skelpipe brings along: what they are, how they are found, that they know gestures."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open

from skelpipe import Classifier, Encoder
from skelpipe.cli import main as skelpipe
from skelpipe.train.running.starter import FILE, weights_path

SUBJECTS, ACTIONS = 2, 6
# What the first six synthetic actions are: the themes 0, 5, 10, 15, 4 and 9 of `skelpipe.synth.actions`.
SHOWN = (
    "reach with the right arm",
    "reach with both arms in turn",
    "raise both arms sideways",
    "step sideways, raising the arms in turn",
    "bow, reaching with both arms",
    "turn, handling something with the right hand",
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of people and rooms that the training did not have."""
    folder = tmp_path_factory.mktemp("starter") / "raw"
    sizes = ("--subjects", str(SUBJECTS), "--actions", str(ACTIONS), "--repeats", "1", "--frames", "40")
    words = ("synth", "--dataset", "ntu60", "--out", str(folder), *sizes, "--seed", "123", "--workers", "1")
    result = CliRunner().invoke(skelpipe, list(words))
    assert result.exit_code == 0, result.output
    return folder


def test_the_file_is_small_and_says_what_it_is() -> None:
    assert FILE.stat().st_size < 1_000_000
    with safe_open(FILE, framework="pt") as file:
        said = file.metadata()
    assert "MIT" in said["licence"]
    assert "synthetic" in said["licence"]
    assert set(SHOWN) < set(json.loads(said["classes"]))


def test_it_names_the_gestures_of_people_it_has_not_seen(raw: Path) -> None:
    heard: list[str] = []
    found = Classifier.load("starter", device="cpu", say=heard.append).predict(raw)
    actions = [int(name[-3:]) for name in found.ids]  # the last one of the plan is for two people
    right = [
        name == SHOWN[action - 1]
        for name, action in zip(found.names, actions, strict=True)
        if action <= len(SHOWN)
    ]
    assert len(right) == 3 * SUBJECTS * (ACTIONS - 1)
    assert np.mean(right) > 0.8
    assert len(heard) == 1
    assert "synthetic" in heard[0]


def test_embed_and_predict_need_no_checkpoint(raw: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.npz"
    recording = str(sorted(raw.rglob("*.skeleton"))[0])
    result = CliRunner().invoke(skelpipe, ["embed", recording, "--out", str(file), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "starter weights" in result.stderr
    features = Encoder.load(FILE, device="cpu", say=lambda text: None).embed(recording).features
    np.testing.assert_array_equal(np.load(file)["feature"], features)
    result = CliRunner().invoke(skelpipe, ["predict", recording, "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "starter weights" in result.stderr
    assert json.loads(result.stdout)["recordings"][0]["top"][0]["name"] in SHOWN


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(weights_path("starter")) == FILE
    (tmp_path / "starter").mkdir()
    assert weights_path("starter") == "starter"
    assert weights_path("runs/other") == "runs/other"
