"""Drawings of clips and of the average motion. Needs matplotlib (`pip install skelpipe[plot]`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skelpipe.door.visible import visible
from skelpipe.drawing.colours import joint_colours, part_colours
from skelpipe.errors import UsageError
from skelpipe.files import replacing
from skelpipe.views import positions

if TYPE_CHECKING:
    from skelpipe.dataset import Dataset
    from skelpipe.skeleton import Layout

__all__ = [
    "draw_average_motion",
    "draw_strips",
    "extent",
    "new_figure",
    "pose_strip",
    "require_matplotlib",
    "rows_of",
    "save_figure",
    "strip_width",
]

POSES = 10
ROW_HEIGHT = 2.1  # inches, a strip with its title
TITLE_HEIGHT = 0.25  # inches of it
MARGIN = 0.15  # of the body's extent, between poses
SCALE_BAR = 0.5  # metres
METRES = "metres"
BONE = "#c8c8c8"  # where the joints carry the colours


def require_matplotlib() -> None:
    """Raise UsageError where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError("drawing needs matplotlib: pip install 'skelpipe[plot]'") from None


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure of this size in inches; no display is needed."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure in the format of the file's suffix, atomically."""
    suffix = Path(path).suffix.removeprefix(".") or "png"
    if suffix not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"{path}: pictures are written as png, svg or pdf, not {suffix}")
    _show_as_written(figure)
    with replacing(Path(path)) as file:
        figure.savefig(file, format=suffix)


def _show_as_written(figure: Any) -> None:
    """Draw names of clips and classes as they are: no dollar begins a formula, control characters are escaped."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_text():  # ticks have none yet
            text.set(text=visible(text.get_text(), lines=True), parse_math=False)


def draw_strips(clips: Sequence[np.ndarray], titles: Sequence[str], layout: "Layout", path: str | Path) -> None:
    """Draw clips [C,T,V,M] below each other, each as a strip of poses seen from the front, to the same scale."""
    frame = extent(clips)
    figure = new_figure(strip_width(frame), ROW_HEIGHT * len(clips) + 0.5)
    for axes, clip, title in zip(rows_of(figure, len(clips)), clips, titles, strict=True):
        pose_strip(axes, clip, layout, frame)
        axes.set_title(title, fontsize=9, loc="left")
    _name_parts(figure, layout)
    save_figure(figure, path)


def draw_average_motion(dataset: "Dataset", path: str | Path) -> None:
    """Draw the mean training clip: the joints as a strip of poses, and how fast each part moves on average."""
    layout = dataset.layout
    figure = new_figure(1.25 * POSES, 5.2)
    above, below = rows_of(figure, 2)
    anchor = dataset.anchor("joint")
    count, units = dataset.count("train"), dataset.card["units"]
    pose_strip(above, anchor, layout, extent([anchor]), bar_shown=units == METRES)
    above.set_title(
        f"average motion of {dataset.name} {dataset.split}: mean of {count:,} training clips, {units}",
        fontsize=9,
        loc="left",
    )
    # the last motion frame is 0 by definition
    speed = np.linalg.norm(positions(dataset.anchor("motion"))[..., 0], axis=0)[:-1]
    for part, colour in part_colours(layout).items():
        mean = (1000 if units == METRES else 1) * speed[:, list(layout.parts[part])].mean(axis=1)
        below.plot(mean, color=colour, label=part, linewidth=1.5)
    below.set(xlabel="frame", ylabel=f"{'mm' if units == METRES else units} per frame")
    below.set_title("motion anchor, first body: mean length per part", fontsize=9, loc="left")
    below.legend(fontsize=8, ncols=len(layout.parts), frameon=False)
    below.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def rows_of(figure: Any, count: int) -> list[Any]:
    axes = figure.subplots(count, 1, squeeze=False)
    return [row[0] for row in axes]


def _name_parts(figure: Any, layout: "Layout") -> None:
    """Put a legend of the parts' colours below all strips."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linewidth=2.5) for colour in part_colours(layout).values()]
    figure.legend(
        handles, list(layout.parts), loc="outside lower left", ncols=len(handles), fontsize=8, frameon=False
    )


def extent(clips: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """Return the extent of x and of y, in metres, that holds every pose of the clips."""
    seen = [_seen(clip) for clip in clips]
    lows = np.min([clip.min(axis=(1, 2, 3)) for clip in seen], axis=0)
    highs = np.max([clip.max(axis=(1, 2, 3)) for clip in seen], axis=0)
    return float(lows[0]), float(highs[0]), float(lows[1]), float(highs[1])


def _seen(clip: np.ndarray) -> np.ndarray:
    """Return x and y as the camera sees them, [2,T,V,M]: x grows to the left of the picture.

    Poses without depth come from pictures, where x grows to the right.
    """
    return clip[:2] * np.array([-1 if clip[2].any() else 1, 1]).reshape(2, 1, 1, 1)


def strip_width(frame: tuple[float, float, float, float]) -> float:
    """Return the width in inches at which a strip of this extent fills a row, at most 1.25 per pose."""
    low, high, bottom, top = _limits(frame)
    filled = (ROW_HEIGHT - TITLE_HEIGHT) * (high - low) / (top - bottom)
    return float(min(max(filled, 0.6 * POSES), 1.25 * POSES))


def _step(frame: tuple[float, float, float, float]) -> float:
    """Return the distance of neighbouring poses."""
    return max(frame[1] - frame[0], 0.3) * (1 + MARGIN)


def _bar(frame: tuple[float, float, float, float]) -> float:
    """Return where the scale bar stands, at the right end."""
    return frame[1] + (POSES - 1) * _step(frame) + 0.1


def _limits(frame: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, _, bottom, top = frame
    return left - 0.1, _bar(frame) + 0.4, bottom - 0.25, top + 0.1


def pose_strip(
    axes: Any,
    clip: np.ndarray,
    layout: "Layout",
    frame: tuple[float, float, float, float],
    *,
    bar_shown: bool = True,
    shares: np.ndarray | None = None,
) -> None:
    """Draw evenly spaced poses of all bodies side by side, bones coloured by the part of their child joint.

    `bar_shown` adds a bar of `SCALE_BAR` metres. With `shares` [T,V,M] in 0..1 bones are grey, and each joint is a
    dot that is the larger and the darker the larger its share.
    """
    present = [m for m in range(clip.shape[3]) if np.abs(clip[..., m]).any()]
    colour_of = joint_colours(layout)
    seen = _seen(clip)
    bottom, step = frame[2], _step(frame)
    for number, t in enumerate(np.linspace(0, clip.shape[1] - 1, POSES).round().astype(int)):
        for rank, m in enumerate(present):
            x, y = seen[0, t, :, m] + number * step, seen[1, t, :, m]
            for child, parent in layout.edges:
                axes.plot(
                    x[[child, parent]],
                    y[[child, parent]],
                    color=colour_of[child] if shares is None else BONE,
                    linewidth=2.0 if rank == 0 else 1.0,
                    alpha=1.0 if rank == 0 else 0.5,
                    solid_capstyle="round",
                )
            if shares is not None:
                share = shares[t, :, m]
                axes.scatter(
                    x, y, s=1 + 16 * share, c=share, cmap="magma_r", vmin=0, vmax=1.2, zorder=3, linewidths=0
                )
        axes.annotate(
            f"frame {t}", (number * step, bottom - 0.05), ha="center", va="top", fontsize=7, color="#666666"
        )
    bar = _bar(frame)
    low, high, *rest = _limits(frame)
    if bar_shown:
        axes.plot([bar, bar], [bottom, bottom + SCALE_BAR], color="#666666", linewidth=1.5)
        axes.annotate(f" {SCALE_BAR} m", (bar, bottom + SCALE_BAR / 2), va="center", fontsize=7, color="#666666")
    axes.set_aspect("equal", anchor="W")
    axes.set_xlim(low, high)
    axes.set_ylim(*rest)
    axes.set_axis_off()
