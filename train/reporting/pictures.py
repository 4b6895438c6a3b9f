"""Drawings of clips in a report: one of each of the hardest classes, and one before and after augmentation."""

from collections import Counter

import torch

from skelpipe.augment.chain import chain
from skelpipe.augment.named_chains import CLIP
from skelpipe.augment.op_lists import view_ops
from skelpipe.dataset import Dataset
from skelpipe.drawing.colours import part_colours
from skelpipe.drawing.previewed import Preview, preview
from skelpipe.drawing.sources import dataset_scene
from skelpipe.drawing.svg import looping_svg
from skelpipe.loader.view_recipes import ViewRecipes
from skelpipe.models.method import Progress
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.reporting.markup import Markup, el
from skelpipe.train.reporting.record import ClassRow, Record
from skelpipe.train.running.networks import initialised

__all__ = ["augmentations", "hardest", "hardest_classes", "parts_legend"]

SHOWN = 6  # classes


def hardest(record: Record, count: int = SHOWN) -> list[ClassRow]:
    """Return the classes of lowest accuracy that have mistakes; among equals, those with more clips first."""
    mistaken = [row for row in record.classes if row.right < row.clips]
    return sorted(mistaken, key=lambda row: (row.right / row.clips, -row.clips, row.label))[:count]


def hardest_classes(record: Record, dataset: Dataset | None) -> list[Markup]:
    """Return one card per hardest class: its accuracy, its most frequent wrong prediction and one of its clips.

    The clip is one with that wrong prediction, if there is one. Without a dataset no clip is drawn.
    """
    found = []
    for row in hardest(record):
        identity, outcome = _example(record, row, dataset)
        words = [f"{row.accuracy:.1f} % of {row.clips:,} test {record.unit}"]
        if wrong := _most_frequent_mistake(record, row):
            words.append(f"most often predicted as {wrong}")
        drawing = None
        if dataset is not None and identity is not None:
            drawing = Markup(
                looping_svg(dataset_scene(dataset, identity, "joint"), label=f"{row.name}, {identity}")
            )
            words.append(f"{identity}: {outcome}" if outcome else identity)
        title = el("h3", f"{row.label} {row.name}")
        found.append(el("article", title, drawing, *(el("p", text) for text in words), class_="card"))
    return found


def augmentations(record: Record, dataset: Dataset) -> list[Markup]:
    """Return one card per view of the recipe: a clip before and after, and the random draws in words."""
    views, epoch = _views(record, dataset)
    if not views:
        return []
    identity = dataset.ids("train")[0] if dataset.count("train") else None
    return [_preview_card(each) for each in preview(dataset, views, identity, seed=_seed(record), epoch=epoch)]


def parts_legend(dataset: Dataset) -> Markup:
    """Return the legend of the colours of the body parts."""
    dot = '<svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill="{}"/></svg>'
    parts = (el("li", Markup(dot.format(colour)), part) for part, colour in part_colours(dataset.layout).items())
    return el("ul", *parts, class_="parts")


def _example(record: Record, row: ClassRow, dataset: Dataset | None) -> tuple[str | None, str]:
    """Return the id of a clip of a class, with the class's most frequent mistake if there is one, and its outcome.

    Evaluated clips of either subset come first; the outcome of others is empty. The id is None if the dataset has
    no clip of the class, such as the background of untrimmed videos.
    """
    if dataset is None or row.name not in dataset.classes:
        return None, ""
    label, first = dataset.classes.index(row.name), None
    names = {each.label: each.name for each in record.classes}
    for subset in ("test", "train"):
        own = [id_ for id_, of in zip(dataset.ids(subset), dataset.labels(subset), strict=True) if of == label]
        known = {id_: record.predicted[id_][1] for id_ in own if id_ in record.predicted}
        wrong = {id_: predicted for id_, predicted in known.items() if predicted != row.label}
        if wrong:
            commonest = Counter(wrong.values()).most_common(1)[0][0]
            identity = next(id_ for id_, predicted in wrong.items() if predicted == commonest)
            return identity, f"predicted as {names[commonest]}"
        first = first or (own[0] if own else None)
    return first, "recognised" if first in record.predicted else ""


def _most_frequent_mistake(record: Record, row: ClassRow) -> str:
    """Return the class that is most often predicted for clips of this one, with its share in %."""
    if record.confusion is None:
        return ""
    counts = record.confusion[row.label].copy()
    counts[row.label] = 0
    worst = int(counts.argmax())
    share = 100 * counts[worst] / max(row.clips, 1)
    return f"{record.classes[worst].name} ({share:.0f} %)" if counts[worst] else ""


def _views(record: Record, dataset: Dataset) -> tuple[ViewRecipes, int]:
    """Return the view recipes of the last epoch of training, and that epoch, counted from 0.

    For an evaluation without augmentation they are those of the pre-training of its network, if there was one.
    """
    augment, views = record.settings.get("augment"), record.settings.get("views", {})
    if record.recipe is None and isinstance(augment, dict) and (views or augment.get("name", "none") != "none"):
        strength = {name: augment[name] for name in ("shear", "crop") if name in augment}
        named = augment.get("name", "none")
        ops = view_ops(views, CLIP, [] if named == "none" else named)
        return {"training": chain(ops, layout=dataset.layout, **strength)}, 0
    recipe = record.recipe or record.pretraining
    if recipe is None:
        return {}, 0
    return _method_views(recipe, dataset, _seed(record)), recipe.epochs - 1


def _method_views(recipe: PretrainRecipe, dataset: Dataset, seed: int) -> ViewRecipes:
    before = torch.get_rng_state()
    channels = len(dataset.channels)
    method = initialised(
        recipe, dataset.layout, seed, "joint", lambda: torch.from_numpy(dataset.anchor("joint")), channels
    )
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
