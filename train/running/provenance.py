"""What weights were trained on, and how. Checkpoints and exports carry it; resuming and evaluation check it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from skelpipe.dataset import Dataset, JoinedDataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models.build import METHODS
from skelpipe.plugins import MissingPlugin, Plugin, loaded
from skelpipe.settings import flat, nested, with_sections
from skelpipe.train.recipes.reader import differences, recipe_from
from skelpipe.train.recipes.schema import FinetuneRecipe, PretrainRecipe

__all__ = [
    "CLIP_NAMES",
    "LABELLED",
    "PLUGINS",
    "XYZ",
    "ClipFacts",
    "Provenance",
    "dataset_name",
    "plugins_in",
    "plugins_text",
]

PLUGINS = "plugins"  # the key of files that name them
LABELLED = "start"  # the key that only checkpoints of a training with labels have
NAMES = {"bodies": "persons"}  # fields that files know by another name
# Layouts that files know by another name: before there was a layout in the order of Kinect v1's SDK,
# `kinect-v1-20` was the order of MSR Action3D's files.
LAYOUTS = {"msr-action3d-20": "kinect-v1-20", "kinect-v1-20": "kinect-v1-20-sdk"}
CHANNELS, XYZ = "channels", ("x", "y", "z")
SHOWN = {"digest": "training clips", "start": "initial weights"}  # of a training with labels: hashes tell nothing


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What clips a network was trained on: of which dataset (`ntu60-xsub`), made how, and their shape.

    `dataset` and `digest` are empty for released weights, which do not tell them. Files name the channels only
    where there are others than x, y, z.
    """

    dataset: str = ""
    digest: str = ""
    profile: str
    layout: str
    frames: int
    bodies: int
    channels: tuple[str, ...] = XYZ

    @classmethod
    def of(cls, dataset: Dataset) -> "ClipFacts":
        """Return the facts of a dataset's clips."""
        return cls(
            dataset=dataset_name(dataset),
            digest=dataset.digest,
            profile=dataset.profile,
            layout=dataset.layout.name,
            frames=dataset.shape[1],
            bodies=dataset.shape[3],
            channels=dataset.channels,
        )

    def texts(self) -> dict[str, str]:
        """Return them as plain texts, by the names that files have for them."""
        texts = {NAMES.get(name, name): str(value) for name, value in nested(self).items() if name != CHANNELS}
        texts["layout"] = LAYOUTS.get(self.layout, self.layout)
        return texts if self.channels == XYZ else {**texts, CHANNELS: " ".join(self.channels)}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "ClipFacts":
        """Read back what `texts` wrote. Raises KeyError or ValueError for what is missing or no number."""
        names = [name for name in cls.__dataclass_fields__ if name != CHANNELS]
        found: dict[str, Any] = {name: texts[NAMES.get(name, name)] for name in names}
        channels = tuple(texts.get(CHANNELS, " ".join(XYZ)).split())
        numbers = {name: _whole_number(name, texts) for name in ("frames", "bodies")}
        in_files = {written: layout for layout, written in LAYOUTS.items()}
        found["layout"] = in_files.get(found["layout"], found["layout"])
        return cls(**found | numbers, channels=channels)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What weights were trained on, by which recipe, and all else that decides them.

    `view` is what the training showed, `views` those that there are networks for; `recipe` is None for released
    weights. `start` names the weights that pre-training began from where they were not drawn, and is a hash of the
    initial weights for training with labels. `weights` are those of several datasets in one stream, empty where
    all are 1. `plugins` are those that the recipe takes something from, with version and hash.
    """

    clips: ClipFacts
    view: str
    views: tuple[str, ...]
    recipe: PretrainRecipe | FinetuneRecipe | None = None
    seed: int = 0
    amp: bool = False
    compiled: bool = False
    start: str = ""
    weights: tuple[float, ...] = ()
    plugins: tuple[Plugin, ...] = ()

    @property
    def pretraining(self) -> PretrainRecipe:
        """The recipe of a pre-training, which only the provenance of one has."""
        assert isinstance(self.recipe, PretrainRecipe)
        return self.recipe

    def metadata(self) -> dict[str, str]:
        """Return it as plain texts, for a checkpoint or the header of a safetensors file."""
        recipe = self.recipe
        how = {"view": self.view, "seed": str(self.seed), "amp": str(self.amp)}
        if isinstance(recipe, FinetuneRecipe):
            values = json.dumps(flat(recipe.content()))
            labelled = {"digest": self.clips.digest, **how, LABELLED: self.start, "recipe": values}
            return labelled | self._plugins()
        recipe = self.pretraining
        reported = {"reported": recipe.reported} if recipe.reported else {}
        texts = {"method": recipe.method, **self.clips.texts(), **how, "compiled": str(self.compiled)}
        texts["streams"] = " ".join(self.views)
        if self.start:
            texts["begun_from"] = self.start
        if self.weights:
            texts["weights"] = _shown(self.weights)
        return {**texts, **self._plugins(), "recipe": json.dumps(recipe.content() | reported)}

    def _plugins(self) -> dict[str, str]:
        """Return the plug-ins as files have them: nothing where there are none."""
        return {PLUGINS: plugins_text(self.plugins)} if self.plugins else {}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> "Provenance":
        """Read back the metadata of a pre-training; `where` names the file in errors."""
        _require(metadata, PRETRAINING, f"{where}: does not say what it was trained on")
        try:
            return cls(
                clips=ClipFacts.from_texts(metadata),
                view=metadata["view"],
                views=tuple(metadata["streams"].split()),
                recipe=recipe_from(json.loads(metadata["recipe"]), f"recipe {where}", PretrainRecipe),
                seed=int(metadata["seed"]),
                amp=metadata["amp"] == "True",
                compiled=metadata["compiled"] == "True",
                start=metadata.get("begun_from", ""),
                weights=tuple(map(float, metadata.get("weights", "").split())),
                plugins=plugins_in(metadata),
            )
        except MissingPlugin:
            raise
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            changed = [str(each) for each in plugins_in(metadata) if each not in loaded()]
            why = f"; it was written with {' and '.join(changed)}, whose files are others now" if changed else ""
            raise SkelpipeError(f"{where}: its metadata cannot be read: {error}{why}") from None

    def changed_plugins(self, saved: Mapping[str, str]) -> list[str]:
        """Return those plug-ins whose files are others than those that `saved` names."""
        before = {each.module: each for each in plugins_in(saved)}
        return [str(each) for each in self.plugins if before.get(each.module, each).sha256 != each.sha256]

    def differences(self, saved: Mapping[str, str], where: str) -> list[str]:
        """Return one text for each field or recipe value in which the run that wrote `saved` was another one.

        More epochs are no difference where they change nothing in those that are done.
        """
        if isinstance(self.recipe, FinetuneRecipe):
            return self._other_labelled(self.recipe, saved, where)
        before, now = Provenance.from_metadata(saved, where), self.metadata()
        changed = [f"{name}: {saved[name]}, now {now[name]}" for name in COMPARED if saved[name] != now[name]]
        if before.clips.channels != self.clips.channels:
            changed.append(f"channels: {_list(before.clips.channels)}, now {_list(self.clips.channels)}")
        if before.start != self.start:
            changed.append(f"start (--checkpoint): {before.start or 'none'}, now {self.start or 'none'}")
        if before.weights != self.weights:
            changed.append(f"weights of the datasets: {_shown(before.weights)}, now {_shown(self.weights)}")
        recipe, new = before.pretraining, self.pretraining
        if new.epochs > recipe.epochs and not _depends_on_run_length(recipe):
            recipe = replace(recipe, epochs=new.epochs)
        return changed + differences(recipe, new)

    def _other_labelled(self, recipe: FinetuneRecipe, saved: Mapping[str, str], where: str) -> list[str]:
        now = self.metadata()
        _require(saved, now.keys() - {PLUGINS}, f"{where}: is no checkpoint of a training with labels")
        changed = [
            SHOWN.get(name, f"{name}: {saved[name]}, now {text}")
            for name, text in now.items()
            if name not in ("recipe", PLUGINS) and saved[name] != text
        ]
        old = recipe_from(with_sections(json.loads(saved["recipe"])), f"recipe {where}", FinetuneRecipe)
        if recipe.epochs > old.epochs and not _depends_on_run_length(old):
            old = replace(old, epochs=recipe.epochs)
        return changed + differences(old, recipe)

    def check(self, where: object, dataset: Dataset, view: str) -> None:
        """Raise UsageError with all `misfits` of the weights at `where`."""
        if found := self.misfits(dataset, view):
            raise UsageError(f"{where} does not fit {dataset.path}: {'; '.join(found)}")

    def misfits(self, dataset: Dataset, view: str) -> list[str]:
        """Return a text for each field in which this view of a dataset differs from what was trained on.

        Dataset, classes and split may differ: that is transfer.
        """
        clips, here = self.clips, ClipFacts.of(dataset)
        both = {
            "frames": (clips.frames, here.frames),
            "bodies": (clips.bodies, here.bodies),
            "layout": (clips.layout, here.layout),
            "channels": (_list(clips.channels), _list(here.channels)),
            "preprocessing profile": (clips.profile, here.profile),
        }
        found = [(name, was, now) for name, (was, now) in both.items() if was != now]
        if view not in self.views:
            found.insert(0, ("view", " and ".join(self.views), view))
        return [f"{name}: trained on {was}, asked for {now}" for name, was, now in found]


# As all files have them.
CLIP_NAMES = tuple(NAMES.get(each.name, each.name) for each in fields(ClipFacts) if each.name != CHANNELS)
COMPARED = (*CLIP_NAMES, "view", "seed", "amp", "compiled")
PRETRAINING = ("recipe", "streams", *COMPARED)  # what the metadata of a pre-training must have


def dataset_name(dataset: Dataset) -> str:
    """Return name and split as recipes spell them: `ntu60-xsub`, those of several datasets joined by `+`."""
    return "+".join(
        dataset.part_names if isinstance(dataset, JoinedDataset) else [f"{dataset.name}-{dataset.split}"]
    )


def plugins_text(plugins: Sequence[Plugin]) -> str:
    """Return plug-ins as the metadata of files have them."""
    return json.dumps([each.to_plain() for each in plugins])


def plugins_in(metadata: Mapping[str, str]) -> tuple[Plugin, ...]:
    """Return the plug-ins that metadata name, loaded or not."""
    return tuple(map(Plugin.from_plain, json.loads(metadata.get(PLUGINS, "[]"))))


def _depends_on_run_length(recipe: PretrainRecipe | FinetuneRecipe) -> bool:
    """Say whether steps depend on the number of epochs: such a run cannot be lengthened."""
    if recipe.optimiser.schedule == "cosine":
        return True
    return isinstance(recipe, PretrainRecipe) and METHODS[recipe.method].depends_on_run_length


def _shown(weights: Sequence[float]) -> str:
    return " ".join(f"{weight:.17g}" for weight in weights) or "all 1"


def _list(channels: Sequence[str]) -> str:
    return ", ".join(channels)


def _whole_number(name: str, texts: Mapping[str, str]) -> Any:
    key = NAMES.get(name, name)
    try:
        return int(texts[key])
    except ValueError:
        raise ValueError(f"{key} is {texts[key][:40]!r}") from None


def _require(metadata: Mapping[str, str], names: Any, complaint: str) -> None:
    if missing := [name for name in names if name not in metadata]:
        raise SkelpipeError(f"{complaint} (no {', '.join(missing)})")
