"""The actionlets of a trained network, found as ActCLR finds them, for drawings."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.actclr import ActCLR, regions_of
from skelpipe.models.actionlets import Actionlets
from skelpipe.models.encoders import Encoder
from skelpipe.models.statefile import is_torch_file
from skelpipe.train.running.checkpoint import newest_checkpoint, read_checkpoint
from skelpipe.train.running.networks import Networks, find_weights, load_networks, read_provenance
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.run_folder import RunFolder

__all__ = ["TrainedActionlet", "trained_actionlet"]


@dataclass(frozen=True)
class TrainedActionlet:
    """Maps clips [N,C,T,V,M] to their actionlets [N,T',V,M], found by `networks` against `anchor` [C,T,V,M].

    `regions` says how. `means` tells in words whose actionlets these are.
    """

    networks: Networks
    regions: Actionlets
    anchor: Tensor
    means: str

    def __call__(self, clips: Tensor) -> Tensor:
        return self._found(self.regions, clips)

    def activation(self, clips: Tensor) -> Tensor:
        """Return the map behind the actionlets [N,T',V,M], smoothed, as a share of each body's maximum."""
        return self._found(replace(self.regions, variant="paper", soft=True), clips)

    def _found(self, regions: Actionlets, clips: Tensor) -> Tensor:
        return regions.of_clips(cast(Encoder, self.networks.encoder), self.networks.head, clips, self.anchor)


def trained_actionlet(source: str, dataset: Dataset, view: str) -> TrainedActionlet:
    """Return what finds actionlets in clips of `view` by the network of a run, or of a file of its weights.

    A run's newest checkpoint is taken where there is one, as it has the key network, by which ActCLR finds
    actionlets; exported weights and other methods have the query network in its place. How they are found is what
    an ActCLR run's recipe says, else the default; the mean training clip stands in for the mean of a batch.
    Raises UsageError where the network does not fit the dataset or has no joints.
    """
    path, provenance, epoch = _weights(source, view)
    provenance.check(path, dataset, view)
    recipe, whole = provenance.pretraining, is_torch_file(path)
    of_actclr = recipe.method == ActCLR.name
    networks, which = load_networks(path, provenance, dataset.layout, view), "query network"
    if whole and of_actclr:
        networks, which = _key_networks(path, networks), "key network"
    if not getattr(networks.encoder, "joint_map", False):
        raise UsageError(
            f"{source}: actionlets are found among the joints of a feature map, and the backbone "
            f"{recipe.encoder.name!r} has none"
        )
    settings = recipe.settings if of_actclr else ActCLR.Settings()
    regions = regions_of(settings, dataset.layout, recipe.variant if of_actclr else "paper")
    means = f"that of the {which} of {source} ({recipe.method}, {epoch} epochs)"
    anchor = torch.from_numpy(dataset.anchor(view))
    anchor = torch.zeros_like(anchor) if settings.anchor == "zero" else anchor
    return TrainedActionlet(networks.eval(), regions, anchor, means)


def _weights(source: str, view: str) -> tuple[Path, Provenance, int]:
    """Return the newest checkpoint of a run, else its exported weights, or the file of that name."""
    path = Path(source)
    newest = newest_checkpoint(RunFolder(path).checkpoints, lambda text: None) if path.is_dir() else None
    path = find_weights(source, view) if newest is None else newest[0]
    return path, *read_provenance(path)


def _key_networks(path: Path, like: Networks) -> Networks:
    """Return the key network of a checkpoint, which has the same layers as the query network `like`."""
    saved, networks = read_checkpoint(path).model, deepcopy(like)
    for part, name in ((networks.encoder, "moco.key_encoder."), (networks.head, "moco.key_head.")):
        part.load_state_dict({key.removeprefix(name): x for key, x in saved.items() if key.startswith(name)})
    return networks
