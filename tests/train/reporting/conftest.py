"""A finished evaluation, and a parser of its report."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.outcome import Scores, write_outcome
from skelpipe.train.reporting.report import write_report


class Page(HTMLParser):
    """Tags in order, the text inside each element by its tag, and the rows of all tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "br", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


@pytest.fixture(scope="session")
def write_evaluation() -> Callable[..., np.ndarray]:
    """Write the evaluation of synthetic scores; return their confusion matrix, counted one by one."""

    def write(dataset: Dataset, folder: Path, seed: int = 0, **more: Any) -> np.ndarray:
        labels, classes = dataset.labels("test"), list(dataset.classes)
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(len(labels), len(classes))).astype(np.float32)
        scores[np.arange(len(labels)), labels] += 2
        about = {
            "protocol": "linear",
            "dataset": "ntu60-xsub",
            "digest": dataset.digest,
            "split": "test",
            "view": "joint",
            "what": "aimclr, 300 epochs on ntu60-xsub",
            "classes": json.dumps(classes),
        }
        counts = np.zeros((len(classes), len(classes)), int)
        for truth, row in zip(labels, scores, strict=True):
            counts[truth, max(range(len(classes)), key=lambda k: (row[k], -k))] += 1
        result = {
            **{name: about[name] for name in ("protocol", "dataset", "digest", "split", "view", "what")},
            "figures": {"top1": 100 * counts.trace() / counts.sum(), "top5": 91.25, "best_top1": 77.5},
            "chance": 33.25,
            "trained_on": "ntu60-xsub",
            "reported": {"top1": 74.3, "source": "AimCLR, table 2", "clips": {"train": 40091, "test": 16487}},
            "labels": 1.0,
            **more,
        }
        result["reported"] = result["reported"] and {**result["reported"], "complete": False}
        log = [{"epoch": e, "loss": 3 / e, "lr": 3.0, "top1": 10.0 * e} for e in (1, 2, 3, 4)]
        folder.mkdir(parents=True, exist_ok=True)
        scored = Scores(dataset.ids("test"), labels, scores, about)
        write_outcome(folder, scored, result, log=log, settings={"epochs": 4, "optimiser": {"lr": 3.0}})
        write_report(folder, dataset)
        return counts

    return write


@pytest.fixture(scope="session")
def folder(
    tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, write_evaluation: Callable[..., np.ndarray]
) -> Path:
    """A finished evaluation, not to be changed."""
    path = tmp_path_factory.mktemp("evaluation") / "linear-run"
    write_evaluation(tiny_dataset, path)
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished evaluation, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture
def edit(own: Path) -> Callable[..., Path]:
    """Change a JSON file of the copy by a mapping."""

    def change(**values: Any) -> Path:
        path = own / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return own

    return change


@pytest.fixture(scope="session")
def read() -> Callable[[Path], Page]:
    """Parse the report in a folder."""
    return lambda folder: Page((folder / "report.html").read_text("utf-8"))
