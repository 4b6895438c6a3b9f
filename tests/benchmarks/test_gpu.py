"""`make bench-gpu` runs whole on a CPU, at a tiny size; what it says there of speed means nothing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from skelpipe.bench import timing

sys.path.append(str(Path(__file__).parent))  # as for the benchmarks run as scripts
import gpu
from gpu import TINY, NotHereError, Session, measure

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gpu")
    out = folder / "found.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "TURNS", 1)
        done = CliRunner().invoke(gpu.main, ["--out", str(out), "--device", "cpu", "--tiny", "skeletonclr"])
    assert done.exit_code == 0, done.output
    assert "failed" not in done.output
    content: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return content


def test_every_part_is_there_with_figures_or_the_reason_why_not(found: dict[str, Any]) -> None:
    rates = found["rates"]["skeletonclr"]
    for precision in ("bfloat16", "float32"):
        assert rates[precision]["graph"] == {"missing": "a CPU has no CUDA graphs"}
        eager = rates[precision]["eager"]
        assert eager["clips_per_s"] == pytest.approx(TINY.batch * 1e3 / eager["ms"])
        assert min(eager[name] for name in ("kernels", "tflop_per_s", "gb_per_s")) > 0
    assert rates["bfloat16"]["compiled"]["ms"] > 0
    assert min(found["ceilings"].values()) > 0
    assert 0 <= found["loader"]["skeletonclr"]["share"] <= 1
    assert len(found["augmentation"]) == 8
    assert {"dali_clips_per_s", "native_clips_per_s"} == set(found["dali"]) or "missing" in found["dali"]
    assert (found["messages"]["backend"], found["messages"]["ranks"]) == ("gloo", 1)
    assert all(found["messages"][name]["right"] for name in ("gradients", "large"))


def test_two_devices_that_are_one_are_equal(found: dict[str, Any]) -> None:
    assert found["equality"]["skeletonclr"] == {"views": 0, "loss": 0, "gradients": 0, "equal": True}


def test_a_part_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Session) -> None:
        raise RuntimeError("no ceilings")

    def nothing(self: Session, *given: str) -> None:
        raise NotHereError("none")

    for name in ("equality", "rate", "loader", "augmentation", "dali", "messages"):
        monkeypatch.setattr(Session, name, nothing)
    monkeypatch.setattr(Session, "ceilings", broken)
    written: list[str] = []
    session = Session(torch.device("cpu"), TINY, ["aimclr"], tmp_path, float("inf"))
    made = measure(session, lambda content: written.append(json.dumps(content)))
    assert made["ceilings"] == {"failed": "RuntimeError: no ceilings"}
    assert made["dali"] == {"missing": "none"}
    assert len(written) == len(made["seconds"]) == 13
    late = measure(Session(torch.device("cpu"), TINY, ["aimclr"], tmp_path, 0.0), lambda content: None)
    assert late["loader"] == {"missing": "out of time"}


def test_the_documentation_names_every_part(found: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    assert [name for name in found if f"`{name}`" not in page] == []
