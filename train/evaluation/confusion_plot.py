"""A confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelpipe.drawing.plot import new_figure, save_figure
from skelpipe.errors import UsageError

__all__ = ["draw_confusion"]

NAMED = 30  # up to so many classes there is room for names beside the rows


def draw_confusion(matrix: np.ndarray, names: Sequence[str], title: str, path: Path) -> bool:
    """Draw counts int[K,K] as shares of each true class's clips; without matplotlib draw nothing, return False.

    Beside them is each class's accuracy. Rows are true classes, columns predicted ones; classes that are neither
    the true nor the predicted class of a clip are left out.
    """
    shown = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    matrix, count = matrix[np.ix_(shown, shown)], len(shown)
    edge = float(np.clip(0.12 * count + 3, 5, 16))
    try:
        figure = new_figure(edge + (3 if count <= NAMED else 1.8), edge + 0.6)
    except UsageError:
        return False
    clips = matrix.sum(axis=1, keepdims=True)
    shares = np.where(clips > 0, 100.0 * matrix / np.maximum(clips, 1), np.nan)
    axes, beside = figure.subplots(1, 2, width_ratios=(6, 1), sharey=True)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    step = 1 if count <= NAMED else 5 if count <= 80 else 10
    ticks = list(range(0, count, step))
    labels = [f"{shown[tick]} {names[shown[tick]]}" if count <= NAMED else str(shown[tick]) for tick in ticks]
    axes.set_xticks(ticks, [str(shown[tick]) for tick in ticks], fontsize=7)
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(title, fontsize=9)
    beside.barh(range(count), np.nan_to_num(shares.diagonal()), color="#2171b5")
    beside.set(xlim=(0, 100), xlabel="accuracy, %")
    beside.tick_params(axis="y", labelleft=False)
    beside.tick_params(axis="x", labelsize=7)
    figure.colorbar(image, ax=(axes, beside), label="% of the true class", shrink=0.8)
    save_figure(figure, path)
    return True
