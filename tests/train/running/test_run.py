"""Compiled backbones of a run compute what the plain ones do and keep the names of their weights."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.models import build_method
from skelpipe.models.method import Method
from skelpipe.skeleton import layout
from skelpipe.train.running import run
from skelpipe.train.running.run import compile_networks

RECIPE = {
    "method": "skeletonclr",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 32, "dropout": 0.0},
    "temperature": 0.1,
    "momentum": 0.9,
    "queue": 6,
}


def test_the_same_step_in_one_graph() -> None:
    torch.manual_seed(1)
    clips = SimpleNamespace(views={name: torch.randn(3, 3, 12, 25, 1) for name in ("query", "key")}, extras={})
    graphs = []

    def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(module)
        return module.forward

    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        method = build_method(RECIPE, layout("kinect-v2-25"))
        names = list(method.state_dict())
        if compiled:
            assert compile_networks(method, backend=backend) == 2  # the query's and the key's
        step = method(clips)
        step.loss.backward()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert list(method.state_dict()) == names
        results.append([step.loss.detach(), step.keys, *gradients, *method.state_dict().values()])
    assert len(graphs) == 2  # no break within a network
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_a_compiled_run_says_so(
    finished: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    pretrain_small: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[Method] = []
    monkeypatch.setattr(run, "compile_networks", compiled.append)  # the real one takes its time
    result = pretrain_small(tiny_dataset, tmp_path / "run", "--epochs", "1", "--compile")
    assert result.exit_code == 0, result.output
    assert [method.name for method in compiled] == ["skeletonclr"]
    files = [safe_open(run / "encoder.safetensors", framework="pt") for run in (finished, tmp_path / "run")]
    assert files[0].keys() == files[1].keys()
    assert [file.metadata()["compiled"] for file in files] == ["False", "True"]
    other = pretrain_small(tiny_dataset, tmp_path / "run", "--epochs", "2", "--resume")
    assert other.exit_code == 2
    assert "compiled: True, now False" in other.stderr
