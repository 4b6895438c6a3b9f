"""Trained weights of any kind: a run's, its checkpoints, exported ones, classifiers and released files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from skelpipe.errors import UsageError
from skelpipe.front.descriptions import counted
from skelpipe.manifest import Manifest
from skelpipe.models.released.checkpoint import ReleasedCheckpoint
from skelpipe.settings import nested
from skelpipe.skeleton import Layout
from skelpipe.skeleton import layout as layout_named
from skelpipe.train.evaluation.classifier_file import Origin, load_classifier, read_origin
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.kept_network import why_no_network
from skelpipe.train.running.networks import find_weights, load_networks, read_provenance
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.released_networks import default_view, embedder, read_released, released_provenance

__all__ = ["LABELLED", "PRETRAINED", "TrainedNetwork", "TrainedWeights", "find_trained"]

PRETRAINED, RELEASED, LABELLED = "pretrained", "released", "labelled"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its trained weights; the fields are those of `EvaluatedNetwork`, and its projection head."""

    embedder: nn.Module
    encoder: nn.Module
    name: str
    view: str
    features: str
    recipe: PretrainRecipe | None = None
    method: str | None = None
    trained_on: str | None = None
    architecture: Mapping[str, Any] | None = None
    head: nn.Module | None = None


@dataclass(frozen=True)
class TrainedWeights:
    """A file of weights, found and recognised; its tensors are read by `load`.

    `kind` is `pretrained`, `labelled` (`origin` tells of it) or `released`. `provenance` says what clips it was
    trained on, `view` and `features` are those that are wanted of it, `epoch` is the number of epochs of
    pre-training.
    """

    path: Path
    kind: str
    provenance: Provenance
    view: str
    features: str
    epoch: int = 0
    origin: Origin | None = None
    released: ReleasedCheckpoint | None = None

    def require_view(self) -> None:
        """Raise UsageError where there is no network for the view."""
        if self.view not in (views := self.provenance.views):
            raise UsageError(f"{self.path}: has networks for {' and '.join(views)}, not for {self.view}")

    def layout(self, manifest: Manifest | None = None) -> Layout:
        """Return the layout of the weights, that of `manifest` or a built-in one.

        Raises UsageError where the manifest is for another, or there is none and the layout is not built in.
        """
        name = self.provenance.clips.layout
        if manifest is not None:
            if manifest.layout.name != name:
                raise UsageError(f"{self.path}: is for {name}, {manifest.name} for {manifest.layout.name}")
            return manifest.layout
        try:
            return layout_named(name)
        except UsageError as error:
            raise UsageError(
                f"{self.path}: its layout is not built in: name its manifest, --dataset or dataset= ({error})"
            ) from None

    def load(self, layout: Layout) -> TrainedNetwork:
        """Return the network for clips of a layout; SkelpipeError where the file does not fit its own recipe."""
        if self.released is not None:
            return self._released(self.released)
        if self.origin is not None:
            return self._labelled(self.origin, layout)
        recipe = self.provenance.pretraining
        networks = load_networks(self.path, self.provenance, layout, self.view)
        return TrainedNetwork(
            networks.embedder(self.features),
            networks.encoder,
            f"{recipe.method}, {counted(self.epoch, 'epoch')} on {self.provenance.clips.dataset}",
            self.view,
            self.features,
            recipe=recipe,
            method=recipe.method,
            trained_on=self.provenance.clips.dataset,
            architecture=nested(recipe.encoder),
            head=networks.head,
        )

    def _released(self, released: ReleasedCheckpoint) -> TrainedNetwork:
        encoder = released.branch(self.view).encoder
        settings = {"graph": released.graph, "width": released.width, "out_channels": encoder.feature_dim}
        return TrainedNetwork(
            embedder(released, self.view, self.features),
            encoder,
            f"{released.method} as released ({released.path.name})",
            self.view,
            self.features,
            method=released.method,
            architecture={"name": "stgcn", **settings},
            head=released.branch(self.view).head,
        )

    def _labelled(self, origin: Origin, layout: Layout) -> TrainedNetwork:
        if self.features == "z":
            raise UsageError(f"{self.path}: was trained with labels and has no projection head: pass --features h")
        encoder = load_classifier(self.path, origin, layout).encoder
        return TrainedNetwork(
            encoder,
            encoder,
            origin.what,
            self.view,
            self.features,
            method=origin.method or None,
            trained_on=origin.trained_on or None,
            architecture=origin.encoder,
        )


def find_trained(
    source: str, view: str | None, features: str | None, say: Callable[[str], None]
) -> TrainedWeights:
    """Find the weights of a run folder or file and say what they are.

    `view` None is the first that they were trained on. `features` None is z; where there is no projection head, it
    is h, which is said. Raises UsageError where there is no such file or it is of another kind, SkelpipeError
    where it is damaged.
    """
    try:
        path = find_weights(source, view)
    except UsageError:
        if why := why_no_network(Path(source)):
            raise UsageError(f"{source}: {why}") from None
        raise
    released = read_released(path)
    origin = read_origin(path) if released is None else None
    if features is None and (origin is not None or (released is not None and released.branch().head is None)):
        say(f"{path} has no projection head: its pooled features h are evaluated")
        features = "h"
    features = features or "z"
    if released is not None:
        chosen = view or default_view(released, say)
        provenance = released_provenance(released, chosen)
        return TrainedWeights(path, RELEASED, provenance, chosen, features, released=released)
    if origin is not None:
        return TrainedWeights(
            path, LABELLED, origin.provenance, view or origin.provenance.view, features, origin=origin
        )
    provenance, epoch = read_provenance(path)
    return TrainedWeights(path, PRETRAINED, provenance, view or provenance.views[0], features, epoch)
