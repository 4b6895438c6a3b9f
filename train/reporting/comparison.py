"""The figures of a run, beside what the papers report."""

from collections.abc import Mapping, Sequence
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.papers.reported import remarks_on, reported_knn
from skelpipe.train.papers.tables import PROTOCOLS, Cell, Table, builtin_papers, cells, load_paper
from skelpipe.train.reporting.markup import Markup, el
from skelpipe.train.reporting.record import Record
from skelpipe.train.reporting.tables import table

__all__ = ["figures", "paper_table", "papers_figures"]


def figures(record: Record, dataset: Dataset | None = None) -> Markup | None:
    """Return the figures of a run with the paper's beside them, chance below, and the fused streams.

    `dataset` is the run's own, where it is at hand.
    """
    found: Mapping[str, Any] = record.result.get("figures") or _last_knn(record)
    if not found:
        return None
    reported = papers_figures(record, dataset)
    rows, percent = [], not any(name.startswith("nmi") for name in found)
    for name, value in sorted(found.items(), key=lambda item: _place(item[0])):
        paper = reported.get(name.removeprefix("best_"))  # papers report the best epoch on the test clips
        gap = f"{value - paper:+.{2 if percent else 4}f}" if isinstance(paper, int | float) else ""
        rows.append((name, _figure(value, 2 if percent else 4), _figure(paper, 2 if percent else 4), gap))
    for key, words in (("chance", "chance"), ("background", "acc of predicting only background")):
        if isinstance(floor := record.result.get(key), int | float):
            rows.append((words, _figure(floor), "", ""))
    unit, wide = ", %" if percent else "", 4 if any(row[2] for row in rows) else 2
    head = ("figure", f"measured{unit}", f"paper{unit}", "difference")
    body = table(head[:wide], (row[:wide] for row in rows), class_="numbers first headline")
    return el("div", body, _source(reported), _fusions(record))


def paper_table(record: Record, dataset: str, view: str, here: Dataset | None = None) -> Markup | None:
    """Return the rows of the method in its own paper's table of this protocol, with this run's figures in them.

    `dataset` is the name of the run's dataset, `here` the dataset itself, where it is at hand.

    Of several tables it is the first with a figure for this dataset and stream, else the first. Return None for a
    run that no figure of a paper applies to, such as one of a random network or of a user's own recipe.
    """
    if not (record.recipe.reported if record.recipe else record.result.get("reported")):
        return None
    found = [(*pair, _own_rows(*pair, record, dataset, view)) for pair in _tables_of(_method(record), record)]
    if not found:
        return None
    chosen, rows, own = next((each for each in found if each[2]), found[0])
    return _rows_with_run(chosen, rows, own, record, dataset, here)


def papers_figures(record: Record, dataset: Dataset | None = None) -> Mapping[str, Any]:
    """Return what the papers report for a run, as `reported` does; nothing where they report nothing.

    For a pre-training it is what they report for its nearest neighbours.
    """
    if record.is_evaluation or record.provenance is None:
        return record.result.get("reported") or {}
    return reported_knn(record.provenance, dataset) or {}


def _fusions(record: Record) -> Markup | None:
    """Return the figures of the fused streams, and those of each set of weights."""
    entries = [*record.result.get("streams", []), *record.result.get("fusions", [])]
    if not entries:
        return None
    names = list(dict.fromkeys(name for entry in entries for name in entry["figures"]))
    rows = []
    for entry in entries:
        weights = ":".join(f"{weight:g}" for weight in entry.get("weights", []))
        title = " ".join(filter(None, (weights, entry.get("source") or entry.get("name") or entry.get("view"))))
        counts = "counts" if entry.get("counts") else ""
        rows.append((title, *(_figure(entry["figures"].get(name)) for name in names), counts))
    return el("div", el("h3", "Streams and their fusions"), table(("", *names, ""), rows, class_="numbers first"))


def _place(name: str) -> tuple[bool, str]:
    """Order figures: those of the last epoch by name, then the best of any epoch."""
    return name.startswith("best_"), name


def _last_knn(record: Record) -> dict[str, float]:
    """Return the last kNN figures in the log of a pre-training."""
    measured = [line for line in record.log if any(name.startswith("knn@") for name in line)]
    return {name: value for name, value in measured[-1].items() if name.startswith("knn@")} if measured else {}


def _source(reported: Mapping[str, Any]) -> Markup | None:
    if "source" not in reported:
        return None
    words = "; ".join([f"Paper: {reported['source']}", *remarks_on(reported)])
    return el("p", f"{words}.", class_="quiet")


def _method(record: Record) -> str:
    if record.recipe is not None:
        return record.recipe.method
    words = str(record.result.get("method") or record.result.get("what", "")).replace(",", " ").split()
    return words[0] if words else ""


def _tables_of(method: str, record: Record) -> list[tuple[Table, list[int]]]:
    """Return the tables of this protocol in the method's own paper, each with the numbers of the method's rows."""
    if method not in builtin_papers():
        return []
    result, protocol = record.result, str(record.result.get("protocol", "knn"))
    kind = "finetune" if "semi" in protocol else next((name for name in PROTOCOLS if name in protocol), None)
    transferred = result.get("trained_on") not in (None, result.get("dataset")) or "transfer" in protocol
    paper, found = load_paper(method), []
    for each in paper.tables.values():
        rows = [number for number, row in enumerate(each.rows) if row.recipe in paper.recipes and not row.settings]
        fits = bool(each.pretrained) == (transferred or kind == "segment")
        if rows and fits and each.protocol == kind and each.labels == result.get("labels", 1.0):
            found.append((each, rows))
    return found


def _own_rows(found: Table, rows: Sequence[int], record: Record, dataset: str, view: str) -> list[int]:
    """Return the rows whose figure for this dataset and stream is the one that the run is compared with."""
    stream = "3s" if len(view.replace("+", " ").split()) == 3 else view
    reported = papers_figures(record)
    return [
        number
        for number in rows
        if found.rows[number].stream == stream
        and any(reported.get(name) == value for name, value in found.rows[number].figures.get(dataset, {}).items())
    ]


def _rows_with_run(
    found: Table, rows: Sequence[int], own: Sequence[int], record: Record, dataset: str, here: Dataset | None
) -> Markup:
    measured = record.result.get("figures") or _last_knn(record)
    own_cells = {(number, dataset): measured for number in own}
    shown = [cell for cell in cells(found, own_cells, found.datasets) if cell.row in rows]
    columns = list(dict.fromkeys((cell.dataset, cell.figure) for cell in shown))
    at = {(cell.row, cell.dataset, cell.figure): cell for cell in shown}
    lines = []
    for number in rows:
        row, line = found.rows[number], [_cell(at.get((number, *column))) for column in columns]
        lines.append(el("tr", el("th", row.name, scope="row"), el("td", row.stream), *line))
    several = len(found.figures) > 1
    names = [f"{name} {figure}" if several else name for name, figure in columns]
    head = el("thead", el("tr", *(el("th", name, scope="col") for name in ("method", "stream", *names))))
    body = el("div", el("table", head, el("tbody", *lines)), class_="scroll", tabindex="0")
    said = "".join(f"; {remark}" for remark in remarks_on(papers_figures(record, here)))
    marked = f" Marked: this run{said}." if own else ""
    return el("div", el("h3", "The paper's table"), body, el("p", f"{found.heading}.{marked}", class_="quiet"))


def _cell(cell: Cell | None) -> Markup:
    if cell is None:
        return el("td", "-")
    measured = None if cell.measured is None else el("strong", f"{cell.measured:.2f}")
    space, mark = (" ", "here") if measured else (None, None)
    return el("td", _figure(cell.paper, 1) or "-", space, measured, class_=mark)


def _figure(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and not isinstance(value, bool) else ""
