"""Weighted k-nearest-neighbour classification of embeddings, in float64.

The protocol of SkeleMixCLR (Chen et al. 2022, "KNN Evaluation Protocol"): cosine similarity, the K most similar
bank samples, each voting for its class with weight exp(similarity / temperature). Similarities of nearly collapsed
embeddings differ by less than float32 can hold, hence float64 throughout.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.train.evaluation.embedding import Embedded
from skelpipe.train.evaluation.nearest import CHUNK, nearest
from skelpipe.train.running.ranks import ranks

__all__ = ["accuracies", "accuracy", "all_votes", "knn_predict", "knn_votes"]


def all_votes(
    bank: Embedded, queries: Embedded, ks: Sequence[int], temperature: float, classes: int, device: torch.device
) -> dict[int, Tensor]:
    """Return the votes of training clips on test clips for each k, float64[N,K], on the CPU; see `knn_votes`.

    Each of several ranks handles whole chunks of the queries, so that the sums equal those of one rank, and all
    ranks get all votes.
    """
    team = ranks()
    chunks = team.own(-(-len(queries.features) // CHUNK))
    mine = queries.features[chunks.start * CHUNK : chunks.stop * CHUNK].to(device)
    votes = {k: torch.empty(0, classes, dtype=torch.float64) for k in ks}
    if len(mine):
        rows = bank.features.to(device)
        found = knn_votes(rows, bank.labels, mine, ks, temperature=temperature, classes=classes, chunk=CHUNK)
        votes = {k: each.cpu() for k, each in found.items()}
    return {k: team.gather(each) for k, each in votes.items()}


def accuracies(votes: Mapping[int, Tensor], labels: Tensor) -> dict[str, float]:
    """Return top-1 accuracies in % by name, `knn@20` for k = 20; equal votes go to the lowest class."""
    return {f"knn@{k}": accuracy(each.argmax(dim=1), labels) for k, each in votes.items()}


def knn_predict(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    ks: Sequence[int],
    *,
    temperature: float = 0.1,
    classes: int,
    chunk: int = CHUNK,
) -> dict[int, Tensor]:
    """Return for each k the predicted class of every query, int64[Q]; see `knn_votes`.

    Equal votes go to the lowest class.
    """
    votes = knn_votes(bank, bank_labels, queries, ks, temperature=temperature, classes=classes, chunk=chunk)
    return {k: each.argmax(dim=1) for k, each in votes.items()}


def knn_votes(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    ks: Sequence[int],
    *,
    temperature: float = 0.1,
    classes: int,
    chunk: int = CHUNK,
) -> dict[int, Tensor]:
    """Return for each k the votes of every query for each class, float64[Q,K]; the nearest neighbour weighs 1.

    `bank` [N,D] with `bank_labels` [N] in 0..classes-1, `queries` [Q,D]; neither need be normalised. A k above
    N counts as N. Equally similar bank rows rank in bank order. Memory stays within a few hundred MB: `chunk`
    queries meet one block of the bank at a time.
    """
    if not len(bank):
        raise UsageError("k-nearest neighbours need at least one bank sample")
    if min(ks) < 1:
        raise UsageError(f"k must be at least 1, not {min(ks)}")
    device = bank.device
    labels = bank_labels.to(device)
    similarity, index = nearest(bank, queries.to(device), min(max(ks), len(bank)), chunk=chunk)
    # The largest weight of a query becomes 1: no overflow at small temperatures, the same order of classes.
    weight = torch.exp((similarity - similarity[:, :1]) / temperature)
    voted = labels[index]
    total = torch.zeros(len(queries), classes, dtype=torch.float64, device=device)
    limits = {k: min(k, len(bank)) for k in ks}
    votes: dict[int, Tensor] = {}
    for rank in range(index.shape[1]):
        # One neighbour per query and step: sums run in order of rank on every device, so they are reproducible.
        total.scatter_add_(1, voted[:, rank : rank + 1], weight[:, rank : rank + 1])
        if rank + 1 in limits.values():
            now = total.clone()
            votes.update({k: now for k, limit in limits.items() if limit == rank + 1})
    return votes


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the share of right predictions in percent."""
    return 100.0 * float((predicted == labels.to(predicted.device)).double().mean())
