"""Charts of several runs: one line per run, its ends where the values are."""

import re
from pathlib import Path

from skelpipe.train.browsing.run_charts import curve_charts, figure_charts, values_table
from skelpipe.train.reporting.record import Record


def run(name: str, log: list[dict[str, object]], **figures: float) -> Record:
    return Record(Path(name), {"figures": figures} if figures else {}, log=tuple(log))


def test_a_chart_has_a_line_for_each_run_that_has_the_number() -> None:
    first = run("a", [{"epoch": e, "loss": 2.0 / e, "lr": 0.1} for e in (1, 2, 3)])
    second = run("b", [{"epoch": e, "loss": float("nan") if e == 2 else 1.0, "note": "x"} for e in (1, 2, 6)])
    charts = {re.search("<b>(.*?)</b>", each)[1]: each for each in curve_charts([first, second])}  # type: ignore[index]
    assert list(charts) == ["loss", "lr"]
    assert re.findall(r'data-run="(\d)"', charts["loss"]) == ["0", "1"]
    assert re.findall(r'data-run="(\d)"', charts["lr"]) == ["0"]
    lines = [
        [tuple(map(float, point.split(","))) for point in text.split()]
        for text in re.findall(r'polyline[^>]*points="(.*?)"', charts["loss"])
    ]
    assert [len(line) for line in lines] == [3, 2]
    (x1, y1), (x2, _), (x3, y3) = lines[0]
    assert abs((x2 - x1) - (x3 - x2)) < 0.2  # epochs 1, 2 and 3 are evenly spaced
    assert abs((x3 - x1) / (lines[1][1][0] - x1) - 2 / 5) < 0.01  # and the second run ends at epoch 6
    assert y1 < lines[1][0][1] < y3  # 2 is above 1, and 2/3 below


def test_a_long_log_is_thinned_and_its_last_epoch_stays() -> None:
    (chart,) = curve_charts([run("a", [{"epoch": e, "loss": float(e)} for e in range(1, 5001)])])
    points = re.search(r'points="(.*?)"', chart)[1].split()  # type: ignore[index]
    assert 200 <= len(points) <= 300
    assert "ends at 5,000" in chart


def test_figures_have_a_bar_for_each_run_as_long_as_its_value() -> None:
    charts = figure_charts([run("a", [], top1=20.0), run("b", []), run("c", [], top1=80.0)], ["a", "b", "c"])
    (chart,) = charts
    assert re.findall(r'data-run="(\d)"', chart) == ["0", "2"]
    short, long = (float(width) for width in re.findall(r'<rect[^>]*width="([\d.]+)"', chart))
    assert abs(short / long - 0.25) < 0.01


def test_the_table_has_last_values_and_measured_neighbours() -> None:
    log: list[dict[str, object]] = [{"epoch": 1, "loss": 3.5, "knn@20": 40.0}, {"epoch": 2, "loss": 2.5}]
    text = re.sub("<.*?>", " ", str(values_table([run("a", log)], ["a"])))
    assert text.split() == ["run", "loss", "knn@20", "epochs", "a", "2.5", "40", "2"]
