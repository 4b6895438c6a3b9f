"""Networks to be judged: exported weights, training checkpoints and freshly initialised ones."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models import build_method
from skelpipe.models.weights import export_encoder, load_encoder
from skelpipe.skeleton import Layout
from skelpipe.train.checkpoint import newest_checkpoint, read_checkpoint
from skelpipe.train.identity import Identity
from skelpipe.train.recipe import Recipe
from skelpipe.train.runfolder import RunFolder

__all__ = ["Networks", "export", "find_weights", "initialised", "load_networks", "read_identity"]

INITIALISERS = {"paper": "N(0, 0.02) weights, zero biases (spec C1)", "default": "PyTorch's default weights"}


class Networks(nn.Module):
    """The two halves of a method's query network: clips -> h -> z."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        # Buffers that must be equal in a file that is loaded: see `load_encoder`.
        self.constants: tuple[str, ...] = tuple(f"encoder.{name}" for name in getattr(encoder, "constants", ()))

    @classmethod
    def of(cls, method: nn.Module) -> "Networks":
        return cls(method.get_submodule("moco.encoder"), method.get_submodule("moco.head"))

    def embedder(self, features: str) -> nn.Module:
        """Return the map from clips to `h`, the pooled feature, or `z`, the projected one."""
        return self.encoder if features == "h" else nn.Sequential(self.encoder, self.head)


def initialised(recipe: Recipe, layout: Layout, seed: int) -> nn.Module:
    """Build the recipe's method as a run with this seed starts from it."""
    torch.manual_seed(seed)
    return build_method(recipe.nested(), layout)


def export(path: Path, method: nn.Module, identity: Identity, epoch: int) -> None:
    """Write the query encoder and its head with all that evaluation must know of them, as safetensors."""
    export_encoder(path, Networks.of(method), {**identity.metadata(), "epoch": str(epoch)})


def find_weights(source: str) -> Path:
    """Return the file to read: `source`, or a run folder's exported weights, else its newest checkpoint."""
    path = Path(source)
    if not path.is_dir():
        if not path.is_file():
            raise UsageError(f"{source}: there is no such run or file")
        return path
    folder = RunFolder(path)
    if folder.weights.is_file():
        return folder.weights
    found = newest_checkpoint(folder.checkpoints, lambda text: None)
    if found is None:
        raise UsageError(f"{source}: holds neither {folder.weights.name} nor a checkpoint")
    return found[0]


def read_identity(path: Path) -> tuple[Identity, int]:
    """Return what the weights in a file were trained on, and for how many epochs."""
    if path.suffix == ".pt":
        checkpoint = read_checkpoint(path)
        return Identity.from_metadata(checkpoint.identity, str(path)), checkpoint.epoch
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SkelpipeError(f"{path}: is no safetensors file: {error}") from None
    return Identity.from_metadata(metadata, str(path)), int(metadata.get("epoch", "0"))


def load_networks(path: Path, recipe: Recipe, layout: Layout) -> Networks:
    """Build the recipe's networks and fill them from a file; weights that do not fit are an error."""
    method = build_method(recipe.nested(), layout)
    if path.suffix == ".pt":
        try:
            method.load_state_dict(read_checkpoint(path).model)
        except RuntimeError as error:
            raise SkelpipeError(f"{path}: does not fit its own recipe: {' '.join(str(error).split())}") from None
        return Networks.of(method)
    networks = Networks.of(method)
    load_encoder(path, networks)
    return networks
