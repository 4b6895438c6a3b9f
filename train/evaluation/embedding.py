"""Embedding the clips of a subset with a frozen network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.devices import Fetched, sent
from skelpipe.errors import SkelpipeError
from skelpipe.front.descriptions import counted
from skelpipe.models.absent_bodies import present_bodies, tell_present
from skelpipe.progress import progress
from skelpipe.train.running.ranks import Ranks, ranks
from skelpipe.views import derive

__all__ = ["Embedded", "embed", "frozen"]


@dataclass(frozen=True)
class Embedded:
    """The embeddings of some clips: `features` float32[N,D], `labels` int64[N], `ids` of length N."""

    features: Tensor
    labels: Tensor
    ids: list[str]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode without gradients; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def embed(
    network: nn.Module,
    dataset: Dataset,
    subset: str,
    view: str,
    *,
    device: torch.device,
    batch_size: int = 256,
    rows: np.ndarray | None = None,
    quiet: bool = True,
) -> Embedded:
    """Embed clips of `subset`, without augmentation; the network is left as it was.

    All of them in row order, or those of `rows` int64[n], in that order; no other clip is read.

    `network` maps clips [n,C,T,V,M] to [n,D]. A view that the dataset does not store is derived from its joints,
    which for clips without augmentation is the same. Each of several ranks embeds a share of the batches, whole
    batches so that the result is bit-identical to that of one rank, and all ranks get all embeddings. Raises
    SkelpipeError where an embedding is not finite.
    """
    team = ranks()
    stored = view in dataset.views
    reader = dataset.reader(subset, view if stored else "joint")
    every, labels = (
        dataset.ids(subset),
        torch.as_tensor(np.asarray(dataset.stored_labels(subset)), dtype=torch.int64),
    )
    chosen = np.arange(len(reader)) if rows is None else rows
    count, ids = len(chosen), [every[row] for row in chosen.tolist()]
    batches = team.own(-(-count // batch_size))
    starts = range(batches.start * batch_size, batches.stop * batch_size, batch_size)
    fetched = Fetched()
    with frozen(network):
        for start in progress(starts, f"embedding {subset}", len(starts), quiet=quiet):
            read = torch.from_numpy(reader.gather(chosen[start : start + batch_size]))
            clips = sent(read, device) if stored else derive(sent(read, device), view, dataset.layout)
            if device.type != "cpu":  # known before the device has the clips, which need not be asked then
                tell_present(clips, present_bodies(read))
            fetched.add(network(clips).flatten(1).float())
    parts = fetched.all()
    features = _gathered(torch.cat(parts) if parts else torch.empty(0, 0), team)
    _check_finite(features, ids)
    return Embedded(features, labels[torch.from_numpy(chosen)], ids)


def _gathered(features: Tensor, team: Ranks) -> Tensor:
    """Return the rows of all ranks; a rank that has none does not know their width."""
    width = int(team.gather(torch.tensor([features.shape[1]])).max())
    return team.gather(features if len(features) else torch.empty(0, width))


def _check_finite(features: Tensor, ids: list[str]) -> None:
    bad = (~features.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise SkelpipeError(
            f"the embeddings of {counted(len(bad), 'clip')} are not finite, the first is {ids[bad[0]]}"
        )
