"""The plug-in of the documentation, installed and from its folder: from raw files to an evaluated network."""

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import DataLoader

import skelpipe
from skelpipe import plugins
from skelpipe.augment.chain import chain
from skelpipe.cli import main
from skelpipe.plugins import installed, unload
from skelpipe.plugins.tables import LOADED

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "plugin"
PLUGIN = ["--plugin", "tiny_skeletons"]
GIVE = "needs the plug-in tiny_skeletons, which is not loaded: give --plugin tiny_skeletons"
MANIFEST = r"""
name: tiny
title: Five joints
reader: tiny-text
layout: tiny-5
bodies: 1
name_pattern: (?P<subject>[a-z]+)-(?P<take>\d+)-(?P<action>[a-z]+)
suffix: .tiny
classes: [hop, wave]
splits:
  xsub: {field: subject, train: [ada]}
"""


def forget() -> None:
    for module in list(LOADED):
        unload(module)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def said(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Raw files, a dataset `ds`, a run `run` and a classifier `lin`."""
    work = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.syspath_prepend(str(EXAMPLE))
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.delenv("SKELPIPE_PLUGINS", raising=False)
        random = np.random.default_rng(0)
        Path("raw").mkdir()
        for who in ("ada", "bob"):
            for take in range(8):
                xyz = random.normal(size=(12, 15)).cumsum(axis=0)
                np.savetxt(f"raw/{who}-{take}-{('hop', 'wave')[take % 2]}.tiny", xyz)
        Path("tiny.yaml").write_text(MANIFEST)
        data = ["--dataset", "tiny.yaml", "--split", "xsub", "--raw", "raw", "--out", "ds", "--workers", "1"]
        without = run("prepare", *data)
        assert without.exit_code == 2
        assert "there is no reader 'tiny-text'" in without.output
        said("prepare", *PLUGIN, *data, "--frames", "8")
        train = ["--shards", "ds", "--out", "run", "--device", "cpu", "--epochs", "1"]
        said("pretrain", *PLUGIN, "--method", "tinysiam", *train)
        said("linear", *PLUGIN, "--shards", "ds", "--checkpoint", "run", "--out", "lin", "--epochs", "1")
        yield work
        forget()


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def here(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    return work


def test_a_run_says_what_it_needs(here: Path) -> None:
    recipe = (here / "run" / "recipe.yaml").read_text()
    keys = {line.partition(":")[0].strip() for line in recipe.splitlines()}
    assert {"head", "plugins", "tinysiam", "hidden"} <= keys
    assert not keys & {"temperature", "queue"}
    assert recipe.count("momentum") == 1  # that of SGD
    digest = hashlib.sha256((EXAMPLE / "tiny_skeletons.py").read_bytes()).hexdigest()
    for name in ("run/encoder.safetensors", "lin/classifier.safetensors"):
        with safe_open(name, framework="pt") as file:
            [plugin] = json.loads(file.metadata()["plugins"])
        assert (plugin["module"], plugin["sha256"]) == ("tiny_skeletons", digest)
    [plugin] = json.loads((here / "ds" / "dataset.json").read_text())["plugins"]
    assert plugin["sha256"] == digest


@pytest.mark.usefixtures("here")
def test_it_evaluates_resumes_and_embeds() -> None:
    said("knn", *PLUGIN, "--shards", "ds", "--checkpoint", "run", "--device", "cpu")
    forget()
    encoder = skelpipe.Encoder.load("run", dataset="tiny.yaml", device="cpu", plugins=["tiny_skeletons"])
    stored, raw = encoder.embed("ds"), encoder.embed("raw")
    features = dict(zip(raw.ids, raw.features, strict=True))
    assert stored.features == pytest.approx(np.stack([features[name] for name in stored.ids]), abs=1e-6)
    said("embed", *PLUGIN, "raw", "--checkpoint", "run", "--dataset", "tiny.yaml", "--out", "x.parquet")
    assert pq.read_table("x.parquet").column("id").to_pylist() == raw.ids
    forget()
    classifier = skelpipe.Classifier.load("lin", dataset="tiny.yaml", device="cpu", plugins="tiny_skeletons")
    assert classifier.predict("raw").probabilities.shape == (16, 2)


@pytest.mark.usefixtures("here")
def test_a_run_goes_on_with_other_files_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (EXAMPLE / "tiny_skeletons.py").read_text()
    (tmp_path / "tiny_skeletons.py").write_text(f"{source}\n__version__ = '0.2'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree("run", tmp_path / "run")
    train = ["--shards", "ds", "--method", "tinysiam", "--device", "cpu", "--epochs", "2", "--resume"]
    longer = run("pretrain", *PLUGIN, *train, "--out", str(tmp_path / "run"))
    assert longer.exit_code == 0, longer.output
    assert "the plug-in tiny_skeletons 0.2 has other files than when" in longer.output
    forget()
    (tmp_path / "tiny_skeletons.py").write_text(source.replace("hidden: Count", "units: Count"))
    unfit = run("knn", *PLUGIN, "--shards", "ds", "--checkpoint", "run", "--device", "cpu")
    assert unfit.exit_code == 1
    assert "unknown key 'tinysiam.hidden'" in unfit.output
    assert "it was written with tiny_skeletons, whose files are others now" in " ".join(unfit.output.split())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "words",
    [
        ["knn", "--shards", "ds", "--checkpoint", "run"],
        ["finetune", "--shards", "ds", "--checkpoint", "run", "--out", "new"],
        ["embed", "raw", "--checkpoint", "run", "--out", "y.parquet"],
        ["predict", "raw/ada-0-hop.tiny", "--checkpoint", "lin", "--dataset", "tiny.yaml"],
        ["export-model", "run", "--to", "torch-export", "--out", "x.pt2"],
        ["pretrain", "--shards", "ds", "--recipe", "run/recipe.yaml", "--out", "run", "--resume"],
    ],
    ids=lambda words: words[0],
)
def test_a_file_imports_no_plugin_and_says_which_to_give(words: list[str]) -> None:
    refused = run(*words)
    assert refused.exit_code == 2
    assert GIVE in refused.output
    assert "tiny_skeletons" not in sys.modules


@pytest.mark.usefixtures("here")
def test_the_front_door_says_which_to_give() -> None:
    for load, path in ((skelpipe.Encoder.load, "run"), (skelpipe.Classifier.load, "lin")):
        with pytest.raises(skelpipe.plugins.MissingPlugin, match=GIVE):
            load(path)
    assert "tiny_skeletons" not in sys.modules


@pytest.mark.usefixtures("here")
def test_a_dataset_needs_none() -> None:
    assert "tiny-5" in said("info", "--shards", "ds")
    said("verify", "--shards", "ds")
    batch = next(iter(skelpipe.Stream(skelpipe.Dataset.open("ds"), "train", ["joint"], 4)))
    assert batch.joint.shape == (4, 3, 8, 5, 1)
    assert "tiny_skeletons" not in sys.modules


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("setting", ["temperature=0.1", "queue=4", "momentum=0.9", "tinysiam.units=3"])
def test_a_method_is_asked_for_its_own_settings_only(setting: str) -> None:
    words = ["--shards", "ds", "--method", "tinysiam", "--out", "new", "--set", setting]
    refused = run("pretrain", *PLUGIN, *words)
    assert refused.exit_code == 2
    known = refused.output.partition("known: ")[2]
    assert "tinysiam" in known
    assert not {"temperature", "queue"} & set(known.replace(",", "").split())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_its_chain_augments_in_workers_of_a_loader(
    context: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker gets the chain itself and has no need to load the plug-in."""
    (tmp_path / "augmenting.py").write_text(
        "import torch\nfrom skelpipe.augment.draws import Draws\n"
        "def augmented(op, batch):\n"
        "    clips, index = torch.as_tensor(batch.joint), torch.as_tensor(batch.index)\n"
        "    return op(clips, Draws(5, batch.epoch, index))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load("tiny_skeletons")
    augmented = partial(importlib.import_module("augmenting").augmented, chain("scaled"))
    stream = skelpipe.Stream(skelpipe.Dataset.open("ds"), "train", ["joint"], 4)
    alone = [augmented(batch) for batch in stream]
    workers = DataLoader(
        skelpipe.Stream(skelpipe.Dataset.open("ds"), "train", ["joint"], 4),
        batch_size=None,
        num_workers=1,
        collate_fn=augmented,
        multiprocessing_context=context,
    )
    assert len(alone) == 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(alone, workers, strict=True))


def test_two_ranks_train_its_method_to_the_weights_of_one(
    here: Path, tmp_path: Path, starter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE))
    train = [*PLUGIN, "--shards", str(here / "ds"), "--method", "tinysiam", "--device", "cpu", "--epochs", "1"]
    weights = []
    for world in (1, 2):
        out = tmp_path / str(world)
        ranks = starter.start("pretrain", world, [*train, "--out", str(out)])
        assert set(ranks.codes()) == {0}, ranks.text(0)
        weights.append(load_file(out / "encoder.safetensors"))
    assert all(torch.allclose(x, weights[1][name], atol=1e-5) for name, x in weights[0].items())


def test_an_installed_one_is_found_by_what_is_asked_for(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(EXAMPLE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    install = ["install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target"]
    subprocess.run([sys.executable, "-m", "pip", *install, str(tmp_path / "site"), str(source)], check=True)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(EXAMPLE)])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert installed()["tiny"] == "tiny_skeletons"
    out = str(tmp_path / "run")
    said("pretrain", "--method", "tinysiam", "--shards", "ds", "--out", out, "--device", "cpu", "--epochs", "1")
    [plugin] = LOADED.values()
    assert str(plugin) == "tiny_skeletons 0.1.0"
    assert here / "run" != Path(out)
