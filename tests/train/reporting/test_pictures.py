"""The hardest classes and the clips that are drawn of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.report import write_report


def test_each_hardest_class_has_a_drawing_of_a_mistaken_clip(
    tiny_dataset: Dataset, folder: Path, read: Callable[[Path], Any], write_evaluation: Callable[..., np.ndarray]
) -> None:
    counts = write_evaluation(tiny_dataset, folder)
    page = read(folder)
    clips, right = counts.sum(axis=1), counts.diagonal()
    order = sorted(
        (k for k in range(len(clips)) if right[k] < clips[k]), key=lambda k: (right[k] / clips[k], -clips[k], k)
    )
    cards = [text for text in page.texts["article"] if "test clips" in text]
    assert [int(card.split(" ", 1)[0]) for card in cards] == order[:6]
    assert order, "the synthetic scores have no mistakes"
    assert all("predicted as" in card.split("test clips")[1] for card in cards)
    for card, label in zip(cards, order, strict=False):
        shown = re.search(r"(S\d{3}C\d{3}P\d{3}R\d{3}A(\d{3})): predicted as", card)
        assert shown is not None
        assert int(shown[2]) == label + 1  # the name of the recording contains its class
        assert shown[1] in tiny_dataset.ids("test")
        scores = pq.read_table(folder / "scores.parquet").to_pydict()
        wrong = [p for p, t in zip(scores["predicted"], scores["label"], strict=True) if t == label != p]
        mistake = card.split(": predicted as ")[1]
        assert mistake in {
            tiny_dataset.classes[k] for k in wrong if wrong.count(k) == max(map(wrong.count, wrong))
        }
    assert len(page.with_class("clip")) == len(cards)


def test_a_faultless_run_has_no_hardest_class(edit: Callable[..., Path], read: Callable[[Path], Any]) -> None:
    folder = edit()
    path = folder / "classes.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n0,drink water,3,3,100.0\n")
    (folder / "confusion.csv").write_text("class,0\n0,3\n")
    page = read(write_report(folder).parent)
    assert "article" not in page.texts
    assert "Most frequent confusions" not in page.texts["h3"]
    assert ["0 drink water", "3", "3", "100.0"] in page.rows


def test_without_the_dataset_there_is_advice_instead_of_drawings(own: Path, read: Callable[[Path], Any]) -> None:
    page = read(write_report(own).parent)
    assert not page.with_class("clip")
    assert any(f"python -m skelpipe.train.report {own}" in text for text in page.texts["p"])


def test_a_clip_that_was_not_evaluated_has_no_outcome(
    own: Path, tiny_dataset: Dataset, read: Callable[[Path], Any]
) -> None:
    """As for untrimmed videos, of which frames are evaluated and not clips."""
    (own / "scores.parquet").unlink()
    page = read(write_report(own, tiny_dataset).parent)
    cards = [text for text in page.texts["article"] if "test clips" in text]
    assert cards
    for card in cards:
        assert re.search(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}$", card)
    assert len(page.with_class("clip")) == len(cards)
