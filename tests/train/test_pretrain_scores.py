"""Clips with scores, [4,T,V,M]: every method, backbone and script takes them; weights tell them from others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from skelpipe.cli.stats import stats
from skelpipe.dataset import Dataset
from skelpipe.loader import Loader, Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.models.build import METHODS
from skelpipe.models.method import Progress
from skelpipe.prepare import Options, prepare
from skelpipe.train import finetune, knn, linear, predict
from skelpipe.train.evaluation.recogniser import open_recogniser
from skelpipe.train.map import main as map_clips
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.running.networks import initialised
from skelpipe.train.running.provenance import ClipFacts

SMALL = ("encoder.width=2", "encoder.out_channels=8", "head.hidden=8", "head.dim=8", "queue=20", "init=default")


@pytest.fixture(scope="module")
def plain(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """Clips of three channels with as many frames as the longest region that SkeleMix draws."""
    return make_dataset(ntu_names(actions=3, subjects=(1, 2, 3, 6)), frames=44)


@pytest.fixture(scope="module")
def scored(plain: Dataset, with_scores: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    assert isinstance(plain.path, Path)
    return Dataset.open(with_scores(plain.path, tmp_path_factory.mktemp("scored") / "ds"))


@pytest.fixture(scope="module")
def run(scored: Dataset, pretrain_small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training on clips with scores."""
    out = tmp_path_factory.mktemp("runs") / "scored"
    result = pretrain_small(scored, out, "--method", "aimclr", "--epochs", "1", "--set", "init=default")
    assert result.exit_code == 0, result.output
    return out


def call(command: Any, *arguments: object) -> Any:
    result = CliRunner().invoke(command, [*map(str, arguments), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    return result


def step(dataset: Dataset, method: str, variant: str, encoder: str = "stgcn", view: str = "joint") -> None:
    """Take one step of each stage, forwards and backwards."""
    settings = [*SMALL, f"variant={variant}"]
    if encoder != "stgcn":
        settings = [text for text in settings if not text.startswith("encoder")]
        settings += [f"encoder.name={encoder}", {"dsta": "encoder.width=4", "bigru": "encoder.hidden=8"}[encoder]]
    recipe = with_overrides(load_recipe(method), settings, by="--set")
    anchor = torch.from_numpy(dataset.anchor(view))
    model = initialised(recipe, dataset.layout, 0, view, lambda: anchor, len(dataset.channels))
    epochs = recipe.epochs
    for epoch in (0, epochs - 1):
        model.advance(Progress(epoch, epochs, 0, 1))
        loader = Loader(Stream(dataset, "train", ("joint",), 8), "cpu", model.views(), view=view)
        batch = next(iter(loader))
        loader.close()
        assert all(clips.shape[1] == 4 for clips in batch.views.values())
        loss = model(batch).loss
        assert loss.isfinite()
        loss.backward()
        model.finish()


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method(scored: Dataset, method: str, variant: str) -> None:
    step(scored, method, variant)


@pytest.mark.parametrize("encoder", ["bigru", "dsta"])
def test_other_backbones(scored: Dataset, encoder: str) -> None:
    step(scored, "skeletonclr", "paper", encoder, view="bone")


def test_weights_say_which_channels_they_know(run: Path, plain: Dataset, scored: Dataset) -> None:
    with safe_open(run / "encoder.safetensors", framework="pt") as file:
        assert file.metadata()["channels"] == "x y z score"
        assert file.get_tensor("encoder.input_norm.weight").shape == (4 * 25,)
    facts = ClipFacts.of(scored)
    assert ClipFacts.from_texts(facts.texts()) == facts
    assert "channels" not in ClipFacts.of(plain).texts()  # weights of three channels are the files they were
    assert ClipFacts.from_texts(ClipFacts.of(plain).texts()) == ClipFacts.of(plain)


def test_weights_refuse_clips_of_other_channels(
    run: Path, plain: Dataset, scored: Dataset, finished: Path, tmp_path: Path, pretrain_small: Callable[..., Any]
) -> None:
    for checkpoint, dataset, said in (
        (run, plain, "channels: trained on x, y, z, score, asked for x, y, z"),
        (finished, scored, "channels: trained on x, y, z, asked for x, y, z, score"),
    ):
        for command in (knn.main, linear.main, finetune.main, map_clips):
            arguments = ["--checkpoint", str(checkpoint), "--shards", str(dataset.path), "--device", "cpu"]
            result = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "out")])
            assert result.exit_code == 2, result.output
            assert said in result.output
    again = pretrain_small(plain, run, "--method", "aimclr", "--epochs", "2", "--set", "init=default", "--resume")
    assert again.exit_code != 0
    assert "channels: x, y, z, score, now x, y, z" in again.output


def test_the_scripts(run: Path, scored: Dataset, tmp_path: Path) -> None:
    given = ("--checkpoint", run, "--shards", scored.path)
    call(knn.main, *given)
    call(linear.main, *given, "--epochs", 1, "--out", tmp_path / "linear")
    call(finetune.main, *given, "--epochs", 1, "--out", tmp_path / "fine")
    call(map_clips, *given, "--out", tmp_path / "embedded")
    classifier = tmp_path / "fine" / "classifier.safetensors"
    call(knn.main, "--checkpoint", classifier, "--shards", scored.path)


def test_raw_coordinates_are_positions_alone(plain: Dataset, scored: Dataset) -> None:
    found = [
        json.loads(call(knn.main, "--baseline", "raw", "--shards", each.path, "--json").stdout)
        for each in (plain, scored)
    ]
    assert found[0]["digest"] != found[1]["digest"]
    assert found[0]["figures"] == found[1]["figures"]


MANIFEST = """name: street
title: Street
reader: npy
layout: coco-17
bodies: 1
axes: T,V,C
channels: [x, y, score]
units: pixels
name_pattern: 's(?P<subject>\\d+)_a(?P<action>\\d)_(?P<take>\\d+)'
suffix: .npy
classes: [wave, sit down]
splits: {xsub: {field: subject, train: [0, 1]}}
terms: none
"""


def test_predict_names_the_actions_of_raw_files_with_scores(tmp_path: Path) -> None:
    """The probabilities of a raw file are those of its clip in the dataset, scores included."""
    rng = np.random.default_rng(0)
    raw, manifest = tmp_path / "raw", tmp_path / "street.yaml"
    raw.mkdir()
    for n in range(24):
        pose = rng.normal(size=(20, 17, 2)) * 20 + 300
        score = rng.random((20, 17, 1)) * 0.9 + 0.05
        np.save(raw / f"s{n % 3}_a{1 + n % 2}_{n}.npy", np.concatenate([pose, score], 2))
    manifest.write_text(MANIFEST)
    prepare(load_manifest(str(manifest)), [raw], tmp_path / "ds", Options("xsub", 16, 1), quiet=True)
    dataset = Dataset.open(tmp_path / "ds")
    assert dataset.channels == ("x", "y", "z", "score")
    averages = CliRunner().invoke(stats, ["--shards", str(tmp_path / "ds"), "--average-motion"])
    assert averages.exit_code == 0, averages.output  # anchors of pixels agree as far as float32 does
    recipe = ("--recipe", "supervised-small", "--epochs", 1, "--batch-size", 8)
    call(finetune.main, "--shards", tmp_path / "ds", *recipe, "--out", tmp_path / "run")
    files = sorted(raw.glob("s2_*.npy"))
    given = ("--checkpoint", tmp_path / "run", "--dataset", manifest, "--json")
    found = json.loads(call(predict.main, *given, *files).stdout)["recordings"]
    recogniser = open_recogniser(str(tmp_path / "run"), str(manifest), None, None, print)
    for entry in found:
        row = dataset.ids("test").index(entry["id"])
        clip = torch.from_numpy(dataset.reader("test", "joint").gather(np.array([row])))
        wanted = recogniser.scores(clip).softmax(dim=1)[0]
        unscored = clip.clone()
        unscored[:, 3] = 0
        assert not torch.equal(wanted, recogniser.scores(unscored).softmax(dim=1)[0])
        for action in entry["top"]:
            assert action["probability"] == pytest.approx(float(wanted[action["action"] - 1]), abs=1e-6)
    bare = tmp_path / "bare.yaml"
    bare.write_text(MANIFEST.replace("[x, y, score]", "[x, y]"))
    words = ["--checkpoint", str(tmp_path / "run"), "--dataset", str(bare), str(files[0])]
    refused = CliRunner().invoke(predict.main, words)
    assert refused.exit_code == 2
    assert "was trained on the channels x, y, z, score; street has x, y, z" in refused.output
