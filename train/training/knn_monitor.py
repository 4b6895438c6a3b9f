"""kNN accuracy, the figure to watch while a network trains without labels."""

from collections.abc import Sequence

import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.knn import accuracies, all_votes

__all__ = ["KnnMonitor", "knn_figures"]


def knn_figures(
    bank: Embedded, queries: Embedded, ks: Sequence[int], temperature: float, classes: int, device: torch.device
) -> dict[str, float]:
    """Return top-1 accuracies in % by name, `knn@20` for k = 20."""
    return accuracies(all_votes(bank, queries, ks, temperature, classes, device), queries.labels)


class KnnMonitor:
    """Measures a network as `train/knn.py` does: training clips are the bank, test clips the queries."""

    def __init__(
        self,
        dataset: Dataset,
        view: str,
        device: torch.device,
        k: int = 20,
        temperature: float = 0.1,
        suffix: str = "",
        of: str = "",
    ) -> None:
        """Read `view` of both subsets; `suffix` ends the figure's name, where there are several monitors.

        `of` names the dataset, where several are trained on.
        """
        self._of = of and f" of {of}"
        self._dataset = dataset
        self.view = view
        self._device = device
        self._k = k
        self._temperature = temperature
        self.name = f"knn@{k}{suffix}"  # the figure's name in logs

    def missing(self) -> str | None:
        """Say why there is nothing to measure on, or return None."""
        empty = [subset for subset in ("train", "test") if not self._dataset.count(subset)]
        if not self._dataset.labelled:
            return f"no kNN monitor{self._of}: the dataset has no labels"
        return f"no kNN monitor{self._of}: the {empty[0]} subset is empty" if empty else None

    def measure(self, network: nn.Module) -> float:
        """Return the top-1 accuracy of `network` (clips to embeddings) in %; the network is left as it was."""
        bank, queries = (
            embed(network, self._dataset, subset, self.view, device=self._device) for subset in ("train", "test")
        )
        classes = len(self._dataset.classes)
        figures = knn_figures(bank, queries, (self._k,), self._temperature, classes, self._device)
        return figures[f"knn@{self._k}"]
