"""The classifiers of runs: naming the actions of raw recordings, and evaluated further."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import save_file

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train import finetune, knn, linear, predict, report
from skelpipe.train.evaluation.classifier_file import Origin, read_origin
from skelpipe.train.evaluation.evaluated_network import NetworkOptions, choose_network
from skelpipe.train.map import main as map_clips
from skelpipe.train.running.networks import find_weights, read_provenance

SCRATCH = ["--recipe", "supervised", "--set", "encoder.width=2", "--set", "encoder.out_channels=8"]
SHORT = ["--epochs", "2", "--batch-size", "8"]


def call(command: click.Command, *options: object) -> Result:
    return CliRunner().invoke(command, [*map(str, options), "--device", "cpu"])


def done(command: click.Command, *options: object) -> dict[str, Any]:
    result = call(command, *options, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def table(run: Path) -> tuple[list[str], np.ndarray]:
    """Ids and scores of scores.parquet, read without the package."""
    found = pq.read_table(run / "scores.parquet")
    return found["id"].to_pylist(), np.array(found["score"].to_pylist(), np.float64)


@pytest.fixture(scope="module")
def runs(tiny_dataset: Dataset, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind that trains with labels, on clips of one body; the bones' is in a stream of its own."""
    root = tmp_path_factory.mktemp("labelled")
    options = {
        "linear": (linear.main, ["--checkpoint", finished, "--lr", "0.5", *SHORT]),
        "finetune": (finetune.main, ["--checkpoint", finished, *SHORT]),
        "scratch": (finetune.main, [*SCRATCH, "--view", "bone", *SHORT]),
    }
    for name, (command, more) in options.items():
        done(command, "--shards", tiny_dataset.path, "--out", root / name, *more)
    return {name: root / name for name in options}


@pytest.mark.parametrize("name", ["linear", "finetune", "scratch"])
def test_raw_recordings_get_the_classes_of_the_runs_scores(
    runs: dict[str, Path], tiny_dataset: Dataset, name: str
) -> None:
    """The raw files were read, cut and preprocessed once for the dataset, and are once more by prediction."""
    ids, scores = table(runs[name])
    raw = [tiny_dataset.path.parent / "raw" / f"{identity}.skeleton" for identity in ids]
    found = done(predict.main, "--checkpoint", runs[name], *raw)["recordings"]
    assert [entry["id"] for entry in found] == ids
    names = load_manifest("ntu60").classes
    for entry, row in zip(found, scores, strict=True):
        shares = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert [each["action"] - 1 for each in entry["top"]] == np.argsort(-row, kind="stable")[:5].tolist()
        for each in entry["top"]:
            assert each["name"] == names[each["action"] - 1]
            assert each["probability"] == pytest.approx(shares[each["action"] - 1], rel=1e-4)
    assert len({entry["top"][0]["action"] for entry in found} | set(scores.argmax(axis=1))) > 1
    lines = call(predict.main, "--checkpoint", runs[name] / "classifier.safetensors", raw[0]).stdout.splitlines()
    assert lines[0] == ids[0]
    assert lines[1].split()[0] == str(scores[0].argmax() + 1)


def test_a_dataset_of_ones_own_names_its_classes(
    tmp_path: Path, skeleton_text: Callable[..., str], moving_bodies: Callable[..., Any]
) -> None:
    """Profile ctrgcn with a copied second body, in half precision, under a manifest that is not built in."""
    manifest = {
        "name": "lab",
        "reader": "ntu-skeleton",
        "layout": "kinect-v2-25",
        "bodies": 2,
        "name_pattern": r"s(?P<subject>\d)_a(?P<action>\d)",
        "suffix": ".skeleton",
        "classes": ["wave", "jump"],
        "y": "down",
        "splits": {"own": {"field": "subject", "train": [1]}},
    }
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(manifest))
    (tmp_path / "raw").mkdir()
    for seed, name in enumerate(f"s{s}_a{a}" for s in (1, 2) for a in (1, 2)):
        (tmp_path / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12)))
    options = Options("own", frames=8, bodies=2, profile="ctrgcn", second_body="copy", dtype="float16")
    prepare(load_manifest(str(tmp_path / "lab.yaml")), [tmp_path / "raw"], tmp_path / "set", options, quiet=True)
    done(finetune.main, "--shards", tmp_path / "set", "--out", tmp_path / "run", *SCRATCH, "--epochs", "1")
    ids, scores = table(tmp_path / "run")
    raw = [tmp_path / "raw" / f"{identity}.skeleton" for identity in ids]
    untold = call(predict.main, "--checkpoint", tmp_path / "run", *raw)
    assert untold.exit_code == 2
    assert "was trained on lab: say with --dataset FILE how its files are read" in untold.stderr
    own = ["--dataset", tmp_path / "lab.yaml", "--checkpoint", tmp_path / "run"]
    found = done(predict.main, *own, *raw)["recordings"]
    for entry, row in zip(found, scores, strict=True):
        assert {each["name"] for each in entry["top"]} == {"wave", "jump"}
        shares = np.exp(row) / np.exp(row).sum()
        assert entry["top"][0]["probability"] == pytest.approx(shares.max(), rel=1e-4)
        assert entry["top"][0]["action"] == row.argmax() + 1


def test_what_a_run_tells_of_itself_is_not_contradicted(
    runs: dict[str, Path], tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    raw = tiny_dataset.path.parent / "raw" / f"{tiny_dataset.ids('test')[0]}.skeleton"
    for options, said in (
        (["--checkpoint", runs["scratch"], "--view", "joint"], "view: trained on bone, asked for joint"),
        (["--checkpoint", runs["linear"], "--frames", "50"], "frames: trained on 8, asked for 50"),
        (["--checkpoint", runs["linear"], "--dataset", "msr-action3d"], "is for kinect-v2-25, msr-action3d for"),
        (["--checkpoint", finished], "holds no classifier"),
    ):
        result = call(predict.main, *options, raw)
        assert (result.exit_code, said in result.stderr) == (2, True), result.output
    with safe_open(runs["linear"] / "classifier.safetensors", framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    broken = tmp_path / "broken.safetensors"
    for change, left, said in (
        ({"frames": "many"}, set(), "its metadata cannot be read: frames is 'many'"),
        ({}, {"classes", "encoder"}, "does not say what it was trained on (no classes, encoder)"),
        ({"classes": '["a"]'}, set(), "head.bias is float32[60], not float32[1]"),
    ):
        changed = {key: value for key, value in {**metadata, **change}.items() if key not in left}
        save_file(state, broken, changed)
        result = call(predict.main, "--checkpoint", broken, raw)
        assert (result.exit_code, said in result.stderr) == (1, True), result.output


def test_trained_networks_are_evaluated_further(
    runs: dict[str, Path], tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    """The encoder under a linear classifier is the checkpoint's own; the one that was fine-tuned is another."""

    def embedded(run: Path, view: str = "joint") -> torch.Tensor:
        network = choose_network(tiny_dataset, NetworkOptions(checkpoint=str(run), features="h"), print)
        clips = torch.from_numpy(tiny_dataset.reader("test", view).gather(np.arange(24)))
        with torch.no_grad():
            return network.encoder.eval()(clips)

    before = embedded(finished)
    assert torch.equal(embedded(runs["linear"]), before)
    tuned = embedded(runs["finetune"])
    assert not torch.allclose(tuned, before, atol=1e-4)
    with safe_open(runs["finetune"] / "classifier.safetensors", framework="pt") as file:
        weight, bias = file.get_tensor("head.weight").double(), file.get_tensor("head.bias").double()
    np.testing.assert_allclose(tuned.double() @ weight.T + bias, table(runs["finetune"])[1], atol=1e-4)
    shards = ["--shards", tiny_dataset.path]
    result = done(knn.main, *shards, "--checkpoint", runs["finetune"], "--features", "h")
    assert result["what"] == "skeletonclr, 6 epochs on ntu60-xsub, then with labels on ntu60-xsub"
    assert result["reported"] is None  # the paper's figure is of a network that saw no label
    assert done(knn.main, *shards, "--checkpoint", runs["scratch"], "--features", "h")["view"] == "bone"
    again = done(linear.main, *shards, "--checkpoint", runs["finetune"], "--out", tmp_path / "l", *SHORT)
    assert again["trained_on"] == "ntu60-xsub"
    done(map_clips, *shards, "--checkpoint", runs["linear"], "--out", tmp_path / "e", "--classes", "2")
    on = done(finetune.main, *shards, "--checkpoint", runs["scratch"], "--out", tmp_path / "f", *SHORT)
    assert (on["protocol"], on["view"]) == ("finetune", "bone")
    assert done(knn.main, *shards, "--checkpoint", runs["finetune"]) == result
    refused = call(knn.main, *shards, "--checkpoint", runs["finetune"], "--features", "z")
    assert refused.exit_code == 2
    assert "has no projection head: pass --features h" in refused.stderr
    other = call(knn.main, *shards, "--checkpoint", runs["linear"], "--features", "h", "--view", "bone")
    assert "view: trained on joint, asked for bone" in other.stderr
    random = call(knn.main, *shards, "--checkpoint", runs["linear"], "--baseline", "random")
    assert (random.exit_code, "has no recipe of pre-training" in random.stderr) == (2, True)


def test_the_file_says_what_it_was_trained_on(runs: dict[str, Path], tiny_dataset: Dataset) -> None:
    with safe_open(runs["linear"] / "classifier.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["dataset"], metadata["digest"], metadata["view"]) == (
        "ntu60-xsub",
        tiny_dataset.digest,
        "joint",
    )
    assert (metadata["frames"], metadata["persons"], metadata["profile"]) == ("8", "1", "crosclr")
    assert (metadata["layout"], metadata["seed"], metadata["epoch"]) == ("kinect-v2-25", "0", "2")
    assert (metadata["method"], metadata["trained_on"]) == ("skeletonclr", "ntu60-xsub")
    assert json.loads(metadata["classes"]) == list(load_manifest("ntu60").classes)
    assert json.loads(metadata["recipe"])["optimiser"]["lr"] == 0.5
    assert find_weights(str(runs["linear"])).name == "classifier.safetensors"
    scratch = read_origin(runs["scratch"] / "classifier.safetensors")
    assert scratch is not None
    assert (scratch.method, scratch.trained_on, scratch.encoder["width"]) == ("", "ntu60-xsub", 2)


def test_policies_are_those_of_the_dataset_and_of_older_files_the_authors(
    runs: dict[str, Path], tiny_dataset: Dataset
) -> None:
    with safe_open(runs["linear"] / "classifier.safetensors", framework="pt") as file:
        metadata = file.metadata()
    options = tiny_dataset.card["options"]
    kept = {key: options[key] for key in ("body_choice", "empty_frames", "missing_joints")}
    assert Origin.from_metadata(metadata, "a file").policies == kept
    del metadata["policies"]
    as_authors = {"body_choice": "first", "empty_frames": "as-authors", "missing_joints": "refused"}
    assert Origin.from_metadata(metadata, "a file").policies == as_authors


def test_only_a_network_under_a_layer_on_h_is_left_behind(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    for options in (["--baseline", "raw", "--lr", "0.01"], ["--checkpoint", finished, "--features", "z"]):
        done(
            linear.main, "--shards", tiny_dataset.path, "--out", tmp_path / "run", *options, *SHORT, "--overwrite"
        )
        assert not (tmp_path / "run" / "classifier.safetensors").exists()
    more = ["--shards", tiny_dataset.path, "--out", tmp_path / "run", "--checkpoint", finished, *SHORT]
    done(linear.main, *more, "--overwrite")
    assert (tmp_path / "run" / "classifier.safetensors").is_file()


def test_an_unfinished_run_has_no_network_yet(runs: dict[str, Path], tmp_path: Path) -> None:
    """What an interruption leaves of a run: its recipe, log and checkpoints."""
    for name in ("recipe.yaml", "log.jsonl", "checkpoints/epoch-0002.pt"):
        (tmp_path / "cut" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cut" / name).write_bytes((runs["finetune"] / name).read_bytes())
    with pytest.raises(UsageError, match=r"finish it with --resume, its run then has a classifier\.safetensors"):
        read_provenance(find_weights(str(tmp_path / "cut")))
    done_report = CliRunner().invoke(report.main, [str(tmp_path / "cut")])
    assert done_report.exit_code == 0, done_report.output
