"""How embeddings form clusters: t-SNE, k-means and normalised mutual information.

docs/evaluation.md, "t-SNE and NMI", says where they come from.
"""

import hashlib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from skelpipe.errors import SkelpipeError, UsageError

__all__ = [
    "PERPLEXITY",
    "cluster",
    "draw_classes",
    "normalised_mutual_information",
    "plane_points",
    "usable_perplexity",
]

PERPLEXITY = 30.0
RESTARTS = 10


def normalised_mutual_information(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Return I(labels; clusters) / ((H(labels) + H(clusters)) / 2), from 0 to 1, of two partitions int [N].

    1 where each partition has one part only. Raises SkelpipeError for lengths that differ or are 0.
    """
    if len(labels) != len(clusters) or not len(labels):
        raise SkelpipeError(f"{len(labels)} labels and {len(clusters)} clusters cannot be compared")
    _, row = np.unique(labels, return_inverse=True)
    _, column = np.unique(clusters, return_inverse=True)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    share = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape) / len(row)
    entropies = _entropy(share.sum(axis=1)) + _entropy(share.sum(axis=0))
    if not entropies:
        return 1.0
    return float(np.clip(2 * (entropies - _entropy(share)) / entropies, 0.0, 1.0))


def cluster(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return each row's cluster, int64 [N], by k-means of `count` clusters: the best of ten restarts."""
    if count == 1:
        return np.zeros(len(features), np.int64)
    learn = _learn()
    with warnings.catch_warnings():
        # With fewer different points than clusters some clusters stay empty; the figure shows it.
        warnings.simplefilter("ignore", learn.exceptions.ConvergenceWarning)
        means = learn.cluster.KMeans(count, n_init=RESTARTS, random_state=seed)
        return np.asarray(means.fit_predict(_scaled(features)), np.int64)


def plane_points(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Return a point in the plane for every row of features [N,D] by t-SNE, float64 [N,2], starting from PCA.

    `perplexity` as `usable_perplexity` allows. One or two rows become points next to each other.
    """
    if len(features) < 3:
        return np.array([[float(row), 0.0] for row in range(len(features))])
    scaled = _scaled(features)
    start = "pca" if min(scaled.shape) > 1 else "random"
    tsne = _learn().manifold.TSNE(2, perplexity=perplexity, init=start, learning_rate="auto", random_state=seed)
    return np.asarray(tsne.fit_transform(scaled), np.float64)


def usable_perplexity(asked: float, count: int) -> float:
    """Return the perplexity for `count` points: at most a third of a point's neighbours, and at least 1."""
    return min(asked, max(1.0, (count - 1) / 3))


def draw_classes(present: Iterable[int], count: int, seed: int) -> list[int]:
    """Return `count` of the classes, ascending: those with the smallest hash with the seed, on every machine."""
    ranked = sorted(set(present), key=lambda label: hashlib.sha256(f"{seed} class {label}".encode()).digest())
    return sorted(ranked[:count])


def _entropy(shares: np.ndarray) -> float:
    """Return the entropy in nats of shares that add up to 1."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _scaled(features: np.ndarray) -> np.ndarray:
    """Return features with mean 0 and standard deviation 1 over all, float64, so that rounding loses nothing."""
    wide = np.asarray(features, np.float64)
    wide = wide - wide.mean(axis=0)
    spread = float(wide.std())
    if spread <= 0:
        raise SkelpipeError(f"all {len(features)} embeddings are equal: the network gives every clip the same one")
    return wide / spread


def _learn() -> Any:
    try:
        import sklearn.cluster
        import sklearn.exceptions
        import sklearn.manifold
    except ImportError:
        raise UsageError("t-SNE and k-means need scikit-learn: pip install 'skelpipe[plot]'") from None
    return sklearn
