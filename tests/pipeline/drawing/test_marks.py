"""Marked joints have rings, in GIFs and in pages, and the legend says what they mean."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.drawing.gif import write_gif
from skelpipe.drawing.page import page
from skelpipe.drawing.scene import Panel, Scene
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def marked_scene(make_scene: Any, marked: bool) -> Scene:
    plain = make_scene(frames=2)
    panel = plain.panels[0]
    marks = np.zeros(panel.points.shape[:3], bool)
    marks[:, 0, [3, 11]] = marked
    ring = Panel("after", panel.bodies, panel.points, None, marks, "in the region")
    return Scene(
        "a", "b", {**plain.facts, "1 crop": "start 5"}, KINECT, 30, (Panel("before", *panel_of(plain)), ring)
    )


def panel_of(scene: Scene) -> tuple:
    return scene.panels[0].bodies, scene.panels[0].points


def test_marks_are_rings_in_a_gif(tmp_path: Path, make_scene: Any, gif_frames: Any) -> None:
    images = {}
    for marked in (True, False):
        write_gif(marked_scene(make_scene, marked), tmp_path / "a.gif", quiet=True)
        images[marked] = gif_frames(tmp_path / "a.gif")[0]
    changed = [(a != b).any(axis=2) for a, b in zip(images[True], images[False], strict=True)]
    height = changed[0].shape[0]
    assert changed[0][height // 2 :].sum() > 100
    red, green, blue = images[True][0][changed[0]].astype(int).T
    assert ((red > 180) & (green < 60) & (abs(blue - 127) < 40)).sum() > 40  # in a colour of no body part
    assert not changed[0][: height // 2].any()  # nothing is marked before
    assert not changed[1].any()  # nor in the second frame


def test_marks_are_in_the_legend_of_a_page(tmp_path: Path, make_scene: Any) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser is installed")
    (tmp_path / "clip.html").write_text(page(marked_scene(make_scene, True)), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--force-prefers-reduced-motion", "--dump-dom"]
    done = subprocess.run(
        [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "clip.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert '<span class="ring"></span>in the region</li>' in done.stdout
    assert "<figcaption>after</figcaption>" in done.stdout
