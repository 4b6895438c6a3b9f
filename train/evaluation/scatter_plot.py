"""Points in the plane as a picture, with a colour and a marker per class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelpipe.drawing.plot import new_figure, save_figure
from skelpipe.errors import UsageError

__all__ = ["draw_scatter"]

MARKERS = "os^DvPX*"
MANY = 20  # with more classes colours come from a wheel
POINTS = 1500  # with more points they are drawn small
WIDTH, LEGEND, HEIGHTS = 7.0, 3.0, (4.0, 8.0)  # of the axes and of the legend, in inches


def draw_scatter(points: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, path: Path) -> bool:
    """Draw points [N,2] with labels int [N] into `names`; without matplotlib draw nothing, return False."""
    shown = np.unique(labels).tolist()
    wide, high = np.ptp(points, axis=0) if len(points) else (1.0, 1.0)
    try:
        figure = new_figure(WIDTH + LEGEND, float(np.clip(WIDTH * high / max(wide, 1e-9), *HEIGHTS)))
    except UsageError:
        return False
    from matplotlib import colormaps

    wheel = colormaps["tab10" if len(shown) <= 10 else "tab20" if len(shown) <= MANY else "hsv"]
    axes = figure.subplots()
    for rank, label in enumerate(shown):
        own = points[labels == label]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=12 if len(points) > POINTS else 28,
            color=wheel(rank if len(shown) <= MANY else rank / len(shown)),
            marker=MARKERS[rank % len(MARKERS)],
            linewidths=0,
            alpha=0.85,
            label=f"{label + 1} {names[label]} ({len(own)})",
        )
    axes.set_aspect("equal", adjustable="datalim")  # the axes keep their size whatever the points' extent
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#cccccc")
    axes.set_title(title, fontsize=9, loc="left")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        fontsize=8,
        frameon=False,
        ncols=-(-len(shown) // 34),
    )
    save_figure(figure, path)
    return True
