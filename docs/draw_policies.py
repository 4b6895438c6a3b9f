"""Draw policies.svg: one joint's height over time under each policy for empty frames and for missing joints.

python docs/draw_policies.py
"""

from pathlib import Path

import numpy as np

from skelpipe.preprocess.empty_frames import fill_frames, shown_frames
from skelpipe.preprocess.missing_joints import fill_joints
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

FRAMES = 30
WIDTH, HEIGHT, LEFT, GAP, STEP = 176, 84, 8, 12, 46  # as wide as a phone, so that text stays legible there
SECOND = 3  # rows of the first picture
EMPTY = [*range(5), *range(14, 19)]  # frames that show no body
LOST = [*range(4), *range(12, 19)]  # frames in which the hand was not found
BLUE, ORANGE, GREY, INK = "#1f6fb4", "#d1620a", "#9a9a9a", "#222222"
HAND, PARENT = "left wrist", "left elbow"


def walker(skeleton) -> np.ndarray:
    """Joints [F,V,3] of a body whose hand rises and falls; all joints lie away from the origin."""
    t = np.arange(FRAMES)
    pose = np.ones((FRAMES, len(skeleton), 3))
    pose[:, skeleton.joints.index(HAND), 1] = 1.25 + 0.55 * np.sin(2 * np.pi * (t - 4) / 24)
    pose[:, skeleton.joints.index(PARENT), 1] = 1.05 + 0.2 * np.sin(2 * np.pi * (t - 4) / 24)
    return pose


def recording(poses: np.ndarray, shown: np.ndarray) -> Recording:
    return Recording(shown.astype(np.int32), np.zeros(shown.sum(), np.int64), poses[shown])


def top(row: int) -> int:
    """Where a row begins; the first of each picture has a line of heading above it."""
    return row * (HEIGHT + STEP) + (row >= SECOND) * 24


def panel(place: int, title: str, said: str, heights: np.ndarray, made_up: np.ndarray, cut: int) -> str:
    """Plot `heights` [n], NaN for no body; `made_up` [n] are orange; frames from `cut` on are not kept."""
    row, column = divmod(place, 2)
    x0, y0 = LEFT + column * (WIDTH + GAP), top(row) + 56
    parts = [
        f'<text x="{x0}" y="{y0 - 19}" class="t">{title}</text>',
        f'<text x="{x0}" y="{y0 - 5}" class="s">{said}</text>',
        f'<rect x="{x0}" y="{y0}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="{GREY}"/>',
    ]
    for t, height in enumerate(heights):
        x = x0 + 6 + t * (WIDTH - 12) / (FRAMES - 1)
        gone = np.isnan(height)
        y = y0 + HEIGHT - 8 - (0 if gone else height) * 39
        colour = GREY if t >= cut else (ORANGE if made_up[t] else BLUE)
        fill = "none" if gone or t >= cut else colour
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{fill}" stroke="{INK if gone else colour}"/>'
        )
    return "".join(parts)


def main() -> None:
    skeleton = layout("coco-17")
    hand, poses, always = skeleton.joints.index(HAND), walker(skeleton), FRAMES
    shown = ~np.isin(np.arange(FRAMES), EMPTY)
    whole = recording(poses, shown)
    nothing = np.zeros(FRAMES, bool)
    raw = np.where(shown, poses[:, hand, 1], np.nan)
    length = int(shown_frames(whole).sum())
    panels = [
        panel(0, "the file", "○ no body", raw, nothing, always),
        panel(1, "as-authors", f"the first L = {length}; grey: lost", raw, nothing, length),
    ]
    dropped = fill_frames(whole, "dropped").xyz[:, hand, 1]
    panels.append(panel(2, "dropped", "frames with a body only", dropped, nothing, always))
    for number, (policy, said) in enumerate((("held", "the last pose stays"), ("interpolated", "linear in time"))):
        heights = fill_frames(whole, policy).xyz[:, hand, 1]
        panels.append(panel(3 + number, policy, said, heights, ~shown, always))
    lost = poses.copy()
    lost[LOST, hand] = np.nan
    gaps = np.isin(np.arange(FRAMES), LOST)
    file = recording(lost, np.ones(FRAMES, bool))
    first = 2 * SECOND
    panels.append(panel(first, "the file", "○ hand not found", lost[:, hand, 1], nothing, always))
    for number, (policy, said) in enumerate(
        (("held", "its last position"), ("interpolated", "linear in time"), ("parent", "where the elbow is"))
    ):
        heights = fill_joints(file, skeleton, policy).xyz[:, hand, 1]
        panels.append(panel(first + 1 + number, policy, said, heights, gaps, always))
    width, height = 2 * LEFT + 2 * WIDTH + GAP, top(5) + 12
    heads = [
        (top(0), "empty_frames: height of a hand, frame by frame"),
        (top(SECOND), "missing_joints: orange is made up"),
    ]
    titles = "".join(f'<text x="{LEFT}" y="{y + 18}" class="h">{text}</text>' for y, text in heads)
    style = (
        f"text{{font-family:sans-serif;fill:{INK}}}.h{{font-size:14px;font-weight:bold}}"
        ".t{font-size:13px;font-weight:bold}.s{font-size:13px}"
    )
    Path(__file__).with_name("policies.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="white"/>{titles}{"".join(panels)}</svg>\n'
    )


if __name__ == "__main__":
    main()
