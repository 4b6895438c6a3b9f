"""`train/finetune.py`: what it starts from, which clips it sees, what it leaves behind, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train.commands import finetune
from skelpipe.train.evaluation import outcome
from skelpipe.train.evaluation.dataset_rows import labelled_rows
from skelpipe.train.finetune import main
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.networks import find_weights, load_networks, read_provenance
from skelpipe.train.running.run_log import Console, read_log
from skelpipe.train.training.finetuning_start import Request, choose_start

SMALL = ["--set", "encoder.width=2", "--set", "encoder.out_channels=8", "--batch-size", "8", "--device", "cpu"]


def run(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--out", str(out), *options])


def done(dataset: Dataset, out: Path, *options: str) -> dict:
    result = run(dataset, out, *options, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # one object and nothing else


def scratch(dataset: Dataset, out: Path, *options: str) -> dict:
    return done(dataset, out, "--recipe", "supervised", *SMALL, *options)


def scores(out: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    table = pq.read_table(out / "scores.parquet").to_pydict()
    return table["id"], np.array(table["label"]), np.array(table["score"])


@pytest.fixture(autouse=True)
def few_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw matrix and report in one test: they take longer than all else here."""
    if "outcome" not in request.node.name:
        monkeypatch.setattr(outcome, "draw_confusion", lambda *_: None)
        monkeypatch.setattr(finetune, "write_report", lambda *_: None)


@pytest.fixture(scope="module")
def wide_dataset(tmp_path_factory, skeleton_text, moving_bodies) -> Dataset:
    """NTU-120 xsub, whose head has 120 classes, of clips like those of `tiny_dataset`."""
    root = tmp_path_factory.mktemp("wide")
    (root / "raw").mkdir()
    for seed, (person, action) in enumerate((p, a) for p in (1, 3) for a in (7, 61, 120)):
        setup = 1 if action <= 60 else 18
        name = f"S{setup:03}C001P{person:03}R001A{action:03}.skeleton"
        (root / "raw" / name).write_text(skeleton_text(moving_bodies(seed, 10)))
    prepare(load_manifest("ntu120"), [root / "raw"], root / "set", Options("xsub", frames=8, bodies=1), quiet=True)
    return Dataset.open(root / "set")


def test_the_supervised_baseline_leaves_a_whole_outcome(tiny_dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = scratch(tiny_dataset, out, "--epochs", "3", "--test-every", "1")
    ids, labels, values = scores(out)
    assert ids == tiny_dataset.ids("test")
    assert labels.tolist() == tiny_dataset.labels("test").tolist()
    assert values.shape == (24, 60)
    top1 = 100 * np.mean([row.argmax() == label for row, label in zip(values, labels, strict=True)])
    top5 = 100 * np.mean([label in np.argsort(-row)[:5] for row, label in zip(values, labels, strict=True)])
    assert result["figures"]["top1"] == pytest.approx(top1)
    assert result["figures"]["top5"] == pytest.approx(top5)
    log = read_log(out / "log.jsonl")
    assert [record["epoch"] for record in log] == [1, 2, 3]
    tested = [record["top1"] for record in log]
    assert result["figures"]["best_top1"] == max(tested)
    assert result["best_epoch"] == 1 + tested.index(max(tested))
    assert json.loads((out / "result.json").read_text()) == result
    assert (out / "report.html").is_file()
    assert yaml.safe_load((out / "recipe.yaml").read_text())["encoder"]["width"] == 2
    assert (result["protocol"], result["clips"]) == ("supervised", {"train": 24, "test": 24})
    assert result["chance"] == pytest.approx(100 / 3)
    assert result["reported"]["top1"] == 81.5  # ActCLR, table 4: ST-GCN on NTU-60 xsub
    assert result["reported"]["complete"] is False


def test_a_small_network_learns_what_tells_the_actions_apart(
    tmp_path: Path, skeleton_text: Callable[..., str], ntu_names: Callable[..., list[str]]
) -> None:
    """Three actions of a right arm, on test subjects whose bodies were never seen."""
    (tmp_path / "raw").mkdir()
    directions = np.array([[0, 0.6, 0], [0, -0.6, 0], [0, 0, -0.6]])
    rest = np.random.default_rng(0).normal(size=(25, 3)) * 0.3 + [0, 0, 3]
    for seed, name in enumerate(ntu_names(actions=3, subjects=(1, 2, 3, 6))):
        rng = np.random.default_rng(seed)
        body = rest + rng.normal(size=(25, 3)) * 0.03
        frames = []
        for t in range(8):
            pose = body + rng.normal(size=(25, 3)) * 0.01
            pose[[9, 10, 11, 23, 24]] += directions[int(name[-3:]) - 1] * np.sin(np.pi * t / 7)
            frames.append([(72057594037930000, pose)])
        (tmp_path / "raw" / f"{name}.skeleton").write_text(skeleton_text(frames))
    options = Options("xsub", frames=8, bodies=1)
    prepare(load_manifest("ntu60"), [tmp_path / "raw"], tmp_path / "set", options, quiet=True)
    network = ["--set", "encoder.width=4", "--set", "encoder.out_channels=32", "--batch-size", "6"]
    schedule = ["--epochs", "24", "--lr", "1e-2", "--set", "optimiser.milestones=[15]", "--device", "cpu"]
    dataset = Dataset.open(tmp_path / "set")
    result = done(dataset, tmp_path / "run", "--recipe", "supervised-small", *network, *schedule)
    assert result["figures"]["top1"] >= 80  # chance: 33
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert log[-1]["accuracy"] > 90
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]
    assert log[-1]["std"] > 0.1  # no collapse
    assert {record["epoch"]: record["lr"] for record in log}[16] == pytest.approx(1e-3)


def test_resumed_is_bit_identical_to_uninterrupted(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """Dropout, augmentation, momentum, a milestone and the best figure all go on as they were."""
    options = ["--set", "augment.name=normal", "--set", "optimiser.milestones=[3]", "--test-every", "1"]
    options += ["--save-every", "2", "--set", "optimiser.warmup=2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = scratch(tiny_dataset, whole, *options, "--epochs", "4")
    scratch(tiny_dataset, cut, *options, "--epochs", "2")
    with (cut / "log.jsonl").open("a") as log:
        log.write('{"epoch": 3, "loss"')  # as if killed while it went on
    resumed = scratch(tiny_dataset, cut, *options, "--epochs", "4", "--resume")
    assert {**resumed, "run": ""} == {**expected, "run": ""}
    for name in ("log.jsonl", "recipe.yaml", "classes.csv"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert np.array_equal(scores(whole)[2], scores(cut)[2])
    states = [read_checkpoint(folder / "checkpoints" / "epoch-0004.pt") for folder in (whole, cut)]
    assert all(torch.equal(states[0].model[name], states[1].model[name]) for name in states[0].model)
    fresh = scratch(tiny_dataset, tmp_path / "other", *options, "--epochs", "4", "--seed", "1")
    assert fresh["figures"] != expected["figures"] or not np.array_equal(
        scores(whole)[2], scores(tmp_path / "other")[2]
    )


def test_another_run_is_not_resumed_nor_overwritten(tiny_dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    scratch(tiny_dataset, out, "--epochs", "1", "--lr", "0.1")
    options = ["--recipe", "supervised", *SMALL, "--epochs", "1"]
    refused = run(tiny_dataset, out, *options)
    assert refused.exit_code == 2
    assert "already holds a run" in refused.stderr
    changed = run(tiny_dataset, out, *options, "--lr", "0.2", "--resume", "--labels", "0.5")
    assert changed.exit_code == 2
    assert "training clips" in changed.stderr
    assert "optimiser.lr: 0.1, now 0.2" in changed.stderr
    assert "weights" not in changed.stderr
    reseeded = run(tiny_dataset, out, *options, "--lr", "0.1", "--resume", "--seed", "5")
    assert "seed: 0, now 5" in reseeded.stderr
    assert "initial weights" in reseeded.stderr
    both = run(tiny_dataset, out, *options, "--resume", "--overwrite")
    assert both.exit_code == 2
    scratch(tiny_dataset, out, "--epochs", "1", "--lr", "0.2", "--overwrite")
    assert len(read_log(out / "log.jsonl")) == 1
    assert yaml.safe_load((out / "recipe.yaml").read_text())["optimiser"]["lr"] == 0.2


def test_training_starts_from_the_checkpoint_and_changes_all_of_it(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    start = choose_start(tiny_dataset, Request(checkpoint=str(finished)), Console())
    path = find_weights(str(finished))
    exported = load_networks(path, read_provenance(path)[0], tiny_dataset.layout, "joint").encoder.state_dict()
    state = start.classifier.encoder.state_dict()
    assert state.keys() == exported.keys()
    assert all(torch.equal(state[name], exported[name]) for name in exported)
    assert all(parameter.requires_grad for parameter in start.classifier.parameters())
    result = done(tiny_dataset, tmp_path / "run", "--checkpoint", str(finished), "--epochs", "2", *SMALL[4:])
    assert (result["protocol"], result["recipe"]) == ("finetune", "finetune")
    trained = read_checkpoint(tmp_path / "run" / "checkpoints" / "epoch-0002.pt").model
    learned = [name for name, _ in start.classifier.encoder.named_parameters()]
    assert all(not torch.equal(trained[f"encoder.{name}"], exported[name]) for name in learned)


def test_fixed_modes_keep_the_statistics_of_pre_training(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    exported = choose_start(tiny_dataset, Request(checkpoint=str(finished)), Console()).classifier.state_dict()
    options = ["--checkpoint", str(finished), "--epochs", "1", *SMALL[4:], "--set", "modes=eval"]
    done(tiny_dataset, tmp_path / "run", *options)
    trained = read_checkpoint(tmp_path / "run" / "checkpoints" / "epoch-0001.pt").model
    running = [name for name in exported if name.endswith(("running_mean", "running_var"))]
    assert running
    assert all(torch.equal(trained[name], exported[name]) for name in running)
    assert not torch.equal(trained["head.weight"], exported["head.weight"])


def test_few_labels_are_those_of_the_subset(tiny_dataset: Dataset, finished: Path, tmp_path: Path) -> None:
    options = [
        "--checkpoint",
        str(finished),
        "--labels",
        "0.25",
        "--seed",
        "3",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    result = run(tiny_dataset, tmp_path / "run", *options, "--json")
    assert result.exit_code == 0, result.output
    assert "batch_size 128 lowered to 6" in result.stderr  # 2 of the 8 clips of each of 3 classes
    summary = json.loads(result.stdout)
    assert (summary["protocol"], summary["recipe"], summary["clips"]["train"]) == ("semi-25", "finetune-semi", 6)
    assert summary["clips"]["test"] == 24
    saved = read_checkpoint(tmp_path / "run" / "checkpoints" / "epoch-0001.pt")
    rows = labelled_rows(tiny_dataset.ids("train"), tiny_dataset.labels("train"), 0.25, 3)
    assert len(rows) == 6
    assert saved.loader["digest"] == saved.identity["digest"] != tiny_dataset.digest
    empty = run(tiny_dataset, tmp_path / "none", "--checkpoint", str(finished), "--labels", "0.01")
    assert empty.exit_code == 2
    assert "--labels 0.01: no class has enough clips" in empty.stderr
    assert not (tmp_path / "none").exists()


def test_the_head_follows_the_target_of_a_transfer(wide_dataset: Dataset, finished: Path, tmp_path: Path) -> None:
    options = ["--checkpoint", str(finished), "--epochs", "1", "--batch-size", "3", "--device", "cpu"]
    result = done(wide_dataset, tmp_path / "run", *options)
    assert (result["protocol"], result["reported"]) == ("finetune", None)
    assert "ntu60-xsub" in result["what"]
    assert result["dataset"] == "ntu120-xsub"
    assert scores(tmp_path / "run")[2].shape == (wide_dataset.count("test"), 120)


def test_a_subject_held_out_keeps_the_test_clips_out_of_sight(tiny_dataset: Dataset, tmp_path: Path) -> None:
    result = scratch(tiny_dataset, tmp_path / "run", "--epochs", "1", "--holdout-subject", "2")
    assert result["clips"] == {"train": 12, "test": 12}
    assert result["split"] == "train, subject 2"
    assert result["reported"] is None
    assert {name[8:12] for name in scores(tmp_path / "run")[0]} == {"P002"}
    unknown = run(tiny_dataset, tmp_path / "x", "--recipe", "supervised", *SMALL, "--holdout-subject", "3")
    assert unknown.exit_code == 2
    assert "subjects: 1, 2" in unknown.stderr


def test_a_dataset_without_a_test_subset_is_refused(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    alone = make_dataset([f"S001C001P{p:03}R001A001" for p in (1, 2)])
    refused = run(alone, tmp_path / "x", "--recipe", "supervised", *SMALL)
    assert refused.exit_code == 1
    assert "the test subset is empty" in refused.stderr
    assert scratch(alone, tmp_path / "y", "--epochs", "1", "--holdout-subject", "2")["clips"]["test"] == 1


def test_every_backbone_is_trained_from_scratch_and_in_bfloat16(tiny_dataset: Dataset, tmp_path: Path) -> None:
    for name, settings in (("bigru", {"hidden": 4, "layers": 1}), ("dsta", {})):
        options = ["--set", f"encoder.name={name}"]
        options += [part for key, value in settings.items() for part in ("--set", f"encoder.{key}={value}")]
        result = done(
            tiny_dataset,
            tmp_path / name,
            *options,
            "--labels",
            "0.25",
            "--epochs",
            "1",
            "--device",
            "cpu",
            "--amp",
        )
        assert result["what"].startswith(name)
