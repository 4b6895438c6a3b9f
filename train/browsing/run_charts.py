"""Several runs on one chart: one line per run for each number of their logs, and their figures side by side."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skelpipe.drawing.colours import PALETTE
from skelpipe.train.reporting.charts import number, ticks
from skelpipe.train.reporting.markup import Markup, el
from skelpipe.train.reporting.record import Record
from skelpipe.train.reporting.tables import table

__all__ = ["curve_charts", "figure_charts", "run_legend", "values_table"]

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 36
POINTS = 300  # of a line at most; of a longer log every second, third, ... epoch is drawn, and the last
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # of the first seven runs, the next seven, ...
COLOURS = (*PALETTE[4:5], *PALETTE[3:4], *PALETTE[5:], *PALETTE[1:3], *PALETTE[:1])
FIRST = ("loss", "train_loss", "knn", "top1", "top5", "accuracy", "std", "lr")
BAR = 18  # height of a bar and of the space to the next

Points = list[tuple[float, float]]


def run_legend(names: Sequence[str]) -> Markup:
    """Return one switch per run, with the line that it has in all charts."""
    entries = []
    for run, name in enumerate(names):
        line = el("line", x1=1, x2=27, y1=5, y2=5, **_stroke(run), stroke_width=3)
        mark = el("svg", line, viewBox="0 0 28 10", aria_hidden="true")
        switch = el("input", type="checkbox", checked=True, data_switch=run)
        entries.append(el("label", switch, mark, el("span", name)))
    return el("div", *entries, class_="runs", role="group", aria_label="Runs")


def curve_charts(records: Sequence[Record]) -> list[Markup]:
    """Return one chart per number in the logs, with a line for each run that has it; the loss is first."""
    names = dict.fromkeys(name for each in records for line in each.log for name in line if name != "epoch")
    found = []
    for name in sorted(names, key=_place):
        series = {run: _points(each.log, name) for run, each in enumerate(records)}
        series = {run: points for run, points in series.items() if points}
        if series:
            found.append(_chart(name, series))
    return found


def figure_charts(records: Sequence[Record], names: Sequence[str]) -> list[Markup]:
    """Return one chart per figure of the runs' results, with a bar for each run that has it."""
    figures = [figures_of(each) for each in records]
    known = sorted({name for each in figures for name in each}, key=_place)
    return [
        _bars(name, {run: each[name] for run, each in enumerate(figures) if name in each}, names) for name in known
    ]


def values_table(records: Sequence[Record], names: Sequence[str]) -> Markup | None:
    """Return the figures of the results, and the last value of every curve, one row per run."""
    rows: list[dict[str, float]] = []
    for each in records:
        series = {name: _points(each.log, name) for line in each.log[-1:] for name in line if name != "epoch"}
        last = {name: points[-1][1] for name, points in series.items() if points}
        rows.append({"epochs": float(len(each.log)), **last, **figures_of(each)})
    columns = sorted({name for row in rows for name in row}, key=_place)
    if not columns:
        return None
    lines = (
        (name, *(number(row[column]) if column in row else "" for column in columns))
        for name, row in zip(names, rows, strict=True)
    )
    return table(("run", *columns), lines, class_="numbers first")


def figures_of(record: Record) -> dict[str, float]:
    """Return the figures of an evaluation, or the last kNN figures of a pre-training."""
    figures: Mapping[str, Any] = record.result.get("figures") or {}
    if not figures and not record.is_evaluation:
        measured = [line for line in record.log if any(name.startswith("knn@") for name in line)]
        figures = {name: value for name, value in (measured or [{}])[-1].items() if name.startswith("knn@")}
    return {name: float(value) for name, value in figures.items() if _is_number(value)}


def _place(name: str) -> tuple[int, str]:
    plain = name.removeprefix("best_")
    return next((i for i, start in enumerate(FIRST) if plain.startswith(start)), len(FIRST)), name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _points(log: Sequence[Mapping[str, Any]], name: str) -> Points:
    found = [
        (float(line["epoch"]) if _is_number(line.get("epoch")) else float(at), float(line[name]))
        for at, line in enumerate(log, 1)
        if _is_number(line.get(name))
    ]
    step = -(-len(found) // POINTS) or 1
    return found[-1::-step][::-1]


def _stroke(run: int) -> dict[str, str | None]:
    dash = DASHES[run // len(COLOURS) % len(DASHES)]
    return {"stroke": COLOURS[run % len(COLOURS)], "stroke_dasharray": dash or None}


def _chart(name: str, series: Mapping[int, Points]) -> Markup:
    (left, right) = _span([epoch for points in series.values() for epoch, _ in points], 0)
    (low, high) = _span([value for points in series.values() for _, value in points], 0.06)

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = LEFT + (epoch - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    drawn = _grid(place, (left, right), (low, high))
    for run, points in series.items():
        spots = [place(*point) for point in points]
        line = el("polyline", class_="line", points=" ".join(f"{x},{y}" for x, y in spots), **_stroke(run))
        end = el("circle", cx=spots[-1][0], cy=spots[-1][1], r=3, fill=COLOURS[run % len(COLOURS)])
        drawn.append(el("g", line, end, data_run=run))
    words = "; ".join(f"run {run + 1} ends at {number(points[-1][1])}" for run, points in series.items())
    picture = el(
        "svg", *drawn, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{name}: {words}"
    )
    return el("figure", el("figcaption", el("b", name)), picture, class_="card")


def _bars(name: str, values: Mapping[int, float], names: Sequence[str]) -> Markup:
    low, high = min(0.0, *values.values()), max(0.0, *values.values())
    wide = (high - low) or 1.0
    drawn, height = [], 2 * BAR * len(values) + 6
    for at, (run, value) in enumerate(values.items()):
        start, end = (4 + (each - low) / wide * (WIDTH - 70) for each in (min(0.0, value), max(0.0, value)))
        y = 2 * BAR * at
        title = el("text", _short(names[run]), x=4, y=y + 13)
        bar = el(
            "rect",
            x=round(start, 1),
            y=y + BAR,
            width=round(max(end - start, 1), 1),
            height=BAR - 4,
            fill=COLOURS[run % len(COLOURS)],
        )
        text = el("text", number(value), x=round(end + 5, 1), y=y + BAR + 11, class_="value")
        drawn.append(el("g", title, bar, text, data_run=run))
    words = "; ".join(f"{names[run]}: {number(value)}" for run, value in values.items())
    picture = el(
        "svg", *drawn, class_="chart", viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=f"{name}: {words}"
    )
    return el("figure", el("figcaption", el("b", name)), picture, class_="card")


def _short(name: str, letters: int = 52) -> str:
    return name if len(name) <= letters else f"…{name[-letters + 1 :]}"


def _span(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low - margin * (high - low), high + margin * (high - low)


def _grid(
    place: Callable[[float, float], tuple[float, float]], epochs: tuple[float, float], values: tuple[float, float]
) -> list[Markup]:
    drawn = []
    for value in ticks(*values, 4):
        y = place(epochs[0], value)[1]
        drawn.append(el("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        drawn.append(el("text", number(value), x=LEFT - 6, y=y + 4, text_anchor="end"))
    for epoch in (tick for tick in ticks(*epochs, 6) if tick == int(tick)):
        x = place(epoch, values[0])[0]
        drawn.append(el("text", number(epoch), x=x, y=HEIGHT - 20, text_anchor="middle"))
    drawn.append(el("text", "epoch", x=WIDTH - RIGHT, y=HEIGHT - 5, text_anchor="end"))
    return drawn
