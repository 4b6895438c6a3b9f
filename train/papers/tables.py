"""The result tables of the papers as data, and as Markdown with reported and measured figures side by side.

Built-in papers are `papers/NAME.yaml`; a user's own file has the same form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from skelpipe.errors import UsageError
from skelpipe.files import MOST_READ, read_at_most
from skelpipe.untrusted import described
from skelpipe.views import VIEWS
from skelpipe.yaml_reader import parse_yaml

__all__ = [
    "DIGITS",
    "PERCENT",
    "PROTOCOLS",
    "Cell",
    "Measured",
    "Paper",
    "Table",
    "TableRow",
    "builtin_papers",
    "cells",
    "chosen_recipes",
    "latex",
    "load_paper",
    "markdown",
    "paper_figure",
]

PROTOCOLS: Mapping[str, tuple[str, ...]] = {  # the figures of each
    "knn": ("knn@20",),
    "linear": ("top1",),
    "finetune": ("top1",),
    "segment": ("acc", "macc", "fwiou", "miou"),
    "nmi": ("nmi",),  # from 0 to 1
    "cost": ("parameters", "gflops"),  # in millions, and in 10^9 operations
}
DIGITS: Mapping[str, int] = {"nmi": 4}  # of the measured figures; two of the others
PERCENT = ("knn", "linear", "finetune", "segment")  # protocols with figures from 0 to 100
CHECKPOINTS = ("last", "best")
ALL_STREAMS = "3s"
TABLE_KEYS = ("number", "section", "title", "protocol", "rows")
ROW_KEYS = (
    *("name", "stream", "figures", "recipe", "settings", "together"),
    *("protocol", "checkpoint", "heads", "frames", "options"),
)
DASH = "-"

Figures = Mapping[str, float]  # by name, in % where `PERCENT` has their protocol
Measured = Mapping[tuple[int, str], Figures]  # by the number of the row and the dataset


@dataclass(frozen=True)
class TableRow:
    """One row of a table: the paper's name for the method, its figures, and how to run it.

    `stream` is a view, views joined with `+`, or `3s`. `recipe` is the recipe of pre-training, None for training
    from scratch, and `settings` are the values to change in it. With `together` one run trains the networks of all
    views, with `heads` one linear evaluation all their classifiers. `options` are `name=value` options of the
    protocol's script, for a paper's own schedule. `figures` maps a dataset (`ntu60-xsub`) to the paper's figures
    by name; they are empty where the paper has none, and the row is run all the same, on the datasets of the table
    where it names none. `protocol` is the row's own, where it is not the table's; `checkpoint` is `best` where the
    paper takes the weights with the best kNN figure; `frames` are those of its clips, where the recipe does not
    say them.
    """

    name: str
    stream: str
    recipe: str | None
    figures: Mapping[str, Figures]
    settings: tuple[str, ...] = ()
    together: bool = False
    options: tuple[str, ...] = ()
    protocol: str | None = None
    checkpoint: str = "last"
    heads: bool = False
    frames: int | None = None

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the row needs; the scores of several are fused."""
        return ("joint", "bone", "motion") if self.stream == ALL_STREAMS else tuple(self.stream.split("+"))


@dataclass(frozen=True)
class Table:
    """A table of a paper: who reports it (`source`), its number and its section there.

    `fusion` holds the weights of the views for fused rows, `weights_of` says whose they are; `labels` is the share
    of the training labels. `pretrained` maps a dataset to the dataset of pre-training where that is another one.
    `recipe` is the paper's main one.
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
    weights_of: str = ""
    recipe: str = ""

    def protocol_of(self, row: TableRow) -> str:
        """Return the protocol that a row is evaluated by."""
        return row.protocol or self.protocol

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures of its rows."""
        return tuple(dict.fromkeys(name for row in self.rows for name in PROTOCOLS[self.protocol_of(row)]))

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
        return _builtin(name)
    try:
        text = read_at_most(Path(name), MOST_READ).decode()
    except (OSError, UnicodeDecodeError):
        known = ", ".join(builtin_papers())
        raise UsageError(f"there is no paper {name!r}: give the path of a YAML file or one of: {known}") from None
    return _parsed(text, name)


@cache
def _builtin(name: str) -> Paper:
    return _parsed(files("skelpipe.train").joinpath("papers", f"{name}.yaml").read_text("utf-8"), name)


def _parsed(text: str, name: str) -> Paper:
    content = parse_yaml(text, f"paper {name}")
    _require(content, ("name", "cite", "recipe", "fusion", "tables"), f"paper {name}")
    tables = {str(key): _table(str(key), table, content, name) for key, table in content["tables"].items()}
    return Paper(content["name"], content["cite"], (content["recipe"], *content.get("also", [])), tables)


def chosen_recipes(paper: Paper, table: Table, methods: Sequence[str]) -> Sequence[str | None] | None:
    """Return the recipes whose rows are run, None for all; UsageError for one that the table lacks.

    `supervised` is training from scratch.
    """
    if "all" in methods:
        return None
    known = list(dict.fromkeys(row.recipe or "supervised" for row in table.rows))
    if unknown := [name for name in methods if name not in known]:
        raise UsageError(f"table {table.key} has no method {unknown[0]}; it has: {', '.join(known)}, all")
    chosen = [*methods] or [name for name in known if name in paper.recipes] or known
    return [None if name == "supervised" else name for name in chosen]


def cells(table: Table, measured: Measured, datasets: Iterable[str]) -> list[Cell]:
    """Return the figures of these datasets, row by row."""
    found = []
    for number, row in enumerate(table.rows):
        for dataset in datasets:
            if dataset not in row.figures:
                continue
            for figure in PROTOCOLS[table.protocol_of(row)]:
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
    columns, lines = _lines(table, found)
    head = ["method", "stream", *(f"{name} {what}" for name in columns for what in ("paper", "measured"))]
    rows = [head, ["---", "---", *["---:"] * (2 * len(columns))], *lines]
    body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in rows)
    return f"{body}\n" if found else "no figures\n"


def latex(table: Table, found: Sequence[Cell], remarks: Sequence[str] = ()) -> str:
    """Return cells as a LaTeX table, with the rules of the package booktabs; `remarks` stand below it."""
    columns, lines = _lines(table, found)
    names = " & ".join(rf"\multicolumn{{2}}{{c}}{{{_escaped(name)}}}" for name in columns)
    rules = " ".join(rf"\cmidrule(lr){{{3 + 2 * i}-{4 + 2 * i}}}" for i in range(len(columns)))
    head = [
        rf"& & {names} \\",
        rules,
        rf"method & stream & {' & '.join(['paper & measured'] * len(columns))} \\",
    ]
    body = [rf"{' & '.join(map(_escaped, line))} \\" for line in lines]
    rows = [r"\toprule", *(head if columns else ["method & stream \\\\"]), r"\midrule", *body, r"\bottomrule"]
    below = [rf"\par\footnotesize {_escaped(remark)}" for remark in remarks]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(table.heading)}}}",
            rf"\begin{{tabular}}{{ll{'rr' * len(columns)}}}",
            *rows,
            r"\end{tabular}",
            *below,
            r"\end{table}",
            "",
        ]
    )


def _lines(table: Table, found: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, each of two, and the cells of each row as texts."""
    several = len(table.figures) > 1
    columns = list(dict.fromkeys((cell.dataset, cell.figure) for cell in found))
    at = {(cell.row, cell.dataset, cell.figure): cell for cell in found}
    lines = []
    for number in dict.fromkeys(cell.row for cell in found):
        row, line = table.rows[number], []
        digits = DIGITS.get(table.protocol_of(row), 2)
        for column in columns:
            cell = at.get((number, *column))
            line += [paper_figure(cell.paper, digits), _measured(cell, digits)] if cell else [DASH, DASH]
        lines.append([row.name, row.stream, *line])
    return [f"{dataset} {figure}" if several else dataset for dataset, figure in columns], lines


def paper_figure(value: float | None, digits: int = 2) -> str:
    """Return a paper's figure with as many digits as it has there, at most `digits`; a dash for None."""
    if value is None:
        return DASH
    return f"{value:.1f}" if round(value, 1) == round(value, digits) else f"{value:.{digits}f}"


def _measured(cell: Cell, digits: int) -> str:
    if cell.measured is None:
        return DASH
    better = cell.best is not None and round(cell.best, digits) > round(cell.measured, digits)
    return f"{cell.measured:.{digits}f}" + (f" ({cell.best:.{digits}f})" if better else "")


# `[` and `*` stand in braces: at the beginning of a row they would be arguments of the `\\` before it.
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"\dag{}"},
    **{"§": r"\S{}", "λ": r"$\lambda$", "μ": r"$\mu$", "[": "{[}", "*": "{*}", "<": "$<$", ">": "$>$", "|": "$|$"},
}


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _table(key: str, content: Any, paper: Mapping[str, Any], name: str) -> Table:
    where = f"paper {name}: table {key}"
    _require(content, TABLE_KEYS, where)
    protocol, labels = content["protocol"], content.get("labels", 1.0)
    if protocol not in PROTOCOLS:
        raise UsageError(f"{where}: unknown protocol {described(protocol)}; known: {', '.join(PROTOCOLS)}")
    if not isinstance(labels, int | float) or not 0 < labels <= 1:
        raise UsageError(f"{where}: labels must be a share above 0 and up to 1, not {described(labels)}")
    own = (paper["recipe"], *paper.get("also", []))
    mine = {
        "options": tuple(map(str, content.get("options", []))),
        "checkpoint": content.get("checkpoint", paper.get("checkpoint", "last")),
    }
    rows = []
    datasets = dict.fromkeys(str(name) for given in content["rows"] for name in _datasets(given))
    for number, given in enumerate(content["rows"], 1):
        row = _row(given, protocol, f"{where}: row {number}")
        row = row if row.figures else replace(row, figures={name: {} for name in datasets})
        usual = {key: value for key, value in mine.items() if row.recipe in own and key not in given}
        rows.append(_checked(replace(row, **usual), f"{where}: row {number}"))
    return Table(
        key,
        content.get("from", paper["cite"]),
        str(content["number"]),
        content["section"],
        content["title"],
        protocol,
        tuple(rows),
        {view: float(paper["fusion"][view]) for view in VIEWS},
        float(labels),
        content.get("pretrained", {}),
        content.get("notes", ""),
        paper.get("weights_of", paper["name"]),
        paper["recipe"],
    )


def _datasets(row: Any) -> Sequence[Any]:
    figures = row.get("figures") if isinstance(row, dict) else None
    return list(figures) if isinstance(figures, dict) else []


def _row(content: Any, protocol: str, where: str) -> TableRow:
    _require(content, ("name", "stream", "figures"), where)
    if unknown := [key for key in content if key not in ROW_KEYS]:
        raise UsageError(f"{where}: unknown key {described(unknown[0])}; known: {', '.join(ROW_KEYS)}")
    own = content.get("protocol", protocol)
    if own not in PROTOCOLS:
        raise UsageError(f"{where}: unknown protocol {described(own)}; known: {', '.join(PROTOCOLS)}")
    figures = {
        str(dataset): _figures(given, own, str(dataset), where) for dataset, given in content["figures"].items()
    }
    return TableRow(
        content["name"],
        content["stream"],
        content.get("recipe"),
        figures,
        tuple(map(str, content.get("settings", []))),
        content.get("together", False),
        tuple(map(str, content.get("options", []))),
        content.get("protocol"),
        content.get("checkpoint", "last"),
        content.get("heads", "apart") == "together",
        content.get("frames"),
    )


def _figures(given: Any, protocol: str, dataset: str, where: str) -> Figures:
    """Return the figures of a dataset by name; an empty value is a figure that the paper does not have."""
    if given is None:
        return {}
    named = given if isinstance(given, dict) else {PROTOCOLS[protocol][0]: given}
    most = 100 if protocol in PERCENT else 1 if protocol == "nmi" else float("inf")
    if not all(isinstance(value, int | float) and 0 <= value <= most for value in named.values()):
        limits = f"from 0 to {most}" if most <= 100 else "from 0 on"
        raise UsageError(f"{where}: figures of {dataset} must be numbers {limits}")
    if unknown := named.keys() - set(PROTOCOLS[protocol]):
        raise UsageError(f"{where}: {protocol} has no figure {', '.join(sorted(unknown))}")
    return {name: float(value) for name, value in named.items()}


def _checked(row: TableRow, where: str) -> TableRow:
    """Return the row; UsageError where one of its values is none of those that it may have."""
    if unknown := set(row.views) - set(VIEWS):
        raise UsageError(f"{where}: unknown stream {', '.join(sorted(unknown))}; known: {', '.join(VIEWS)}, 3s")
    if row.checkpoint not in CHECKPOINTS:
        raise UsageError(f"{where}: checkpoint is {described(row.checkpoint)}; known: {', '.join(CHECKPOINTS)}")
    if row.frames is not None and (not isinstance(row.frames, int) or row.frames < 2):
        raise UsageError(f"{where}: frames must be a whole number from 2, not {described(row.frames)}")
    return row


def _require(content: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(content, dict):
        raise UsageError(f"{where}: expected `key: value` lines")
    if missing := [key for key in keys if key not in content]:
        raise UsageError(f"{where}: missing: {', '.join(missing)}")
