"""Released checkpoints where `train/knn.py` takes a checkpoint."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.models.released.keys import stgcn_key
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout
from skelpipe.train.knn import main

REAL = "data/checkpoints/aimclr_ntu60_xview_joint_linear.pt"


@pytest.fixture(scope="module")
def fifty(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """Twelve training and twelve test clips of three classes, [3,50,25,2]."""
    return make_dataset(ntu_names(actions=3), frames=50, bodies=2)


def evaluate(dataset: Dataset, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--device", "cpu", "--k", "3", *options])


def pretraining(path: Path) -> tuple[STGCN, nn.Sequential]:
    """Write a pre-training file and return the networks that are in it."""
    torch.manual_seed(2)
    encoder = STGCN(layout("kinect-v2-25"), width=4, out_channels=16).eval()
    head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    state: dict[str, torch.Tensor] = {"queue": torch.rand(8, 32), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    for top in ("encoder_q", "encoder_k"):
        for name, value in encoder.state_dict().items():
            state[f"{top}.{stgcn_key(name)}"] = value[..., None, None] if value.ndim == 2 else value
        state |= {f"{top}.fc.{name}": value for name, value in head.state_dict().items()}
    torch.save(state, path)
    return encoder, head


def by_hand(dataset: Dataset, network: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """kNN@3 in %, in loops."""
    unit, labels = {}, {}
    for split in ("train", "test"):
        count = dataset.count(split)
        with torch.no_grad():
            z = network(torch.from_numpy(dataset.reader(split, "joint").gather(np.arange(count)))).double().numpy()
        unit[split] = z / np.linalg.norm(z, axis=1, keepdims=True)
        labels[split] = dataset.labels(split)
    right = 0
    for query, label in zip(unit["test"], labels["test"], strict=True):
        cosines = unit["train"] @ query
        votes = np.zeros(60)
        for row in np.argsort(-cosines, kind="stable")[:3]:
            votes[labels["train"][row]] += np.exp(cosines[row] / 0.1)
        right += int(votes.argmax() == label)
    return 100 * right / len(labels["test"])


@pytest.mark.parametrize("features", ["h", "z"])
def test_knn_takes_a_pretraining_file(fifty: Dataset, tmp_path: Path, features: str) -> None:
    encoder, head = pretraining(tmp_path / "aimclr_pretext.pt")
    result = evaluate(fifty, "--checkpoint", str(tmp_path / "aimclr_pretext.pt"), "--features", features, "--json")
    assert result.exit_code == 0, result.output
    assert "does not say which view it was trained on: taken as joint" in result.stderr
    found = json.loads(result.stdout)
    network = encoder if features == "h" else nn.Sequential(encoder, head)
    assert found["figures"]["knn@3"] == pytest.approx(by_hand(fifty, network))
    assert found["what"] == "aimclr as released (aimclr_pretext.pt)"
    assert found["reported"] is None


def test_knn_takes_the_real_file_for_h_and_says_why_not_for_z(fifty: Dataset, shared: Path) -> None:
    result = evaluate(fifty, "--checkpoint", str(shared / REAL), "--features", "h", "--view", "joint")
    assert result.exit_code == 0, result.output
    assert "aimclr as released" in result.stdout
    assert "does not say" not in result.stderr
    chosen = evaluate(fifty, "--checkpoint", str(shared / REAL), "--view", "joint")
    assert "has no projection head: its pooled features h are evaluated" in chosen.stderr
    assert chosen.stdout == result.stdout
    result = evaluate(fifty, "--checkpoint", str(shared / REAL), "--features", "z")
    assert result.exit_code == 2
    assert "has no projection head: pass --features h" in result.stderr


def test_other_clips_are_refused_field_by_field(tiny_dataset: Dataset, tmp_path: Path) -> None:
    pretraining(tmp_path / "x.pt")
    result = evaluate(tiny_dataset, "--checkpoint", str(tmp_path / "x.pt"))
    assert result.exit_code == 2
    assert "frames: trained on 50, asked for 8; bodies: trained on 2, asked for 1" in result.stderr
    assert "layout" not in result.stderr


def test_a_random_network_needs_a_recipe(fifty: Dataset, tmp_path: Path) -> None:
    pretraining(tmp_path / "x.pt")
    result = evaluate(fifty, "--checkpoint", str(tmp_path / "x.pt"), "--baseline", "random")
    assert result.exit_code == 2
    assert "pass --baseline random --network NAME alone" in result.stderr


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_file_with_code_is_one_line(fifty: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"encoder_q.A": Payload()}, "x.pt")
    result = evaluate(fifty, "--checkpoint", "x.pt")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: x.pt: holds the Python object posix.mkdir beside tensors")
    assert result.stderr.count("\n") == 1
    assert not Path("ran").exists()
