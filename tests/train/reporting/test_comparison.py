"""Figures beside the paper's, against the files that they are read from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.report import write_report


def test_an_evaluation_leaves_a_report_with_its_figures_beside_the_papers(
    folder: Path, read: Callable[[Path], Any]
) -> None:
    page = read(folder)
    figures = json.loads((folder / "result.json").read_text())["figures"]
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["top1"] == [f"{figures['top1']:.2f}", "74.30", f"{figures['top1'] - 74.3:+.2f}"]
    assert rows["top5"] == ["91.25", "", ""]
    assert rows["chance"] == ["33.25", "", ""]
    assert page.texts["h1"] == ["Linear on ntu60-xsub (joint)"]
    assert "on all 40,091 + 16,487 clips, which this dataset does not have" in "".join(page.texts["p"])


def test_the_papers_table_has_this_run_in_its_cell(folder: Path, read: Callable[[Path], Any]) -> None:
    """Table 2 of AimCLR: four streams; the run is the joint one of NTU-60 xsub."""
    page = read(folder)
    top1 = json.loads((folder / "result.json").read_text())["figures"]["top1"]
    found = [row for row in page.rows if row[:1] in (["AimCLR"], ["3s-AimCLR"])]
    assert found == [
        ["AimCLR", "joint", f"74.3 {top1:.2f}", "79.7", "83.4", "63.4", "63.4"],
        ["AimCLR", "motion", "66.8", "70.6", "72.0", "57.3", "54.4"],
        ["AimCLR", "bone", "73.2", "77.0", "82.0", "62.9", "63.4"],
        ["3s-AimCLR", "3s", "78.9", "83.8", "87.8", "68.2", "68.8"],
    ]
    assert len(page.with_class("here")) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"reported": None}, []),  # of a random network, or a recipe of one's own
        ({"what": "my-method, 3 epochs"}, []),
        ({"view": "joint+bone+motion", "reported": {"top1": 78.9}}, ["3s"]),
        ({"view": "bone", "reported": {"top1": 73.2}}, ["bone"]),
        ({"view": "bone", "reported": {"top1": 99.0}}, [""]),  # not this table's figure: nothing is marked
    ],
)
def test_only_the_cell_that_the_run_is_compared_with_is_marked(
    tiny_dataset: Dataset,
    edit: Callable[..., Path],
    more: dict[str, Any],
    expected: list[str],
    read: Callable[[Path], Any],
) -> None:
    page = read(write_report(edit(**more)).parent)
    marked = [row[1] for row in page.rows if row[:1] in (["AimCLR"], ["3s-AimCLR"]) and any(" " in c for c in row)]
    assert marked == [name for name in expected if name]
    assert any("The paper's table" in text for text in page.texts["h3"]) == bool(expected)


def test_fusions_are_listed(edit: Callable[..., Path], read: Callable[[Path], Any]) -> None:
    entry = {"figures": {"top1": 50.0}}
    folder = edit(
        streams=[{"view": "joint", **entry}, {"view": "bone", **entry}],
        fusions=[{"name": "given", "weights": [0.6, 1], "counts": True, "figures": {"top1": 61.5}}],
    )
    rows = read(write_report(folder).parent).rows
    assert ["joint", "50.00", ""] in rows
    assert ["0.6:1 given", "61.50", "counts"] in rows
