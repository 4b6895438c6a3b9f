"""The result tables of the papers as data, and as Markdown with reported and measured figures side by side.

Built-in papers are `papers/NAME.yaml`; a user's own file has the same form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from skelpipe.errors import UsageError
from skelpipe.views import VIEWS
from skelpipe.yaml_reader import parse_yaml

__all__ = [
    "PROTOCOLS",
    "Cell",
    "Measured",
    "Paper",
    "Table",
    "TableRow",
    "builtin_papers",
    "cells",
    "load_paper",
    "markdown",
]

PROTOCOLS: Mapping[str, tuple[str, ...]] = {  # the figures of each
    "knn": ("knn@20",),
    "linear": ("top1",),
    "finetune": ("top1",),
    "segment": ("acc", "macc", "fwiou", "miou"),
}
ALL_STREAMS = "3s"
TABLE_KEYS = ("number", "section", "title", "protocol", "rows")
DASH = "-"

Figures = Mapping[str, float]  # by name, in %
Measured = Mapping[tuple[int, str], Figures]  # by the number of the row and the dataset


@dataclass(frozen=True)
class TableRow:
    """One row of a table: the paper's name for the method, its figures, and how to run it.

    `stream` is a view, views joined with `+`, or `3s`. `recipe` is the recipe of pre-training, None for training
    from scratch, and `settings` are the values to change in it. With `together` one run trains the networks of all
    views. `options` are `name=value` options of the protocol's script, for a paper's own schedule. `figures` maps
    a dataset (`ntu60-xsub`) to the paper's figures by name.
    """

    name: str
    stream: str
    recipe: str | None
    figures: Mapping[str, Figures]
    settings: tuple[str, ...] = ()
    together: bool = False
    options: tuple[str, ...] = ()

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the row needs; the scores of several are fused."""
        return ("joint", "bone", "motion") if self.stream == ALL_STREAMS else tuple(self.stream.split("+"))


@dataclass(frozen=True)
class Table:
    """A table of a paper: who reports it (`source`), its number and its section there.

    `fusion` holds the weights of the views for fused rows, `labels` is the share of the training labels.
    `pretrained` maps a dataset to the dataset of pre-training where that is another one.
    """

    key: str
    source: str
    number: str
    section: str
    title: str
    protocol: str
    rows: tuple[TableRow, ...]
    fusion: Mapping[str, float]
    labels: float = 1.0
    pretrained: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets in the order of the table's columns."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.figures))

    @property
    def heading(self) -> str:
        return f"{self.source}, table {self.number} ({self.section}): {self.title}"


@dataclass(frozen=True)
class Paper:
    """A paper: the recipes of its own method, the main one first, and its tables by key."""

    name: str
    cite: str
    recipes: tuple[str, ...]
    tables: Mapping[str, Table]

    def table(self, key: str) -> Table:
        """Return the table with this key; UsageError that lists all keys if there is none."""
        if key not in self.tables:
            raise UsageError(f"{self.name} has no table {key!r}; known: {', '.join(self.tables)}")
        return self.tables[key]


@dataclass(frozen=True)
class Cell:
    """One figure of a table: the paper's, the measured one and the best of any epoch; None where there is none."""

    row: int
    name: str
    stream: str
    dataset: str
    figure: str
    paper: float | None
    measured: float | None
    best: float | None = None


def builtin_papers() -> list[str]:
    """Return the names of the papers whose tables are part of the package."""
    folder = files("skelpipe.train").joinpath("papers")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_paper(name: str) -> Paper:
    """Load a built-in paper by name, or another by the path of its YAML file; UsageError says what is wrong."""
    if name in builtin_papers():
        text = files("skelpipe.train").joinpath("papers", f"{name}.yaml").read_text("utf-8")
    else:
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            known = ", ".join(builtin_papers())
            raise UsageError(
                f"there is no paper {name!r}: give the path of a YAML file or one of: {known}"
            ) from None
    content = parse_yaml(text, f"paper {name}")
    _require(content, ("name", "cite", "recipe", "fusion", "tables"), f"paper {name}")
    tables = {str(key): _table(str(key), table, content, name) for key, table in content["tables"].items()}
    return Paper(content["name"], content["cite"], (content["recipe"], *content.get("also", [])), tables)


def cells(table: Table, measured: Measured, datasets: Iterable[str]) -> list[Cell]:
    """Return the figures of these datasets, row by row."""
    found = []
    for number, row in enumerate(table.rows):
        for dataset in datasets:
            for figure in PROTOCOLS[table.protocol]:
                reported = row.figures.get(dataset, {}).get(figure)
                here = measured.get((number, dataset), {})
                value, best = here.get(figure), here.get(f"best_{figure}")
                if reported is not None or value is not None:
                    found.append(Cell(number, row.name, row.stream, dataset, figure, reported, value, best))
    return found


def markdown(table: Table, found: Sequence[Cell]) -> str:
    """Return cells as a Markdown table: for each dataset the paper's and the measured figures side by side.

    The best figure of an evaluation stands in brackets if it is of an earlier epoch than the last.
    """
    several = len(PROTOCOLS[table.protocol]) > 1
    columns = list(dict.fromkeys((cell.dataset, cell.figure) for cell in found))
    heads = [f"{dataset} {figure}" if several else dataset for dataset, figure in columns]
    head = ["method", "stream", *(f"{name} {what}" for name in heads for what in ("paper", "measured"))]
    lines = [head, ["---", "---", *["---:"] * (2 * len(columns))]]
    at = {(cell.row, cell.dataset, cell.figure): cell for cell in found}
    for number in dict.fromkeys(cell.row for cell in found):
        row, line = table.rows[number], []
        for column in columns:
            cell = at.get((number, *column))
            line += [_figure(cell.paper), _measured(cell)] if cell else [DASH, DASH]
        lines.append([row.name, row.stream, *line])
    body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    return f"{body}\n" if found else "no figures\n"


def _figure(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}" if round(value, 1) == round(value, 2) else f"{value:.2f}"


def _measured(cell: Cell) -> str:
    if cell.measured is None:
        return DASH
    better = cell.best is not None and round(cell.best, 2) > round(cell.measured, 2)
    return f"{cell.measured:.2f}" + (f" ({cell.best:.2f})" if better else "")


def _table(key: str, content: Any, paper: Mapping[str, Any], name: str) -> Table:
    where = f"paper {name}: table {key}"
    _require(content, TABLE_KEYS, where)
    protocol, labels = content["protocol"], content.get("labels", 1.0)
    if protocol not in PROTOCOLS:
        raise UsageError(f"{where}: unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    if not isinstance(labels, int | float) or not 0 < labels <= 1:
        raise UsageError(f"{where}: labels must be a share above 0 and up to 1, not {labels!r}")
    own = (paper["recipe"], *paper.get("also", []))
    options = tuple(map(str, content.get("options", [])))
    rows = tuple(_row(row, protocol, f"{where}: row {number}") for number, row in enumerate(content["rows"], 1))
    rows = tuple(replace(row, options=options) if row.recipe in own else row for row in rows)
    return Table(
        key,
        content.get("from", paper["cite"]),
        str(content["number"]),
        content["section"],
        content["title"],
        protocol,
        rows,
        {view: float(paper["fusion"][view]) for view in VIEWS},
        float(labels),
        content.get("pretrained", {}),
        content.get("notes", ""),
    )


def _row(content: Any, protocol: str, where: str) -> TableRow:
    _require(content, ("name", "stream", "figures"), where)
    figures = {}
    for dataset, given in content["figures"].items():
        named = given if isinstance(given, dict) else {PROTOCOLS[protocol][0]: given}
        if not all(isinstance(value, int | float) and 0 <= value <= 100 for value in named.values()):
            raise UsageError(f"{where}: figures of {dataset} must be numbers from 0 to 100")
        if unknown := named.keys() - set(PROTOCOLS[protocol]):
            raise UsageError(f"{where}: {protocol} has no figure {', '.join(sorted(unknown))}")
        figures[str(dataset)] = {name: float(value) for name, value in named.items()}
    settings = tuple(map(str, content.get("settings", [])))
    row = TableRow(
        content["name"],
        content["stream"],
        content.get("recipe"),
        figures,
        settings,
        content.get("together", False),
    )
    if unknown := set(row.views) - set(VIEWS):
        raise UsageError(f"{where}: unknown stream {', '.join(sorted(unknown))}; known: {', '.join(VIEWS)}, 3s")
    return row


def _require(content: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(content, dict):
        raise UsageError(f"{where}: expected `key: value` lines")
    if missing := [key for key in keys if key not in content]:
        raise UsageError(f"{where}: missing: {', '.join(missing)}")
