"""Line charts of a run's log as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skelpipe.train.reporting.markup import Markup, el

__all__ = ["curves", "number", "ticks"]

WIDTH, HEIGHT = 360, 196
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 36
DOTTED = 40  # a curve of at most so many points has a dot for each
# The order of the curves, by the beginnings of their names.
FIRST = ("loss", "train_loss", "knn", "top1", "top5", "accuracy", "std", "lr")

Points = list[tuple[float, float]]


def curves(
    log: Sequence[Mapping[str, Any]], references: Mapping[str, tuple[float, str]] | None = None
) -> list[Markup]:
    """Return one chart per number in the records of a log, without `epoch`; the loss is first.

    `references` maps the name of a chart to a value, which is drawn as a dashed line, and to what it is.
    """
    names = dict.fromkeys(name for record in log for name in record if name != "epoch")
    series = {name: _series(log, name) for name in names}
    known = sorted((name for name in names if series[name]), key=_rank)
    return [_chart(name, series[name], (references or {}).get(name)) for name in known]


def number(value: float) -> str:
    """Return a number in four digits; with an exponent only if it is very large or very small."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about `wanted` round numbers from low to high, or low if the two are equal."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next((factor for factor in (1, 2, 2.5, 5) if factor * power >= rough * 0.8), 10)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _rank(name: str) -> tuple[int, str]:
    return next((i for i, start in enumerate(FIRST) if name.startswith(start)), len(FIRST)), name


def _series(log: Sequence[Mapping[str, Any]], name: str) -> Points:
    found = []
    for i, record in enumerate(log, 1):
        value = record.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found.append((float(record.get("epoch", i)), float(value)))
    return found


def _chart(name: str, points: Points, reference: tuple[float, str] | None) -> Markup:
    values = [value for _, value in points] + ([reference[0]] if reference else [])
    (left, right), (low, high) = _span([epoch for epoch, _ in points], 0), _span(values, 0.06)

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = LEFT + (epoch - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    drawn = [*_grid(place, (left, right), (low, high))]
    if reference:
        y = place(left, reference[0])[1]
        drawn.append(el("line", class_="reference", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
    spots = [place(*point) for point in points]
    drawn.append(el("polyline", class_="curve", points=" ".join(f"{x},{y}" for x, y in spots)))
    if len(spots) <= DOTTED:
        drawn += [el("circle", class_="dot", cx=x, cy=y, r=2.5) for x, y in spots]
    words = _description(points)
    picture = el(
        "svg", *drawn, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{name}: {words}"
    )
    line = f"dashed: {reference[1]}, {number(reference[0])}" if reference else None
    caption = el("figcaption", el("b", name), " ", el("span", words), el("span", line) if line else None)
    return el("figure", caption, picture, class_="card")


def _span(values: Sequence[float], margin: float) -> tuple[float, float]:
    """Return the limits of an axis: the least and the greatest value, with a margin; never equal."""
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low - margin * (high - low), high + margin * (high - low)


def _grid(place: Any, epochs: tuple[float, float], values: tuple[float, float]) -> list[Markup]:
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


def _description(points: Points) -> str:
    """Describe a curve in words: its last, lowest and highest value."""
    last, least, most = points[-1], min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
    if least[1] == most[1]:
        return f"{number(last[1])} throughout"
    return (
        f"at the end {number(last[1])}; lowest {number(least[1])} (epoch {number(least[0])}), "
        f"highest {number(most[1])} (epoch {number(most[0])})"
    )
