"""What an animation shows: where every joint of every body is drawn in each frame, and the text beside it.

Axes are those of the recordings (docs/conventions.md): y is up, z the distance from the camera. Seen along z, x
grows to the left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skelpipe.skeleton import Layout
from skelpipe.views import POSITIONS, derive

__all__ = [
    "Panel",
    "Scene",
    "absent_as_nan",
    "arrow_scale",
    "derived",
    "make_panel",
    "recording_clip",
    "score_facts",
]

ARROW_SCALES = (1, 2, 5, 10, 20, 50, 100)
ARROW_LENGTH = 0.15  # of the scene's extent: the length for fast motion, the 95th percentile
LEAST_EXTENT = 0.5  # metres
MARGIN = 0.05  # of the extent, around everything
FAINTEST = 0.15  # opacity of a joint whose score is 0


@dataclass(frozen=True)
class Panel:
    """One drawing of a scene. `points` float64 [B,F,V,3] in metres, NaN where a body is not in a frame.

    `arrows`, of the same shape, lead from each joint to its position in the next frame; None for no arrows.
    `marked`, bool [B,F,V], are the joints with a ring around them, and `means` says in the legend what a ring
    means. `scores` float64 [B,F,V] are those of the joints; None where there are none.
    """

    caption: str
    bodies: tuple[str, ...]
    points: np.ndarray
    arrows: np.ndarray | None = None
    marked: np.ndarray | None = None
    means: str = ""
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Scene:
    """Panels that play together at `rate` frames per second. `facts` are named lines of text, in order.

    The fact `units` begins with the unit of positions.
    """

    id: str
    class_name: str
    facts: Mapping[str, str]
    layout: Layout
    rate: float
    panels: tuple[Panel, ...]

    @property
    def title(self) -> str:
        return f"{self.id}: {self.class_name}" if self.class_name else self.id

    @property
    def frames(self) -> int:
        return max(panel.points.shape[1] for panel in self.panels)

    @property
    def unit(self) -> str:
        """The unit of positions, as on the axes."""
        unit = self.facts.get("units", "metres").partition(",")[0]
        return "m" if unit == "metres" else unit

    @property
    def flat(self) -> bool:
        """Whether there is no depth, as with 2D poses: x then grows to the right, as in the picture."""
        return all((np.nan_to_num(panel.points[..., 2]) == 0).all() for panel in self.panels)

    @cached_property
    def arrow_scale(self) -> int:
        return arrow_scale(self.panels)

    @cached_property
    def opacities(self) -> tuple[np.ndarray | None, ...]:
        """How opaque each joint of each panel is drawn, float64 [B,F,V] in 0..1; None for panels without scores.

        A score of 0 is faint; 1, or the greatest score of all panels if that is more, is opaque.
        """
        scores = [panel.scores for panel in self.panels if panel.scores is not None]
        most = max([1.0, *(np.nan_to_num(each).max(initial=0) for each in scores)])
        return tuple(
            None
            if panel.scores is None
            else FAINTEST + (1 - FAINTEST) * np.nan_to_num(panel.scores / most).clip(0, 1)
            for panel in self.panels
        )

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest x, y and z of all that is drawn, with a margin, float64 [3] each."""
        drawn = [panel.points for panel in self.panels]
        drawn += [p.points + self.arrow_scale * p.arrows for p in self.panels if p.arrows is not None]
        low, high = _extent(drawn)
        room = np.maximum(high - low, LEAST_EXTENT) * (1 + 2 * MARGIN) - (high - low)
        return low - room / 2, high + room / 2


def arrow_scale(panels: Sequence[Panel]) -> int:
    """Return the factor by which arrows are drawn longer: a round number that makes motion visible."""
    lengths = [np.linalg.norm(panel.arrows, axis=-1).ravel() for panel in panels if panel.arrows is not None]
    moving = np.concatenate([length[length > 0] for length in lengths] or [np.empty(0)])
    if not len(moving):
        return 1
    low, high = _extent([panel.points for panel in panels])
    best = ARROW_LENGTH * (high - low).max() / np.quantile(moving, 0.95)
    return max((scale for scale in ARROW_SCALES if scale <= best), default=1)


def score_facts(panels: Sequence[Panel]) -> dict[str, str]:
    """Return the fact `scores`, which says what they are and how they are drawn; nothing where there are none."""
    found = [panel.scores[np.isfinite(panel.scores)] for panel in panels if panel.scores is not None]
    if not found:
        return {}
    scores = np.concatenate(found)
    range_ = f"{scores.min():.2f} to {scores.max():.2f}, mean {scores.mean():.2f}" if len(scores) else "none"
    return {"scores": f"{range_}; the lower the score of a joint, the fainter it is drawn"}


def make_panel(
    view: str, joint: np.ndarray, shown: np.ndarray, layout: Layout, bodies: tuple[str, ...], caption: str = ""
) -> Panel:
    """Lay out one view of a clip.

    `joint` and `shown`, the view itself, are [C,F,V,B] (C = 2: flat; 4: with scores), NaN where a body is absent.
    Bone vectors are joined from the centre, which is at the origin, outwards; motion is drawn from the joints,
    with their scores.
    """
    drawn = joint if view == "motion" else shown
    scores = drawn[POSITIONS].transpose(2, 0, 1) if len(drawn) > POSITIONS else None
    points = _by_body(drawn)
    if view == "motion":
        return Panel(caption, bodies, points, _by_body(shown), scores=scores)
    return Panel(caption, bodies, _joined(points, layout) if view == "bone" else points, scores=scores)


def absent_as_nan(clip: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a clip [C,T,V,M] with NaN for the bodies that are zero throughout a frame of `like`."""
    present = (like != 0).any(axis=(0, 2))  # [T,M]
    return np.where(present[None, :, None, :], clip.astype(np.float64), np.nan)


def recording_clip(
    counts: np.ndarray, ids: np.ndarray, xyz: np.ndarray, scores: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Sort a recording's bodies by the tracker's id: float64 [C,F,V,B], NaN where absent, and the bodies' names.

    C is 3, or 4 with scores.
    Bodies are in order of appearance; a body of zeros is absent. An id that a frame lists twice makes a further
    body.
    """
    slots: dict[tuple[int, int], int] = {}  # (id, how often the frame has listed it before) to body
    found = []
    row = 0
    for frame, count in enumerate(counts):
        listed: list[int] = []
        for identity in ids[row : row + count].tolist():
            slot = slots.setdefault((identity, listed.count(identity)), len(slots))
            listed.append(identity)
            found.append((frame, slot))
        row += int(count)
    numbers = xyz if scores is None else np.concatenate([xyz, scores[..., None]], axis=2)
    clip = np.full((numbers.shape[2], len(counts), xyz.shape[1], len(slots)), np.nan)
    for (frame, slot), joints in zip(found, numbers, strict=True):
        if joints[:, :POSITIONS].any():
            clip[:, frame, :, slot] = joints.T
    tracked = any(identity >= len(slots) for identity, _ in slots)  # small numbers are positions in the file
    names = (f"body {n + 1}" + (f", id {identity}" if tracked else "") for n, (identity, _) in enumerate(slots))
    return clip, tuple(names)


def derived(clip: np.ndarray, view: str, layout: Layout) -> np.ndarray:
    """Return a view of the clip [C,F,V,B]; unlike in a dataset, the motion of the last frame is NaN."""
    shown = derive(clip, view, layout)
    if view == "motion":
        shown[:, -1] = np.nan
    return shown


def _by_body(clip: np.ndarray) -> np.ndarray:
    """Turn [C,F,V,B] into [B,F,V,3]."""
    channels, (frames, joints, bodies) = min(len(clip), POSITIONS), clip.shape[1:]
    points = np.zeros((bodies, frames, joints, 3))
    points[..., :channels] = clip[:POSITIONS].transpose(3, 1, 2, 0)
    return points


def _joined(bones: np.ndarray, layout: Layout) -> np.ndarray:
    """Return the joints [B,F,V,3] that the bone vectors lead to from the centre."""
    points = bones.copy()
    done = {layout.centre}
    while len(done) < len(layout):
        for child, parent in layout.edges:
            if child not in done and parent in done:
                points[:, :, child] += points[:, :, parent]
                done.add(child)
    return points


def _extent(drawn: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([array.reshape(-1, 3) for array in drawn])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.zeros(3), np.zeros(3)
    return points.min(axis=0), points.max(axis=0)
