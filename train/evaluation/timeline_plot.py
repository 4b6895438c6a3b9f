"""Segmentations as a picture: per video a coloured bar of the true classes above one of the predicted classes."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.drawing.plot import new_figure, save_figure
from skelpipe.errors import UsageError
from skelpipe.train.evaluation.segmentation_metrics import runs

__all__ = ["Timeline", "class_colours", "draw_timelines", "luminance"]

BACKGROUND = "#e8e8e8"
DARK = 0.45  # luminance below which numbers are written in white
GOLDEN = 0.6180339887  # of a turn: successive hues are far apart, however many there are
SHADES = ((0.75, 0.85), (0.45, 0.95), (0.9, 0.6), (0.35, 0.7))  # saturation and value
WIDE = 0.02  # share of the longest video from which a run has room for the number of its class
LEGEND_COLUMNS = 5
WIDTH = 12.0  # inches


@dataclass(frozen=True)
class Timeline:
    """A video's id and the true and predicted class of each frame, int [F], 0 = background."""

    id: str
    truth: np.ndarray
    predicted: np.ndarray


def draw_timelines(timelines: Sequence[Timeline], names: Sequence[str], title: str, path: Path) -> bool:
    """Draw videos below each other, all to one scale; without matplotlib draw nothing, return False.

    `names` are the K classes, background first; a class has the same colour in every picture.
    """
    shown = sorted(set().union(*(np.union1d(one.truth, one.predicted).tolist() for one in timelines)))
    legend_rows = -(-len(shown) // LEGEND_COLUMNS)
    try:
        figure = new_figure(WIDTH, 0.95 * len(timelines) + 0.19 * legend_rows + 0.8)
    except UsageError:
        return False
    colours = class_colours(len(names))
    longest = max(len(one.truth) for one in timelines)
    for axes, one in zip(figure.subplots(len(timelines), 1, squeeze=False)[:, 0], timelines, strict=True):
        _bars(axes, one, colours, longest)
    axes.set_xlabel("frame", fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    _legend(figure, shown, names, colours)
    save_figure(figure, path)
    return True


def class_colours(count: int) -> list[str]:
    """Return a colour #rrggbb for each class, light grey for the first, the background."""
    colours = [BACKGROUND]
    for label in range(1, count):
        saturation, value = SHADES[label % len(SHADES)]
        rgb = colorsys.hsv_to_rgb(label * GOLDEN % 1, saturation, value)
        colours.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return colours


def luminance(colour: str) -> float:
    """Return how bright #rrggbb looks, 0 to 1 (Rec. 709 weights)."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _bars(axes: Any, one: Timeline, colours: Sequence[str], longest: int) -> None:
    """Draw the truth above the prediction; a run that is wide enough bears the number of its class."""
    for height, labels in ((1.05, one.truth), (0.0, one.predicted)):
        for first, last, label in runs(labels):
            axes.broken_barh([(first, last - first + 1)], (height, 0.95), facecolors=colours[label])
            if label and last - first + 1 > WIDE * longest:
                middle = ((first + last + 1) / 2, height + 0.45)
                ink = "black" if luminance(colours[label]) > DARK else "white"
                axes.annotate(str(label), middle, ha="center", va="center", fontsize=7, color=ink)
    right = 100.0 * float((one.truth == one.predicted).mean())
    axes.set_title(f"{one.id}: {right:.1f} % of {len(one.truth):,} frames", fontsize=8, loc="left", pad=2)
    axes.set(xlim=(0, longest), ylim=(0, 2))
    axes.set_yticks([1.5, 0.5], ["truth", "predicted"], fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def _legend(figure: Any, shown: Sequence[int], names: Sequence[str], colours: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colours[label], label=f"{label} {names[label]}") for label in shown]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=LEGEND_COLUMNS,
        fontsize=7,
        frameon=False,
        handlelength=1.2,
    )
