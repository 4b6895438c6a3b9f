"""A panel of a scene as a small SVG that plays in a loop without script."""

import html
import math
from collections.abc import Iterable

import numpy as np

from skelpipe.door.visible import visible
from skelpipe.drawing.colours import part_colours
from skelpipe.drawing.scene import Scene

__all__ = ["Camera", "looping_svg"]

SIZE = 480  # width and height of the picture, in its units; positions are rounded to whole units
MARGIN = 24
YAW, PITCH = 0.5, 0.25  # radians: turned to the side and a little from above, as pages are at first
WIDTHS = (10, 6)  # of the bones of the first body, and of all others
DASHES = ("", "14 8", "5 8")  # of the first body, the second, and all others
MARK_WIDTH = 26
NOTHING = "M0 0"  # a path that draws nothing


def looping_svg(scene: Scene, panel: int = 0, label: str = "") -> str:
    """Return one panel of a scene as `<svg>` text: a path for each body and part that steps through the frames.

    Only positions are drawn, no arrows. A body that is absent in a frame is not drawn in it; marked joints have a
    halo. `label`, or else the scene's title, is the text for screen readers. Where SMIL is off, as for readers who
    prefer less motion, the middle frame is shown.
    """
    shown = scene.panels[panel]
    project = Camera(scene)
    points = np.round(project(shown.points))  # [B,F,V,2]
    parts = []
    for body, frames in enumerate(points):
        if shown.marked is not None:
            dots = [_dots(pose, marked) for pose, marked in zip(frames, shown.marked[body], strict=True)]
            parts.append(_moving(dots, scene.rate, f'class="mark" stroke-width="{MARK_WIDTH}"'))
        for part, colour in part_colours(scene.layout).items():
            of_part = set(scene.layout.parts[part])
            bones = [edge for edge in scene.layout.edges if edge[0] in of_part]
            style = f'stroke="{colour}" stroke-width="{WIDTHS[min(body, 1)]}"'
            if dash := DASHES[min(body, len(DASHES) - 1)]:
                style += f' stroke-dasharray="{dash}"'
            parts.append(_moving([_lines(pose, bones) for pose in frames], scene.rate, style))
    name = html.escape(visible(label or scene.title))
    return (
        f'<svg class="clip" role="img" aria-label="{name}" viewBox="0 0 {SIZE} {SIZE}" fill="none" '
        f'stroke-linecap="round" stroke-linejoin="round">{_floor(scene, project)}{"".join(parts)}</svg>'
    )


class Camera:
    """Maps metres [...,3] to the picture [...,2], with the same turn and tilt for every frame of a scene."""

    size = SIZE

    def __init__(self, scene: Scene) -> None:
        low, high = scene.bounds
        self._middle = (low + high) / 2
        (left, ground, front), (right, _, back) = low, high
        corners = [(left, ground, front), (right, ground, front), (right, ground, back), (left, ground, back)]
        self.floor = np.array(corners)  # [4,3], below the lowest point
        self._side = 1.0 if scene.flat else -1.0  # x grows to the left for the camera, to the right in pictures
        x, y, z = high - low
        yaw, pitch = (0.0, 0.0) if scene.flat else (YAW, PITCH)
        c, s, cp, sp = self._turn = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        across, deep = c * x + s * z, s * x + c * z
        self._scale = (SIZE - 2 * MARGIN) / max(across, cp * y + sp * deep)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        c, s, cp, sp = self._turn
        u, v, w = np.moveaxis((points - self._middle) * (self._side, 1.0, self._side), -1, 0)
        near = w * c - u * s
        x, y = u * c + w * s, v * cp - near * sp
        return SIZE / 2 + self._scale * np.stack([x, -y], axis=-1)


def _moving(paths: list[str], rate: float, style: str) -> str:
    """Return a path element that shows one path per frame; without animation where all are the same."""
    still = paths[len(paths) // 2]
    if len(set(paths)) == 1:
        return "" if still == NOTHING else f'<path {style} d="{still}"/>'
    return (
        f'<path {style} d="{still}"><animate attributeName="d" calcMode="discrete" dur="{len(paths) / rate:.3f}s" '
        f'repeatCount="indefinite" values="{";".join(paths)}"/></path>'
    )


def _lines(pose: np.ndarray, bones: Iterable[tuple[int, int]]) -> str:
    if not np.isfinite(pose).all():
        return NOTHING
    x, y = pose.astype(int).T.tolist()
    return "".join(f"M{x[p]} {y[p]}l{x[c] - x[p]} {y[c] - y[p]}" for c, p in bones) or NOTHING


def _dots(pose: np.ndarray, marked: np.ndarray) -> str:
    """Return lines of length zero, which round caps turn into dots."""
    if not np.isfinite(pose).all():
        return NOTHING
    return "".join(f"M{x} {y}h0" for x, y in pose[marked].astype(int).tolist()) or NOTHING


def _floor(scene: Scene, project: Camera) -> str:
    """Return the ground, which shows where front and back are."""
    if scene.flat:
        return ""
    text = "L".join(f"{x} {y}" for x, y in np.round(project(project.floor)).astype(int).tolist())
    return f'<path class="floor" d="M{text}z"/>'
