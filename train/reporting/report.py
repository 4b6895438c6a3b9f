"""The report of a run: one page for a browser, made from the files in the run's folder."""

import base64
from pathlib import Path

from skelpipe.dataset import Dataset
from skelpipe.dataset.joined import parts_of
from skelpipe.errors import UsageError
from skelpipe.files import replacing
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.outcome import REPORT
from skelpipe.train.papers.reported import remarks_on
from skelpipe.train.reporting import pictures
from skelpipe.train.reporting.charts import curves
from skelpipe.train.reporting.comparison import figures, paper_table, papers_figures
from skelpipe.train.reporting.confusion_matrix import matrix_figure, worst_pairs
from skelpipe.train.reporting.markup import Markup, el, joined
from skelpipe.train.reporting.page import Section, filled
from skelpipe.train.reporting.record import Record, read_record
from skelpipe.train.reporting.tables import log_table, pretraining_table, run_table, settings_table, table
from skelpipe.train.running.provenance import dataset_name

__all__ = ["report", "write_report"]

BACKGROUND = "background"  # the first class of a segmentation: the actions then count from 1
ARRANGED = "t-SNE of the features. Each class has its own colour and marker; classes count from 1."
TIMED = "Each video from left to right: the true classes above the predicted ones, one colour per class."
FROM_ONE = "Class 0 is the background: actions count from 1 on this page and in the run's files."
COUNTED = "Classes count from 0 on this page and in the run's files; map.py and predict.py count from 1."


def write_report(folder: Path, dataset: Dataset | None = None) -> Path:
    """Write `report.html` into the folder of a run, from the files in it, and return its path.

    `dataset`, the run's own, is read for drawings of a few clips; of several datasets, the first. Equal files give
    an equal page.
    Raises UsageError if the folder is not a run's or the dataset is another one, SkelpipeError for a damaged file.
    """
    record = read_record(folder)
    if dataset is not None:
        _check(record, dataset)
    text = report(record, dataset)
    path = folder / REPORT
    with replacing(path, shared=True) as file:
        file.write(text.encode())
    return path


def report(record: Record, dataset: Dataset | None = None) -> str:
    """Return the page of a run as text."""
    where, view = _where(record, dataset)
    drawn = None if dataset is None else parts_of(dataset)[0]
    sections = [
        _section("figures", "Figures", figures(record, dataset), paper_table(record, where, view, dataset)),
        _section("embedding", "Embedding", _picture(record.embedding, ARRANGED)),
        _section("timelines", "Timelines", _picture(record.timelines, TIMED)),
        _section("curves", "Curves", _cards(curves(record.log, _references(record, dataset)))),
        _section("confusion", "Confusion", *_confusion(record)),
        _section("classes", "Hardest classes", *_classes(record, drawn)),
        _section("augmentation", "Augmentation", *_augmentation(record, drawn)),
        _section("run", "Dataset and run", run_table(record, dataset)),
        _section("recipe", "Recipe", settings_table(record)),
        _section("pretraining", "Recipe of pre-training", pretraining_table(record)),
        _section("log", "Log", _folded("All epochs", log_table(record))),
    ]
    title = " ".join(filter(None, (_kind(record), "on", where, f"({view})" if view else "")))
    return filled(title, _subtitle(record), [section for section in sections if section is not None])


def _section(name: str, title: str, *content: Markup | None) -> Section | None:
    inner = joined(content)
    return Section(name, title, inner) if inner else None


def _kind(record: Record) -> str:
    if record.is_evaluation:
        return f"{record.result.get('protocol', 'evaluation')}".capitalize()
    return "Pre-training" + (f" of {record.recipe.method}" if record.recipe else "")


def _where(record: Record, dataset: Dataset | None) -> tuple[str, str]:
    """Return the dataset's name and the view, as far as the run's files or the dataset say them."""
    name = record.result.get("dataset") or (record.provenance.clips.dataset if record.provenance else None)
    view = record.result.get("view") or (record.provenance.view if record.provenance else "")
    return str(name or (dataset_name(dataset) if dataset else "a dataset")), str(view)


def _subtitle(record: Record) -> str:
    if what := record.result.get("what"):
        return str(what)
    done = record.epochs or len(record.log)
    of = f"{done} of {counted(record.recipe.epochs, 'epoch')}" if record.recipe else counted(done, "epoch")
    return f"{record.path.name}: {of}"


def _references(record: Record, dataset: Dataset | None) -> dict[str, tuple[float, str]]:
    """Return by the curves' names what a paper reports, to be drawn as a dashed line."""
    reported = papers_figures(record, dataset)
    words = "the paper, under other conditions (see Figures)" if remarks_on(reported) else "the paper"
    return {name: (value, words) for name, value in reported.items() if isinstance(value, float)}


def _picture(content: bytes | None, words: str) -> Markup | None:
    if content is None:
        return None
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return joined([el("img", src=source, alt=words), el("p", words, class_="quiet")])


def _confusion(record: Record) -> list[Markup]:
    if record.confusion is None:
        return []
    names = [row.name for row in record.classes]
    pairs = worst_pairs(record.confusion, names)
    rows = ((truth, wrong, f"{count:,}", f"{share:.1f}") for truth, wrong, count, share in pairs)
    head = ("true class", "predicted class", record.unit, f"% of its {record.unit}")
    listed = [el("h3", "Most frequent confusions"), table(head, rows)] if pairs else []
    return [matrix_figure(record.confusion, names), *listed]


def _classes(record: Record, dataset: Dataset | None) -> list[Markup]:
    if not record.classes:
        return []
    percent = ("" if row.accuracy is None else f"{row.accuracy:.1f}" for row in record.classes)
    counts = ((f"{row.label} {row.name}", str(row.clips), str(row.right)) for row in record.classes)
    rows = ((*each, accuracy) for each, accuracy in zip(counts, percent, strict=True))
    numbered = el("p", FROM_ONE if record.classes[0].name == BACKGROUND else COUNTED, class_="quiet")
    every = _folded("All classes", table(("class", record.unit, "correct", "accuracy, %"), rows))
    advice = f"To add drawings of clips: python -m skelpipe.train.report {record.path} --shards DATASET"
    note = None if dataset else el("p", advice, class_="quiet")
    legend = pictures.parts_legend(dataset) if dataset else None
    cards = _cards(pictures.hardest_classes(record, dataset))
    return [each for each in (cards, legend, numbered, note, every) if each]


def _augmentation(record: Record, dataset: Dataset | None) -> list[Markup]:
    cards = pictures.augmentations(record, dataset) if dataset is not None else []
    if not cards or dataset is None:
        return []
    stage = "pre-training" if record.is_evaluation and record.pretraining else "training"
    words = f"The views of the last epoch of {stage}: the joints of one training clip before and after."
    return [el("p", words, class_="quiet"), el("div", *cards, class_="cards two"), pictures.parts_legend(dataset)]


def _cards(cards: list[Markup]) -> Markup | None:
    return el("div", *cards, class_="cards") if cards else None


def _folded(title: str, content: Markup | None) -> Markup | None:
    return el("details", el("summary", title), content) if content else None


def _check(record: Record, dataset: Dataset) -> None:
    """Raise UsageError if the run is of another dataset."""
    digest = record.result.get("digest") or (record.provenance.clips.digest if record.provenance else None)
    if digest is not None and digest != dataset.digest and dataset.digest not in str(digest).split("+"):
        was, now = (" + ".join(each[:12] for each in text.split("+")) for text in (str(digest), dataset.digest))
        raise UsageError(f"{record.path} is of the dataset with digest {was}, {dataset.path} has digest {now}")
