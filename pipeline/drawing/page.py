"""A scene as one self-contained HTML page: no network, no library, no other file."""

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.door.visible import visible, visible_in
from skelpipe.drawing.colours import part_colours
from skelpipe.drawing.scene import Panel, Scene
from skelpipe.files import replacing

__all__ = ["page", "write_page"]

DECIMALS = 3  # of metres
ARROW_DECIMALS = 4  # motion is small


def write_page(scene: Scene, path: str | Path) -> None:
    """Write the page of a scene, atomically."""
    content = page(scene).encode()
    with replacing(Path(path)) as file:
        file.write(content)


def page(scene: Scene) -> str:
    """Return the page's text: the template `clip.html` filled with the scene's facts and, as JSON, its numbers."""
    facts = "\n".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(fact)}</dd></div>" for name, fact in scene.facts.items()
    )
    template = files(__package__).joinpath("clip.html").read_text("utf-8")
    return _filled(template, {"title": _text(scene.title), "facts": facts, "clip": _script_json(_plain(scene))})


def _text(words: str) -> str:
    return html.escape(visible(words))


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Replace each {{name}} by its value, in one pass, so that braces in a value stay as they are."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _script_json(content: Any) -> str:
    """Return JSON that can neither end a <script> nor open a comment in it."""
    text = json.dumps(visible_in(content), separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(scene: Scene) -> dict[str, Any]:
    low, high = scene.bounds
    layout = scene.layout
    return {
        "joints": list(layout.joints),
        "bones": [list(edge) for edge in layout.edges],
        "parts": [
            {"name": part, "colour": colour, "joints": list(layout.parts[part])}
            for part, colour in part_colours(layout).items()
        ],
        "rate": scene.rate,
        "frames": scene.frames,
        "flat": scene.flat,
        "unit": scene.unit,
        "low": _rounded(low, DECIMALS),
        "high": _rounded(high, DECIMALS),
        "arrowScale": scene.arrow_scale,
        "panels": [
            _plain_panel(panel, opacity) for panel, opacity in zip(scene.panels, scene.opacities, strict=True)
        ],
    }


def _plain_panel(panel: Panel, opacity: np.ndarray | None) -> dict[str, Any]:
    return {
        "caption": panel.caption,
        "bodies": list(panel.bodies),
        "points": _poses(panel.points, DECIMALS),
        "arrows": None if panel.arrows is None else _poses(panel.arrows, ARROW_DECIMALS),
        "marked": None if panel.marked is None else _marks(panel.marked),
        "means": panel.means,
        **({} if opacity is None else {"opacity": [[_rounded(f, 2) for f in body] for body in opacity]}),
    }


def _poses(points: np.ndarray, decimals: int) -> list[list[list[float] | None]]:
    """Return [B][F] poses, each x, y, z joint after joint, or None where the body is absent."""
    return [[_rounded(pose, decimals) if np.isfinite(pose).all() else None for pose in body] for body in points]


def _marks(marked: np.ndarray) -> list[list[list[int]]]:
    """Return [B][F] lists of the joints that are marked."""
    return [[np.flatnonzero(joints).tolist() for joints in body] for body in marked]


def _rounded(values: np.ndarray, decimals: int) -> list[float]:
    rounded: list[float] = (np.round(values.astype(np.float64), decimals) + 0.0).ravel().tolist()  # no -0.0
    return rounded
