import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from forked import Starter
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train.commands.linear import one_class
from skelpipe.train.evaluation import linear as protocol
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.evaluation.evaluated_network import NetworkOptions, choose_network
from skelpipe.train.evaluation.linear_head import LinearHead
from skelpipe.train.evaluation.outcome import read_features, read_scores
from skelpipe.train.linear import main

SHORT = ["--epochs", "4", "--batch-size", "8", "--lr", "0.3"]


@pytest.fixture
def evaluate(tiny_dataset: Dataset, tmp_path: Path) -> Callable[..., Result]:
    """`train/linear.py` in this process, into tmp_path/out."""

    def run(*options: str, dataset: Dataset = tiny_dataset, out: str = "out") -> Result:
        common = ["--shards", str(dataset.path), "--device", "cpu", "--out", str(tmp_path / out), "--json"]
        return CliRunner().invoke(main, [*common, *options])

    return run


def found(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_one_classifier_per_view_all_together(
    evaluate: Callable[..., Result],
    pretrain_small: Callable[..., Result],
    tiny_dataset: Dataset,
    tmp_path: Path,
) -> None:
    own = ["--method", "crosclr", "--epochs", "1", "--knn-every", "0"]
    assert pretrain_small(tiny_dataset, tmp_path / "run", *own).exit_code == 0
    weights = ["--checkpoint", str(tmp_path / "run"), *SHORT]
    result = found(evaluate(*weights, "--heads", "joint,bone,motion"))
    assert (result["view"], result["features"]) == ("3s", "h")
    alone = found(evaluate(*weights, "--view", "joint", out="joint"))
    assert result["frozen"]["tensors"] == 3 * alone["frozen"]["tensors"]
    reported = result["reported"]
    assert reported["top1"] == 77.8  # Li et al. 2021: three heads together
    assert not any("together" in remark for remark in reported["remarks"])
    assert read_scores(tmp_path / "out" / "scores.parquet").about["view"] == "3s"
    assert "heads:" in (tmp_path / "out" / "recipe.yaml").read_text("utf-8")
    assert not (tmp_path / "out" / "classifier.safetensors").exists()
    assert (tmp_path / "joint" / "classifier.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--heads", "joint"], "expected several views"),
        (["--heads", "joint,joint"], "each once"),
        (["--heads", "joint,speed"], "'speed' is no view; known: joint, bone, motion"),
        (["--heads", "joint,bone", "--view", "bone"], "it takes no --view"),
    ],
)
def test_heads_that_do_not_fit(evaluate: Callable[..., Result], options: list[str], message: str) -> None:
    result = evaluate("--baseline", "raw", *options)
    assert result.exit_code == 2
    assert message in result.output


def test_raw_coordinates_equal_plain_formulas(
    evaluate: Callable[..., Result], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    options = ["--baseline", "raw", "--view", "bone", "--epochs", "7", "--batch-size", "24", "--lr", "0.2"]
    given = found(evaluate(*options, "--set", "optimiser.milestones=[4]", "--set", "test_every=2"))
    clips = {
        split: tiny_dataset.reader(split, "bone").gather(np.arange(24)).reshape(24, -1).astype(float)
        for split in ("train", "test")
    }
    labels = {split: np.array([int(name[-3:]) - 1 for name in tiny_dataset.ids(split)]) for split in clips}
    x, truth = clips["train"], labels["train"]
    w = LinearHead(x.shape[1], 60, seed=0).weight.double().numpy()
    assert w.std() == pytest.approx(0.02, rel=0.02)
    b, v, u = np.zeros(60), np.zeros_like(w), np.zeros(60)
    seen = {}
    for epoch in range(1, 8):
        e = np.exp(x @ w.T + b)
        p = e / e.sum(axis=1, keepdims=True)
        p[np.arange(24), truth] -= 1
        v, u = 0.9 * v + p.T @ x / 24, 0.9 * u + p.mean(axis=0)
        rate = 0.2 if epoch <= 4 else 0.02
        w, b = w - rate * v, b - rate * u
        right = (clips["test"] @ w.T + b).argmax(axis=1) == labels["test"]
        seen[epoch] = 100 * right.mean()
    scores = read_scores(tmp_path / "out" / "scores.parquet")
    assert scores.ids == tiny_dataset.ids("test")
    assert scores.scores == pytest.approx(clips["test"] @ w.T + b, abs=1e-3)
    assert given["figures"]["top1"] == pytest.approx(seen[7])
    looked = {epoch: seen[epoch] for epoch in (2, 4, 6, 7)}
    assert given["figures"]["best_top1"] == pytest.approx(max(looked.values()))
    assert looked[given["best_epoch"]] == pytest.approx(max(looked.values()))
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log if "top1" in record] == [2, 4, 6, 7]
    assert [record["lr"] for record in log] == pytest.approx([0.2] * 4 + [0.02] * 3)


def test_the_folder_says_what_was_done(evaluate: Callable[..., Result], finished: Path, tmp_path: Path) -> None:
    given = found(evaluate("--checkpoint", str(finished), *SHORT, "--save-features", "--seed", "5"))
    folder = tmp_path / "out"
    assert json.loads((folder / "result.json").read_text()) == given
    assert given["figures"].keys() == {"top1", "top5", "best_top1"}
    assert (given["view"], given["features"], given["recipe"]) == ("joint", "h", "linear")
    assert given["reported"]["top1"] == 68.3
    assert given["reported"]["complete"] is False
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert (recipe["epochs"], recipe["optimiser"]["lr"], recipe["seed"]) == (4, 0.3, 5)
    scores = read_scores(folder / "scores.parquet")
    assert scores.about["protocol"] == "linear"
    assert (scores.predicted == scores.labels).mean() * 100 == pytest.approx(given["figures"]["top1"])
    features, about = read_features(folder / "features-train.parquet")
    assert features.features.shape == (24, 8)
    assert about["split"] == "train"
    assert (folder / "report.html").is_file()

    refused = evaluate("--checkpoint", str(finished), *SHORT)
    assert refused.exit_code == 2
    assert "give --overwrite" in refused.stderr
    again = found(evaluate("--checkpoint", str(finished), *SHORT, "--seed", "5", "--overwrite"))
    assert again == given  # equal seeds, equal runs


def test_people_get_lines_with_the_papers_figure(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--shards", str(tiny_dataset.path), "--checkpoint", str(finished), "--device", "cpu", *SHORT]
    text = CliRunner().invoke(main, options).stdout
    assert "reported 68.3 % (" in text
    assert "which this dataset does not have" in text
    assert "trained by recipe skeletonclr, here with other epochs, batch_size, optimiser.milestones" in text
    assert f"written to runs/linear-ntu60-xsub-joint-{finished.name}" in text
    assert (tmp_path / "runs" / f"linear-ntu60-xsub-joint-{finished.name}" / "result.json").is_file()


@pytest.mark.parametrize("kind", ["weight", "statistic"])
def test_a_tensor_that_is_touched_fails_the_run(
    evaluate: Callable[..., Result], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    touched: dict[str, nn.Module] = {}
    plain_embed, plain_train = protocol.embed, LinearHead.train

    def noting(network: nn.Module, *rest: Any, **more: Any) -> Any:
        touched["network"] = network
        return plain_embed(network, *rest, **more)

    def meddling(self: LinearHead, *rest: Any) -> float:
        norm = next(part for part in touched["network"].modules() if isinstance(part, nn.BatchNorm2d))
        with torch.no_grad():
            (norm.weight if kind == "weight" else norm.running_var)[0] += 1e-6
        return plain_train(self, *rest)

    monkeypatch.setattr(protocol, "embed", noting)
    monkeypatch.setattr(LinearHead, "train", meddling)
    result = evaluate("--checkpoint", str(finished), *SHORT)
    assert result.exit_code == 1
    assert "the frozen network changed while it was evaluated, in " in result.stderr
    assert ("norm.weight" if kind == "weight" else "running_var") in result.stderr
    assert not (tmp_path / "out" / "result.json").exists()


def test_features_do_not_depend_on_the_batch(tiny_dataset: Dataset, finished: Path) -> None:
    network = choose_network(tiny_dataset, NetworkOptions(checkpoint=str(finished), features="h"), print)
    network.encoder.train()  # an evaluation that forgot its mode would mix the clips of a batch
    cpu = torch.device("cpu")
    sizes = [
        embed(network.encoder, tiny_dataset, "test", "joint", device=cpu, batch_size=size).features
        for size in (24, 1, 7)
    ]
    for other in sizes[1:]:
        assert torch.allclose(sizes[0], other, rtol=1e-4, atol=1e-6)


def test_streamed_features_are_those_in_memory(
    evaluate: Callable[..., Result], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--checkpoint", str(finished), "--epochs", "3", "--batch-size", "24", "--lr", "0.3"]
    held = found(evaluate(*options, out="held"))
    monkeypatch.setattr(protocol, "IN_MEMORY", 0)
    result = evaluate(*options, out="streamed")
    streamed = found(result)
    assert "clips are read anew every epoch" in result.stderr
    a, b = (read_scores(tmp_path / name / "scores.parquet").scores for name in ("held", "streamed"))
    assert a == pytest.approx(b, abs=1e-4)
    assert held["figures"] == streamed["figures"]


def test_augmented_clips_differ_every_epoch_and_agree_between_runs(
    evaluate: Callable[..., Result], finished: Path, tmp_path: Path
) -> None:
    options = ["--checkpoint", str(finished), "--epochs", "8", "--batch-size", "24", "--lr", "0"]
    plain, augmented = (
        found(evaluate(*options, out="plain")),
        found(evaluate(*options, "--augment", out="augmented")),
    )
    assert augmented["augmented"] is True
    assert augmented["frozen"] == plain["frozen"]
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("plain", "augmented")
    ]
    # Nothing is learned at rate 0: the losses tell the clips of one epoch from those of another.
    assert losses[0] == pytest.approx([losses[0][0]] * 8, rel=1e-6)
    assert len(set(losses[1])) >= 7  # of 8: in float32 two may round alike
    found(evaluate(*options, "--augment", out="again"))
    assert (tmp_path / "again" / "log.jsonl").read_bytes() == (tmp_path / "augmented" / "log.jsonl").read_bytes()


def test_a_random_network_has_a_recipe_of_its_own(evaluate: Callable[..., Result]) -> None:
    """--recipe and --set are those of the classifier, --network and --network-set those of the network."""
    options = ["--baseline", "random", "--network", "demo", "--network-set", "init=paper"]
    given = found(evaluate(*options, *SHORT, "--recipe", "linear-skeattnclr", "--set", "optimiser.lr=0.1"))
    assert given["recipe"] == "linear-skeattnclr"
    assert "N(0, 0.02)" in given["what"]


def test_transfer_to_another_dataset(
    evaluate: Callable[..., Result], finished: Path, raw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    names = [f"S{s:03}C001P{p:03}R001A{a:03}" for s in (18, 19) for p in (41, 42, 45, 46) for a in (61, 62, 120)]
    options = Options(split="xsub", frames=8, bodies=1, shard_size=10)
    prepare(load_manifest("ntu120"), [raw_folder(names)], tmp_path / "set", options, quiet=True)
    result = evaluate("--checkpoint", str(finished), *SHORT, dataset=Dataset.open(tmp_path / "set"))
    given = found(result)
    assert (given["dataset"], given["trained_on"]) == ("ntu120-xsub", "ntu60-xsub")
    assert given["reported"] is None  # the paper's figure for NTU-120 is of pre-training on NTU-120
    assert read_scores(tmp_path / "out" / "scores.parquet").scores.shape == (12, 120)


def test_a_class_without_test_clips_is_said(
    evaluate: Callable[..., Result], make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    names = [name for name in ntu_names(actions=3) if not (name.endswith("A003") and "P003" in name)]
    result = evaluate("--baseline", "raw", "--epochs", "1", "--lr", "0.01", dataset=make_dataset(names))
    given = found(result)
    assert "no test clip is of the class" in result.stderr
    assert given["chance"] == pytest.approx(100 / 3)
    rows = Path(given["run"], "classes.csv").read_text().splitlines()
    assert rows[3].endswith(",0,0,")


def test_a_classifier_that_predicts_one_class_is_said(tiny_dataset: Dataset) -> None:
    scores = np.zeros((5, 60))
    scores[:, 2] = [1, 2, 3, 4, 5]
    assert "all 5 test clips are given the class 'brushing teeth'" in one_class(scores, tiny_dataset)
    scores[4, 7] = 6
    assert one_class(scores, tiny_dataset) == ""
    assert one_class(scores[:1], tiny_dataset) == ""  # of one clip that means nothing


def test_an_empty_subset_is_an_error(
    evaluate: Callable[..., Result], make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    for subject, empty in ((3, "train"), (1, "test")):
        dataset = make_dataset(ntu_names(actions=1, subjects=(subject,)))
        result = evaluate("--baseline", "raw", dataset=dataset)
        assert result.exit_code == 1
        assert f"the {empty} subset is empty" in result.stderr


def test_features_that_are_not_finite_are_named(
    evaluate: Callable[..., Result], finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    with safe_open(finished / "encoder.safetensors", framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    name = next(name for name in state if name.endswith("running_mean"))
    state[name][0] = float("nan")
    save_file(state, tmp_path / "broken.safetensors", metadata)
    result = evaluate("--checkpoint", str(tmp_path / "broken.safetensors"), *SHORT)
    assert result.exit_code == 1
    assert f"of 24 clips are not finite, the first is {tiny_dataset.ids('test')[0]}" in result.stderr
    result = evaluate("--checkpoint", str(finished), "--lr", "1e38", "--epochs", "5")
    assert result.exit_code == 1
    assert "a lower learning rate may help" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name what to evaluate"),
        (["--baseline", "raw", "--recipe", "nothing"], "there is no recipe 'nothing'"),
        (
            ["--baseline", "raw", "--set", "epoch=3"],
            "unknown key 'epoch'; did you mean 'epochs'? known: protocol, epochs",
        ),
        (["--baseline", "raw", "--set", "epochs"], "expected KEY=VALUE"),
        (["--baseline", "raw", "--epochs", "0"], "--epochs: epochs is 0; it must be at least 1"),
        (["--baseline", "raw", "--network", "aimclr"], "takes neither --checkpoint nor --network"),
        (["--baseline", "raw", "--network-set", "init=default"], "needs --baseline random"),
    ],
)
def test_wrong_usage(evaluate: Callable[..., Result], options: list[str], message: str, tmp_path: Path) -> None:
    result = evaluate(*options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_two_ranks_give_what_one_gives(
    evaluate: Callable[..., Result], finished: Path, tiny_dataset: Dataset, tmp_path: Path, starter: Starter
) -> None:
    options = ["--checkpoint", str(finished), "--epochs", "2", "--batch-size", "9", "--lr", "0.3", "--augment"]
    alone = found(evaluate(*options, out="alone"))
    common = ["--shards", str(tiny_dataset.path), "--device", "cpu", "--out", str(tmp_path / "both"), "--json"]
    both = starter.start("linear", 2, [*common, *options])
    assert both.codes() == [0, 0], both.text(0) + both.text(1)
    assert both.text(1, "out") == ""
    together = json.loads(both.text(0, "out"))
    assert together["figures"] == alone["figures"]
    a, b = (read_scores(tmp_path / name / "scores.parquet") for name in ("alone", "both"))
    assert a.ids == b.ids
    assert a.scores == pytest.approx(b.scores, abs=1e-4)


@pytest.mark.parametrize("memory", ["held", "read"])
def test_standardised_features_are_as_good_whatever_their_size(
    evaluate: Callable[..., Result],
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    memory: str,
) -> None:
    """Weights of a last block a thousand times as small make features as small, and scores the same."""
    if memory == "read":
        monkeypatch.setattr(protocol, "IN_MEMORY", 0)
    short = ["--recipe", "linear-standardised", "--epochs", "4", "--batch-size", "8"]
    random = ["--baseline", "random", "--network-set", "encoder.width=4", "--network-set", "frames=16"]
    original = found(evaluate(*random, *short))
    scores = read_scores(tmp_path / "out" / "scores.parquet").scores
    plain = protocol.embed

    def smaller(network: nn.Module, *given: Any, **options: Any) -> Any:
        embedded = plain(network, *given, **options)
        return type(embedded)(embedded.features * 1e-3, embedded.labels, embedded.ids)

    monkeypatch.setattr(protocol, "embed", smaller)
    each = protocol.FeatureLoader.epoch
    monkeypatch.setattr(
        protocol.FeatureLoader, "epoch", lambda loader: ((x * 1e-3, *rest) for x, *rest in each(loader))
    )
    assert found(evaluate(*random, *short, out="smaller"))["figures"] == original["figures"]
    assert read_scores(tmp_path / "smaller" / "scores.parquet").scores == pytest.approx(scores, abs=1e-3)


def test_the_exported_classifier_of_standardised_features_gives_their_scores(
    evaluate: Callable[..., Result], pretrain_small: Callable[..., Result], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    assert pretrain_small(tiny_dataset, tmp_path / "run", "--epochs", "1", "--knn-every", "0").exit_code == 0
    short = ["--recipe", "linear-standardised", "--epochs", "4", "--batch-size", "8"]
    found(evaluate("--checkpoint", str(tmp_path / "run"), *short, "--save-features"))
    scores = read_scores(tmp_path / "out" / "scores.parquet")
    features, _ = read_features(tmp_path / "out" / "features-test.parquet")
    with safe_open(tmp_path / "out" / "classifier.safetensors", "pt") as file:
        weight, bias = file.get_tensor("head.weight"), file.get_tensor("head.bias")
    by_file = features.features.numpy() @ weight.numpy().T + bias.numpy()
    assert by_file == pytest.approx(scores.scores, abs=1e-3)
