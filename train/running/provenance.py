"""What a network was trained on. Checkpoints and exported weights carry it; resuming and evaluation check it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models.build import METHODS
from skelpipe.train.recipes.recipe import Recipe, differences, parse_recipe

__all__ = ["Identity", "clip_facts", "dataset_name"]


@dataclass(frozen=True)
class Identity:
    """One pre-training run: recipe, dataset and the options that change its arithmetic."""

    recipe: Recipe
    dataset: str  # name and split, such as `ntu60-xsub`
    digest: str
    profile: str
    layout: str
    frames: int
    persons: int
    view: str
    seed: int
    amp: bool
    compiled: bool
    streams: tuple[str, ...] = ()  # the views that networks are there for
    begun_from: str = ""  # the weights that the run started from, where they were not drawn

    @classmethod
    def of(
        cls, dataset: Dataset, recipe: Recipe, view: str, seed: int, *, amp: bool = False, compiled: bool = False
    ) -> "Identity":
        """Return the identity of a run that is about to start and whose networks read `view` alone."""
        return cls(
            recipe=recipe,
            **clip_facts(dataset),
            view=view,
            seed=seed,
            amp=amp,
            compiled=compiled,
            streams=(view,),
        )

    def metadata(self) -> dict[str, str]:
        """Return the identity as plain texts, for a checkpoint or a safetensors header."""
        texts = {name: str(getattr(self, name)) for name in FIELDS}
        texts["streams"] = " ".join(self.streams)
        if self.begun_from:
            texts["begun_from"] = self.begun_from
        reported = {"reported": self.recipe.reported} if self.recipe.reported else {}
        return {"method": self.recipe.method, **texts, "recipe": json.dumps(self.recipe.nested() | reported)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> "Identity":
        """Read the texts of `metadata` back; `where` names the file in errors."""
        missing = [name for name in ("recipe", "streams", *FIELDS) if name not in metadata]
        if missing:
            raise SkelpipeError(f"{where}: does not say what it was trained on (no {', '.join(missing)})")
        try:
            return cls(
                recipe=parse_recipe(metadata["recipe"], where),
                dataset=metadata["dataset"],
                digest=metadata["digest"],
                profile=metadata["profile"],
                layout=metadata["layout"],
                frames=int(metadata["frames"]),
                persons=int(metadata["persons"]),
                view=metadata["view"],
                seed=int(metadata["seed"]),
                amp=metadata["amp"] == "True",
                compiled=metadata["compiled"] == "True",
                streams=tuple(metadata["streams"].split()),
                begun_from=metadata.get("begun_from", ""),
            )
        except (ValueError, UsageError) as error:
            raise SkelpipeError(f"{where}: its metadata cannot be read: {error}") from None

    def differences(self, now: "Identity") -> list[str]:
        """Return one text for each field or recipe value in which a run that is to go on differs.

        More epochs are no difference where they change nothing in those that are done.
        """
        changed = [
            f"{name}: {getattr(self, name)}, now {getattr(now, name)}"
            for name in FIELDS
            if getattr(self, name) != getattr(now, name)
        ]
        if self.begun_from != now.begun_from:
            changed.append(f"start (--checkpoint): {self.begun_from or 'none'}, now {now.begun_from or 'none'}")
        recipe = self.recipe
        if now.recipe["epochs"] > recipe["epochs"] and not METHODS[recipe.method].spans_run:
            recipe = replace(recipe, values={**recipe.values, "epochs": now.recipe["epochs"]})
        return changed + differences(recipe, now.recipe)


FIELDS = ("dataset", "digest", "profile", "layout", "frames", "persons", "view", "seed", "amp", "compiled")


def clip_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a network trained on a dataset's clips remembers of them."""
    return {
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "profile": dataset.profile,
        "layout": dataset.layout.name,
        "frames": dataset.shape[1],
        "persons": dataset.shape[3],
    }


def dataset_name(dataset: Dataset) -> str:
    """Return name and split as recipes spell them: `ntu60-xsub`."""
    return f"{dataset.name}-{dataset.split}"
