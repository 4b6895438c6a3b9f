"""A network trained with labels as a file: encoder, linear layer, class names and what they were trained on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.models.encoders import build_encoder
from skelpipe.models.weights import export_encoder, load_encoder
from skelpipe.skeleton import Layout
from skelpipe.train.running.networks import Networks
from skelpipe.train.running.provenance import clip_facts

__all__ = ["Origin", "export_classifier", "load_classifier", "read_origin"]

KIND = "skelpipe-classifier-1"


@dataclass(frozen=True)
class Origin:
    """What a classifier was trained on, and all that is needed to use it on other recordings.

    `what` is a line for people about its encoder, `method` the one that pre-trained it, `trained_on` the dataset
    whose clips made the encoder what it is; both are empty where there is none. `manifest`, `profile`, `frames`,
    `persons`, `second_body` and `dtype` say how clips are made, `view` which stream of them is read, `encoder`
    what `build_encoder` makes, `recipe` how the training went.
    """

    protocol: str
    what: str
    method: str
    trained_on: str
    manifest: str
    dataset: str  # name and split, such as `ntu60-xsub`
    digest: str
    profile: str
    layout: str
    frames: int
    persons: int
    second_body: str
    dtype: str
    view: str
    seed: int
    amp: bool
    epoch: int
    classes: tuple[str, ...]
    encoder: Mapping[str, Any]
    recipe: Mapping[str, Any]

    @classmethod
    def of(cls, dataset: Dataset, **more: Any) -> "Origin":
        """Return the origin of a classifier of a dataset's clips; `more` are the fields that it does not tell."""
        return cls(
            manifest=dataset.name,
            **clip_facts(dataset),
            second_body=str(dataset.card["options"].get("second_body", "zeros")),
            dtype=str(dataset.card["dtype"]),
            classes=dataset.classes,
            **more,
        )

    def metadata(self) -> dict[str, str]:
        """Return it as plain texts, for the header of a safetensors file."""
        texts = {"kind": KIND}
        for each in fields(self):
            value = getattr(self, each.name)
            texts[each.name] = value if isinstance(value, str) else json.dumps(value)
        return texts

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> "Origin":
        """Read the texts of `metadata` back; SkelpipeError, which `where` names the file in, for what is wrong."""
        missing = [each.name for each in fields(cls) if each.name not in metadata]
        if missing:
            raise SkelpipeError(f"{where}: does not say what it was trained on (no {', '.join(missing)})")
        found: dict[str, Any] = {}
        for each in fields(cls):
            text = metadata[each.name]
            try:
                found[each.name] = text if each.type is str else json.loads(text)
            except ValueError:
                raise SkelpipeError(
                    f"{where}: its metadata cannot be read: {each.name} is {text[:40]!r}"
                ) from None
        return cls(**{**found, "classes": tuple(map(str, found["classes"]))})


def export_classifier(path: Path, encoder: nn.Module, layer: nn.Linear, origin: Origin) -> None:
    """Write a classifier as safetensors: `layer` maps the encoder's h to a score a class.

    The file appears under its name only when it is whole.
    """
    export_encoder(path, Networks(encoder, layer), origin.metadata())


def read_origin(path: Path) -> Origin | None:
    """Return where a classifier comes from, or None where the file holds none; its weights are not read."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SkelpipeError(f"{path}: is no safetensors file: {error}") from None
    return Origin.from_metadata(metadata, str(path)) if metadata.get("kind") == KIND else None


def load_classifier(path: Path, origin: Origin, layout: Layout) -> Networks:
    """Return encoder and linear layer (`head`); SkelpipeError naming what does not fit, UsageError for its origin.

    torch's global generator stays where it is.
    """
    with torch.random.fork_rng(devices=()):
        encoder = build_encoder(origin.encoder, layout, "default")
        networks = Networks(encoder, nn.Linear(encoder.feature_dim, len(origin.classes)))
    load_encoder(path, networks)
    return networks
