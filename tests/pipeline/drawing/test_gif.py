"""GIFs are opened, and the pixels of their pictures are checked."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.drawing.colours import part_colours
from skelpipe.drawing.gif import frame_times, write_gif
from skelpipe.drawing.page import page
from skelpipe.drawing.scene import Panel, Scene
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
FACTS = {name: f"the {name}" for name in ("dataset", "view", "frames", "bodies", "units")}


def where(image: np.ndarray, colour: str) -> np.ndarray:
    """The columns of the drawings, not the legend, that have exactly this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.flatnonzero((image[100:-70] == rgb).all(axis=2).any(axis=0))


def test_gif_has_every_frame_at_the_true_rate_in_the_parts_colours(run, raw_file, frames, gif_frames) -> None:
    assert run(raw_file, "--out", "clip.gif", "--json").exit_code == 0
    images, times = gif_frames(raw_file.parent / "clip.gif")
    assert len(images) == len(frames)
    assert sum(times) == 300  # ms, 9 frames at 30 per second
    assert all(len(where(images[0], colour)) for colour in part_colours(KINECT).values())
    assert not any(
        len(where(images[6], colour)) for colour in part_colours(KINECT).values() if colour != "#808080"
    )
    assert (images[0] == 255).all(axis=2).mean() > 0.8
    assert all((a != b).any() for a, b in pairwise(images))


@pytest.mark.parametrize("depth", [1.0, 0.0])
def test_gif_is_seen_from_the_camera(tmp_path, depth, gif_frames) -> None:
    """When a person faces the camera, the right arm has the larger x and is at the left of the picture."""
    points = np.zeros((1, 2, 25, 3))
    for part, x in (("left arm", -1.0), ("right arm", 1.0)):
        for n, v in enumerate(KINECT.parts[part]):
            points[0, :, v] = x * (0.3 + 0.1 * n), 0.0, depth * n * 0.1
    for v in (*KINECT.parts["left leg"], *KINECT.parts["right leg"]):
        points[0, :, v] = 0, -1, 0
    write_gif(
        Scene("a", "b", FACTS, KINECT, 10, (Panel("", ("body 1",), points),)), tmp_path / "a.gif", quiet=True
    )
    (image, _), _ = gif_frames(tmp_path / "a.gif")
    left, right = (where(image, part_colours(KINECT)[part]).min() for part in ("left arm", "right arm"))
    assert (right < left) == (depth > 0)  # a picture without depth has x to the right


def test_gif_of_motion_and_of_two_panels(tmp_path, read_page, make_scene, gif_frames) -> None:
    single = make_scene(frames=3, bodies=2, moving=True)
    write_gif(single, tmp_path / "one.gif", quiet=True)
    pair = (Panel("before", *_rest(single)), Panel("after", *_rest(single)))
    double = Scene("a", "b", FACTS, KINECT, 30, pair)
    write_gif(double, tmp_path / "two.gif", quiet=True)
    (one, *_), (two, *_) = gif_frames(tmp_path / "one.gif")[0], gif_frames(tmp_path / "two.gif")[0]
    assert two.shape[0] > 1.5 * one.shape[0]
    assert two.shape[1] == one.shape[1]
    assert [panel["caption"] for panel in read_page(page(double)).clip["panels"]] == ["before", "after"]
    limbs = list(part_colours(KINECT).values())[1:]
    assert all(len(where(one, colour)) for colour in limbs)  # of the arrows: the body behind them is faint
    still = Panel("", single.panels[0].bodies, single.panels[0].points, 0 * single.panels[0].points)
    write_gif(Scene("a", "b", FACTS, KINECT, 30, (still,)), tmp_path / "still.gif", quiet=True)
    (image, *_), _ = gif_frames(tmp_path / "still.gif")
    assert not any(len(where(image, colour)) for colour in limbs)


def _rest(scene: Scene) -> tuple:
    panel = scene.panels[0]
    return panel.bodies, panel.points, panel.arrows


@given(st.integers(1, 400), st.sampled_from([10.0, 15.0, 20.0, 25.0, 29.97, 30.0]))
def test_frame_times_keep_to_the_rate(count, rate) -> None:
    times = frame_times(count, rate)
    assert len(times) == count
    assert all(time % 10 == 0 and time >= 20 for time in times)
    assert abs(sum(times) - 1000 * count / rate) <= 5


def test_missing_matplotlib_and_too_many_frames_are_named(tmp_path, monkeypatch, make_scene) -> None:
    with pytest.raises(UsageError, match=r"1,200 frames are too many for a GIF: write a page"):
        write_gif(make_scene(frames=1200), tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'skelpipe\[plot\]'"):
        write_gif(make_scene(), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
