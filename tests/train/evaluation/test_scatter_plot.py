"""The picture of an embedding: its axes and what stands beside them."""

from pathlib import Path

import numpy as np
import pytest

from skelpipe.train.evaluation.scatter_plot import draw_scatter


@pytest.mark.parametrize("extent", [(1.0, 30.0), (30.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_axes_stay_wide_whatever_the_places(extent: tuple[float, float], tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    places = np.random.default_rng(0).uniform(-1, 1, size=(60, 2)) * extent
    assert draw_scatter(places, np.arange(60) % 3, ["a", "b", "c"], "title", tmp_path / "p.png")
    pixels = np.round(image.imread(tmp_path / "p.png")[..., :3] * 255).astype(int)
    height, width = pixels.shape[:2]
    frame = (pixels == 0xCC).all(axis=2)  # the colour of the spines
    rows = np.flatnonzero(frame.sum(axis=1) > 0.3 * width)
    columns = np.flatnonzero(frame.sum(axis=0) > 0.3 * height)
    assert columns[-1] - columns[0] > 0.5 * width
    assert rows[-1] - rows[0] > 0.5 * height
    beside = (pixels < 100).all(axis=2)[:, columns[-1] + 2 :]  # the dark text of the legend
    first = np.flatnonzero(beside[rows[0] - 5 :].any(axis=1))[0]
    assert first < 40  # pixels below the upper edge of the axes
