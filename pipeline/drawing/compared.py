"""Scenes of two panels: a clip as training reads it, and the same clip augmented."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.drawing.augmented import Augmented, Choice, augmented, donor_row
from skelpipe.drawing.scene import Panel, Scene, absent_as_nan, arrow_scale, make_panel, score_facts
from skelpipe.drawing.sources import CLIP_RATE, DRAWN, class_names, find_sample, made_by, raw_title, read_raw
from skelpipe.errors import RawError, UsageError
from skelpipe.manifest import Manifest
from skelpipe.preprocess import CROSCLR, Policies, profile_writer
from skelpipe.skeleton import Layout
from skelpipe.views import derive

__all__ = ["RAW_FRAMES", "compared_raw_scene", "compared_scene"]

RAW_FRAMES = 64  # of the clip that is made of a raw file, the default of `prepare`


def compared_scene(
    dataset: Dataset,
    identity: str | None,
    view: str,
    choice: Choice,
    actionlet: Callable[[Tensor], Tensor] | None = None,
) -> Scene:
    """Return the scene of a sample as stored and augmented; without an id, of the one that `find_sample` returns.

    The donor of a mix is another sample of the same subset. `actionlet` is that of "mats". UsageError where there
    is no such sample, or no other sample for the donor.
    """
    subset, row = find_sample(dataset, identity)
    rows, ids = [row], dataset.ids(subset)
    mixes = choice.mixes(dataset.layout, view)
    anchor = dataset.anchor(view) if choice.finds_actionlet(dataset.layout, view) else None
    if mixes:
        rows.append(donor_row(choice, row, len(ids), str(dataset.path)))
    clips = dataset.reader(subset, "joint").gather(np.array(rows))
    after = augmented(clips, rows, dataset.layout, view, choice, anchor, actionlet)
    classes = class_names(dataset, subset, np.array(rows))
    facts = {
        "dataset": f"{dataset.name}, split {dataset.split}, {subset} subset",
        "units": made_by(dataset.card["units"], dataset.profile, clips[0]),
        "augment": f"{_words(choice)}, row {row} of the {subset} subset",
    }
    if mixes:
        facts["donor"] = f"{ids[rows[1]]}: {classes[1]}; drawn, as the region, for a batch of these two"
    return _scene((ids[row], classes[0]), clips[0], after, dataset.layout, view, choice, facts)


def compared_raw_scene(path: str, manifest: Manifest, view: str, choice: Choice) -> Scene:
    """Return the scene of a raw file's clip, as `prepare` makes it by default, before and after augmentation.

    The draws are those of row 0. UsageError for videos of several actions, and for mixes, which need a dataset.
    """
    if (finds := choice.finds_actionlet(manifest.layout, view)) or choice.mixes(manifest.layout, view):
        what = "average motion" if finds else "donor"
        raise UsageError(f"{path}: {choice.name} needs a dataset (--shards), from which its {what} comes")
    if manifest.segments:
        raise UsageError(f"{path}: a video of several actions; prepare {manifest.name} and draw one of its clips")
    recording = read_raw(path, manifest)
    channels = len(manifest.stored_channels)
    clip = np.zeros((channels, RAW_FRAMES, len(manifest.layout), manifest.bodies), np.float32)
    write = profile_writer(CROSCLR, policies=Policies.of(manifest))
    try:
        write(recording, manifest.layout, RAW_FRAMES, manifest.bodies, clip)
    except RawError as error:
        raise RawError(f"{path}: {error}") from None
    after = augmented(clip[None], [0], manifest.layout, view, choice)
    facts = {
        "dataset": f"{manifest.name}, raw recording of {recording.frames} frames",
        "units": made_by(manifest.units, CROSCLR, clip),
        "augment": f"{_words(choice)}, row 0",
    }
    return _scene(raw_title(path, manifest), clip, after, manifest.layout, view, choice, facts)


def _words(choice: Choice) -> str:
    recipe, variant = choice.recipe, choice.variant
    named = f"variant {variant}" if recipe is None else f"{recipe.where}, variant {recipe.variant}"
    return f"{choice.name}, {named}; draws of seed {choice.seed}, epoch {choice.epoch}"


def _scene(
    named: tuple[str, str],
    clip: np.ndarray,
    after: Augmented,
    layout: Layout,
    view: str,
    choice: Choice,
    facts: Mapping[str, str],
) -> Scene:
    shown = derive(clip, view, layout)
    present = [m for m in range(clip.shape[3]) if clip[..., m].any() or after.shown[..., m].any()]
    before = _panel(view, clip, shown, layout, present, "before")
    panel = _panel(view, after.joint, after.shown, layout, present, f"after {choice.name}")
    if after.marked is not None:
        panel = replace(panel, marked=after.marked.transpose(2, 0, 1)[present], means=after.means)
    drawn = DRAWN[view].format(scale=arrow_scale((before, panel)))
    about = {
        "dataset": facts["dataset"],
        "view": f"{drawn}, from where it was before the mix"
        if view == "motion" and after.joints_before
        else drawn,
        "frames": f"{clip.shape[1]}, played at {CLIP_RATE:g} per second",
        "bodies": f"{len(present)} of at most {clip.shape[3]}",
    }
    return Scene(
        *named,
        {**about, **facts, **score_facts((before, panel)), **after.drawn},
        layout,
        CLIP_RATE,
        (before, panel),
    )


def _panel(
    view: str, joint: np.ndarray, shown: np.ndarray, layout: Layout, present: list[int], caption: str
) -> Panel:
    """Lay out the bodies `present` of a clip, except in the frames where they are zero."""
    like = np.abs(shown) if view == "bone" else np.abs(joint) + np.abs(shown)
    joint, shown = (absent_as_nan(x, like)[..., present] for x in (joint, shown))
    return make_panel(view, joint, shown, layout, tuple(f"body {m + 1}" for m in present), caption)
