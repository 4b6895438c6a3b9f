"""Figures beside the paper's, confusions and curves, against the files that they are drawn from."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.charts import number, ticks
from skelpipe.train.reporting.confusion_matrix import worst_pairs
from skelpipe.train.reporting.report import write_report


def test_an_evaluation_leaves_a_report_with_its_figures_beside_the_papers(
    folder: Path, read: Callable[[Path], Any]
) -> None:
    page = read(folder)
    figures = json.loads((folder / "result.json").read_text())["figures"]
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["top1"] == [f"{figures['top1']:.2f}", "74.30", f"{figures['top1'] - 74.3:+.2f}"]
    assert rows["top5"] == ["91.25", "", ""]
    assert rows["chance"] == ["33.25", "", ""]
    assert page.texts["h1"] == ["Linear on ntu60-xsub (joint)"]
    assert "40091" in "".join(page.texts["p"])


def test_the_papers_table_has_this_run_in_its_cell(folder: Path, read: Callable[[Path], Any]) -> None:
    """Table 2 of AimCLR: four streams; the run is the joint one of NTU-60 xsub."""
    page = read(folder)
    top1 = json.loads((folder / "result.json").read_text())["figures"]["top1"]
    found = [row for row in page.rows if row[:1] in (["AimCLR"], ["3s-AimCLR"])]
    assert found == [
        ["AimCLR", "joint", f"74.3 {top1:.2f}", "79.7", "83.4", "63.4", "63.4"],
        ["AimCLR", "motion", "66.8", "70.6", "72.0", "57.3", "54.4"],
        ["AimCLR", "bone", "73.2", "77.0", "82.0", "62.9", "63.4"],
        ["3s-AimCLR", "3s", "78.9", "83.8", "87.8", "68.2", "68.8"],
    ]
    assert len(page.with_class("here")) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"reported": None}, []),  # of a random network, or a recipe of one's own
        ({"what": "my-method, 3 epochs"}, []),
        ({"view": "joint+bone+motion", "reported": {"top1": 78.9}}, ["3s"]),
        ({"view": "bone", "reported": {"top1": 73.2}}, ["bone"]),
        ({"view": "bone", "reported": {"top1": 99.0}}, [""]),  # not this table's figure: nothing is marked
    ],
)
def test_only_the_cell_that_the_run_is_held_against_is_marked(
    tiny_dataset: Dataset,
    edit: Callable[..., Path],
    more: dict[str, Any],
    expected: list[str],
    read: Callable[[Path], Any],
) -> None:
    page = read(write_report(edit(**more)).parent)
    marked = [row[1] for row in page.rows if row[:1] in (["AimCLR"], ["3s-AimCLR"]) and any(" " in c for c in row)]
    assert marked == [name for name in expected if name]
    assert any("The paper's table" in text for text in page.texts["h3"]) == bool(expected)


def test_confusions_are_drawn_and_told(
    tiny_dataset: Dataset, folder: Path, read: Callable[[Path], Any], judged: Callable[..., np.ndarray]
) -> None:
    counts = judged(tiny_dataset, folder)
    page = read(folder)
    data = json.loads(next(text for text in page.texts["script"] if text.startswith('{"names"')))
    used = [k for k in range(60) if any(counts[k, j] or counts[j, k] for j in range(60))]
    assert data["counts"] == [[int(counts[k, j]) for j in used] for k in used]
    assert data["names"] == [f"{k} {tiny_dataset.classes[k]}" for k in used]
    cells: dict[tuple[int, int], float] = {}
    for tag, attributes in page.tags:
        if tag == "path" and "fill-opacity" in attributes:
            for x, y, wide in re.findall(r"M(\d+) (\d+)h(\d+)v1", attributes["d"] or ""):
                for column in range(int(x), int(x) + int(wide)):
                    cells[int(y), column] = float(attributes["fill-opacity"] or 0)
    assert {(used[y], used[x]) for y, x in cells} == set(zip(*np.nonzero(counts), strict=True))
    for (y, x), shade in cells.items():
        share = counts[used[y], used[x]] / counts[used[y]].sum()
        assert share - 1e-9 <= shade < share + 0.1 + 1e-9  # ten shades, rounded up


def test_worst_pairs_are_the_most_frequent_confusions() -> None:
    counts = np.array([[5, 0, 3], [1, 0, 0], [4, 2, 4]])
    assert worst_pairs(counts, ["a", "b", "c"]) == [
        ("c", "a", 4, 40.0),
        ("a", "c", 3, 37.5),
        ("c", "b", 2, 20.0),
        ("b", "a", 1, 100.0),
    ]


def test_a_class_without_clips_has_no_accuracy(own: Path, read: Callable[[Path], Any]) -> None:
    write_report(own)
    rows = [row for row in read(own).rows if len(row) == 4 and row[0][:1].isdigit() and not row[3]]
    with (own / "classes.csv").open() as file:
        empty = [row["class"] for row in csv.DictReader(file) if row["clips"] == "0"]
    assert [row[0].split(" ")[0] for row in rows] == empty != []


def test_curves_say_what_the_log_says(own: Path, read: Callable[[Path], Any]) -> None:
    lines = [{"epoch": e, "loss": 4.0 - e, "flag": True, "word": "x"} for e in range(1, 4)]
    lines[1]["knn@20"] = 12.5
    (own / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = read(write_report(own).parent)
    labels = [a["aria-label"] for a in page.with_class("chart")]
    assert labels == [
        "loss: at the end 1; lowest 1 (epoch 3), highest 3 (epoch 1)",
        "knn@20: 12.5 throughout",
    ]
    points = next(a["points"] for a in page.with_class("curve"))
    assert points is not None
    spots = np.array([[float(v) for v in pair.split(",")] for pair in points.split()])
    steps = np.diff(spots, axis=0)
    np.testing.assert_allclose(steps[0], steps[1], atol=0.11)  # a straight line down; down is more in SVG
    assert steps[0, 0] > 0
    assert steps[0, 1] > 0


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.11, 0.52, 4) == [0.2, 0.3, 0.4, 0.5]
    assert ticks(-3, 3, 3) == [-2, 0, 2]
    assert ticks(7, 7) == [7]
    assert [number(v) for v in (3, 0.5, 1234567.0, 0.00001234, 12.3456, -2.0)] == [
        "3", "0.5", "1.23e+06", "1.23e-05", "12.35", "-2",
    ]  # fmt: skip


def test_fusions_are_listed(edit: Callable[..., Path], read: Callable[[Path], Any]) -> None:
    entry = {"figures": {"top1": 50.0}}
    folder = edit(
        streams=[{"view": "joint", **entry}, {"view": "bone", **entry}],
        fusions=[{"name": "given", "weights": [0.6, 1], "counts": True, "figures": {"top1": 61.5}}],
    )
    rows = read(write_report(folder).parent).rows
    assert ["joint", "50.00", ""] in rows
    assert ["0.6:1 given", "61.50", "counts"] in rows
