"""`skelpipe bench`: what it prints and leaves behind, how it times, and what its other readers read.

No assertion on a speed: only that the figures are those of what ran.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from skelpipe.bench import streams, timing
from skelpipe.bench.clips import made_up
from skelpipe.bench.setting import Setting
from skelpipe.cli.bench import bench
from skelpipe.dataset import Dataset

CPU = torch.device("cpu")


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
    wanted = [f"augment {name} (" for name in ("normal", "aimclr", "skelemix", "actclr", "msmclr-strong")]
    wanted += ["stream (", "loader normal (", "loader aimclr ("]
    assert len(names) == len(wanted)
    assert all(name.startswith(start) for name, start in zip(names, wanted, strict=True))
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rows_on_a_gpu(run: Any) -> None:
    result = run("--frames", 16, "--batch-size", 6, "--device", "cuda", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    names = check(content["rows"], batch=6)
    assert content["machine"]["gpu"]
    assert len(names) == 9
    assert "CUDA graph" in names[-1]


@pytest.mark.parametrize("container", ["shards", "hdf5"])
def test_a_dataset_of_ones_own_is_measured(run: Any, tmp_path: Path, container: str) -> None:
    folder = prepared(tmp_path, container)
    result = run("--shards", folder, "--what", "stream", "--batch-size", 500, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    check([row], batch=9)  # no more than there are
    assert row["against"].startswith("webdataset" if container == "shards" else "h5py")


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
    assert isinstance(result.exception, OSError)


def prepared(folder: Path, container: str) -> Path:
    """Nine made-up clips of 12 frames, in one container."""
    dataset = made_up(folder / "nine", 12, 9)
    if container == "hdf5":
        from skelpipe.prepare.hdf5_writer import remove_shards, write_hdf5_subsets

        card = {**dataset.card, "formats": ["hdf5"]}
        card["hdf5"] = write_hdf5_subsets(card, dataset.path)
        (dataset.path / "dataset.json").write_text(json.dumps(card))
        remove_shards(card, dataset.path)
    return dataset.path


@pytest.mark.parametrize("way", ["webdataset", "tarfile", "h5py"])
def test_the_other_reader_yields_the_datasets_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "tarfile":
        monkeypatch.setitem(sys.modules, "webdataset", None)
    dataset = Dataset.open(prepared(tmp_path, "hdf5" if way == "h5py" else "shards"))
    rows = dataset.reader("train", "joint").gather(np.arange(9))
    against, samples = streams.other_reader(Setting(dataset, 4, CPU, 0.0))
    assert against.startswith(way)
    seen = set()
    for clip, label in islice(samples, 40):
        (match,) = [n for n, row in enumerate(rows) if np.array_equal(row, clip)]
        assert label == dataset.labels("train")[match]
        seen.add(match)
    assert len(seen) == 9
    assert not rows[1, ..., 1].any()
    assert rows[5, ..., 1].any()


class Clock:
    """Time that only passes when a way says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_ways_take_turns_and_medians_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr(timing, "time", clock)

    def way(name: str, seconds: float, samples: int) -> Callable[[], int]:
        def run() -> int:
            calls.append(name)
            slow = 50 if calls.count(name) == 8 else 1  # a hiccup, which no median sees
            clock.now += seconds * slow
            return samples

        return run

    ours, reference = timing.compare(way("a", 0.125, 5), way("b", 0.5, 3), 22.0, CPU)
    assert (ours, reference) == (pytest.approx(40), pytest.approx(6))
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ["a", "b"] * (len(turns) // 2)
    assert len(turns) >= 10
    calls.clear()
    timing.compare(way("a", 1.0, 1), way("b", 1.0, 1), 0.0, CPU, skip=3)
    assert calls == ["a", "b"] + (["a"] * 4 + ["b"] * 4) * timing.TURNS


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()

    def fail_inside() -> None:
        with timing.threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.get_num_threads() == before
