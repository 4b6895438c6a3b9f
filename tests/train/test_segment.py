"""`train/segment.py`: what it prints, writes and refuses."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.ownership import LOCK, owned
from skelpipe.train.commands import segment
from skelpipe.train.commands.segment import lines
from skelpipe.train.evaluation import beginning
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork
from skelpipe.train.evaluation.outcome import read_scores
from skelpipe.train.papers.reported import reference, reported
from skelpipe.train.recipes.reader import load_recipe
from skelpipe.train.running.ranks import Ranks
from skelpipe.train.segment import main

OPTIONS = ["--device", "cpu", "--epochs", "2", "--windows", "4", "--stride", "10"]


def run(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--out", str(out), *OPTIONS, *options])


@pytest.fixture(scope="module")
def outcome(untrimmed: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run on raw coordinates that learns something, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "raw"
    result = run(
        untrimmed, out, "--baseline", "raw", "--json", "--epochs", "12", "--windows", "16", "--stride", "2"
    )
    assert result.exit_code == 0, result.output
    return out, result


def test_a_run_learns_and_says_so(outcome: tuple[Path, Result], truth: Callable[[int], list[int]]) -> None:
    out, result = outcome
    found = json.loads(result.stdout)
    assert json.loads((out / "result.json").read_text()) == found
    scores = read_scores(out / "scores.parquet")
    assert scores.about["protocol"] == "segment"
    assert scores.classes[0] == "background"
    assert len(scores.classes) == 52
    assert scores.labels.tolist() == truth(220) + truth(40)
    right = [int(row.argmax()) == label for row, label in zip(scores.scores, scores.labels, strict=True)]
    assert found["figures"]["acc"] == pytest.approx(100 * sum(right) / 260)
    assert found["background"] == pytest.approx(100 * (truth(220) + truth(40)).count(0) / 260)
    assert found["figures"]["acc"] > found["background"] + 15
    assert found["videos"] == {"train": 3, "test": 2}
    assert found["frames"] == {"train": 675, "test": 260}
    assert found["reported"] is None
    assert len((out / "log.jsonl").read_text().splitlines()) == 12


def test_the_papers_figures_stand_beside(outcome: tuple[Path, Result], untrimmed: Dataset) -> None:
    """ActCLR, table 6: pre-trained on NTU-60 xview, segmenting PKU-MMD II xview."""
    there = Dataset(untrimmed.path, {**untrimmed.card, "name": "pkummd2", "split": "xview"})
    flat = nn.Flatten()
    network = EvaluatedNetwork(
        flat, flat, 1, "x", "joint", "h", recipe=load_recipe("actclr"), trained_on="ntu60-xview"
    )
    found = reported(reference(there, network, "segment"), there)
    assert found is not None
    assert (found["acc"], found["macc"], found["fwiou"], found["miou"]) == (51.29, 31.97, 35.24, 21.38)
    assert reference(untrimmed, network, "segment").figures() is None
    text = lines({**json.loads(outcome[1].stdout), "reported": found})
    assert any(line.startswith("miou") and "reported 21.38 % (ActCLR, table 6" in line for line in text)
    assert "\n".join(text).count("reported") == 4


def test_segments_tell_every_frame(outcome: tuple[Path, Result], truth: Callable[[int], list[int]]) -> None:
    out, _ = outcome
    scores = read_scores(out / "scores.parquet")
    rows = list(csv.DictReader((out / "segments.csv").open()))
    spelled: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        frames = spelled.setdefault((row["video"], row["kind"]), [])
        assert int(row["first"]) == len(frames) + 1
        frames += [int(row["class"])] * (int(row["last"]) - int(row["first"]) + 1)
        assert row["name"] == scores.classes[int(row["class"])]
    assert spelled["0291-M", "truth"] == truth(220)
    assert spelled["0292-L", "truth"] == truth(40)
    predicted = scores.predicted.tolist()
    assert spelled["0291-M", "predicted"] == predicted[:220]
    assert spelled["0292-L", "predicted"] == predicted[220:]


def test_a_finished_run_is_not_overwritten_unasked(untrimmed: Dataset, outcome: tuple[Path, Result]) -> None:
    again = run(untrimmed, outcome[0], "--baseline", "raw")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_what_cannot_be_segmented_is_one_line(untrimmed: Dataset, tiny_dataset: Dataset, tmp_path: Path) -> None:
    trimmed = run(tiny_dataset, tmp_path / "a", "--baseline", "raw")
    assert trimmed.exit_code == 1
    assert "holds no untrimmed videos: prepare it with --untrimmed" in trimmed.stderr
    unknown = run(untrimmed, tmp_path / "a", "--baseline", "raw", "--video", "0300-L")
    assert unknown.exit_code == 2
    assert "--video 0300-L: there is no such test video; there are: 0291-M, 0292-L" in unknown.stderr
    assert not (tmp_path / "a").exists()


def test_of_several_ranks_one_writes(
    untrimmed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_of_two: Callable[[int], Ranks]
) -> None:
    for module in (segment, beginning):
        monkeypatch.setattr(module, "ranks", lambda: one_of_two(1))
    assert run(untrimmed, tmp_path / "a", "--baseline", "raw", "--epochs", "1").exit_code == 0
    assert not (tmp_path / "a").exists()


def test_without_matplotlib_the_figures_stay(
    untrimmed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(untrimmed, tmp_path / "a", "--baseline", "raw", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "no picture: drawing needs matplotlib" in result.stderr
    assert (tmp_path / "a" / "segments.csv").is_file()
    assert not (tmp_path / "a" / "timelines.png").exists()


def test_a_folder_that_another_process_writes_is_refused(untrimmed: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with owned(out, "other"):
        result = run(untrimmed, out, "--baseline", "raw")
        assert result.exit_code == 2
        assert f"{out}: another other: process" in result.stderr
        assert [path.name for path in out.iterdir()] == [LOCK]
