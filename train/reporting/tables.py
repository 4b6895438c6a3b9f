"""What a run was, as tables: dataset, settings and log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.settings import flat, nested
from skelpipe.train.reporting.charts import number
from skelpipe.train.reporting.markup import Markup, el
from skelpipe.train.reporting.record import Record
from skelpipe.train.running.provenance import dataset_name

__all__ = ["log_table", "pretraining_table", "run_table", "settings_table", "table"]

# Keys of result.json that other sections show.
SHOWN_ELSEWHERE = ("background", "chance", "classes", "figures", "fusions", "reported", "streams")
FULL_LOG = 1000  # records up to which the whole log is in the page


def run_table(record: Record, dataset: Dataset | None) -> Markup:
    """Return what identifies the run: dataset, digest, view and everything else in its result."""
    values: dict[str, Any] = {}
    if record.provenance is not None:
        provenance = record.provenance
        values |= {"epochs done": record.epochs, **nested(provenance.clips)}
        values |= {"view": provenance.view, "seed": provenance.seed}
    result = flat(record.result)
    values |= {key: value for key, value in result.items() if key.split(".")[0] not in SHOWN_ELSEWHERE}
    if dataset is not None:
        sizes = (f"{dataset.count(subset):,} {subset}ing" for subset in ("train", "test"))
        values |= {
            "dataset": dataset_name(dataset),
            "digest": dataset.digest,
            "clips of the dataset": " and ".join(sizes),
            "shape": " x ".join(map(str, dataset.shape)),
            "preprocessing": dataset.profile,
        }
    return table(("", ""), ((name, _text(value)) for name, value in values.items()), class_="facts")


def settings_table(record: Record) -> Markup | None:
    """Return recipe.yaml, one row per value."""
    values = {key: value for key, value in flat(record.settings).items() if key.split(".")[0] != "reported"}
    return _settings(values) if values else None


def pretraining_table(record: Record) -> Markup | None:
    """Return the recipe that the evaluated weights were pre-trained by, one row per value."""
    return None if record.pretraining is None else _settings(flat(record.pretraining.content()))


def log_table(record: Record) -> Markup | None:
    """Return the log, one row per epoch; of a long log only every second, third, ... epoch."""
    step = len(record.log) // FULL_LOG + 1
    log = record.log[::step]
    names = list(dict.fromkeys(name for line in log for name in line))
    rows = ([_number(line.get(name)) for name in names] for line in log)
    return table(names, rows, class_="numbers") if log else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]], class_: str | None = None) -> Markup:
    """Return a table that scrolls sideways if it is too wide; the first cell of each row is its heading."""
    lines = [el("tr", el("th", row[0], scope="row"), *(el("td", text) for text in row[1:])) for row in rows]
    top = el("thead", el("tr", *(el("th", name, scope="col") for name in head))) if any(head) else None
    return el("div", el("table", top, el("tbody", *lines), class_=class_), class_="scroll", tabindex="0")


def _settings(values: Mapping[str, object]) -> Markup:
    return table(("key", "value"), ((key, _text(value)) for key, value in values.items()))


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    return number(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
