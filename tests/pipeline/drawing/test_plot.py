"""Figures show names as they are written."""

import warnings
from pathlib import Path

from skelpipe.drawing.plot import new_figure, save_figure


def test_names_are_no_formulas_and_have_no_control_characters(tmp_path: Path) -> None:
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_title("costs $\\nothing$ and $5")  # as a formula an error
    axes.plot([0, 1], label="a\x1b[2Jb")
    axes.legend()
    with warnings.catch_warnings(action="error"):  # that a font has no such character
        save_figure(figure, tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text("utf-8")
    assert "<!-- costs $\\nothing$ and $5 -->" in text
    assert "<!-- a\\x1b[2Jb -->" in text
