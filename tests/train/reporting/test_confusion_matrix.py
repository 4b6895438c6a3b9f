"""The drawn confusion matrix and its worst cells, against counts."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.confusion_matrix import worst_pairs
from skelpipe.train.reporting.report import write_report


def test_confusions_are_drawn_and_listed(
    tiny_dataset: Dataset, folder: Path, read: Callable[[Path], Any], write_evaluation: Callable[..., np.ndarray]
) -> None:
    counts = write_evaluation(tiny_dataset, folder)
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
