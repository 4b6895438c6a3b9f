"""The page that `browse` writes: clips, moving and filtered, and runs side by side; one file without a network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible
from skelpipe.drawing.colours import joint_colours
from skelpipe.drawing.sources import CLIP_RATE
from skelpipe.errors import UsageError
from skelpipe.files import replacing
from skelpipe.front.descriptions import counted
from skelpipe.manifest import SUBSETS
from skelpipe.train.browsing.chosen_clips import Listed, listed, packed, sampled
from skelpipe.train.browsing.run_charts import curve_charts, figure_charts, run_legend, values_table
from skelpipe.train.reporting.confusion_matrix import script_json
from skelpipe.train.reporting.markup import Markup, el, joined
from skelpipe.train.reporting.page import Section, filled
from skelpipe.train.reporting.pictures import parts_legend
from skelpipe.train.reporting.record import Record
from skelpipe.train.running.provenance import dataset_name

__all__ = ["Workbench", "workbench", "write_workbench"]

FILTERS = {
    "dataset": "Dataset",
    "class": "Class",
    "subset": "Subset",
    "subject": "Subject",
    "run": "Evaluated by",
    "outcome": "Outcome",
    "predicted": "Predicted as",
}
KEYS = "In the large view: arrow keys turn the skeleton, space pauses it, N and P show the next and previous clip."


@dataclass(frozen=True)
class Workbench:
    """A page as text, and what is on it: the clips shown, those there are, and remarks on what is left out."""

    text: str
    shown: int
    clips: int
    remarks: tuple[str, ...]


def write_workbench(
    path: Path, datasets: Sequence[Dataset], records: Sequence[Record], *, limit: int, seed: int = 0
) -> Workbench:
    """Write the page of datasets and runs, atomically, and return it; see `workbench`.

    Raises UsageError where `path` is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file with --out")
    page = workbench(datasets, records, limit=limit, seed=seed)
    with replacing(path) as file:
        file.write(page.text.encode())
    return page


def workbench(datasets: Sequence[Dataset], records: Sequence[Record], *, limit: int, seed: int = 0) -> Workbench:
    """Return the page of datasets and runs; of the clips at most `limit` in all, drawn by `seed` over all classes.

    Equal files give an equal page. Raises UsageError where a dataset or a run is given twice, and for a dataset
    without positions of joints.
    """
    for paths, what in (([each.path for each in datasets], "dataset"), ([each.path for each in records], "run")):
        twice = [path for path, count in Counter(map(str, paths)).items() if count > 1]
        if twice:
            raise UsageError(f"{twice[0]}: the {what} is given twice")
    names = _short_names([visible(str(each.path)) for each in records])
    facts, clips, remarks, total = [], [], [], 0
    shares = _shares([sum(map(each.count, SUBSETS)) for each in datasets], limit)
    for number, (dataset, share) in enumerate(zip(datasets, shares, strict=True)):
        predicted = [each.predicted if _is_of(each, dataset) else {} for each in records]
        every = listed(dataset, predicted)
        chosen = sampled(every, share, seed)
        shown = packed(dataset, every, chosen)
        for position, clip in zip(chosen.tolist(), shown, strict=True):
            pairs = [run.get(every.ids[position]) for run in predicted]
            clip |= {"dataset": number, "outcomes": [pair and [pair[1], pair[0] != pair[1]] for pair in pairs]}
        clips += shown
        total += len(every)
        facts.append(_facts(dataset, every))
        remarks.append(_what_is_shown(dataset, every, chosen, seed))
    remarks += _unmatched(datasets, records, names)
    runs = [
        {"name": name, "classes": [visible(row.name) for row in each.classes]}
        for name, each in zip(names, records, strict=True)
    ]
    data = {"rate": CLIP_RATE, "subsets": list(SUBSETS), "datasets": facts, "runs": runs, "clips": clips}
    sections = [
        _clips_section(datasets, remarks, script_json(data)) if datasets else None,
        *_run_sections(records, names),
    ]
    style, script = (files(__package__).joinpath(f"workbench.{kind}").read_text("utf-8") for kind in ("css", "js"))
    subtitle = ", ".join([_counted(len(datasets), "dataset"), _counted(len(records), "run")])
    text = filled(
        "Workbench", subtitle, [each for each in sections if each is not None], style=style, script=script
    )
    return Workbench(text, len(clips), total, tuple(remarks))


def _clips_section(datasets: Sequence[Dataset], remarks: Sequence[str], data: Markup) -> Section:
    choices = [
        el("label", title, el("select", id=f"by-{name}"), id=f"with-{name}", hidden=True)
        for name, title in FILTERS.items()
    ]
    search = el("label", "Name contains", el("input", type="search", id="by-id", autocomplete="off"))
    reset = el("button", "Show all", type="button", id="reset")
    pages = el(
        "div",
        el("button", "Previous page", type="button", id="back"),
        el("output", id="page"),
        el("button", "Next page", type="button", id="on"),
        class_="pages",
    )
    content = [
        *(el("p", text, class_="quiet") for text in remarks),
        el("form", *choices, search, reset, class_="filters", id="filters", role="search"),
        el("p", id="count", role="status"),
        el("div", id="grid", class_="grid-of-clips"),
        pages,
        parts_legend(datasets[0]),
        el("p", KEYS, class_="quiet"),
        el("noscript", el("p", "The clips need JavaScript.")),
        _large_view(),
        el("script", data, type="application/json", id="data"),
    ]
    return Section("clips", "Clips", joined(content))


def _large_view() -> Markup:
    """Return the window in which one clip is shown large."""
    buttons = [
        el("button", text, type="button", id=name)
        for name, text in (("earlier", "Previous"), ("play", "Pause"), ("later", "Next"), ("close", "Close"))
    ]
    canvas = el("canvas", id="large", tabindex=0, role="img", aria_label="Skeleton: use the arrow keys to turn it")
    moment = el(
        "input", type="range", id="moment", min=0, max=1, step="any", value=0, aria_label="Time in the clip"
    )
    return el(
        "dialog",
        el("h3", id="large-title"),
        canvas,
        moment,
        el("div", *buttons, class_="buttons"),
        el("dl", id="large-facts"),
        id="window",
        aria_labelledby="large-title",
    )


def _run_sections(records: Sequence[Record], names: Sequence[str]) -> list[Section | None]:
    if not records:
        return []
    values, curves, figures = values_table(records, names), curve_charts(records), figure_charts(records, names)
    return [
        Section("runs", "Runs", joined([run_legend(names), values])),
        Section("figures", "Figures", el("div", *figures, class_="cards")) if figures else None,
        Section("curves", "Curves", el("div", *curves, class_="cards")) if curves else None,
    ]


def _facts(dataset: Dataset, clips: Listed) -> dict[str, Any]:
    """Return what the page needs to draw and to name the clips of a dataset."""
    return {
        "name": visible(dataset_name(dataset)),
        "classes": [visible(name) for name in dataset.classes],
        "counts": np.bincount(clips.labels[clips.labels >= 0], minlength=len(dataset.classes)).tolist(),
        "bones": [list(edge) for edge in dataset.layout.edges],
        "colours": list(joint_colours(dataset.layout)),
        "flat": "z" not in dataset.channels,
    }


def _what_is_shown(dataset: Dataset, clips: Listed, chosen: np.ndarray, seed: int) -> str:
    """Say how many of a dataset's clips are on the page, and how those were chosen."""
    name = visible(dataset_name(dataset))
    if len(chosen) == len(clips):
        return f"{name}: all {counted(len(clips), 'clip')}."
    per_class = np.unique(clips.labels[chosen], return_counts=True)[1]
    least, most, classes = min(per_class, default=0), max(per_class, default=0), len(np.unique(clips.labels))
    spread = f"{least}" if least == most else f"{least} to {most}"
    missing = f"; {counted(classes - len(per_class), 'class')} without any" if len(per_class) < classes else ""
    chosen_by = f"{spread} per class{missing}" if dataset.labelled else "drawn over its subsets"
    left = len(clips) - len(chosen)
    out = f"{counted(left, 'clip')} {'is' if left == 1 else 'are'}"
    return (
        f"{name}: {len(chosen):,} of {counted(len(clips), 'clip')}, {chosen_by}, drawn by seed {seed}; {out} "
        "left out: --clips takes more."
    )


def _unmatched(datasets: Sequence[Dataset], records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """Say which runs have predictions of clips of none of the datasets."""
    return [
        f"{name}: evaluated clips of another dataset, so its mistakes are not on this page."
        for name, each in zip(names, records, strict=True)
        if datasets and each.predicted and not any(_is_of(each, dataset) for dataset in datasets)
    ]


def _is_of(record: Record, dataset: Dataset) -> bool:
    """Return whether a run evaluated clips of this dataset."""
    digest = str(record.result.get("digest", ""))
    return dataset.digest == digest or dataset.digest in digest.split("+")


def _shares(counts: Sequence[int], limit: int) -> list[int]:
    """Divide `limit` clips evenly among datasets; what a small one does not need goes to the others."""
    shares, left = [0] * len(counts), limit
    for place, at in enumerate(sorted(range(len(counts)), key=lambda at: counts[at])):
        shares[at] = min(counts[at], left // (len(counts) - place))
        left -= shares[at]
    return shares


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the last parts of the paths, as many as tell them apart."""
    parts = [Path(path).absolute().parts for path in paths]
    for count in range(1, max(map(len, parts), default=0)):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
