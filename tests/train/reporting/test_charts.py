"""Curves, against the log that they are drawn from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.train.reporting.charts import number, ticks
from skelpipe.train.reporting.report import write_report


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
