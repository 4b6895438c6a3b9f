"""Coloured timelines."""

from pathlib import Path

import numpy as np
import pytest

from skelpipe.train.evaluation.timeline_plot import Timeline, class_colours, draw_timelines


def pixels(path: Path) -> set[str]:
    """The colours of a picture, as #rrggbb."""
    image = pytest.importorskip("PIL.Image")
    rgb = np.asarray(image.open(path).convert("RGB")).astype(np.int64)
    return {f"#{colour:06x}" for colour in np.unique(rgb @ [65536, 256, 1]).tolist()}


def test_a_timeline_shows_the_classes_that_occur(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    labels = np.array([0] * 50 + [2] * 80 + [4] * 70)
    shown = [Timeline("a", labels, np.roll(labels, 9)), Timeline("b", labels[60:], np.zeros(140, np.int64))]
    names = ["background", "one", "two", "three", "four"]
    assert draw_timelines(shown, names, "title", tmp_path / "t.png")
    found = pixels(tmp_path / "t.png")
    assert [colour in found for colour in class_colours(5)] == [True, False, True, False, True]


def test_colours_of_52_classes_differ() -> None:
    colours = class_colours(52)
    assert len(set(colours)) == 52
    near = np.array([list(bytes.fromhex(colour[1:])) for colour in colours], float)
    gaps = np.abs(near[:, None] - near[None]).sum(2) + 999 * np.eye(52)
    assert gaps.min() > 12
