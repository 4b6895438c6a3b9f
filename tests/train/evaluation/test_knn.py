"""kNN classification against naive loops: collapsed embeddings, votes, impossible options, memory."""

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import UsageError
from skelpipe.train.evaluation import nearest
from skelpipe.train.evaluation.knn import accuracy, knn_predict


def naive(
    bank: Sequence[Sequence[float]],
    labels: Sequence[int],
    queries: Sequence[Sequence[float]],
    k: int,
    temperature: float,
    classes: int,
) -> list[int]:
    """The protocol of docs/evaluation.md ("kNN") in loops, in Python's own floats."""
    predictions = []
    for query in queries:
        similar = []
        for row, other in enumerate(bank):
            dot = math.fsum(a * b for a, b in zip(query, other, strict=True))
            length = math.sqrt(math.fsum(a * a for a in query)) * math.sqrt(math.fsum(b * b for b in other))
            similar.append((-dot / length, row))
        scores = [0.0] * classes
        for negative, row in sorted(similar)[:k]:
            scores[labels[row]] += math.exp(-negative / temperature)
        predictions.append(scores.index(max(scores)))
    return predictions


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 40),
    asked=st.integers(1, 12),
    chunk=st.integers(1, 13),
    rows=st.integers(1, 17),
    temperature=st.sampled_from([0.05, 0.1, 1.0]),
)
def test_equals_naive_loops(seed: int, count: int, asked: int, chunk: int, rows: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    bank = rng.normal(size=(count, 5)).astype(np.float32)
    queries = rng.normal(size=(asked, 5)).astype(np.float32)
    labels = rng.integers(0, 4, count)
    ks = (1, 3, 20, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK_BYTES", rows * 8 * 5)  # blocks of `rows` bank rows
        found = knn_predict(
            torch.from_numpy(bank),
            torch.from_numpy(labels),
            torch.from_numpy(queries),
            ks,
            temperature=temperature,
            classes=4,
            chunk=chunk,
        )
    for k in ks:
        expected = naive(bank.tolist(), labels.tolist(), queries.tolist(), k, temperature, 4)
        assert found[k].tolist() == expected


def nearly_collapsed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two classes whose embeddings share one large vector and differ by 2e-5 of its length."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=32)
    side = rng.normal(size=32)
    labels = rng.integers(0, 2, 90)
    sign = np.where(labels == 1, 1.0, -1.0)[:, None]
    clips = common + 1e-4 * (sign * side + 0.3 * rng.normal(size=(90, 32)))
    features = torch.from_numpy(clips.astype(np.float32))
    kept = torch.from_numpy(labels)
    return features[:60], kept[:60], features[60:], kept[60:]


def test_nearly_collapsed_embeddings_need_float64() -> None:
    bank, labels, queries, truth = nearly_collapsed()
    found = knn_predict(bank, labels, queries, [5], temperature=0.1, classes=2)[5]
    assert found.tolist() == naive(bank.tolist(), labels.tolist(), queries.tolist(), 5, 0.1, 2)
    assert accuracy(found, truth) == 100.0

    unit = torch.nn.functional.normalize
    order = (unit(queries) @ unit(bank).T).topk(5).indices
    single = (labels[order].sum(dim=1) > 2).long()
    assert accuracy(single, truth) < 95.0  # what float32 makes of the same embeddings


def test_equal_scores_go_to_the_lowest_class() -> None:
    bank = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = knn_predict(bank, torch.tensor([2, 1, 0]), torch.tensor([[3.0, 0.0]]), [1, 2], classes=3)
    assert found[1].tolist() == [2]  # the first of the two equal rows alone
    assert found[2].tolist() == [1]  # both, with equal weight


def test_small_temperature_does_not_overflow() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    found = knn_predict(bank, torch.tensor([0, 1]), torch.tensor([[1.0, 0.0]]), [2], temperature=1e-4, classes=2)
    assert found[2].tolist() == [0]


def test_k_above_the_bank_counts_as_the_bank() -> None:
    bank, labels, queries, _ = nearly_collapsed()
    found = knn_predict(bank, labels, queries, [60, 61, 1000], classes=2)
    assert found[61].equal(found[60])
    assert found[1000].equal(found[60])


def test_impossible_questions() -> None:
    with pytest.raises(UsageError, match="at least one bank sample"):
        knn_predict(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), torch.ones(1, 3), [1], classes=2)
    with pytest.raises(UsageError, match="at least 1"):
        knn_predict(torch.ones(1, 3), torch.zeros(1, dtype=torch.int64), torch.ones(1, 3), [0], classes=2)


def test_accuracy_is_in_percent() -> None:
    assert accuracy(torch.tensor([1, 2, 3, 3]), torch.tensor([1, 2, 3, 4])) == 75.0


MEMORY = """
import resource, torch
from skelpipe.train.evaluation import knn, nearest
nearest.BLOCK_BYTES = 4 * 2**20
bank, queries = torch.randn(40000, 8), torch.randn(1000, 8)
labels = torch.randint(0, 60, (40000,))
knn.knn_predict(bank[:100], labels[:100], queries, [20], classes=60)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
knn.knn_predict(bank, labels, queries, [20], classes=60, chunk=128)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_is_bounded(single: dict[str, str]) -> None:
    # All similarities at once would take 305 MB.
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=single)
    assert float(done.stdout) < 100
