"""The votes of training clips on test clips, and their accuracies, for all ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from skelpipe.train.evaluation.embedding import Embedded
from skelpipe.train.evaluation.neighbours import accuracy, knn_scores
from skelpipe.train.running.ranks import ranks

__all__ = ["all_votes", "figures_of"]

CHUNK = 1024  # queries compared at once


def all_votes(
    bank: Embedded, queries: Embedded, ks: Sequence[int], temperature: float, classes: int, device: torch.device
) -> dict[int, Tensor]:
    """Return the votes for each k, float64[N,K], on the CPU; see `knn_scores`.

    Of several ranks each looks after whole chunks of the queries, so that the sums are those of one, and all get
    everything.
    """
    team = ranks()
    chunks = team.own(-(-len(queries.features) // CHUNK))
    mine = queries.features[chunks.start * CHUNK : chunks.stop * CHUNK].to(device)
    votes = {k: torch.empty(0, classes, dtype=torch.float64) for k in ks}
    if len(mine):
        rows = bank.features.to(device)
        found = knn_scores(rows, bank.labels, mine, ks, temperature=temperature, classes=classes, chunk=CHUNK)
        votes = {k: each.cpu() for k, each in found.items()}
    return {k: team.gather(each) for k, each in votes.items()}


def figures_of(votes: Mapping[int, Tensor], labels: Tensor) -> dict[str, float]:
    """Return top-1 accuracies in % by name, `knn@20` for k = 20; equal votes go to the lowest class."""
    return {f"knn@{k}": accuracy(each.argmax(dim=1), labels) for k, each in votes.items()}
