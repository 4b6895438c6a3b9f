"""`skelpipe bench`: what it prints and leaves behind. No assertion on a speed, only that its figures agree."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from skelpipe.bench import streams
from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.cli.bench import bench


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run the command in an empty folder on few clips; nothing may be left in the temporary folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(sys.modules["skelpipe.cli.bench"], "CLIPS", 24)
    yield lambda *words: CliRunner().invoke(bench, ["--seconds", "0", "--device", "cpu", *map(str, words)])
    assert list(scratch.iterdir()) == []


def check(rows: list[dict[str, Any]], batch: int) -> list[str]:
    for row in rows:
        assert {"what", "ours", "reference", "ratio"} <= set(row)
        assert row["ours"] > 0
        assert row["reference"] > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["reference"])
        assert row["batch_ms"] == pytest.approx(1000 * batch / row["ours"])
        assert row["against"]
    names = [row["what"] for row in rows]
    assert len(set(names)) == len(names)
    return names


def test_json_is_one_object_with_a_row_for_everything(run: Any) -> None:
    result = run("--frames", 16, "--batch-size", 6, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    names = check(content["rows"], batch=6)
    expected = [f"augment {name} (" for name in ("normal", "aimclr", "skelemix", "actclr", "msmclr-strong")]
    expected += ["stream (", "loader normal (", "loader aimclr ("]
    assert len(names) == len(expected)
    assert all(name.startswith(start) for name, start in zip(names, expected, strict=True))
    assert {row["against"] for row in content["rows"][:5]} == {"copying the clips once per view"}
    facts = content["machine"]
    assert (facts["shape"], facts["batch_size"], facts["clips"]) == ([3, 16, 25, 2], 6, 24)
    assert (facts["torch"], facts["torch_threads"], facts["gpu"]) == (torch.__version__, 1, None)


@pytest.mark.parametrize(("what", "count"), [("augment", 5), ("stream", 1), ("loader", 2)])
def test_the_table_has_the_rows_asked_for_and_the_machine(run: Any, what: str, count: int) -> None:
    asked = ("--what", what, "--frames", 13, "--batch-size", 5)  # 13 is no multiple of SkeleMix's four
    result = run(*asked)
    assert result.exit_code == 0, result.output
    machine, measured, head, *lines = result.stdout.splitlines()
    assert torch.__version__ in machine
    assert "torch uses 1" in machine
    assert "24 clips [3, 13, 25, 2]" in measured
    assert "ratio" in head
    assert len(lines) == count
    names = check(json.loads(run(*asked, "--json").stdout)["rows"], batch=5)
    assert all(line.startswith(name) for line, name in zip(lines, names, strict=True))


def test_the_views_of_a_recipe_alone(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("method: skelemixclr\nskelemixclr: {blocks: [1, 2]}\nviews: {key: [rotate]}\n")
    result = run("--recipe", path, "--frames", 13, "--batch-size", 5, "--json")
    assert result.exit_code == 0, result.output
    (name,) = check(json.loads(result.stdout)["rows"], batch=5)
    assert name.startswith(f"augment recipe {path} (query, key, mixed; 12 frames")
    refused = run("--recipe", "aimclr", "--what", "stream")
    assert refused.exit_code == 2
    assert "--recipe measures the augmentation of its views, not --what stream" in refused.output


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rows_on_a_gpu(run: Any) -> None:
    result = run("--frames", 16, "--batch-size", 6, "--device", "cuda", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    names = check(content["rows"], batch=6)
    assert content["machine"]["gpu"]
    assert len(names) == 9
    assert "CUDA graph" in names[-1]


def test_a_dataset_of_ones_own_is_measured(run: Any, tmp_path: Path) -> None:
    dataset = synthetic_clips(tmp_path / "nine", 12, 9)
    result = run("--shards", dataset.path, "--what", "stream", "--batch-size", 500, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    check([row], batch=9)  # no more than there are


def test_wrong_usage_is_one_line(run: Any, tmp_path: Path) -> None:
    for words in (("--shards", tmp_path, "--frames", 16), ("--device", "cuda:99"), ("--what", "prepare")):
        result = run(*words)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output


def test_a_failure_leaves_no_clips_behind(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(streams, "compare", fail)
    result = run("--what", "loader", "--frames", 16, "--batch-size", 6)
    assert result.exit_code == 1
    assert "the disk is gone" in result.stderr
