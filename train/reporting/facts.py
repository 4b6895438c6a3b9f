"""What a run was and what it came to, as tables: dataset, recipe, figures, the paper's table beside them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.models.settings import nested
from skelpipe.train.papers.reported import reported_knn as papers_knn
from skelpipe.train.papers.tables import PROTOCOLS, Cell, Table, builtin_papers, cells, load_paper
from skelpipe.train.reporting.charts import number
from skelpipe.train.reporting.markup import Markup, el
from skelpipe.train.reporting.record import Record
from skelpipe.train.running.provenance import dataset_name

__all__ = [
    "facts",
    "figures",
    "log_table",
    "paper_table",
    "pretraining_table",
    "reported_knn",
    "settings_table",
    "table",
]

# Of result.json: told elsewhere.
HIDDEN = ("background", "chance", "classes", "figures", "fusions", "reported", "streams")
FULL_LOG = 1000  # records up to which the whole log is in the page


def facts(record: Record, dataset: Dataset | None) -> Markup:
    """Return what identifies the run: dataset, digest, view and whatever else its result tells."""
    told: dict[str, Any] = {}
    if record.provenance is not None:
        provenance = record.provenance
        told |= {"epochs done": record.epochs, **nested(provenance.clips)}
        told |= {"view": provenance.view, "seed": provenance.seed}
    told |= {key: value for key, value in flat(record.result).items() if key.split(".")[0] not in HIDDEN}
    if dataset is not None:
        sizes = (f"{dataset.count(side):,} {side}ing" for side in ("train", "test"))
        told |= {
            "dataset": dataset_name(dataset),
            "digest": dataset.digest,
            "clips of the dataset": " and ".join(sizes),
            "shape": " x ".join(map(str, dataset.shape)),
            "preprocessing": dataset.profile,
        }
    return table(("", ""), ((name, _text(value)) for name, value in told.items()), class_="facts")


def figures(record: Record) -> Markup | None:
    """Return the figures of an evaluation with the paper's beside them and chance below."""
    found: Mapping[str, Any] = record.result.get("figures") or _last_knn(record)
    if not found:
        return None
    reported: Mapping[str, Any] = record.result.get("reported") or {}
    rows, percent = [], not any(name.startswith("nmi") for name in found)
    for name, value in sorted(found.items(), key=lambda item: _place(item[0])):
        paper = reported.get(name.removeprefix("best_"))  # papers report the best epoch on the test clips
        gap = f"{value - paper:+.2f}" if isinstance(paper, int | float) else ""
        rows.append((name, _figure(value, 2 if percent else 4), _figure(paper), gap))
    for key, words in (("chance", "chance"), ("background", "acc of naming nothing")):
        if isinstance(floor := record.result.get(key), int | float):
            rows.append((words, _figure(floor), "", ""))
    unit, wide = ", %" if percent else "", 4 if any(row[2] for row in rows) else 2
    head = ("figure", f"measured{unit}", f"paper{unit}", "difference")
    body = table(head[:wide], (row[:wide] for row in rows), class_="numbers first headline")
    return el("div", body, _source(reported), _fusions(record))


def paper_table(record: Record, dataset: str, view: str) -> Markup | None:
    """Return the method's lines of its paper's table of this protocol, with this run's figures set in.

    Of several tables it is the first that has a figure for this dataset and stream, else the first. A run that no
    paper's figure is meant for, such as one of a random network or of a recipe of one's own, has none.
    """
    if not (record.recipe.reported if record.recipe else record.result.get("reported")):
        return None
    found = [(*pair, _mine(*pair, record, dataset, view)) for pair in _of_method(_method(record), record)]
    if not found:
        return None
    chosen, rows, mine = next((each for each in found if each[2]), found[0])
    return _lines_of(chosen, rows, mine, record, dataset)


def settings_table(record: Record) -> Markup | None:
    """Return recipe.yaml, one line a value."""
    told = {key: value for key, value in flat(record.settings).items() if key.split(".")[0] != "reported"}
    return _settings(told) if told else None


def pretraining_table(record: Record) -> Markup | None:
    """Return the recipe that the weights judged were pre-trained by, one line a value."""
    return None if record.pretraining is None else _settings(flat(record.pretraining.content()))


def _settings(told: Mapping[str, object]) -> Markup:
    return table(("key", "value"), ((key, _text(value)) for key, value in told.items()))


def log_table(record: Record) -> Markup | None:
    """Return the log, one line an epoch; of a very long one every so many."""
    step = len(record.log) // FULL_LOG + 1
    log = record.log[::step]
    names = list(dict.fromkeys(name for line in log for name in line))
    rows = ([_number(line.get(name)) for name in names] for line in log)
    return table(names, rows, class_="numbers") if log else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]], class_: str | None = None) -> Markup:
    """Return a table that scrolls sideways where it is too wide; the first cell of a line heads it."""
    lines = [el("tr", el("th", row[0], scope="row"), *(el("td", text) for text in row[1:])) for row in rows]
    top = el("thead", el("tr", *(el("th", name, scope="col") for name in head))) if any(head) else None
    return el("div", el("table", top, el("tbody", *lines), class_=class_), class_="scroll", tabindex="0")


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _fusions(record: Record) -> Markup | None:
    """Return the streams that were fused, and what each choice of weights came to."""
    entries = [*record.result.get("streams", []), *record.result.get("fusions", [])]
    if not entries:
        return None
    names = list(dict.fromkeys(name for entry in entries for name in entry["figures"]))
    rows = []
    for entry in entries:
        weights = ":".join(f"{weight:g}" for weight in entry.get("weights", []))
        told = " ".join(filter(None, (weights, entry.get("source") or entry.get("name") or entry.get("view"))))
        counts = "counts" if entry.get("counts") else ""
        rows.append((told, *(_figure(entry["figures"].get(name)) for name in names), counts))
    return el("div", el("h3", "Streams and their fusions"), table(("", *names, ""), rows, class_="numbers first"))


def _place(name: str) -> tuple[bool, str]:
    """Order figures: the main ones by name, then what some earlier epoch reached."""
    return name.startswith("best_"), name


def _last_knn(record: Record) -> dict[str, float]:
    """Return the last kNN figures that a pre-training run logged."""
    measured = [line for line in record.log if any(name.startswith("knn@") for name in line)]
    return {name: value for name, value in measured[-1].items() if name.startswith("knn@")} if measured else {}


def reported_knn(record: Record) -> Mapping[str, float]:
    """Return what the papers report for the nearest neighbours of a pre-trained network, by the figures' names."""
    found = papers_knn(record.provenance) if record.provenance is not None else None
    return {name: value for name, value in (found or {}).items() if not isinstance(value, str)}


def _source(reported: Mapping[str, Any]) -> Markup | None:
    if "source" not in reported:
        return None
    words = f"Paper: {reported['source']}."
    clips = reported.get("clips")
    if isinstance(clips, Mapping) and not reported.get("complete", True):
        sizes = f"{clips.get('train')} and tests on {clips.get('test')} clips"
        words += f" It trains on {sizes}, which this dataset does not have."
    return el("p", words, class_="quiet")


def _method(record: Record) -> str:
    if record.recipe is not None:
        return record.recipe.method
    words = str(record.result.get("method") or record.result.get("what", "")).replace(",", " ").split()
    return words[0] if words else ""


def _of_method(method: str, record: Record) -> list[tuple[Table, list[int]]]:
    """Return the tables of the method's own paper that hold figures of this protocol, and which rows are its."""
    if method not in builtin_papers():
        return []
    result, protocol = record.result, str(record.result.get("protocol", "knn"))
    kind = "finetune" if "semi" in protocol else next((name for name in PROTOCOLS if name in protocol), None)
    elsewhere = result.get("trained_on") not in (None, result.get("dataset")) or "transfer" in protocol
    paper, found = load_paper(method), []
    for each in paper.tables.values():
        rows = [number for number, row in enumerate(each.rows) if row.recipe in paper.recipes and not row.settings]
        fits = bool(each.pretrained) == (elsewhere or kind == "segment")
        if rows and fits and each.protocol == kind and each.labels == result.get("labels", 1.0):
            found.append((each, rows))
    return found


def _mine(found: Table, rows: Sequence[int], record: Record, dataset: str, view: str) -> list[int]:
    """Return the rows whose figure for this dataset and stream is the one that the run is held against."""
    stream = "3s" if len(view.replace("+", " ").split()) == 3 else view
    reported = reported_knn(record) if record.recipe is not None else record.result.get("reported") or {}
    return [
        number
        for number in rows
        if found.rows[number].stream == stream
        and found.rows[number].figures.get(dataset, {}).items() & dict(reported).items()
    ]


def _lines_of(found: Table, rows: Sequence[int], mine: Sequence[int], record: Record, dataset: str) -> Markup:
    here = record.result.get("figures") or _last_knn(record)
    told = [cell for cell in cells(found, {(n, dataset): here for n in mine}, found.datasets) if cell.row in rows]
    columns = list(dict.fromkeys((cell.dataset, cell.figure) for cell in told))
    at = {(cell.row, cell.dataset, cell.figure): cell for cell in told}
    lines = []
    for row in rows:
        line = [_cell(at.get((row, *column))) for column in columns]
        lines.append(
            el("tr", el("th", found.rows[row].name, scope="row"), el("td", found.rows[row].stream), *line)
        )
    several = len(PROTOCOLS[found.protocol]) > 1
    names = [f"{name} {figure}" if several else name for name, figure in columns]
    head = el("thead", el("tr", *(el("th", name, scope="col") for name in ("method", "stream", *names))))
    body = el("div", el("table", head, el("tbody", *lines)), class_="scroll", tabindex="0")
    marked = " Marked: this run." if mine else ""
    return el("div", el("h3", "The paper's table"), body, el("p", f"{found.heading}.{marked}", class_="quiet"))


def _cell(cell: Cell | None) -> Markup:
    if cell is None:
        return el("td", "-")
    measured = None if cell.measured is None else el("strong", f"{cell.measured:.2f}")
    return el(
        "td",
        _figure(cell.paper, 1) or "-",
        " " if measured else None,
        measured,
        class_="here" if measured else None,
    )


def _figure(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


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
