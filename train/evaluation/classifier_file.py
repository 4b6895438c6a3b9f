"""A network trained with labels as a file: encoder, linear layer, class names and what they were trained on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.models.encoders import build_encoder
from skelpipe.models.weights import export_encoder, load_encoder
from skelpipe.plugins import origins, require, used
from skelpipe.preprocess import AS_AUTHORS, Policies
from skelpipe.skeleton import Layout
from skelpipe.train.running.networks import Networks
from skelpipe.train.running.provenance import (
    CLIP_NAMES,
    PLUGINS,
    ClipFacts,
    Provenance,
    plugins_in,
    plugins_text,
)
from skelpipe.untrusted import described, shown

__all__ = ["Origin", "export_classifier", "load_classifier", "read_origin"]

KIND = "skelpipe-classifier-1"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a classifier comes from, and all that is needed to use it on other recordings.

    `what` describes its encoder in a line for people, `method` is the one that pre-trained it, `trained_on` the
    dataset that the encoder was trained on; both are empty where there is none. `provenance.clips`, `manifest`,
    `second_body`, `policies` and `dtype` say how clips are made. `encoder` is the section that `build_encoder`
    takes, `recipe` says how the classifier was trained, `classes` are the names of the scores.
    """

    provenance: Provenance
    protocol: str
    what: str
    method: str
    trained_on: str
    manifest: str
    second_body: str
    policies: Mapping[str, str]
    dtype: str
    epoch: int
    classes: tuple[str, ...]
    encoder: Mapping[str, Any]
    recipe: Mapping[str, Any]

    @classmethod
    def of(cls, dataset: Dataset, *, view: str, seed: int, amp: bool = False, **more: Any) -> "Origin":
        """Return the origin of a classifier of a dataset's clips; `more` are the remaining fields."""
        return cls(
            provenance=Provenance(clips=ClipFacts.of(dataset), view=view, views=(view,), seed=seed, amp=amp),
            manifest=dataset.name,
            second_body=str(dataset.card["options"].get("second_body", "zeros")),
            policies=asdict(Policies.of_options(dataset.card["options"])),
            dtype=str(dataset.card["dtype"]),
            classes=dataset.classes,
            **more,
        )

    def metadata(self) -> dict[str, str]:
        """Return it as plain texts, for the header of a safetensors file."""
        provenance = self.provenance
        how = {"view": provenance.view, "seed": json.dumps(provenance.seed), "amp": json.dumps(provenance.amp)}
        own = {name: getattr(self, name) for name in OWN}
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in own.items()}
        needed = used(origins([("backbone", str(self.encoder.get("name")))]))
        plugins = {PLUGINS: plugins_text(needed)} if needed else {}
        return {"kind": KIND, **texts, **provenance.clips.texts(), **how, **plugins}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> "Origin":
        """Read back what `metadata` returned; SkelpipeError for what is wrong, in which `where` names the file."""
        metadata = {"policies": json.dumps(asdict(AS_AUTHORS)), **metadata}  # older files have none
        if missing := [name for name in (*OWN, *CLIP_NAMES, "view", "seed", "amp") if name not in metadata]:
            raise SkelpipeError(f"{where}: does not say what it was trained on (no {', '.join(missing)})")
        found: dict[str, Any] = {name: metadata[name] for name in OWN}
        require([each.module for each in plugins_in(metadata)], where)
        try:
            for name in ("epoch", "classes", "encoder", "recipe", "policies"):
                found[name] = _json(metadata, name)
            provenance = Provenance(
                clips=ClipFacts.from_texts(metadata),
                view=metadata["view"],
                views=(metadata["view"],),
                seed=_json(metadata, "seed"),
                amp=_json(metadata, "amp"),
            )
        except ValueError as error:
            raise SkelpipeError(f"{where}: its metadata cannot be read: {shown(error)}") from None
        return cls(**found | {"classes": tuple(map(str, found["classes"])), "provenance": provenance})


OWN = tuple(each.name for each in fields(Origin) if each.name != "provenance")


def _json(metadata: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(metadata[name])
    except ValueError:
        raise ValueError(f"{name} is {described(metadata[name])}") from None


def export_classifier(path: Path, encoder: nn.Module, layer: nn.Linear, origin: Origin) -> None:
    """Write a classifier as safetensors: `layer` maps the encoder's h to one score per class.

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
        raise SkelpipeError(f"{path}: is no safetensors file: {shown(error)}") from None
    return Origin.from_metadata(metadata, str(path)) if metadata.get("kind") == KIND else None


def load_classifier(path: Path, origin: Origin, layout: Layout) -> Networks:
    """Return encoder and linear layer (`head`) of a file; SkelpipeError naming what does not fit its origin.

    UsageError for an encoder section that is wrong. torch's global generator is not touched.
    """
    with torch.random.fork_rng(devices=()):
        channels = len(origin.provenance.clips.channels)
        encoder = build_encoder(origin.encoder, layout, "default", channels)
        networks = Networks(encoder, nn.Linear(encoder.feature_dim, len(origin.classes)))
    load_encoder(path, networks)
    return networks
