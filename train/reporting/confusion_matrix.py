"""A confusion matrix as inline SVG, with the data that page.js shows under the pointer, and its worst cells."""

import json
from collections.abc import Sequence

import numpy as np

from skelpipe.door.visible import visible_in
from skelpipe.train.reporting.markup import Markup, el

__all__ = ["matrix_figure", "script_json", "worst_pairs"]

SHADES = 10
SIZE = 600  # width and height of the matrix in SVG units
NAMED = 30  # classes whose names have room beside the rows
LETTERS = 26  # of a name beside its row
PAIRS = 15


def matrix_figure(counts: np.ndarray, names: Sequence[str]) -> Markup:
    """Draw counts int[K,K], rows true classes: each cell's shade is its share of its row's clips.

    Classes without clips that were never predicted are left out.
    """
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts, titles = counts[np.ix_(used, used)], [f"{label} {names[label]}" for label in used.tolist()]
    clips = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(clips, 1)
    shade = np.where(counts > 0, np.clip(np.ceil(shares * SHADES), 1, SHADES), 0).astype(int)
    size = len(titles)
    cell = SIZE / max(size, 1)
    paths = []
    for level in range(1, SHADES + 1):
        cells = "".join(_run(row, shade[row] == level) for row in range(size))
        if cells:
            paths.append(el("path", d=cells, fill_opacity=level / SHADES))
    left = 190 if size <= NAMED else 44
    grid = el("g", *paths, class_="cells", transform=f"translate({left} 10) scale({cell:.6f})")
    frame = el("rect", class_="frame", x=left, y=10, width=SIZE, height=SIZE)
    marker = el("rect", class_="marker", width=f"{cell:.4f}", height=f"{cell:.4f}", visibility="hidden")
    picture = el(
        "svg",
        grid,
        frame,
        marker,
        *_labels(titles, left, cell),
        class_="matrix",
        viewBox=f"0 0 {left + SIZE + 10} {SIZE + 52}",
        role="img",
        aria_label=f"Confusion matrix of {size} classes; the table beside it lists the most frequent confusions",
        data_left=left,
        data_top=10,
        data_size=SIZE,
    )
    steps = [el("i", class_=f"shade{level}") for level in range(1, SHADES + 1)]
    legend = el("p", "share of the true class: 0 %\u00a0", *steps, "\u00a0100 %", class_="shades")
    output = el("output", "Point at a cell to read it.", id="cell")
    data = el(
        "script",
        script_json({"names": titles, "counts": counts.tolist()}),
        type="application/json",
        id="matrix",
    )
    return el("figure", picture, legend, output, data, class_="card wide")


def worst_pairs(counts: np.ndarray, names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Return the most frequent confusions: true class, predicted class, clips and their share of the row in %."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(i) // len(names), int(i) % len(names)) for i in order]
    clips = counts.sum(axis=1)
    return [(names[t], names[p], int(wrong[t, p]), 100 * wrong[t, p] / clips[t]) for t, p in pairs if wrong[t, p]]


def script_json(content: object) -> Markup:
    """Return JSON that cannot end a <script> element or open a comment in it."""
    text = json.dumps(visible_in(content), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _run(row: int, inside: np.ndarray) -> str:
    """Return the SVG path of one row's cells, with neighbours joined."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
    return "".join(f"M{a} {row}h{b - a}v1h{a - b}z" for a, b in edges.reshape(-1, 2).tolist())


def _labels(titles: Sequence[str], left: int, cell: float) -> list[Markup]:
    """Return the classes beside rows and under columns: `number name`, or only the number if there are many."""
    size = len(titles)
    step = 1 if size <= NAMED else 5 if size <= 80 else 10
    drawn = []
    for index in range(0, size, step):
        middle = (index + 0.5) * cell
        label = titles[index].partition(" ")[0]
        text = titles[index] if size <= NAMED else label
        short = text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
        drawn.append(el("text", short, x=left - 6, y=round(10 + middle + 4, 1), text_anchor="end"))
        drawn.append(el("text", label, x=round(left + middle, 1), y=SIZE + 26, text_anchor="middle"))
    drawn.append(el("text", "predicted class", x=left + SIZE, y=SIZE + 46, text_anchor="end"))
    return drawn
