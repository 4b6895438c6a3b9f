"""Actionlets of trained networks, for drawings: by the network of a run, and as `skelpipe show` draws them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from skelpipe.cli.show import show
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.build import build_method
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.trained_actionlet import trained_actionlet

ACTCLR = ("--method", "actclr", "--epochs", "1", "--knn-every", "0", "--set", "actclr.moco_epochs=1")


@pytest.fixture(scope="module")
def clips_of(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """A dataset of clips long enough for Skeleton Mix, [3,20,25,1]."""
    return make_dataset(ntu_names(actions=2), frames=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any, clips_of: Dataset, pretrain_small: Callable[..., Any]) -> Path:
    """A run of ActCLR, of one epoch, whose key network is not its query network."""
    path: Path = tmp_path_factory.mktemp("runs") / "actclr"
    settings = [
        "actclr.blocks=[1, 2]",
        "actclr.threshold=0.3",
        "actclr.inner=true",
        "momentum=0.5",
        "init=default",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    done = pretrain_small(clips_of, path, *ACTCLR, *words)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def clips(clips_of: Dataset) -> torch.Tensor:
    return torch.from_numpy(clips_of.reader("test", "joint").gather(np.arange(5)))


def test_a_checkpoint_finds_actionlets_as_its_training_would(
    run: Path, clips_of: Dataset, clips: torch.Tensor
) -> None:
    saved = read_checkpoint(run / "checkpoints" / "epoch-0001.pt")
    provenance = Provenance.from_metadata(saved.identity, "the run")
    anchor = torch.from_numpy(clips_of.anchor("joint"))
    method: Any = build_method(provenance.pretraining, clips_of.layout, anchor=lambda: anchor)
    method.load_state_dict(saved.model)
    found = trained_actionlet(str(run), clips_of, "joint")
    assert torch.equal(found(clips), method.actionlet(clips))
    share = found.activation(clips)
    assert torch.equal((share > 0.3).float(), found(clips))
    assert float(share.max()) == 1
    assert f"key network of {run} (actclr, 1 epochs)" in found.means
    exported = trained_actionlet(str(run / "encoder.safetensors"), clips_of, "joint")
    assert "query network" in exported.means
    assert not torch.equal(exported.activation(clips), share)


def test_other_methods_have_actionlets_and_a_network_that_does_not_fit_is_refused(
    finished: Path, run: Path, tiny_dataset: Dataset, clips_of: Dataset
) -> None:
    found = trained_actionlet(str(finished), tiny_dataset, "joint")
    clips = torch.from_numpy(tiny_dataset.reader("test", "joint").gather(np.arange(5)))
    assert found(clips).shape == (5, 2, 25, 1)
    assert "query network" in found.means
    with pytest.raises(UsageError, match="view: trained on joint, asked for bone"):
        trained_actionlet(str(run), clips_of, "bone")
    with pytest.raises(UsageError, match="no such run"):
        trained_actionlet("nowhere", clips_of, "joint")


@pytest.mark.parametrize("out", ["clip.html", "clip.png"])
def test_show_draws_the_networks_actionlet(run: Path, clips_of: Dataset, tmp_path: Path, out: str) -> None:
    words = ["--shards", clips_of.path, "--augment", "mats", "--checkpoint", run, "--out", tmp_path / out]
    done = CliRunner().invoke(show, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["id"] == clips_of.ids("test")[0]
    if out == "clip.png":
        assert (tmp_path / out).read_bytes()[:4] == b"\x89PNG"
    else:
        assert f"actionlet: that of the key network of {run}" in said["facts"]["query: MATS"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--augment", "skelemix", "--checkpoint", "runs/any"),
            "--checkpoint is for the actionlet of --augment mats",
        ),
        (
            ("--recipe", "actclr", "--augment", "query", "--checkpoint", "runs/any", "--out", "clip.html"),
            "no such run",
        ),
        (
            ("--recipe", "aimclr", "--augment", "extreme", "--checkpoint", "runs/any", "--out", "clip.html"),
            "--checkpoint finds an actionlet, and the view extreme has none: leave it out",
        ),
        (("--augment", "mats", "--out", "clip.png"), "a clip is drawn as .html or .gif"),
        (("--augment", "mats", "--checkpoint", "runs/any", "--out", "clip.html"), "no such run"),
    ],
)
def test_what_cannot_be_drawn_is_refused(clips_of: Dataset, words: Any, message: str) -> None:
    done = CliRunner().invoke(show, ["--shards", str(clips_of.path), *words])
    assert done.exit_code == 2
    assert message in done.output
