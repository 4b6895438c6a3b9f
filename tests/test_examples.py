"""The examples of the documentation run: on one process and two, and go on where they stopped."""

import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.skeleton import layout

EXAMPLE = Path(__file__).resolve().parents[1] / "docs/examples/plain_training.py"
SMALL = ["--epochs", "2", "--batch-size", "4", "--queue", "8", "--width", "4"]
STEPS = 6  # two epochs of three


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_training", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(dataset: Path, out: Path, *options: str) -> dict[str, Any]:
    example().main([str(dataset), "--out", str(out), *SMALL, *options])
    saved: dict[str, Any] = torch.load(out, weights_only=True)
    return saved


@pytest.fixture(scope="module")
def dataset(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., Any],
    ntu_names: Callable[..., list[str]],
) -> Path:
    root = tmp_path_factory.mktemp("example")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=3, subjects=(1,))):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 8)))
    prepare(load_manifest("ntu60"), [root / "raw"], root / "ds", Options("xsub", 8, 1, 4), quiet=True)
    return root / "ds"


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 90


def test_a_stopped_training_goes_on_to_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    """In the middle of an epoch."""
    whole = trained(dataset, tmp_path / "whole.pt")
    first = trained(dataset, tmp_path / "cut.pt", "--stop-after", "2")
    assert (first["done"], first["loader"]["epoch"], first["loader"]["step"]) == (2, 0, 2)
    both = trained(dataset, tmp_path / "cut.pt")
    assert both["done"] == whole["done"] == STEPS
    assert (whole["loader"]["epoch"], whole["loader"]["step"]) == (2, 0)
    assert all(torch.equal(x, both["method"][name]) for name, x in whole["method"].items())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _rank(rank: int, dataset: Path, out: Path, port: int, options: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RANK": rank,
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }.items():
            patch.setenv(name, str(value))
        torch.set_num_threads(1)
        example().main([str(dataset), "--out", str(out), *SMALL, *options])


def test_two_processes_go_on_to_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    def run(out: Path, *options: str) -> dict[str, Any]:
        arguments = (dataset, out, free_port(), list(options))
        mp.start_processes(_rank, arguments, nprocs=2, start_method="fork")
        saved: dict[str, Any] = torch.load(out, weights_only=True)
        return saved

    whole = run(tmp_path / "whole.pt")
    first = run(tmp_path / "cut.pt", "--stop-after", "3")  # with the last batch of an epoch
    assert (first["loader"]["epoch"], first["loader"]["step"]) == (1, 0)
    both = run(tmp_path / "cut.pt")
    assert whole["done"] == both["done"] == STEPS
    assert all(torch.equal(x, both["method"][name]) for name, x in whole["method"].items())


def test_joints_of_kinect_v1_are_those_of_other_layouts_by_name() -> None:
    path = EXAMPLE.parent / "transfer" / "kinect_v1_joints.py"
    spec = importlib.util.spec_from_file_location("kinect_v1_joints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own, other, wide = (layout(name) for name in ("msr-action3d-20", "kinect-v1-20", "kinect-v2-25"))
    positions = np.random.default_rng(0).normal(size=(len(own), 3))
    by_name = dict(zip(own.joints, positions, strict=True))
    assert np.array_equal(
        module.weights(own, other) @ positions, np.stack([by_name[name] for name in other.joints])
    )
    mapped = dict(zip(wide.joints, module.weights(own, wide) @ positions, strict=True))
    assert all(np.array_equal(mapped[name], by_name[name]) for name in {*own.joints} & {*wide.joints})
    centre, head = by_name["shoulder centre"], by_name["head"]
    assert np.allclose(mapped["neck"], centre + (head - centre) / 3)
    wrist, hand = by_name["left wrist"], by_name["left hand"]
    assert np.allclose(mapped["left hand tip"], hand + 0.7 * (hand - wrist))
    moved = module.weights(own, wide) @ (positions + 5.0)
    assert np.allclose(moved, np.stack([mapped[name] for name in wide.joints]) + 5.0)
