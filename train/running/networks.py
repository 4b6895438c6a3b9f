"""Networks to evaluate: exported weights, training checkpoints and newly initialised ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models import build_method
from skelpipe.models.method import Method
from skelpipe.models.statefile import is_torch_file
from skelpipe.models.weights import export_encoder, load_encoder
from skelpipe.skeleton import Layout
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.checkpoint import newest_checkpoint, read_checkpoint
from skelpipe.train.running.kept_network import why_no_classifier
from skelpipe.train.running.named_paths import check_weights
from skelpipe.train.running.provenance import LABELLED, Provenance
from skelpipe.train.running.run_folder import RunFolder

__all__ = ["Networks", "export", "find_weights", "initialised", "load_networks", "read_provenance"]

INITIALISERS = {"paper": "N(0, 0.02) weights, zero biases", "default": "PyTorch's default weights"}


class Networks(nn.Module):
    """The two parts of a method's query network: clips -> h -> z."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        # Buffers that must be equal in a file that is loaded: see `load_encoder`.
        self.constants: tuple[str, ...] = tuple(f"encoder.{name}" for name in getattr(encoder, "constants", ()))

    @classmethod
    def of(cls, method: Method, view: str) -> "Networks":
        """Return a method's own networks for a view, weights shared."""
        return cls(*method.networks(view))

    def embedder(self, features: str) -> nn.Module:
        """Return the map from clips to `h`, the pooled feature, or `z`, the projected one."""
        return self.encoder if features == "h" else nn.Sequential(self.encoder, self.head)


def initialised(
    recipe: PretrainRecipe,
    layout: Layout,
    seed: int,
    view: str = "joint",
    anchor: Callable[[], Tensor] | None = None,
    channels: int = 3,
) -> Method:
    """Build the recipe's method as a run with this seed starts from it; see `build_method`."""
    torch.manual_seed(seed)
    return build_method(recipe, layout, view, anchor, channels)


def export(folder: RunFolder, method: Method, provenance: Provenance, epoch: int) -> None:
    """Write each view's query encoder and head with their provenance, as safetensors."""
    for view in provenance.views:
        path = folder.weights if view == provenance.view else folder.weights_of(view)
        metadata = replace(provenance, views=(view,)).metadata()
        export_encoder(path, Networks.of(method, view), {**metadata, "epoch": str(epoch)})


def find_weights(source: str, view: str | None = None) -> Path:
    """Return the file to read: `source`, or a run folder's exported weights, else its newest checkpoint.

    `source` may also be the folder of a run's checkpoints. `view` chooses among the weights of a run that trained
    networks for several.
    """
    path = Path(source)
    check_weights(source)
    if not path.is_dir():
        return path
    if not RunFolder(path).is_run() and (newest := newest_checkpoint(path, lambda text: None)):
        return newest[0]
    folder = RunFolder(path)
    exported = folder.weights if view is None or not folder.weights_of(view).is_file() else folder.weights_of(view)
    for whole in (exported, folder.classifier):
        if whole.is_file():
            return whole
    found = newest_checkpoint(folder.checkpoints, lambda text: None)
    if found is None:
        names = f"{folder.weights.name}, {folder.classifier.name}"
        raise UsageError(f"{source}: holds none of {names} and checkpoints")
    return found[0]


def read_provenance(path: Path) -> tuple[Provenance, int]:
    """Return the provenance of pre-trained weights, and for how many epochs they were trained.

    Raises UsageError for a checkpoint of a training with labels, whose network is exported when it is finished.
    """
    if is_torch_file(path):
        checkpoint = read_checkpoint(path)
        if LABELLED in checkpoint.identity:
            raise UsageError(f"{path}: {why_no_classifier(path)}")
        return Provenance.from_metadata(checkpoint.identity, str(path)), checkpoint.epoch
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SkelpipeError(f"{path}: is no safetensors file: {error}") from None
    if "classes" in metadata:
        raise UsageError(f"{path}: is a classifier, which was trained with labels")
    return Provenance.from_metadata(metadata, str(path)), int(metadata.get("epoch", "0"))


def load_networks(path: Path, provenance: Provenance, layout: Layout, view: str) -> Networks:
    """Build the networks for one view and load their weights from a file; SkelpipeError where they do not fit."""
    method = build_method(provenance.pretraining, layout, provenance.view, channels=len(provenance.clips.channels))
    if is_torch_file(path):
        try:
            method.load_state_dict(read_checkpoint(path).model)
        except RuntimeError as error:
            raise SkelpipeError(f"{path}: does not fit its own recipe: {' '.join(str(error).split())}") from None
        return Networks.of(method, view)
    networks = Networks.of(method, view)
    load_encoder(path, networks)
    return networks
