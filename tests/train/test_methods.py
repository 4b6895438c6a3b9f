"""Every method trains from its own recipe through its stages, and a resumed run is bit-identical.

A new method in `METHODS` is tested without a change here. Settings that count epochs get a value within the run.
"""

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.models.build import METHODS
from skelpipe.train.recipes.reader import load_recipe
from skelpipe.train.running.networks import initialised, load_networks, read_provenance
from skelpipe.train.running.run import COLLAPSED
from skelpipe.train.running.run_log import read_log

EPOCHS, STAGE = 3, 1  # epochs of a run, and of its first stage
Train = Callable[..., Result]


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """The clips of `tiny_dataset`, with as many frames as the longest region that SkeleMix draws."""
    return make_dataset(ntu_names(actions=3, subjects=(1, 2, 3, 6)), frames=44)


@pytest.fixture(scope="module")
def train(dataset: Dataset, pretrain_small: Train) -> Train:
    """Train a method by its recipe with three batches per epoch and small networks."""

    def run(method: str, variant: str, out: Path, *options: str) -> Result:
        # With the papers' initial weights networks this small would stay on a plateau.
        given = {"variant": variant, "init": "default"}
        names = [each.name for each in fields(METHODS[method].Settings)]
        given |= {f"{method}.{name}": str(STAGE) for name in names if "epoch" in name}
        settings = [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
        arguments = ["--method", method, "--epochs", str(EPOCHS), "--lr", "0.01", "--save-every", "1"]
        return pretrain_small(dataset, out, *arguments, "--knn-every", str(EPOCHS), *settings, *options)

    return run


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Uninterrupted runs, trained when first requested; not to be changed."""
    root = tmp_path_factory.mktemp("methods")

    def run(method: str, variant: str) -> Path:
        out = root / f"{method}-{variant}"
        if not out.exists():
            result = train(method, variant, out)
            assert result.exit_code == 0, result.output
        return out

    return run


@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_is_named_like_the_method(method: str) -> None:
    recipe = load_recipe(method)
    assert recipe.method == method
    assert recipe.variant == "paper"


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("method", METHODS)
def test_trains_through_its_stages(
    whole: Callable[[str, str], Path], dataset: Dataset, method: str, variant: str
) -> None:
    run = whole(method, variant)
    log = read_log(run / "log.jsonl")
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert all(torch.tensor(record["loss"]).isfinite() for record in log)
    gauges = [value for record in log for name, value in record.items() if name.split("-")[0] == "std"]
    assert len(gauges) >= EPOCHS
    assert min(gauges) > COLLAPSED

    provenance, epoch = read_provenance(run / "encoder.safetensors")
    assert epoch == EPOCHS
    start = initialised(provenance.pretraining, dataset.layout, provenance.seed, provenance.view)
    for stream in start.streams(provenance.view):
        end = "" if stream == provenance.view else f"-{stream}"
        assert [f"knn@20{end}" in record for record in log] == [False, False, True]
        weights = run / f"encoder{end}.safetensors"
        networks = load_networks(weights, provenance, dataset.layout, stream)
        moved = zip(networks.encoder.parameters(), start.networks(stream)[0].parameters(), strict=True)
        assert not any(torch.equal(now, before) for now, before in moved if now.numel() > 1), (
            "some parameters have not changed"
        )
        with safe_open(weights, framework="pt") as file:
            assert file.metadata()["method"] == method


@pytest.mark.parametrize("done", [STAGE, EPOCHS - 1])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted(
    whole: Callable[[str, str], Path],
    train: Train,
    same_run: Callable[..., None],
    tmp_path: Path,
    method: str,
    variant: str,
    done: int,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole(method, variant), out)
    for later in range(done + 1, EPOCHS + 1):
        (out / "checkpoints" / f"epoch-{later:04}.pt").unlink()
    for weights in out.glob("*.safetensors"):
        weights.unlink()
    result = train(method, variant, out, "--resume")
    assert result.exit_code == 0, result.output
    assert f"{done} epochs are done" in result.stderr
    same_run(whole(method, variant), out, epoch=EPOCHS)
