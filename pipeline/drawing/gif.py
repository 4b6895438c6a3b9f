"""A scene as an animated GIF, seen from the front and from the side. Needs matplotlib and its Pillow."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from skelpipe.drawing.colours import MARK, PALETTE, joint_colours, part_colours
from skelpipe.drawing.plot import new_figure, require_matplotlib
from skelpipe.drawing.scene import Panel, Scene
from skelpipe.errors import UsageError
from skelpipe.files import replacing
from skelpipe.progress import progress

__all__ = ["frame_times", "write_gif"]

DPI = 100
TALLEST, WIDEST = 4.0, 4.5  # inches of one drawing
NARROWEST = 1.6
LEFT, GAP, RIGHT = 0.7, 0.8, 0.3  # inches beside and between drawings
WORDS, ABOVE, BELOW, LEGEND = 0.37, 0.3, 0.55, 0.5  # inches of title, above and below each drawing, below all
LINE = 0.16  # inches of a line of facts
LEAST_WIDTH = 6.7  # inches, which the text needs
LETTERS = 16  # of facts, per inch
COMMON = ("dataset", "view", "frames", "bodies", "units")  # facts of all scenes, which share a few lines
RING: Mapping[str, Any] = {"markerfacecolor": "none", "markeredgecolor": MARK, "markeredgewidth": 1.6}
DASHES: tuple[Any, ...] = ("solid", (0, (2.5, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))
WIDTHS = (3.0, 2.2)  # points: of the first body, of the others
FADED = 0.35
HEAD = 0.25  # of an arrow's length
SHORTEST = 0.008  # of the scene's height: shorter arrows are not drawn
GREYS, SHADES = 24, 8  # steps from black to white, and from white to a part's colour
TRANSPARENT = 0  # index in the palette, before the colours
MOST_FRAMES = 1000  # Pillow keeps them all in memory
X, Y, Z = 0, 1, 2


def write_gif(scene: Scene, path: str | Path, *, quiet: bool = False) -> None:
    """Write a scene as a GIF that repeats, atomically; `quiet` shows no progress.

    UsageError where matplotlib is not installed, and for more than 1,000 frames.
    """
    if scene.frames > MOST_FRAMES:
        raise UsageError(f"{path}: {scene.frames:,} frames are too many for a GIF: write a page, .html")
    stage = _Stage(scene)
    images = iter(progress(stage.images(), f"show {path}", scene.frames, quiet=quiet))
    first = next(images)
    with replacing(Path(path)) as file:
        first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=images,
            duration=frame_times(scene.frames, scene.rate),
            loop=0,
            disposal=1,  # what a frame leaves transparent stays as it was
            transparency=TRANSPARENT,
            optimize=False,
        )


def frame_times(frames: int, rate: float) -> list[int]:
    """Return how long each frame is shown, in ms.

    GIFs count in hundredths of a second; the times are rounded so that their sum keeps the true rate.
    """
    ends = np.round(np.arange(frames + 1) * 100 / rate)
    return [int(time) * 10 for time in np.diff(ends)]


class _Stage:
    """The figure of a scene: what does not move is drawn once, the bodies again in each frame."""

    def __init__(self, scene: Scene) -> None:
        require_matplotlib()
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self.scene = scene
        low, high = scene.bounds
        size = high - low
        inches = min(TALLEST / size[Y], WIDEST / size[X], WIDEST / size[Z])  # per metre
        width, depth, height = (max(inches * size[axis], NARROWEST) for axis in (X, Z, Y))
        rows, row_height = len(scene.panels), ABOVE + height + BELOW
        across_all = max(LEFT + width + GAP + depth + RIGHT, LEAST_WIDTH)
        lines = _facts(scene, int(LETTERS * across_all))
        total = (across_all, WORDS + LINE * len(lines) + rows * row_height + LEGEND)
        self.figure = new_figure(*total)
        self.figure.set_layout_engine("none")
        self.figure.set_dpi(DPI)
        self.canvas = FigureCanvasAgg(self.figure)
        self.drawings = []
        for row, panel in enumerate(scene.panels):
            bottom = LEGEND + (rows - 1 - row) * row_height + BELOW
            for left, across, wide in ((LEFT, X, width), (LEFT + width + GAP, Z, depth)):
                box = (left / total[0], bottom / total[1], wide / total[0], height / total[1])
                axes = self.figure.add_axes(box)
                _prepare_axes(axes, scene, panel, across)
                self.drawings.append(_Drawing(axes, scene, row, across))
        self._write_words(total, lines)

    def images(self) -> Iterator[Any]:
        """Yield every frame as a palette image, transparent where it equals the frame before."""
        from PIL import Image

        colours = _palette()
        nearest = _nearest(colours)
        self.canvas.draw()
        still = self.canvas.copy_from_bbox(self.figure.bbox)
        before = None
        for frame in range(self.scene.frames):
            self.canvas.restore_region(still)
            self.counter.set_text(self._count(frame))
            self.figure.draw_artist(self.counter)
            for drawing in self.drawings:
                drawing.draw(frame)
            pixels = nearest[_bins(np.asarray(self.canvas.buffer_rgba())[..., :3])]
            image = Image.fromarray(pixels if before is None else np.where(pixels == before, TRANSPARENT, pixels))
            image.putpalette(colours.tobytes())
            yield image
            before = pixels

    def _count(self, frame: int) -> str:
        return f"frame {frame + 1}/{self.scene.frames}, {frame / self.scene.rate:.2f} s"

    def _write_words(self, total: tuple[float, float], facts: list[str]) -> None:
        from matplotlib.lines import Line2D

        def write(text: str, down: float, size: float, **where: Any) -> Any:
            x = where.pop("x", 0.15 / total[0])
            return self.figure.text(
                x, 1 - down / total[1], text, fontsize=size, va="top", parse_math=False, **where
            )

        title = self.scene.title
        write(title, 0.1, min(11, 11 * 56 / len(title)))
        for n, line in enumerate(facts):
            write(line, 0.34 + n * LINE, 8, color="#606060")
        self.counter = write("", 0.1, 9, x=1 - 0.15 / total[0], ha="right", animated=True)
        lines = [
            Line2D([], [], color=colour, linewidth=3, label=part)
            for part, colour in part_colours(self.scene.layout).items()
        ]
        names = self.scene.panels[0].bodies
        if len(names) > 1:
            lines += [
                Line2D([], [], color="#404040", linewidth=_width(n), linestyle=_dashes(n), label=name)
                for n, name in enumerate(names)
            ]
        lines += [
            Line2D([], [], label=means, linestyle="", marker="o", markersize=7, **RING)
            for means in dict.fromkeys(panel.means for panel in self.scene.panels if panel.means)
        ]
        self.figure.legend(handles=lines, loc="lower left", ncols=5, fontsize=8, frameon=False)


class _Drawing:
    """The bodies of a panel on one pair of axes, x and y or z and y."""

    def __init__(self, axes: Any, scene: Scene, row: int, across: int) -> None:
        from matplotlib.collections import LineCollection

        self.axes = axes
        self.plane = [across, Y]
        self.children, self.parents = np.array(scene.layout.edges, int).reshape(-1, 2).T
        self.panel = panel = scene.panels[row]
        self.opacity = scene.opacities[row]
        self.scale = scene.arrow_scale
        self.shortest = SHORTEST * np.subtract(*scene.bounds[::-1])[Y]
        colours = joint_colours(scene.layout)
        self.faded = faded = FADED if panel.arrows is not None else 1.0
        self.bones: list[Any] = []
        self.joints: list[Any] = []
        self.arrows: list[Any] = []
        self.rings = axes.plot([], [], linestyle="", marker="o", markersize=7, animated=True, **RING)[0]
        for n in range(len(panel.bodies)):
            self.bones.append(
                LineCollection(
                    [],
                    colors=[colours[child] for child in self.children],
                    linewidths=_width(n),
                    linestyles=[_dashes(n)],
                    alpha=faded,
                    capstyle="butt" if n else "round",
                )
            )
            self.joints.append(axes.scatter([], [], animated=True))
            self.joints[-1].set(sizes=[14], facecolors=colours, linewidths=0, alpha=faded)
            self.arrows.append(LineCollection([], colors=[c for c in colours for _ in range(3)], linewidths=1.6))
            for artist in (self.bones[-1], self.arrows[-1]):
                artist.set_animated(True)
                axes.add_collection(artist, autolim=False)

    def draw(self, frame: int) -> None:
        """Draw the bodies of one frame; absent ones are NaN, which matplotlib leaves out."""
        for n in range(len(self.panel.bodies)):
            if frame >= self.panel.points.shape[1]:
                continue
            points = self.panel.points[n, frame][:, self.plane]
            self.bones[n].set_segments(np.stack([points[self.children], points[self.parents]], axis=1))
            self.joints[n].set_offsets(points)
            if self.opacity is not None:  # joints of low scores are faint
                alpha = self.faded * self.opacity[n, frame]
                self.joints[n].set_alpha(alpha)
                self.bones[n].set_alpha(np.minimum(alpha[self.children], alpha[self.parents]))
            self.axes.draw_artist(self.bones[n])
            self.axes.draw_artist(self.joints[n])
            if self.panel.marked is not None:
                self.rings.set_data(*points[self.panel.marked[n, frame]].T)
                self.axes.draw_artist(self.rings)
            if self.panel.arrows is not None:
                moves = self.scale * self.panel.arrows[n, frame][:, self.plane]
                moves[np.linalg.norm(moves, axis=1) < self.shortest] = np.nan
                self.arrows[n].set_segments(_arrow_strokes(points, points + moves))
                self.axes.draw_artist(self.arrows[n])


def _facts(scene: Scene, width: int) -> list[str]:
    """Return the lines to write above the drawings, wrapped at `width` letters."""
    facts = scene.facts
    lines = [f"{facts['dataset']}; frames: {facts['frames']}", facts["view"], f"units: {facts['units']}"]
    lines += [f"{name}: {fact}" for name, fact in facts.items() if name not in COMMON]
    return [part for line in lines for part in wrap(line, width, subsequent_indent="    ")]


def _prepare_axes(axes: Any, scene: Scene, panel: Panel, across: int) -> None:
    low, high = scene.bounds
    middle, half = (low + high) / 2, np.maximum(high - low, 0) / 2
    box = axes.get_position().size * axes.figure.get_size_inches()
    half_width = max(half[across], half[Y] * box[0] / box[1])
    mirrored = across == X and not scene.flat  # seen by the camera, x grows to the left
    direction = -1 if mirrored else 1
    axes.set_xlim(middle[across] - direction * half_width, middle[across] + direction * half_width)
    half_height = half_width * box[1] / box[0]
    axes.set_ylim(middle[Y] - half_height, middle[Y] + half_height)
    front = f"{panel.caption}: front" if panel.caption else "front"
    view = front if across == X else "side, the front at the left"
    axes.set_title(view, fontsize=9, parse_math=False)
    axes.set_xlabel(f"{'x' if across == X else 'z, depth'} ({scene.unit})", fontsize=9)
    axes.set_ylabel(f"y, up ({scene.unit})", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=5)
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_color("#a0a0a0")


def _arrow_strokes(tails: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Return a shaft and two strokes of a head for each arrow [V,2], as segments [3V,2,2]."""
    back = HEAD * (tails - tips)
    aside = 0.6 * np.stack([-back[:, 1], back[:, 0]], axis=1)
    strokes = [(tails, tips), (tips + back + aside, tips), (tips + back - aside, tips)]
    return np.stack([np.stack(stroke, axis=1) for stroke in strokes], axis=1).reshape(-1, 2, 2)


def _dashes(body: int) -> Any:
    return DASHES[body % len(DASHES)]


def _width(body: int) -> float:
    return WIDTHS[min(body, len(WIDTHS) - 1)]


def _palette() -> np.ndarray:
    """Return the colours of all images, uint8 [P,3]: greys, and shades of the colours of parts and marks.

    The first is the transparent one.
    """
    grey = np.linspace(0, 255, GREYS)[:, None].repeat(3, axis=1)
    full = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (*PALETTE, MARK)])
    steps = np.arange(1, SHADES + 1)[:, None, None] / SHADES
    shades = 255 + (full - 255) * steps
    return np.concatenate([np.zeros((1, 3)), grey, shades.reshape(-1, 3)]).round().astype(np.uint8)


def _bins(image: np.ndarray) -> np.ndarray:
    """Number the colours [...,3] by their 5, 6 and 5 highest bits, uint16 [...]."""
    red, green, blue = (image[..., i].astype(np.uint16) for i in range(3))
    return (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3


def _nearest(colours: np.ndarray) -> np.ndarray:
    """Return the index of the colour nearest to the middle of each bin; colours of the palette stay themselves."""
    bins = np.arange(1 << 16)
    middles = np.stack([(bins >> 11 << 3) + 4, (bins >> 5 & 63) * 4 + 2, ((bins & 31) << 3) + 4], axis=1)
    nearest = np.zeros(len(bins), np.uint8)
    least = np.full(len(bins), np.inf)
    for index, colour in list(enumerate(colours.astype(int)))[TRANSPARENT + 1 :]:
        distance = ((middles - colour) ** 2).sum(axis=1)
        closer = distance < least
        nearest[closer], least[closer] = index, distance[closer]
    own = np.array([GREYS, *range(len(colours) - len(PALETTE), len(colours))])  # white and the parts' colours
    nearest[_bins(colours[own])] = own
    return nearest
