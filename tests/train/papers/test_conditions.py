"""Conditions of the papers' figures: each that does not hold is said, wherever a figure is shown."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from skelpipe.dataset import Dataset
from skelpipe.train.papers.conditions import facts_of, frames_of, remarks
from skelpipe.train.papers.references import Reference
from skelpipe.train.papers.reported import remarks_on, reported, reported_knn, reported_text
from skelpipe.train.papers.tables import load_paper
from skelpipe.train.recipes.reader import load_recipe
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.networks import find_weights, read_provenance

WHOLE = {"clips": {"train": 40091, "test": 16487}, "here": {"train": 40091, "test": 16487}, "complete": True}


def test_frames_are_those_of_the_row() -> None:
    """Section 4.2 of SkeAttnCLR and IV of SkeleMixCLR: 64 frames; AimCLR and what it cites: 50."""
    table = load_paper("skeattnclr").table("linear")
    found = {row.name: frames_of(table, row) for row in table.rows}
    assert found == {
        **{"SkeletonCLR": 50, "SkeletonCLR*": 64, "SkeAttnCLR": 64},
        **{"3s-SkeletonCLR": 50, "3s-SkeletonCLR*": 64, "3s-SkeAttnCLR": 64},
    }
    for paper, frames in (("aimclr", 50), ("skelemixclr", 64)):  # from scratch: the paper's own
        table = load_paper(paper).table("finetune")
        assert {frames_of(table, row) for row in table.rows if row.recipe is None} == {frames}


def test_every_condition_that_does_not_hold_is_a_remark(tiny_dataset: Dataset) -> None:
    facts = facts_of(tiny_dataset)
    assert remarks(facts, 50) == [
        "on all 40,091 + 16,487 clips, which this dataset does not have: it has 24 + 24",
        "with 50 frames per clip, here 8",
    ]
    assert remarks({**WHOLE, "frames": 50}, 50) == []
    assert remarks({**WHOLE, "frames": 64}, 50) == ["with 50 frames per clip, here 64"]
    assert remarks({"frames": 50}, 50) == ["whether this dataset has the paper's clips is not known"]
    assert remarks({"clips": WHOLE["clips"], "complete": True}, 50) == []  # as earlier versions wrote them


@pytest.mark.parametrize(
    ("recipe", "protocol", "stream"),
    [
        ("aimclr", "linear", "joint"),
        ("skeattnclr", "knn", "joint"),
        ("skelemixclr", "finetune", "bone"),
        ("crosclr", "nmi", "3s"),
    ],
)
def test_no_figure_is_shown_without_its_remarks(
    tiny_dataset: Dataset, recipe: str, protocol: str, stream: str
) -> None:
    where = {"dataset": "ntu60-xsub", "stream": stream, "trained_on": "ntu60-xsub"}
    found = reported(Reference.of_recipe(load_recipe(recipe), protocol, **where), tiny_dataset, ["one more"])
    assert found is not None
    assert remarks_on(found)[:1] == [
        "on all 40,091 + 16,487 clips, which this dataset does not have: it has 24 + 24"
    ]
    assert remarks_on(found)[2:] == ["one more"]
    figure = "nmi" if protocol == "nmi" else "knn@20" if protocol == "knn" else "top1"
    text = reported_text({"reported": found}, figure)
    assert text.endswith("; one more)")
    assert ("0.6668 (" in text) == (protocol == "nmi")


def test_a_pre_trainings_report_has_the_remarks(
    finished: Path, tiny_dataset: Dataset, read_report: Callable[[Path], str]
) -> None:
    text = read_report(finished)
    assert "60.70" in text
    assert "on all 40,091 + 16,487 clips, which this dataset does not have: it has 24 + 24; with 50 frames" in text
    assert "dashed: the paper, under other conditions (see Figures), 60.7" in text
    changed = "; trained by recipe skeletonclr, here with other epochs, batch_size, optimiser.milestones and "
    assert changed in text
    provenance, _ = read_provenance(finished / "encoder.safetensors")
    line = reported_text({"reported": reported_knn(provenance, tiny_dataset)}, "knn@20")  # printed by pretrain.py
    assert "reported 60.7 %" in line
    assert changed in line


@pytest.fixture
def read_report(tiny_dataset: Dataset, tmp_path: Path) -> Callable[[Path], str]:
    """The text of the report of a copy of a run."""

    def read(folder: Path) -> str:
        copy = shutil.copytree(folder, tmp_path / "copy")
        return re.sub(r"<[^>]+>", "", write_report(copy, tiny_dataset).read_text("utf-8"))

    return read


def test_the_best_weights_are_kept(finished: Path, tiny_dataset: Dataset, tmp_path: Path,
                                   pretrain_small: Callable[..., Result]) -> None:  # fmt: skip
    """Measured every third of six epochs: the weights at the highest kNN figure, bit-identical after a resume."""
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    measured: dict[int, Any] = {line["epoch"]: line["knn@20"] for line in log if "knn@20" in line}
    best = max(measured, key=lambda epoch: (measured[epoch], -epoch))
    weights = find_weights(str(finished / "best"))
    assert read_provenance(weights)[1] == best
    if best == 6:
        assert weights.read_bytes() == (finished / "encoder.safetensors").read_bytes()
    again = Path(shutil.copytree(finished, tmp_path / "again"))
    (again / "checkpoints" / "epoch-0006.pt").unlink()  # as if the run had been killed before it was written
    if best > 4:
        shutil.rmtree(again / "best")
    options = ("--epochs", "6", "--save-every", "2", "--knn-every", "3", "--resume")
    assert pretrain_small(tiny_dataset, again, *options).exit_code == 0
    assert find_weights(str(again / "best")).read_bytes() == weights.read_bytes()
