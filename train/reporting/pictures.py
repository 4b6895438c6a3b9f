"""Clips in a report: one of each of the hardest classes, and what the recipe's augmentations make of one."""

from collections import Counter

import torch

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.drawing.colours import part_colours
from skelpipe.drawing.previewed import Preview, preview
from skelpipe.drawing.sources import dataset_scene
from skelpipe.drawing.svg import looping_svg
from skelpipe.loader.view_recipes import ViewRecipes as Views
from skelpipe.models.method import Progress
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.reporting.markup import Markup, el
from skelpipe.train.reporting.record import ClassRow, Record
from skelpipe.train.running.networks import initialised

__all__ = ["augmentations", "hardest", "hardest_classes", "parts_legend"]

SHOWN = 6  # classes


def hardest(record: Record, count: int = SHOWN) -> list[ClassRow]:
    """Return the classes with mistakes and the lowest accuracy, those with more clips first among equals."""
    judged = [row for row in record.classes if row.right < row.clips]
    return sorted(judged, key=lambda row: (row.right / row.clips, -row.clips, row.label))[:count]


def hardest_classes(record: Record, dataset: Dataset | None) -> list[Markup]:
    """Return a card for each of the hardest classes: how it fared, what it was taken for, one of its clips.

    The clip is one of the commonest mistake, where there is one. Without a dataset no clip is drawn.
    """
    found = []
    for row in hardest(record):
        identity, fared = _example(record, row, dataset)
        words = [f"{row.accuracy:.1f} % of {row.clips:,} test {record.judged}"]
        if others := _taken_for(record, row):
            words.append(f"most often taken for {others}")
        drawing = None
        if dataset is not None and identity is not None:
            drawing = Markup(
                looping_svg(dataset_scene(dataset, identity, "joint"), label=f"{row.name}, {identity}")
            )
            words.append(f"{identity}: {fared}" if fared else identity)
        title = el("h3", f"{row.label} {row.name}")
        found.append(el("article", title, drawing, *(el("p", text) for text in words), class_="card"))
    return found


def augmentations(record: Record, dataset: Dataset) -> list[Markup]:
    """Return a card for each view that the recipe makes of a clip: before, after, and what was drawn in words."""
    views, epoch = _views(record, dataset)
    if not views:
        return []
    identity = dataset.ids("train")[0] if dataset.count("train") else None
    return [_preview_card(each) for each in preview(dataset, views, identity, seed=_seed(record), epoch=epoch)]


def parts_legend(dataset: Dataset) -> Markup:
    """Return which colour is which part of the body."""
    dot = '<svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill="{}"/></svg>'
    parts = (el("li", Markup(dot.format(colour)), part) for part, colour in part_colours(dataset.layout).items())
    return el("ul", *parts, class_="parts")


def _example(record: Record, row: ClassRow, dataset: Dataset | None) -> tuple[str | None, str]:
    """Return a clip of a class, of its commonest mistake if there is one, and how it fared, if that is known.

    Clips that were judged come first, whatever their side; None where the class has no clip in the dataset, as the
    background of untrimmed videos.
    """
    if dataset is None or row.name not in dataset.classes:
        return None, ""
    label, first = dataset.classes.index(row.name), None
    names = {each.label: each.name for each in record.classes}
    for side in ("test", "train"):
        own = [id_ for id_, of in zip(dataset.ids(side), dataset.labels(side), strict=True) if of == label]
        taken = {id_: record.predicted[id_][1] for id_ in own if id_ in record.predicted}
        wrong = {id_: predicted for id_, predicted in taken.items() if predicted != row.label}
        if wrong:
            commonest = Counter(wrong.values()).most_common(1)[0][0]
            identity = next(id_ for id_, predicted in wrong.items() if predicted == commonest)
            return identity, f"taken for {names[commonest]}"
        first = first or (own[0] if own else None)
    return first, "recognised" if first in record.predicted else ""


def _taken_for(record: Record, row: ClassRow) -> str:
    """Return what a class is most often taken for by mistake, with its share in %."""
    if record.confusion is None:
        return ""
    counts = record.confusion[row.label].copy()
    counts[row.label] = 0
    worst = int(counts.argmax())
    share = 100 * counts[worst] / max(row.clips, 1)
    return f"{record.classes[worst].name} ({share:.0f} %)" if counts[worst] else ""


def _views(record: Record, dataset: Dataset) -> tuple[Views, int]:
    """Return the views that training makes in its last epoch, and that epoch from 0.

    Where an evaluation makes none, they are those of the pre-training before it, if there was one.
    """
    augment = record.settings.get("augment")
    if record.recipe is None and isinstance(augment, dict) and augment.get("name", "none") != "none":
        strength = {name: augment[name] for name in ("shear", "crop") if name in augment}
        return {"training": chain(augment["name"], layout=dataset.layout, **strength)}, 0
    recipe = record.recipe or record.pretraining
    if recipe is None:
        return {}, 0
    return _method_views(recipe, dataset, _seed(record)), recipe.epochs - 1


def _method_views(recipe: PretrainRecipe, dataset: Dataset, seed: int) -> Views:
    before = torch.get_rng_state()
    method = initialised(recipe, dataset.layout, seed, "joint", lambda: torch.from_numpy(dataset.anchor("joint")))
    torch.set_rng_state(before)
    last = recipe.epochs - 1
    method.advance(Progress(last, recipe.epochs, 0, 1))
    return method.views()


def _seed(record: Record) -> int:
    return record.provenance.seed if record.provenance is not None else int(record.result.get("seed") or 0)


def _preview_card(each: Preview) -> Markup:
    pictures = [
        el(
            "figure",
            Markup(looping_svg(each.scene, panel, f"{each.scene.title}, {caption}")),
            el("figcaption", caption),
        )
        for panel, caption in enumerate(("as stored", f"as {each.names[0]}"))
    ]
    lines = [el("div", el("dt", name), el("dd", words)) for name, words in each.steps.items()]
    return el(
        "article",
        el("h3", " and ".join(each.names)),
        el("div", *pictures, class_="pair"),
        el("dl", *lines),
        class_="card double",
    )
